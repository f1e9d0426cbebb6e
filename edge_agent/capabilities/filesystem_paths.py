"""From a guest's path to a descriptor, never leaving the folder that the path starts in.

Owns: which paths a guest may write, their resolution, and the error codes of `wasi:filesystem`. Never decides who may
do what, and never changes anything.

The kernel resolves where it can (openat2(2) with RESOLVE_BENEATH, Linux 5.6); else each component is opened below the
one before it, without following links, and links are followed here. Either way a path that leaves the folder (`..`,
absolute, a link that leads out, another file system mounted below) is `not-permitted`, also while somebody exchanges
folders and links below it. What is found is held by a descriptor that only names it (O_PATH), so that nothing is
opened before it is known to be a file or a folder: opening a device or a pipe has effects of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections import deque
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PATH = 4095
"""UTF-8 bytes of a path (PATH_MAX of Linux, without its end)."""

MAX_COMPONENTS = 128
"""Names in one path, and folders that one path may pass through."""

MAX_LINKS = 40
"""Symbolic links that one path may follow, as in Linux (path_resolution(7))."""

_ATTEMPTS = 8
"""How often the kernel is asked again after a folder was moved while it looked (EAGAIN in openat2(2))."""

_OPENAT2 = 437
"""Number of the system call, the same on every processor."""

_RESOLVE = 0x08 | 0x02 | 0x01
"""RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV."""

_NAMED = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ErrorCode(StrEnum):
    """Codes of `wasi:filesystem` that are answered here."""

    ACCESS = "access"
    WOULD_BLOCK = "would-block"
    BAD_DESCRIPTOR = "bad-descriptor"
    BUSY = "busy"
    QUOTA = "quota"
    EXIST = "exist"
    FILE_TOO_LARGE = "file-too-large"
    ILLEGAL_BYTE_SEQUENCE = "illegal-byte-sequence"
    INVALID = "invalid"
    IO = "io"
    IS_DIRECTORY = "is-directory"
    LOOP = "loop"
    NAME_TOO_LONG = "name-too-long"
    NO_ENTRY = "no-entry"
    INSUFFICIENT_MEMORY = "insufficient-memory"
    INSUFFICIENT_SPACE = "insufficient-space"
    NOT_DIRECTORY = "not-directory"
    NOT_EMPTY = "not-empty"
    UNSUPPORTED = "unsupported"
    NOT_PERMITTED = "not-permitted"
    READ_ONLY = "read-only"
    TEXT_FILE_BUSY = "text-file-busy"
    CROSS_DEVICE = "cross-device"


_CODES = {
    errno.EACCES: ErrorCode.ACCESS,
    errno.EAGAIN: ErrorCode.WOULD_BLOCK,
    errno.EBADF: ErrorCode.BAD_DESCRIPTOR,
    errno.EBUSY: ErrorCode.BUSY,
    errno.EDQUOT: ErrorCode.QUOTA,
    errno.EEXIST: ErrorCode.EXIST,
    errno.EFBIG: ErrorCode.FILE_TOO_LARGE,
    errno.EINVAL: ErrorCode.INVALID,
    errno.EISDIR: ErrorCode.IS_DIRECTORY,
    errno.ELOOP: ErrorCode.LOOP,
    errno.ENAMETOOLONG: ErrorCode.NAME_TOO_LONG,
    errno.ENOENT: ErrorCode.NO_ENTRY,
    errno.ENOMEM: ErrorCode.INSUFFICIENT_MEMORY,
    errno.EMFILE: ErrorCode.INSUFFICIENT_MEMORY,
    errno.ENFILE: ErrorCode.INSUFFICIENT_MEMORY,
    errno.ENOSPC: ErrorCode.INSUFFICIENT_SPACE,
    errno.ENOTDIR: ErrorCode.NOT_DIRECTORY,
    errno.ENOTEMPTY: ErrorCode.NOT_EMPTY,
    errno.EPERM: ErrorCode.NOT_PERMITTED,
    errno.EROFS: ErrorCode.READ_ONLY,
    errno.ETXTBSY: ErrorCode.TEXT_FILE_BUSY,
    errno.EXDEV: ErrorCode.CROSS_DEVICE,
}


class FileError(Exception):
    """Ends a call with an error code."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


def code_of(error: OSError) -> ErrorCode:
    """Name what the operating system reported; what has no name of its own is `io`."""
    return _CODES.get(error.errno or 0, ErrorCode.IO)


def check_path(path: str) -> bytes:
    """Return a guest's path as the kernel takes it.

    Raises:
        FileError: NO_ENTRY for none at all, INVALID for a zero byte, NOT_PERMITTED for an absolute one, NAME_TOO_LONG.
    """
    if not path:
        raise FileError(ErrorCode.NO_ENTRY)
    if "\0" in path:
        raise FileError(ErrorCode.INVALID)
    if path.startswith("/"):
        raise FileError(ErrorCode.NOT_PERMITTED)
    data = path.encode()
    if len(data) > MAX_PATH or data.count(b"/") >= MAX_COMPONENTS:
        raise FileError(ErrorCode.NAME_TOO_LONG)
    return data


class Found:
    """Something below a folder, held by a descriptor that names it and opens nothing. Closed as a context manager."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = os.fstat(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    def open(self, flags: int) -> int:
        """Open it, which must be a regular file or a folder, and return a new descriptor.

        Raises:
            FileError: NOT_PERMITTED for a device, a pipe or a socket; LOOP for a symbolic link.
            OSError: whatever opening raises.
        """
        if self.is_folder:
            return os.open(".", flags | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.number)
        if stat.S_ISLNK(self.status.st_mode):
            raise FileError(ErrorCode.LOOP)
        if not stat.S_ISREG(self.status.st_mode):
            raise FileError(ErrorCode.NOT_PERMITTED)
        # The kernel's own name for what the descriptor holds: no path is resolved again.
        return os.open(f"/proc/self/fd/{self.number}", flags | os.O_CLOEXEC)


class Place:
    """The folder that a path ends in, and the last name of the path. Closed as a context manager.

    Attributes:
        folder: descriptor of the folder.
        name: one plain name, never `.` or `..`.
        slash: whether the path said by a slash at its end that it means a folder.
    """

    def __init__(self, folder: Found, name: bytes, *, slash: bool) -> None:
        self._found = folder
        self.folder = folder.number
        self.name = name
        self.slash = slash

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def look(self) -> Found:
        """Hold what has the name; a symbolic link itself, not what it leads to.

        Raises:
            OSError: ENOENT when nothing has it.
        """
        return Found(os.open(self.name, _NAMED | os.O_NOFOLLOW, dir_fd=self.folder))


def find(folder: int, path: str, *, follow: bool) -> Found:
    """Hold what a path leads to, below `folder`.

    Args:
        folder: descriptor.
        path: the guest's.
        follow: whether a symbolic link at the end is followed; those before it always are.

    Raises:
        FileError: as `check_path`; NOT_PERMITTED for a path that leaves the folder.
        OSError: whatever the operating system reports.
    """
    return Found(_resolver()(folder, check_path(path), follow))


def find_place(folder: int, path: str) -> Place:
    """Find the folder that a path ends in, below `folder`, for whoever makes or removes a name there.

    Raises:
        FileError: as `find`; INVALID for a path that ends in `.` or `..`; NOT_DIRECTORY.
        OSError: whatever the operating system reports.
    """
    data = check_path(path)
    bare = data.rstrip(b"/")
    above, _, name = bare.rpartition(b"/")
    if name in (b".", b".."):
        raise FileError(ErrorCode.INVALID)
    found = Found(_resolver()(folder, above or b".", True))
    if not found.is_folder:
        os.close(found.number)
        raise FileError(ErrorCode.NOT_DIRECTORY)
    return Place(found, name, slash=bare != data)


def open_folder(name: str | bytes, folder: int) -> int:
    """Open a folder by one name below another, or the folder above by `..`; never through a symbolic link."""
    return os.open(name, _FOLDER, dir_fd=folder)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


@cache
def _resolver() -> Callable[[int, bytes, bool], int]:
    """What resolves on this machine; older kernels and some container runtimes refuse the system call."""
    root = os.open("/", _NAMED)
    try:
        number = _openat2(root, b".", 0)
    except OSError:
        return resolve_by_steps
    finally:
        os.close(root)
    os.close(number)
    return resolve_by_kernel


def _openat2(folder: int, path: bytes, flags: int) -> int:
    how = _OpenHow(_NAMED | flags, 0, _RESOLVE)
    number = _libc.syscall(ctypes.c_long(_OPENAT2), folder, path, ctypes.byref(how), ctypes.sizeof(how))
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(number)


def resolve_by_kernel(folder: int, path: bytes, follow: bool) -> int:  # noqa: FBT001 - one of two with this signature
    """Resolve by openat2; returns a descriptor that names what was found."""
    for _ in range(_ATTEMPTS):
        try:
            return _openat2(folder, path, 0 if follow else os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise FileError(ErrorCode.NOT_PERMITTED) from error
            if error.errno != errno.EAGAIN:
                raise
    return resolve_by_steps(folder, path, follow)


def resolve_by_steps(folder: int, path: bytes, follow: bool) -> int:  # noqa: FBT001 - one of two with this signature
    """Resolve name by name; returns a descriptor that names what was found.

    Every folder on the way is held open, so that `..` leads to the one that was passed and never past the first.
    """
    passed = [os.open(".", _NAMED, dir_fd=folder)]
    device = os.fstat(passed[0]).st_dev
    try:
        names = deque(_names(path))
        links = 0
        while names:
            name = names.popleft()
            if name == b"..":
                if len(passed) == 1:
                    raise FileError(ErrorCode.NOT_PERMITTED)
                os.close(passed.pop())
                continue
            if name == b".":
                continue
            passed.append(os.open(name, _NAMED | os.O_NOFOLLOW, dir_fd=passed[-1]))
            status = os.fstat(passed[-1])
            if status.st_dev != device:
                raise FileError(ErrorCode.NOT_PERMITTED)
            if stat.S_ISLNK(status.st_mode) and (names or follow):
                links += 1
                target = os.readlink(b"", dir_fd=passed[-1])
                os.close(passed.pop())
                if links > MAX_LINKS:
                    raise FileError(ErrorCode.LOOP)
                if target.startswith(b"/"):
                    raise FileError(ErrorCode.NOT_PERMITTED)
                names.extendleft(reversed(_names(target)))
            elif names and not stat.S_ISDIR(status.st_mode):
                raise FileError(ErrorCode.NOT_DIRECTORY)
            if len(passed) > MAX_COMPONENTS:
                raise FileError(ErrorCode.NAME_TOO_LONG)
        return passed.pop()
    finally:
        for number in passed:
            os.close(number)


def _names(path: bytes) -> list[bytes]:
    """Names of a path; a slash at the end becomes `.`, which only a folder has."""
    names = [name for name in path.split(b"/") if name]
    return [*names, b"."] if path.endswith(b"/") else names
