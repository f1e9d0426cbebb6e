"""Reading a file whole, with a limit: the one way in for the coordinator, fleetctl and the builds.

A file is opened once and read once, up to one byte more than its limit. Nothing is asked about it before, so nothing
that was asked can have changed by the time it is read. Never interprets what it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from pathlib import Path


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        FleetError: LIMIT_EXCEEDED with the file.
        OSError: it cannot be read; what that means is the caller's to say.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FleetError(Code.LIMIT_EXCEEDED, f"more than {limit} bytes", place=str(path))
    return data


def read_named(path: Path, limit: int) -> bytes:
    """Return the content of a file that somebody named to this program, as `read_bounded`.

    Raises:
        FleetError: LIMIT_EXCEEDED; CONFIG_INVALID when it cannot be read.
    """
    try:
        return read_bounded(path, limit)
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot be read: {error.strerror}", place=str(path)) from error
