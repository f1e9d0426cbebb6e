"""What a call came to, for tests that accept success or one kind of refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.errors import Code


def code_of(call: Callable[..., object], *arguments: object) -> Code | None:
    """The code with which the call was refused, or None; any other exception fails the test."""
    try:
        call(*arguments)
    except FleetError as error:
        return error.code
    return None
