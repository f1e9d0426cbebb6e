"""Reading a file whole, with a limit, and replacing one: the one way in for the coordinator, fleetctl and the builds.

A file is opened once and read once, up to one byte more than its limit. Nothing is asked about it before, so nothing
that was asked can have changed by the time it is read. Never interprets what it reads.
"""

from __future__ import annotations

import os
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


def replace_durably(path: Path, data: bytes, mode: int) -> None:
    """Replace a file: after a power cut there is the old content or the new one, never another.

    Nobody but the owner can read it before it has its mode.

    Raises:
        OSError: as the file system says.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - the descriptor has its mode before it has content
        file.write(data)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(temporary, path)


def rename_durably(source: Path, target: Path) -> None:
    """Put a file in the place of another one, and make that survive a power cut.

    Raises:
        OSError: as the file system says.
    """
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
