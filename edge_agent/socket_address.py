"""Addresses of Unix sockets that fit into the kernel's 108 bytes, however deep the data directory lies."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Yield an address to bind or to connect to; it is good for this process and this while."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
