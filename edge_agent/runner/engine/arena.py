"""Scratch memory in which values are laid out for the C API.

Owns: `Arena`. The C API copies what it is given before it runs anything, so the memory stays Python's, is reused by
the next conversion, and nothing has to be freed value by value. The exceptions are resource handles, which the engine
allocates one by one: the arena remembers them and gives them back.
"""

from __future__ import annotations

from ctypes import addressof, c_char

from edge_agent.runner.engine import ffi

_BLOCK = 4096
_COPY_LIMIT = 512


def address_of(buffer: bytearray) -> int:
    """Address of the content of a bytearray; its length must not change while the address is in use."""
    return addressof(c_char.from_buffer(buffer))


class Arena:
    """A block that is filled from the start for every conversion; what does not fit gets memory of its own.

    The block is made when the first conversion needs it: an agent that only waits has none.
    """

    __slots__ = ("_base", "_block", "_handles", "_kept", "_room", "_top")

    def __init__(self) -> None:
        self._block = bytearray()
        self._base = 0
        self._room = -1  # not even nothing has an address yet
        self._top = 0
        self._kept: list[bytes | bytearray] = []
        self._handles: list[int] = []

    def take(self, size: int) -> tuple[bytearray, int, int]:
        """Get `size` bytes of any content: the buffer they are in, where in it they start, and their address."""
        start = self._top
        end = start + size
        if end <= self._room:
            self._top = (end + 7) & ~7
            return self._block, start, self._base + start
        if self._room < 0:
            self._make_block()
            return self.take(size)
        buffer = bytearray(size)
        return buffer, 0, self.keep(buffer)

    def keep(self, buffer: bytearray) -> int:
        """Hold a filled buffer until the next reset; returns its address."""
        self._kept.append(buffer)
        return address_of(buffer)

    def copy(self, raw: bytes) -> int:
        """Hold bytes until the next reset; returns their address, which is valid even for no bytes at all."""
        size = len(raw)
        end = self._top + size
        if size <= _COPY_LIMIT and self._room < 0:
            self._make_block()
        if size <= _COPY_LIMIT and end <= self._room:
            start = self._top
            self._block[start:end] = raw
            self._top = (end + 7) & ~7
            return self._base + start
        self._kept.append(raw)
        return ffi.bytes_address(raw)

    def hold_handle(self, handle: int) -> None:
        """Remember a resource handle made for this conversion."""
        self._handles.append(handle)

    def _make_block(self) -> None:
        self._block = bytearray(_BLOCK)
        self._base = address_of(self._block)
        self._room = _BLOCK

    def reset(self) -> None:
        """Forget everything; the next conversion starts from the beginning of the block."""
        self._top = 0
        if self._kept:
            self._kept = []
        if self._handles:
            for handle in self._handles:
                ffi.resource_any_delete(handle)
            self._handles = []
