"""Which functions move lists of numbers through the shim, and how that is remembered beside compiled code.

Owns: `HEX`, the stand-ins for lists of numbers in the types that values are converted by; `Moved`, the functions of a
component that the shim serves; and the trailer that carries it behind compiled code. Where a moved function says
`list<u8>`, the engine sees `string`: a mark per string tells which is which. Never looks at a component.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from io import SEEK_END
from typing import TYPE_CHECKING, BinaryIO

from edge_agent.runner.engine.types import ComponentTypes, InterfaceType
from fleet.errors import Code, FleetError
from fleet.wit_types import (
    NUMBER_FORMATS,
    FuncType,
    ListType,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_MOVED = (64 << 20) - (64 << 10)
"""Most bytes of one call through the shim, of all its lists, arguments and result: their text fits `MEMORY_PAGES`.

It is also what the engine carries at most, 128 MiB of text in one call.
"""

MEMORY_PAGES = 2048
"""Largest memory of one shim, in pages of 64 KiB: 128 MiB. The limit of the store is mostly lower."""

_RESERVE = 4096
"""What of its memory the shim keeps for itself."""

_FORMAT = 4
"""Changes with the text around components or the marks: code that was compiled for another shim is not to be used."""

_LENGTH = 8


class HexList(ListType):
    """A list of numbers that crosses the C API as hexadecimal text; differs from the list, and prints like it."""


HEX: Mapping[Primitive, HexList] = {element: HexList(element) for element in NUMBER_FORMATS}
"""The only instances, by the type of the numbers."""

_MARKS = {code: element for element, code in NUMBER_FORMATS.items()}
_TEXT = "0"


def movable_bytes(memory_bytes: int) -> int:
    """Most bytes that one call carries where a memory may have `memory_bytes`: they are twice as long as text."""
    return min(MAX_MOVED, max(0, memory_bytes // 2 - _RESERVE))


@dataclass(frozen=True, slots=True)
class Moved:
    """The functions that go through the shim.

    Attributes:
        imports: marks of each imported function by `interface#function`: one character per string that the engine
            sees, `0` where it is one and otherwise the letter of the numbers it stands for (`NUMBER_FORMATS`).
        exports: the same of the exported functions; outside interfaces the interface is empty.
        asynchronous: the code is for an engine with the asynchronous part of the component model.
        calls: exports that the dispatcher calls, by `interface#function` and in the order of their numbers.
        waits: imports that the host may answer later, in the same way.
    """

    imports: Mapping[str, str] = field(default_factory=dict)
    exports: Mapping[str, str] = field(default_factory=dict)
    asynchronous: bool = False
    calls: Sequence[str] = ()
    waits: Sequence[str] = ()

    @property
    def memories(self) -> int:
        """Linear memories that come with the shim: one for each direction and kind of calls it serves."""
        return bool(self.imports) + bool(self.exports) + bool(self.calls) + bool(self.waits)

    @property
    def core_instances(self) -> int:
        """Core instances that come with it: memory, converting functions, and what the engine puts in between."""
        return 3 * self.memories


def contains(kind: WitType, found: Callable[[WitType], bool]) -> bool:
    """True when a part of the type, or the type itself, is what is looked for."""
    return found(kind) or any(contains(part, found) for part in parts_of(kind))


def number_of(kind: WitType) -> Primitive | None:
    """Type of the numbers in a list of them, moved or not; None for every other type."""
    if isinstance(kind, ListType) and isinstance(kind.element, Primitive) and kind.element in NUMBER_FORMATS:
        return kind.element
    return None


def is_numbers(kind: WitType) -> bool:
    """True for a list of numbers, moved or not."""
    return number_of(kind) is not None


def has_numbers(kind: WitType) -> bool:
    """True when values of the type hold a list of numbers, moved or not."""
    return contains(kind, is_numbers)


def types_of(function: FuncType) -> list[WitType]:
    """Types of the parameters and of the result."""
    return [kind for _, kind in function.params] + ([] if function.result is None else [function.result])


def as_hex(function: FuncType) -> FuncType:
    """The type by which values of a moved function are converted."""
    return _changed(function, _as_hex)


def _as_hex(kind: WitType) -> WitType:
    number = number_of(kind)
    return kind if number is None else HEX[number]


def marks(function: FuncType) -> str:
    """Tell the strings of `as_hex(function)`, as the engine sees them, from the numbers."""
    return "".join(map(_marks, types_of(function)))


def restored(seen: FuncType, given: str) -> FuncType:
    """Undo `as_hex` on what the engine sees.

    Raises:
        FleetError: COMPONENT_INVALID when the marks are not those of the type.
    """
    left = iter(given)

    def restore(kind: WitType) -> WitType:
        if kind is not Primitive.STRING:
            return kind
        element = _MARKS.get(next(left, ""))
        return kind if element is None else ListType(element)

    function = _changed(seen, restore)
    if marks(function) != given:
        raise FleetError(Code.COMPONENT_INVALID, "the marks of the shim are not of this component")
    return function


def as_declared(seen: ComponentTypes, moved: Moved) -> ComponentTypes:
    """The types of the original component, from those that the engine sees.

    Raises:
        FleetError: COMPONENT_INVALID when the marks are not those of the component.
    """
    return ComponentTypes(_declared(seen.imports, moved.imports), _declared(seen.exports, moved.exports))


def _declared(interfaces: Mapping[str, InterfaceType], given: Mapping[str, str]) -> dict[str, InterfaceType]:
    return {
        interface: replace(
            seen,
            functions={
                name: restored(kind, given[f"{interface}#{name}"]) if f"{interface}#{name}" in given else kind
                for name, kind in seen.functions.items()
            },
        )
        for interface, seen in interfaces.items()
    }


def append(compiled: bytes, moved: Moved) -> bytes:
    """Compiled code with its trailer."""
    content = {
        "format": _FORMAT,
        "imports": dict(moved.imports),
        "exports": dict(moved.exports),
        "asynchronous": moved.asynchronous,
        "calls": list(moved.calls),
        "waits": list(moved.waits),
    }
    trailer = json.dumps(content).encode()
    return b"".join((compiled, trailer, len(trailer).to_bytes(_LENGTH, "little")))


def split(data: BinaryIO) -> tuple[int, Moved]:
    """Length of the compiled code in what `append` returned, and the functions that go through the shim.

    Raises:
        FleetError: COMPONENT_INVALID when there is no trailer.
    """
    end = data.seek(0, SEEK_END) - _LENGTH
    data.seek(max(end, 0))
    start = end - int.from_bytes(data.read(), "little")
    if not 0 <= start <= end:
        raise FleetError(Code.COMPONENT_INVALID, "the compiled code has no trailer")
    data.seek(start)
    try:
        content = json.loads(data.read(end - start))
        if content.pop("format") != _FORMAT:
            raise FleetError(Code.COMPONENT_INVALID, "the code was compiled for another shim")
        return start, Moved(**content)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise FleetError(Code.COMPONENT_INVALID, f"the trailer of the compiled code is damaged: {error}") from None


def _marks(kind: WitType) -> str:
    if kind is Primitive.STRING:
        return _TEXT
    if (number := number_of(kind)) is not None:
        return NUMBER_FORMATS[number]
    return "".join(_marks(part) for part in parts_of(kind))


def parts_of(kind: WitType) -> Iterator[WitType]:
    """The types a type is directly made of."""
    match kind:
        case ListType():
            yield kind.element
        case OptionType():
            yield kind.payload
        case RecordType():
            yield from (part for _, part in kind.fields)
        case TupleType():
            yield from kind.items
        case VariantType():
            yield from (part for _, part in kind.cases if part is not None)
        case ResultType():
            yield from (part for part in (kind.ok, kind.err) if part is not None)


def _changed(function: FuncType, change: Callable[[WitType], WitType]) -> FuncType:
    params = tuple((name, _change(kind, change)) for name, kind in function.params)
    return FuncType(params, None if function.result is None else _change(function.result, change))


def _change(kind: WitType, change: Callable[[WitType], WitType]) -> WitType:
    """The same type with `change` applied to every part that has no parts of its own, and to lists of numbers."""
    match kind:
        case ListType() if not is_numbers(kind):
            return ListType(_change(kind.element, change))
        case OptionType():
            return OptionType(_change(kind.payload, change))
        case RecordType():
            return RecordType(tuple((name, _change(part, change)) for name, part in kind.fields))
        case TupleType():
            return TupleType(tuple(_change(part, change) for part in kind.items))
        case VariantType():
            return VariantType(tuple((name, part and _change(part, change)) for name, part in kind.cases))
        case ResultType():
            return ResultType(kind.ok and _change(kind.ok, change), kind.err and _change(kind.err, change))
    return change(kind)
