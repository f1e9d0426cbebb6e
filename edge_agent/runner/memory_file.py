"""Sealed memory files: bytes that nobody can change any more, handed between processes by descriptor.

Owns: making, sealing, checking and reading them. What was verified in a sealed file is what its receiver maps, however
many descriptors of it exist (memfd_create(2), F_ADD_SEALS in fcntl(2)).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def create(name: str) -> int:
    """Return the descriptor of a new, empty memory file; `name` shows in /proc only."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write(number: int, data: bytes | memoryview) -> None:
    """Append all of `data`."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(number, rest) :]


def seal(number: int) -> None:
    """Forbid every further change of contents and size, also through descriptors and mappings elsewhere."""
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)


def check_sealed(number: int, maximum: int) -> int:
    """Check that a received descriptor is a sealed memory file and return its size in bytes.

    Raises:
        FleetError: MESSAGE_INVALID when it is something else, LIMIT_EXCEEDED above `maximum` bytes.
    """
    try:
        seals = fcntl.fcntl(number, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FleetError(Code.MESSAGE_INVALID, "the descriptor is not a memory file") from error
    if seals & _SEALS != _SEALS:
        raise FleetError(Code.MESSAGE_INVALID, "the memory file is not sealed")
    size = os.fstat(number).st_size
    if size > maximum:
        raise FleetError(Code.LIMIT_EXCEEDED, f"the memory file has {size} bytes", limit=maximum)
    return size


@contextmanager
def view(number: int) -> Iterator[memoryview]:
    """Map a file of at least one byte for reading."""
    with mmap.mmap(number, 0, prot=mmap.PROT_READ) as mapping, memoryview(mapping) as contents:
        yield contents


def read(number: int, maximum: int) -> bytes:
    """Read a whole file of any kind from its start.

    Raises:
        FleetError: LIMIT_EXCEEDED above `maximum` bytes.
    """
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(number, min(1 << 20, maximum + 1 - offset), offset):
        parts.append(part)
        offset += len(part)
        if offset > maximum:
            raise FleetError(Code.LIMIT_EXCEEDED, f"the file has more than {maximum} bytes", limit=maximum)
    return b"".join(parts)
