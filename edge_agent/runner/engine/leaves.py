"""Engine values without parts: numbers, text, and lists of numbers.

Owns: `Mismatch`, `template` and the leaves of `lower`. Every number is range checked and nothing wraps silently.
Never calls guest code.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.shim.moved import HexList
from fleet.errors import Code, FleetError
from fleet.wit_types import (
    BYTES,
    INTEGER_RANGES,
    NUMBER_FORMATS,
    BorrowType,
    ListType,
    OwnType,
    Primitive,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.runner.engine.slots import AgentSlot

Lower: TypeAlias = "Callable[[object, bytearray, int, AgentSlot], None]"
"""Writes the payload of one value: `(value, buffer, start, slot)`."""
_Number: TypeAlias = "Callable[[object, bytearray, int, AgentSlot | None], None]"
"""The same for what needs no slot."""

Resources: TypeAlias = "Mapping[str, int | str]"
"""By the name that a type uses: the number of a resource of the host, or the full name of one of the guest."""

pair = struct.Struct("<QQ").pack_into
word = struct.Struct("<Q").pack_into
_VAL = ffi.VAL_SIZE


class Mismatch(Exception):  # noqa: N818 - a control flow of this package: it gathers the place while it passes
    """A value does not fit its type; `place` grows from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = ""

    def at(self, outer: str) -> Mismatch:
        """The same mismatch, seen from one level further out."""
        self.place = outer + self.place
        return self

    def as_fleet_error(self, root: str) -> FleetError:
        """The error a caller sees, for example at `data.value`."""
        return FleetError(Code.VALUE_INVALID, self.reason, place=root + self.place)


def template(kind: WitType) -> bytes:
    """The 32 bytes of a value of the type before its payload is known: the kind, then zeros."""
    match kind:
        case Primitive():
            name = kind.name
        case OwnType() | BorrowType():
            name = "RESOURCE"
        case HexList():
            name = "STRING"
        case _:
            name = type(kind).__name__.removesuffix("Type").upper()
    return bytes((ffi.VAL_KIND[name],)) + bytes(_VAL - 1)


def expected(kind: WitType, value: object) -> Mismatch:
    """The mismatch of a value whose Python type is wrong."""
    return Mismatch(f"expected {kind}, got {type(value).__name__}")


def primitive(kind: Primitive) -> Lower:
    """Compile a type without parts."""
    match kind:
        case Primitive.BOOL:
            return _bool
        case Primitive.CHAR:
            return _char
        case Primitive.STRING:
            return _string
    return _float(kind) if kind in (Primitive.F32, Primitive.F64) else _integer(kind)


def _integer(kind: Primitive) -> _Number:
    pack = struct.Struct(f"<{NUMBER_FORMATS[kind]}").pack_into
    low, high = INTEGER_RANGES[kind]

    def lower(value: object, buffer: bytearray, start: int, _slot: AgentSlot | None) -> None:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            raise expected(kind, value)
        try:
            pack(buffer, start + 8, value)
        except struct.error:
            raise Mismatch(f"{value} is outside {low}..{high} of {kind}") from None

    return lower


def _float(kind: Primitive) -> _Number:
    pack = struct.Struct(f"<{NUMBER_FORMATS[kind]}").pack_into

    def lower(value: object, buffer: bytearray, start: int, _slot: AgentSlot | None) -> None:
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, float | int)):
            raise expected(kind, value)
        try:
            pack(buffer, start + 8, value)
        except (OverflowError, struct.error):
            raise Mismatch(f"{value} is outside the range of {kind}") from None

    return lower


def _bool(value: object, buffer: bytearray, start: int, _slot: AgentSlot) -> None:
    if not isinstance(value, bool):
        raise expected(Primitive.BOOL, value)
    buffer[start + 8] = value


def _char(value: object, buffer: bytearray, start: int, _slot: AgentSlot) -> None:
    if not isinstance(value, str):
        raise expected(Primitive.CHAR, value)
    if len(value) != 1 or "\ud800" <= value <= "\udfff":
        raise Mismatch("expected exactly one character")
    word(buffer, start + 8, ord(value))


def _string(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
    if not isinstance(value, str):
        raise expected(Primitive.STRING, value)
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise Mismatch("the text holds lone surrogates, which have no UTF-8 form") from None
    pair(buffer, start + 8, len(raw), slot.arena.copy(raw))


def numbers(kind: ListType, element: Primitive) -> Lower:
    """Lists of numbers, as one engine value per item: the C API knows no other form. Laid out by strided copies."""
    width = struct.calcsize(f"<{NUMBER_FORMATS[element]}")
    blank = template(element)
    pack = _packing(kind, element)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        raw = bytes(pack(value))
        count = len(raw) // width
        inner = bytearray(blank)
        inner *= count
        for byte in range(width):
            inner[8 + byte :: _VAL] = raw[byte::width]
        pair(buffer, start + 8, count, slot.arena.keep(inner) if count else 0)

    return lower


def hexadecimal(kind: ListType, element: Primitive) -> Lower:
    """Lists of numbers of a function that goes through the shim: as text, in one piece."""
    pack = _packing(kind, element)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        raw = hexlify(pack(value))
        size = len(raw)
        if size > 2 * slot.movable:
            raise Mismatch(f"{size // 2} bytes are more than {slot.movable}, the most a call of this agent can carry")
        pair(buffer, start + 8, size, slot.arena.copy(raw))

    return lower


def _packing(kind: ListType, element: Primitive) -> Callable[[object], bytes | memoryview]:
    """How the items of a list become bytes in the order of the machine's memory, which is contiguous."""
    return _bytes if element is Primitive.U8 else _packed(kind, element)


def _bytes(value: object) -> bytes | memoryview:
    if type(value) is bytes:
        return value
    view = _buffer(value)
    if view is None or view.itemsize != 1:
        raise expected(BYTES, value)
    return view if view.c_contiguous else view.tobytes()


def _packed(kind: ListType, element: Primitive) -> Callable[[object], bytes | memoryview]:
    code = NUMBER_FORMATS[element]
    width = struct.calcsize(f"<{code}")
    formats = [letter for letter in _SAME_KIND[code] if struct.calcsize(letter) == width]
    allowed = {float, int} if code in "fd" else {int}
    one = _float(element) if code in "fd" else _integer(element)

    def pack(value: object) -> bytes | memoryview:
        if not isinstance(value, list | tuple):
            view = None if isinstance(value, bytes | bytearray) else _buffer(value)
            if view is not None and view.format in formats:
                return view if view.c_contiguous else view.tobytes()
            value = sequence(kind, value if view is None else view.tolist())
        try:
            if not set(map(type, value)) <= allowed:
                raise TypeError  # noqa: TRY301 - the same remedy as for what struct refuses
            return struct.pack(f"<{len(value)}{code}", *value)
        except (OverflowError, TypeError, struct.error):
            # Find the item that does not fit, to name it. Subclasses of int fit, and are laid out here.
            raw, found = bytearray(_VAL), bytearray()
            for at, item in enumerate(value):
                try:
                    one(item, raw, 0, None)
                except Mismatch as mismatch:
                    raise mismatch.at(f"[{at}]") from None
                found += raw[8 : 8 + width]
            return bytes(found)

    return pack


def _buffer(value: object) -> memoryview | None:
    """The items of an object that lie in memory one after the other, or None when it has no such."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # whether it can be is the question
    except TypeError:
        return None
    return view if view.ndim == 1 else None


_SAME_KIND = {letter: kind for kind in ("bhilq", "BHILQ", "fd") for letter in kind}
"""Letters of the buffer protocol that mean the same kind of number, in different or equal widths."""


def sequence(kind: ListType, value: object) -> list[object]:
    """The items of anything iterable that has an order; text and bytes are refused, being other WIT types."""
    if isinstance(value, str | bytes | bytearray | dict | set | frozenset):
        raise expected(kind, value)
    if not isinstance(value, Iterable):
        raise expected(kind, value)
    return list(value)
