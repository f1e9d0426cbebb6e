"""The few file operations that survive a power cut, behind one seam.

Owns: `Disk`, the primitives that ledger, blobs, trust store and identity write through, and `replace_file`, the only
way a whole file changes: a reader finds the old bytes or the new ones, never a mixture (POSIX rename(2) with fsync(2)
of the file before and of the folder after); and the two ways to read a whole file that is not the node's own. Never
interprets what it stores or reads.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


class Disk(Protocol):
    """Primitive operations; each may be the last one before the power goes."""

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`. Raises FileNotFoundError."""
        ...

    def size(self, path: Path) -> int | None:
        """Return the size of a file in bytes, or None when there is none."""
        ...

    def names(self, folder: Path) -> tuple[str, ...]:
        """Return the names in a folder, sorted; a missing folder is empty."""
        ...

    def write(self, path: Path, data: bytes, offset: int) -> None:
        """Write at `offset` and cut the file after it; makes missing folders. Not durable before `sync`."""
        ...

    def sync(self, path: Path) -> None:
        """Make the bytes of a file, or the names in a folder, durable."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` within one folder tree. Not durable before `sync` of the folder."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is fine."""
        ...


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically and durably.

    Raises:
        FleetError: STORAGE_FULL.
    """
    temporary = path.with_name(path.name + ".new")
    disk.write(temporary, data, 0)
    disk.sync(temporary)
    disk.rename(temporary, path)
    disk.sync(path.parent)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes, opened once and read once.

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


class LocalDisk:
    """The file system of the node. Files are readable by their owner only."""

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`."""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def size(self, path: Path) -> int | None:
        """Return the size of a file in bytes, or None when there is none."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def names(self, folder: Path) -> tuple[str, ...]:
        """Return the names in a folder, sorted."""
        try:
            return tuple(sorted(entry.name for entry in folder.iterdir()))
        except FileNotFoundError:
            return ()

    def write(self, path: Path, data: bytes, offset: int) -> None:
        """Write at `offset` and cut the file after it."""
        path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.seek(offset)
                file.write(data)
                file.truncate()
        except OSError as error:
            raise _translated(error, path) from error

    def sync(self, path: Path) -> None:
        """Make a file or the names in a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _translated(error, path) from error
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source`."""
        target.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is fine."""
        path.unlink(missing_ok=True)


def _translated(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FleetError(Code.STORAGE_FULL, f"no room to write {path}")
    return error
