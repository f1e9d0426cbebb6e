"""From component text to bytes.

Owns: `binary`, which leaves the reading of text to the engine, and `put_in`, for the one thing that text cannot hold:
another component as bytes.
"""

from __future__ import annotations

from ctypes import addressof, string_at

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.errors import check

_HEADER = b"\0asm\x0d\x00\x01\x00"
_COMPONENT_SECTION = 4


def binary(text: str) -> bytes:
    """Binary form of a component's text; nothing is validated.

    Raises:
        FleetError: INTERNAL when it is no text of a component.
    """
    raw, binary = text.encode(), ffi.ByteVec()
    check(ffi.wat_to_wasm(ffi.bytes_address(raw), len(raw), addressof(binary)))
    try:
        return string_at(binary.data or 0, binary.size)
    finally:
        ffi.byte_vec_delete(addressof(binary))


def put_in(outer: bytes, *components: bytes) -> bytes:
    """Put components where the outer one has empty ones, which must be its first sections."""
    before = _HEADER + _section(_HEADER) * len(components)
    if not outer.startswith(before):
        raise RuntimeError("the component does not begin with empty ones")
    return b"".join((_HEADER, *map(_section, components), outer[len(before) :]))


def _section(component: bytes) -> bytes:
    return b"".join((bytes((_COMPONENT_SECTION,)), _leb128(len(component)), component))


def _leb128(number: int) -> bytes:
    raw = bytearray()
    while number >= 0x80:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    raw.append(number)
    return bytes(raw)
