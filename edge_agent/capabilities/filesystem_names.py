"""What changes names in a volume: making, removing and renaming files and folders.

Owns: these changes, each with its count in the volume's usage. The base is an open folder whose volume may be changed
(`changeable`); functions raise `FileError` and `OSError`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from edge_agent.capabilities.filesystem_paths import ErrorCode, FileError, find, find_place

if TYPE_CHECKING:
    from edge_agent.capabilities.filesystem_files import OpenFile
    from edge_agent.capabilities.filesystem_paths import Found, Place

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def changeable(base: OpenFile) -> OpenFile:
    """Return a folder whose names may be changed.

    Raises:
        FileError: NOT_DIRECTORY, READ_ONLY.
    """
    base.folder()
    base.volume.growth()
    return base


def find_or_make_file(base: OpenFile, path: str, *, follow: bool, exclusive: bool) -> Found:
    """Hold what a path leads to; make an empty file there when nothing is.

    A link that leads to nothing is no place for a new file (`exist`).
    """
    try:
        found = find(base.number, path, follow=follow)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    else:
        if exclusive:
            os.close(found.number)
            raise FileError(ErrorCode.EXIST)
        return found
    with find_place(base.number, path) as place:
        if place.slash:
            raise FileError(ErrorCode.IS_DIRECTORY)
        with base.volume.usage.changing() as usage:
            usage.check(base.volume.growth(), 0, 1)
            os.close(os.open(place.name, _NEW, 0o600, dir_fd=place.folder))
            usage.grew(0, 1)
        return place.look()


def make_folder(base: OpenFile, path: str) -> None:
    """Make an empty folder."""
    with find_place(changeable(base).number, path) as place, base.volume.usage.changing() as usage:
        usage.check(base.volume.growth(), 0, 1)
        os.mkdir(place.name, 0o700, dir_fd=place.folder)
        usage.grew(0, 1)


def remove_folder(base: OpenFile, path: str) -> None:
    """Remove an empty folder."""
    with (
        find_place(changeable(base).number, path) as place,
        base.volume.usage.changing() as usage,
        place.look() as found,
    ):
        os.rmdir(place.name, dir_fd=place.folder)
        usage.removed(found.status)


def unlink(base: OpenFile, path: str) -> None:
    """Remove the name of a file, or a symbolic link."""
    with (
        find_place(changeable(base).number, path) as place,
        base.volume.usage.changing() as usage,
        place.look() as found,
    ):
        if found.is_folder:
            raise FileError(ErrorCode.IS_DIRECTORY)
        _check_slash(place, found)
        os.unlink(place.name, dir_fd=place.folder)
        usage.removed(found.status)


def rename(base: OpenFile, path: str, new_base: OpenFile, new_path: str) -> None:
    """Give something another path in the same volume, in place of the file or empty folder that has it."""
    changeable(base)
    changeable(new_base)
    if base.volume is not new_base.volume:
        raise FileError(ErrorCode.CROSS_DEVICE)
    with (
        find_place(base.number, path) as source,
        find_place(new_base.number, new_path) as target,
        base.volume.usage.changing() as usage,
        source.look() as moved,
    ):
        _check_slash(source, moved)
        _check_slash(target, moved)
        replaced = _status(target)
        os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
        # Of two names of one file rename(2) removes neither.
        if replaced is not None and not os.path.samestat(replaced, moved.status):
            usage.removed(replaced)


def read_link(base: OpenFile, path: str) -> str:
    """Return where a symbolic link leads; what is absolute is the node's own business (`not-permitted`)."""
    with find_place(base.folder(), path) as place:
        target = os.readlink(place.name, dir_fd=place.folder)
    if target.startswith(b"/"):
        raise FileError(ErrorCode.NOT_PERMITTED)
    try:
        return target.decode()
    except UnicodeDecodeError as error:
        raise FileError(ErrorCode.ILLEGAL_BYTE_SEQUENCE) from error


def _check_slash(place: Place, found: Found) -> None:
    if place.slash and not found.is_folder:
        raise FileError(ErrorCode.NOT_DIRECTORY)


def _status(place: Place) -> os.stat_result | None:
    try:
        return os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
