"""Python values to engine values.

Owns: `lowering`, which compiles a type into a function that lays a value out in an arena as the C API wants it
(32 bytes per value: kind, then payload or pointer). A value that does not fit raises `Mismatch`, which names the
place. Never calls guest code.
"""

from __future__ import annotations

import struct
from ctypes import addressof
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.errors import check
from edge_agent.runner.engine.leaves import (
    Lower,
    Mismatch,
    expected,
    hexadecimal,
    numbers,
    pair,
    primitive,
    sequence,
    template,
    word,
)
from edge_agent.runner.engine.resources import GuestResource
from edge_agent.runner.engine.shim.moved import HexList, number_of
from fleet.wit_types import (
    BorrowType,
    EnumType,
    Err,
    FlagsType,
    ListType,
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
    from collections.abc import Iterable

    from edge_agent.runner.engine.leaves import Resources
    from edge_agent.runner.engine.slots import AgentSlot

_VAL = ffi.VAL_SIZE
_triple = struct.Struct("<QQQ").pack_into


def lowering(kind: WitType, resources: Resources) -> Lower:
    """Compile a type into a function `(value, buffer, start, slot)` that writes the payload of one value.

    The caller has put `template(kind)` at `start`.

    Args:
        kind: the type.
        resources: what the resources are that the type uses.
    """
    match kind:
        case Primitive():
            return primitive(kind)
        case ListType():
            return _list(kind, resources)
        case RecordType():
            return _record(kind, resources)
        case TupleType():
            return _tuple(kind, resources)
        case VariantType():
            return _variant(kind, resources)
        case EnumType():
            return _enum(kind)
        case FlagsType():
            return _flags(kind)
        case OptionType():
            return _option(kind, resources)
        case ResultType():
            return _result(kind, resources)
        case OwnType() | BorrowType():
            return _resource(kind, resources)


def _list(kind: ListType, resources: Resources) -> Lower:
    if (number := number_of(kind)) is not None:
        return (hexadecimal if isinstance(kind, HexList) else numbers)(kind, number)
    element = lowering(kind.element, resources)
    blank = template(kind.element)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, list | tuple):
            value = sequence(kind, value)
        count = len(value)
        inner, first, address = slot.arena.take(count * _VAL)
        inner[first : first + count * _VAL] = blank * count
        at = 0
        try:
            for at, item in enumerate(value):
                element(item, inner, first + at * _VAL, slot)
        except Mismatch as mismatch:
            raise mismatch.at(f"[{at}]") from None
        pair(buffer, start + 8, count, address)

    return lower


def _record(kind: RecordType, resources: Resources) -> Lower:
    labels = _Labels(name for name, _ in kind.fields)
    blank = b"".join(labels.entry(name) + template(part) for name, part in kind.fields)
    size = len(blank)
    parts = [
        (name, lowering(part, resources), index * ffi.ENTRY_SIZE + ffi.NAME_SIZE)
        for index, (name, part) in enumerate(kind.fields)
    ]

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, dict):
            raise expected(kind, value)
        if len(value) != len(parts):
            raise _wrong_fields(labels, value)
        inner, first, address = slot.arena.take(size)
        inner[first : first + size] = blank
        name = ""
        try:
            for name, part, offset in parts:
                part(value[name], inner, first + offset, slot)
        except Mismatch as mismatch:
            raise mismatch.at(f".{name}") from None
        except KeyError:
            raise Mismatch(f"field '{name}' is missing") from None
        pair(buffer, start + 8, len(parts), address)

    return lower


def _wrong_fields(labels: _Labels, value: dict[object, object]) -> Mismatch:
    missing = labels.spans.keys() - value.keys()
    if missing:
        return Mismatch(f"field '{min(missing)}' is missing")
    return Mismatch(f"{next(iter(value.keys() - labels.spans.keys()))!r} is not a field of the record")


def _tuple(kind: TupleType, resources: Resources) -> Lower:
    blank = b"".join(template(part) for part in kind.items)
    size = len(blank)
    parts = [(index, lowering(part, resources)) for index, part in enumerate(kind.items)]

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, tuple):
            raise expected(kind, value)
        if len(value) != len(parts):
            raise Mismatch(f"expected {len(parts)} values, got {len(value)}")
        inner, first, address = slot.arena.take(size)
        inner[first : first + size] = blank
        index = 0
        try:
            for index, part in parts:
                part(value[index], inner, first + index * _VAL, slot)
        except Mismatch as mismatch:
            raise mismatch.at(f".{index}") from None
        pair(buffer, start + 8, len(parts), address)

    return lower


def _boxed(kind: WitType, resources: Resources) -> _Boxed:
    return _Boxed(lowering(kind, resources), template(kind))


class _Boxed:
    """A payload that the value points to."""

    __slots__ = ("_blank", "_lower")

    def __init__(self, lower: Lower, blank: bytes) -> None:
        self._lower = lower
        self._blank = blank

    def write(self, value: object, slot: AgentSlot) -> int:
        """Lay the payload out; returns its address."""
        inner, first, address = slot.arena.take(_VAL)
        inner[first : first + _VAL] = self._blank
        self._lower(value, inner, first, slot)
        return address


def _option(kind: OptionType, resources: Resources) -> Lower:
    payload = _boxed(kind.payload, resources)
    nested = isinstance(kind.payload, OptionType)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if value is None:
            word(buffer, start + 8, 0)
            return
        if nested:
            if not isinstance(value, Some):
                raise expected(kind, value)
            value = value.value
        word(buffer, start + 8, payload.write(value, slot))

    return lower


def _result(kind: ResultType, resources: Resources) -> Lower:
    ok = None if kind.ok is None else _boxed(kind.ok, resources)
    err = None if kind.err is None else _boxed(kind.err, resources)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if isinstance(value, Ok):
            payload, name = ok, "ok"
        elif isinstance(value, Err):
            payload, name = err, "err"
        else:
            raise expected(kind, value)
        address = _payload(payload, name, value.value, slot)
        pair(buffer, start + 8, int(payload is ok and name == "ok"), address)

    return lower


def _variant(kind: VariantType, resources: Resources) -> Lower:
    labels = _Labels(name for name, _ in kind.cases)
    parts = {name: None if part is None else _boxed(part, resources) for name, part in kind.cases}

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, Variant):
            raise expected(kind, value)
        if value.case not in parts:
            raise Mismatch(f"{value.case!r} is not a case of {kind}")
        payload = _payload(parts[value.case], value.case, value.payload, slot)
        _triple(buffer, start + 8, *labels.spans[value.case], payload)

    return lower


def _payload(payload: _Boxed | None, name: str, value: object, slot: AgentSlot) -> int:
    """Lay out the payload of a case, if it has one; returns its address or 0."""
    if payload is None:
        if value is not None:
            raise Mismatch(f"'{name}' takes no value")
        return 0
    try:
        return payload.write(value, slot)
    except Mismatch as mismatch:
        raise mismatch.at(f".{name}") from None


def _enum(kind: EnumType) -> Lower:
    labels = _Labels(kind.cases)

    def lower(value: object, buffer: bytearray, start: int, _slot: AgentSlot) -> None:
        if not isinstance(value, str):
            raise expected(kind, value)
        if value not in labels.spans:
            raise Mismatch(f"{value!r} is not a case of {kind}")
        pair(buffer, start + 8, *labels.spans[value])

    return lower


def _flags(kind: FlagsType) -> Lower:
    labels = _Labels(kind.names)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, set | frozenset):
            raise expected(kind, value)
        unknown = value - labels.spans.keys()
        if unknown:
            raise Mismatch(f"{next(iter(unknown))!r} is not a flag of {kind}")
        raw = b"".join([labels.entry(name) for name in value])
        pair(buffer, start + 8, len(value), slot.arena.copy(raw))

    return lower


def _resource(kind: OwnType | BorrowType, resources: Resources) -> Lower:
    number = resources[kind.resource]
    owned = isinstance(kind, OwnType)
    if isinstance(number, str):
        return _guest_resource(number, kind)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise expected(kind, value)
        if not 0 <= value < 1 << 32:
            raise Mismatch(f"{value} is not a resource number")
        if owned:
            slot.lend(number, value)
        host = ffi.resource_host_new(owned, value, number)
        handle = ffi.Pointer()
        failed = ffi.resource_host_to_any(slot.context, host, addressof(handle))
        ffi.resource_host_delete(host)
        check(failed)
        slot.arena.hold_handle(handle.value or 0)
        word(buffer, start + 8, handle.value or 0)

    return lower


def _guest_resource(name: str, kind: OwnType | BorrowType) -> Lower:
    owned = isinstance(kind, OwnType)

    def lower(value: object, buffer: bytearray, start: int, slot: AgentSlot) -> None:
        if not isinstance(value, GuestResource):
            raise expected(kind, value)
        word(buffer, start + 8, value.lend(slot, name, give=owned))

    return lower


class _Labels:
    """Labels of a type in one piece of memory.

    Addresses stay valid while this object lives, so every function that uses one refers to the object itself.
    """

    __slots__ = ("_raw", "spans")

    def __init__(self, labels: Iterable[str]) -> None:
        encoded = {label: label.encode() for label in labels}
        self._raw = b"".join(encoded.values())
        self.spans: dict[str, tuple[int, int]] = {}
        """Length and address of each label."""
        address = ffi.bytes_address(self._raw)
        for label, raw in encoded.items():
            self.spans[label] = (len(raw), address)
            address += len(raw)

    def entry(self, label: str) -> bytes:
        """The label as a C structure of length and pointer."""
        return struct.pack("<QQ", *self.spans[label])
