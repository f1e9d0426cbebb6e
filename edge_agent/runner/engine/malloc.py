"""How the C library keeps memory that was given back, for processes that move megabytes between host and guests.

Owns: `keep_large_blocks`. A list of numbers is copied a few times on its way, and by default each copy is memory that
the kernel has to map, clear and take back: half of the time of a call with a megabyte.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX

MAX_KEPT = 16 << 20
"""Most bytes at the end of one arena that are kept for the next call; blocks of that size or more are never kept."""

ARENAS = 2
"""Parts of the heap in which threads look for memory; by default eight per processor, each with something kept."""


def keep_large_blocks() -> None:
    """Set the whole process up; for its start, before it has threads. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, MAX_KEPT)
        mallopt(_MMAP_THRESHOLD, MAX_KEPT)
        mallopt(_ARENA_MAX, ARENAS)
