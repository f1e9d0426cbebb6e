"""What `wasi:filesystem` tells of a file: type, sizes, moments and a hash, as WIT values. Pure."""

from __future__ import annotations

import hashlib
import stat
import struct
from typing import TYPE_CHECKING

from edge_agent.capabilities.filesystem_paths import ErrorCode, FileError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from fleet.wit_types import Variant, WitValue

_SECOND_NS = 1_000_000_000
_LATEST_SECONDS = (1 << 63) // _SECOND_NS - 1
"""The kernel counts nanoseconds in 63 bits where this program hands them over."""

_HASHED = struct.Struct("<QQQqqI")

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "regular-file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symbolic-link"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character-device"),
    (stat.S_ISBLK, "block-device"),
)


def kind_of(mode: int) -> str:
    """Return the `descriptor-type` of something with this mode."""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "unknown")


def described(status: os.stat_result) -> dict[str, WitValue]:
    """Return a `descriptor-stat`."""
    return {
        "type": kind_of(status.st_mode),
        "link-count": status.st_nlink,
        "size": status.st_size,
        "data-access-timestamp": _datetime(status.st_atime_ns),
        "data-modification-timestamp": _datetime(status.st_mtime_ns),
        "status-change-timestamp": _datetime(status.st_ctime_ns),
    }


def hashed(status: os.stat_result) -> dict[str, WitValue]:
    """Return a `metadata-hash-value`: other bits for another file, and for the same one once it changes."""
    fields = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
    digest = hashlib.blake2b(_HASHED.pack(*fields), digest_size=16).digest()
    return {"lower": int.from_bytes(digest[:8], "little"), "upper": int.from_bytes(digest[8:], "little")}


def timestamp(wanted: Variant[dict[str, int]], present: int, now: int) -> int:
    """Return what a `new-timestamp` asks for, in nanoseconds since the Unix epoch as `present` and `now` are.

    Raises:
        FileError: INVALID for a moment that no file can have.
    """
    if wanted.case == "now":
        return now
    if wanted.payload is None:
        return present
    seconds, nanoseconds = wanted.payload["seconds"], wanted.payload["nanoseconds"]
    if seconds > _LATEST_SECONDS or nanoseconds >= _SECOND_NS:
        raise FileError(ErrorCode.INVALID)
    return seconds * _SECOND_NS + nanoseconds


def _datetime(nanoseconds: int) -> dict[str, int] | None:
    """Return a `datetime`, None for a moment before 1970, which it has no number for."""
    if nanoseconds < 0:
        return None
    return {"seconds": nanoseconds // _SECOND_NS, "nanoseconds": nanoseconds % _SECOND_NS}
