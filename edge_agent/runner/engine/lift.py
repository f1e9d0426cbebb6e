"""Engine values to Python values.

Owns: `lifting`, which compiles a type into a function that reads one value out of the C API's 32 bytes. It copies what
it reads and frees nothing: results are freed by whoever called the guest, arguments of host functions by the engine.
Resource handles are the exception: reading one releases it, because a borrow that is not released traps the guest.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from ctypes import Array, addressof, c_char, string_at
from typing import TYPE_CHECKING, TypeAlias

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.errors import check
from edge_agent.runner.engine.resources import GuestResource
from edge_agent.runner.engine.shim.moved import HexList, number_of
from fleet.errors import Code, FleetError
from fleet.wit_types import (
    NUMBER_FORMATS,
    BorrowType,
    EnumType,
    Err,
    FlagsType,
    ListType,
    Numbers,
    Ok,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    Some,
    TupleType,
    Variant,
    VariantType,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine.leaves import Resources
    from edge_agent.runner.engine.slots import AgentSlot

Lift: TypeAlias = "Callable[[bytes | bytearray, int, AgentSlot], object]"
"""Reads one value: `(raw, start, slot)`."""

_VAL = ffi.VAL_SIZE
_IN_PLACE = 1 << 14
"""Number of values from which making a ctypes array type costs less than copying them."""
_text_at = ffi.text_at
_memory_at = ffi.memory_at
_READ_ONLY = 0x100
"""`PyBUF_READ`."""
_word = struct.Struct("<Q").unpack_from
_pair = struct.Struct("<QQ").unpack_from
_triple = struct.Struct("<QQQ").unpack_from
_code_point = struct.Struct("<I").unpack_from


def lifting(kind: WitType, resources: Resources) -> Lift:
    """Compile a type into a function that reads one value of it.

    Args:
        kind: the type.
        resources: what the resources are that the type uses.
    """
    match kind:
        case Primitive():
            return _primitive(kind)
        case ListType():
            return _list(kind, resources)
        case RecordType():
            return _record(kind, resources)
        case TupleType():
            return _tuple(kind, resources)
        case VariantType():
            return _variant(kind, resources)
        case EnumType():
            return _text
        case FlagsType():
            return _flags
        case OptionType():
            return _option(kind, resources)
        case ResultType():
            return _result(kind, resources)
        case OwnType() | BorrowType():
            return _resource(kind, resources)


def _primitive(kind: Primitive) -> Lift:
    match kind:
        case Primitive.BOOL:
            return lambda raw, start, _slot: raw[start + 8] != 0
        case Primitive.CHAR:
            return lambda raw, start, _slot: chr(_code_point(raw, start + 8)[0])
        case Primitive.STRING:
            return _text
    unpack = struct.Struct(f"<{NUMBER_FORMATS[kind]}").unpack_from
    return lambda raw, start, _slot: unpack(raw, start + 8)[0]


def _text(raw: bytes | bytearray, start: int, _slot: AgentSlot) -> str:
    length, address = _pair(raw, start + 8)
    return _text_at(address, length) if length else ""


def _list(kind: ListType, resources: Resources) -> Lift:
    if (number := number_of(kind)) is not None:
        return (_hexadecimal if isinstance(kind, HexList) else _numbers)(number)
    element = lifting(kind.element, resources)

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> list[object]:
        count, address = _pair(raw, start + 8)
        size = count * _VAL
        inner = string_at(address, size) if count else b""
        return [element(inner, at, slot) for at in range(0, size, _VAL)]

    return lift


def _hexadecimal(element: Primitive) -> Lift:
    """Lists of numbers that crossed as text."""
    code = NUMBER_FORMATS[element]

    def lift(raw: bytes | bytearray, start: int, _slot: AgentSlot) -> bytes | Numbers[int] | Numbers[float]:
        length, address = _pair(raw, start + 8)
        packed = unhexlify(_memory_at(address, length, _READ_ONLY)) if length else b""
        return packed if element is Primitive.U8 else Numbers(code, packed)

    return lift


def _block(address: int, count: int) -> bytes | Array[c_char]:
    """The memory of many values, to be sliced: copied when small, seen in place when a copy would cost most."""
    size = count * _VAL
    return string_at(address, size) if count < _IN_PLACE else (c_char * size).from_address(address)


def _stride(block: bytes | Array[c_char], offset: int) -> bytes:
    """The byte at `offset` of every value of a block."""
    return block[offset::_VAL]  # type: ignore[return-value]  # a slice of c_char is bytes, which the stubs do not say


def _numbers(element: Primitive) -> Lift:
    """Lists of numbers, gathered by strided copies instead of one by one."""
    code = NUMBER_FORMATS[element]
    width = struct.calcsize(f"<{code}")

    def lift(raw: bytes | bytearray, start: int, _slot: AgentSlot) -> bytes | Numbers[int] | Numbers[float]:
        count, address = _pair(raw, start + 8)
        inner = _block(address, count) if count else b""
        if element is Primitive.U8:
            return _stride(inner, 8)
        packed = bytearray(count * width)
        for byte in range(width):
            packed[byte::width] = _stride(inner, 8 + byte)
        return Numbers(code, bytes(packed))

    return lift


def _record(kind: RecordType, resources: Resources) -> Lift:
    size = len(kind.fields) * ffi.ENTRY_SIZE
    parts = [
        (name, lifting(part, resources), index * ffi.ENTRY_SIZE + ffi.NAME_SIZE)
        for index, (name, part) in enumerate(kind.fields)
    ]

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> dict[str, object]:
        inner = string_at(_pair(raw, start + 8)[1], size)
        return {name: part(inner, at, slot) for name, part, at in parts}

    return lift


def _tuple(kind: TupleType, resources: Resources) -> Lift:
    size = len(kind.items) * _VAL
    parts = [(lifting(part, resources), index * _VAL) for index, part in enumerate(kind.items)]

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> tuple[object, ...]:
        inner = string_at(_pair(raw, start + 8)[1], size)
        return tuple([part(inner, at, slot) for part, at in parts])

    return lift


def _variant(kind: VariantType, resources: Resources) -> Lift:
    cases = {name.encode(): (name, part and lifting(part, resources)) for name, part in kind.cases}

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> Variant[object]:
        length, address, payload = _triple(raw, start + 8)
        name, part = cases[string_at(address, length)]
        return Variant(name, part(string_at(payload, _VAL), 0, slot) if part else None)

    return lift


def _flags(raw: bytes | bytearray, start: int, _slot: AgentSlot) -> frozenset[str]:
    count, address = _pair(raw, start + 8)
    inner = string_at(address, count * ffi.NAME_SIZE) if count else b""
    spans = (_pair(inner, at) for at in range(0, len(inner), ffi.NAME_SIZE))
    return frozenset([string_at(name, length).decode() for length, name in spans])


def _option(kind: OptionType, resources: Resources) -> Lift:
    part = lifting(kind.payload, resources)
    nested = isinstance(kind.payload, OptionType)

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> object:
        (payload,) = _word(raw, start + 8)
        if not payload:
            return None
        value = part(string_at(payload, _VAL), 0, slot)
        return Some(value) if nested else value

    return lift


def _result(kind: ResultType, resources: Resources) -> Lift:
    ok = kind.ok and lifting(kind.ok, resources)
    err = kind.err and lifting(kind.err, resources)

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> Ok[object] | Err[object]:
        (payload,) = _word(raw, start + 16)
        if raw[start + 8]:
            return Ok(ok(string_at(payload, _VAL), 0, slot) if ok else None)
        return Err(err(string_at(payload, _VAL), 0, slot) if err else None)

    return lift


def _resource(kind: OwnType | BorrowType, resources: Resources) -> Lift:
    number = resources[kind.resource]
    if isinstance(number, str):
        return _guest_resource(number)
    owned = isinstance(kind, OwnType)

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> int:
        host = ffi.Pointer()
        check(ffi.resource_any_to_host(slot.context, _word(raw, start + 8)[0], addressof(host)))
        rep: int = ffi.resource_host_rep(host)
        actual = ffi.resource_host_type(host)
        ffi.resource_host_delete(host)
        if actual != number:
            raise FleetError(Code.COMPONENT_INVALID, f"a handle given as {kind} is of another resource")
        if owned:
            slot.live.discard((number, rep))
        return rep

    return lift


def _guest_resource(kind: str) -> Lift:
    """A handle of our own, since the value's goes with the value; only `own` comes out of a guest."""

    def lift(raw: bytes | bytearray, start: int, slot: AgentSlot) -> GuestResource:
        return GuestResource(slot, kind, ffi.resource_any_clone(_word(raw, start + 8)[0]))

    return lift
