"""How much linear memory each instance holds.

Owns: `MemoryMeter`. The C API of the engine tells no sizes, so they are read from the process's own mappings: a linear
memory is a readable range at the start of a reservation of gigabytes without access, and only instantiation makes
those. What appears while one instance is made is therefore its own. It grows in place, never moves.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

REFRESH_SECONDS = 1.0
"""Sizes are read at most this often: with a thousand memories it takes milliseconds."""

PATIENCE_SECONDS = 1.0
"""How long one start waits for another to be attributed."""

_RESERVED_BYTES = 1 << 30
"""A range without access of at least this size behind a readable one marks a linear memory."""

_MAPS = Path("/proc/self/maps")
_RANGE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (rw|---)", re.MULTILINE)
"""Ranges that may be written, and those without access; neighbours have the same address between them."""


class MemoryMeter:
    """Sizes of all linear memories of the process, by whose they are. May be used from any thread."""

    def __init__(self) -> None:
        self._instantiating = threading.Lock()
        self._lock = threading.Lock()
        self._starts: dict[Hashable, frozenset[int]] = {}
        self._sizes: dict[int, int] = {}
        self._read_at = float("-inf")

    @contextmanager
    def attributing(self, owner: Hashable) -> Iterator[None]:
        """Attribute memories that appear in the block to `owner`.

        Blocks of several threads follow one another, so that each sees its own memories only. One that waits too long
        for a slow start goes ahead and stays unattributed: a figure is not worth holding an agent up.
        """
        if not self._instantiating.acquire(timeout=PATIENCE_SECONDS):
            yield
            return
        try:
            before = linear_memories().keys()
            yield
            sizes = linear_memories()
            with self._lock:
                self._starts[owner] = frozenset(sizes.keys() - before)
                self._sizes, self._read_at = sizes, time.monotonic()
        finally:
            self._instantiating.release()

    def bytes_of(self, owner: Hashable) -> int:
        """Bytes of linear memory of an owner, as of at most `REFRESH_SECONDS` ago."""
        with self._lock:
            if time.monotonic() - self._read_at >= REFRESH_SECONDS:
                self._sizes, self._read_at = linear_memories(), time.monotonic()
            return sum(self._sizes.get(start, 0) for start in self._starts.get(owner, ()))

    def forget(self, owner: Hashable) -> None:
        """Drop what is known about an owner that has ended."""
        with self._lock:
            self._starts.pop(owner, None)


def linear_memories() -> dict[int, int]:
    """Start and size of every linear memory of this process; takes 2 ms with a thousand of them."""
    found: dict[int, int] = {}
    start, end = 0, 0
    for span in _RANGE.finditer(_MAPS.read_bytes()):
        low, high = int(span[1], 16), int(span[2], 16)
        if span[3] == b"rw":
            # A memory with initial data is two ranges side by side: the image of its data, and the rest.
            start, end = (start if low == end else low), high
        elif low == end and high - low >= _RESERVED_BYTES:
            found[start] = end - start
    return found
