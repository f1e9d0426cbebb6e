"""What a process of this machine has in its memory, for tests that look for what must not be there."""

from __future__ import annotations

from pathlib import Path

MAX_REGION = 1 << 28
"""Larger regions are address space that an engine reserves, not memory."""


def memory_of(pid: int) -> bytes:
    """Everything writable that a process has mapped; needs the right to trace it."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, permissions, *_ = line.split()
            start, end = (int(part, 16) for part in place.split("-"))
            if permissions.startswith("rw") and end - start <= MAX_REGION:
                memory.seek(start)
                try:
                    found.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(found)


def environment_of(pid: int) -> bytes:
    """The environment that a process began with."""
    return Path(f"/proc/{pid}/environ").read_bytes()
