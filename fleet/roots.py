"""The chain of roots alone: which ones count, whatever is wrong with the release that they came with.

A root takes keys away that may be in a thief's hands. It counts from the moment at which it was seen (TUF specification
1.0, 5.3.8), not from the first complete release after it. Pure: who keeps the roots decides where.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.metadata import Workflow, check_caps

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_TIME = datetime.max.replace(tzinfo=UTC)
"""No root is refused for its expiry: that says whether something new may be adopted under it."""


def climb_roots(files: Mapping[str, bytes], root: bytes, known: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the roots that follow the pinned one, as far as each is signed by the one before and by itself.

    Args:
        files: file name to bytes of an offered release; everything but roots is passed over.
        root: the pinned root metadata.
        known: file name to bytes of roots that counted before; they come first.

    Raises:
        FleetError: LIMIT_EXCEEDED for more bytes than a release may have; TRUST_INVALID for the pinned root.
    """
    check_caps(files)
    workflow = Workflow({}, root, ANY_TIME)
    pinned = set(workflow.used)
    with suppress(FleetError):  # the first that does not verify ends the chain; those before it count
        workflow.climb_roots(known, files)
    return MappingProxyType({name: data for name, data in workflow.used.items() if name not in pinned})
