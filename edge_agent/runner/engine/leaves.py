"""Engine values without parts: numbers, text, and lists of numbers.

Owns: `Mismatch`, `template` and the leaves of `lower`. Every number is range checked and nothing wraps silently.
Never calls guest code.
"""

from __future__ import annotations

import array
import struct
from binascii import hexlify
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.shim.moved import HEX, MAX_MOVED
from fleet.errors import Code, FleetError
from fleet.wit_types import BYTES, INTEGER_RANGES, BorrowType, ListType, OwnType, Primitive, WitType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine.slots import AgentSlot

Lower: TypeAlias = "Callable[[object, bytearray, int, AgentSlot], None]"
"""Writes the payload of one value: `(value, buffer, start, slot)`."""

PACK_FORMATS = {
    Primitive.S8: "b",
    Primitive.U8: "B",
    Primitive.S16: "h",
    Primitive.U16: "H",
    Primitive.S32: "i",
    Primitive.U32: "I",
    Primitive.S64: "q",
    Primitive.U64: "Q",
    Primitive.F32: "f",
    Primitive.F64: "d",
}
"""`struct` and `array` format of each number; little-endian, which is what every host Wasmtime compiles for is."""

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
        case ListType() if kind is HEX:
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
        case Primitive.F32 | Primitive.F64:
            return _float(kind)
    pack = struct.Struct(f"<{PACK_FORMATS[kind]}").pack_into
    low, high = INTEGER_RANGES[kind]

    def lower(value: object, buffer: bytearray, start: int, _slot: AgentSlot) -> None:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            raise expected(kind, value)
        try:
            pack(buffer, start + 8, value)
        except struct.error:
            raise Mismatch(f"{value} is outside {low}..{high} of {kind}") from None

    return lower


def _float(kind: Primitive) -> Lower:
    pack = struct.Struct(f"<{PACK_FORMATS[kind]}").pack_into

    def lower(value: object, buffer: bytearray, start: int, _slot: AgentSlot) -> None:
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


def lower_bytes(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
    """Lay out a `list<u8>`: one engine value per byte, since the C API knows no other form."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise expected(BYTES, value)
    raw = bytes(value)
    inner = bytearray(_BYTE)
    inner *= len(raw)
    inner[8::_VAL] = raw
    pair(buffer, start + 8, len(raw), slot.arena.keep(inner) if raw else 0)


def lower_hex(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
    """Lay out a `list<u8>` of a function that goes through the byte shim: as text, in one piece."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise expected(BYTES, value)
    raw = hexlify(bytes(value))
    if len(raw) > 2 * MAX_MOVED:
        raise Mismatch(f"{len(raw) // 2} bytes are more than {MAX_MOVED}, the most that one call can carry")
    pair(buffer, start + 8, len(raw), slot.arena.copy(raw))


_BYTE = template(Primitive.U8)


def numbers(element: Primitive) -> Lower:
    """Lists of numbers, laid out by strided copies instead of one by one."""
    kind = ListType(element)
    code = PACK_FORMATS[element]
    width = struct.calcsize(f"<{code}")
    blank = template(element)
    allowed = {float, int} if code in "fd" else {int}
    one = primitive(element)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, list | tuple | array.array):
            value = sequence(kind, value)
        count = len(value)
        inner = bytearray(blank)
        inner *= count
        try:
            if not set(map(type, value)) <= allowed:
                raise TypeError  # noqa: TRY301 - the same remedy as for what struct refuses
            raw = struct.pack(f"<{count}{code}", *value)
        except (OverflowError, TypeError, struct.error):
            # Find the item that does not fit, to name it. Subclasses of int fit, and are laid out here.
            for at, item in enumerate(value):
                try:
                    one(item, inner, at * _VAL, slot)
                except Mismatch as mismatch:
                    raise mismatch.at(f"[{at}]") from None
        else:
            for byte in range(width):
                inner[8 + byte :: _VAL] = raw[byte::width]
        pair(buffer, start + 8, count, slot.arena.keep(inner) if count else 0)

    return lower


def sequence(kind: ListType, value: object) -> list[object]:
    """The items of anything iterable that has an order; text and bytes are refused, being other WIT types."""
    if isinstance(value, str | bytes | bytearray | dict | set | frozenset):
        raise expected(kind, value)
    if not isinstance(value, Iterable):
        raise expected(kind, value)
    return list(value)
