"""Volumes, and the files and folders that a guest has open in them.

Owns: `Volume`, `OpenFile`, and the streams and listings over one. Never resolves a path and never asks the grant:
a volume says whether and how far it may grow.

A descriptor and the streams made from it share an `OpenFile`, which is closed with the last of them, or when the agent
ends.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.filesystem_paths import ErrorCode, FileError, Found, code_of, open_folder
from edge_agent.capabilities.filesystem_quota import identity
from edge_agent.capabilities.filesystem_status import kind_of
from edge_agent.capabilities.io_streams import StreamClosedError, StreamFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.capabilities.filesystem_quota import Quota, VolumeUsage

MAX_OFFSET = (1 << 63) - 1
"""Largest place in a file that the kernel knows."""

MAX_READ = 1 << 20
"""Bytes of one read; a guest that asks for more gets fewer, as the interface allows."""

STREAM_ROOM = 64 * 1024
"""Bytes that an output stream takes at once."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder as one agent may use it.

    Attributes:
        name: as the grant names it.
        folder: its descriptor.
        usage: shared with the other agents of this process.
        quota: how far the agent may let it grow; None for reading alone.
    """

    name: str
    folder: int
    usage: VolumeUsage
    quota: Quota | None

    def growth(self) -> Quota:
        """How far the agent may let it grow.

        Raises:
            FileError: READ_ONLY when it may not change it at all.
        """
        if self.quota is None:
            raise FileError(ErrorCode.READ_ONLY)
        return self.quota


class OpenFiles:
    """What one agent has open: at most so many files and folders, and listings, at a time."""

    def __init__(self, most_files: int, most_listings: int) -> None:
        self._most_files = most_files
        self._most_listings = most_listings
        self._files: weakref.WeakSet[OpenFile] = weakref.WeakSet()
        self._listings: weakref.WeakSet[Listing] = weakref.WeakSet()

    def check_room(self) -> None:
        """Check that one more may be opened.

        Raises:
            FileError: INSUFFICIENT_MEMORY.
        """
        if len(self._files) >= self._most_files:
            raise FileError(ErrorCode.INSUFFICIENT_MEMORY)

    def open(self, volume: Volume, found: Found, *, readable: bool, writable: bool) -> OpenFile:
        """Open what was found.

        Raises:
            FileError: INSUFFICIENT_MEMORY when the agent has too much open; NOT_PERMITTED for a device, a pipe or a
                socket, and for writing to a file that has other names, maybe outside; READ_ONLY, IS_DIRECTORY.
            OSError: whatever opening raises.
        """
        if writable:
            volume.growth()
            if found.is_folder:
                raise FileError(ErrorCode.IS_DIRECTORY)
            if found.status.st_nlink > 1:
                raise FileError(ErrorCode.NOT_PERMITTED)
        self.check_room()
        how = (os.O_RDWR if readable else os.O_WRONLY) if writable else os.O_RDONLY
        file = OpenFile(volume, found.open(how), readable=readable or not writable, writable=writable)
        self._files.add(file)
        return file

    def begin_listing(self, folder: int) -> Listing:
        """Begin a listing of a folder.

        Raises:
            FileError: INSUFFICIENT_MEMORY when there are too many.
            OSError: the folder cannot be read.
        """
        if len(self._listings) >= self._most_listings:
            raise FileError(ErrorCode.INSUFFICIENT_MEMORY)
        listing = Listing(folder)
        self._listings.add(listing)
        return listing

    def close(self) -> None:
        """Close everything: the agent has ended."""
        for file in list(self._files):
            file.close()
        for listing in list(self._listings):
            listing.close()


class OpenFile:
    """An open regular file or folder. Methods raise `FileError` and `OSError`."""

    def __init__(self, volume: Volume, number: int, *, readable: bool, writable: bool) -> None:
        status = os.fstat(number)
        self.volume = volume
        self.number = number
        self.identity = identity(status)
        self.is_folder = stat.S_ISDIR(status.st_mode)
        self.readable = readable
        self.writable = writable
        volume.usage.opened(self.identity)
        self.close = weakref.finalize(self, volume.usage.closing, self.identity, number)
        self.close.atexit = False

    @property
    def size(self) -> int:
        """Bytes of the file, now."""
        return os.fstat(self.number).st_size

    def folder(self) -> int:
        """The descriptor, of a folder."""
        if not self.is_folder:
            raise FileError(ErrorCode.NOT_DIRECTORY)
        return self.number

    def check_readable(self) -> None:
        """Check that bytes may be read."""
        if self.is_folder:
            raise FileError(ErrorCode.IS_DIRECTORY)
        if not self.readable:
            raise FileError(ErrorCode.BAD_DESCRIPTOR)

    def check_writable(self) -> None:
        """Check that bytes may be written."""
        if self.is_folder:
            raise FileError(ErrorCode.IS_DIRECTORY)
        self.volume.growth()
        if not self.writable:
            raise FileError(ErrorCode.BAD_DESCRIPTOR)

    def read(self, length: int, offset: int) -> bytes:
        """Read at most `MAX_READ` bytes; none behind the end."""
        self.check_readable()
        return os.pread(self.number, min(length, MAX_READ), offset) if offset <= MAX_OFFSET else b""

    def write(self, data: bytes, offset: int | None) -> int:
        """Write at an offset, None for the end, and return how much of the data was taken."""
        self.check_writable()
        with self.volume.usage.changing() as usage:
            before = self.size
            start = before if offset is None else offset
            if not data:
                return 0
            if start + len(data) > MAX_OFFSET:
                raise FileError(ErrorCode.FILE_TOO_LARGE)
            usage.check(self.volume.growth(), start + len(data) - before)
            try:
                return os.pwrite(self.number, data, start)
            finally:
                usage.grew(self.size - before)

    def resize(self, size: int) -> None:
        """Cut the file, or let it grow by a hole, which counts as bytes."""
        self.check_writable()
        with self.volume.usage.changing() as usage:
            before = self.size
            usage.check(self.volume.growth(), size - before)
            if size > MAX_OFFSET:
                raise FileError(ErrorCode.FILE_TOO_LARGE)
            try:
                os.ftruncate(self.number, size)
            finally:
                usage.grew(self.size - before)


class FileInput:
    """Bytes of a file from a place on, as a stream."""

    def __init__(self, file: OpenFile, offset: int) -> None:
        self._file = file
        self._offset = offset

    def read(self, length: int) -> bytes:
        """As `InputStream` says. At the end of the file it is closed, even if the file grows later."""
        try:
            data = self._file.read(length, self._offset)
        except (FileError, OSError) as error:
            raise _failed(error) from error
        if not data and length:
            raise StreamClosedError
        self._offset += len(data)
        return data

    def ready(self) -> bool:
        """As `InputStream` says: a file never lets its reader wait."""
        return True


class FileOutput:
    """Writes to a file from a place on, or at its end (`offset` None), as a stream."""

    def __init__(self, file: OpenFile, offset: int | None) -> None:
        self._file = file
        self._offset = offset
        self._failed = False

    def room(self) -> int:
        """As `OutputStream` says; closed after a failure, as the interface demands."""
        if self._failed:
            raise StreamClosedError
        return STREAM_ROOM

    def write(self, contents: bytes) -> None:
        """As `OutputStream` says: all of it, or a failure."""
        self.room()
        rest = contents
        try:
            while rest:
                taken = self._file.write(rest, self._offset)
                rest = rest[taken:]
                if self._offset is not None:
                    self._offset += taken
        except (FileError, OSError) as error:
            self._failed = True
            raise _failed(error) from error


def _failed(error: FileError | OSError) -> StreamFailedError:
    code = error.code if isinstance(error, FileError) else code_of(error)
    return StreamFailedError(code.value, code)


class Listing:
    """The names in a folder, one by one, without `.` and `..` and without those that are not UTF-8.

    A guest can say no such name, so it could do nothing with one.
    """

    def __init__(self, folder: int) -> None:
        # A descriptor of its own, since the place in a listing belongs to the opened folder.
        self._number = open_folder(".", folder)
        try:
            self._entries: Iterator[os.DirEntry[str]] = os.scandir(self._number)
        except OSError:
            os.close(self._number)
            raise
        self.close = weakref.finalize(self, _close_listing, self._entries, self._number)
        self.close.atexit = False

    def next(self) -> tuple[str, str] | None:
        """Type and name, None at the end."""
        for entry in self._entries:
            if _is_text(entry.name):
                return _kind_of_entry(entry), entry.name
        return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_of_entry(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    if entry.is_file(follow_symlinks=False):
        return "regular-file"
    try:
        return kind_of(entry.stat(follow_symlinks=False).st_mode)
    except OSError as error:
        if error.errno == errno.ENOENT:  # removed since it was listed
            return "unknown"
        raise


def _close_listing(entries: Iterator[os.DirEntry[str]], number: int) -> None:
    getattr(entries, "close", lambda: None)()
    os.close(number)
