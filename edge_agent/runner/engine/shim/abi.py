"""How values lie in a guest's memory: sizes, alignments and core types of the Canonical ABI.

Owns: `size`, `alignment`, `flat`, `offsets`, `case_layout` (Component Model, Canonical ABI, "Despecialization" and
"Flattening"). A `list<u8>` and a `string` are laid out alike, as address and length, so the byte shim can replace one
by the other without moving anything else.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from fleet.wit_types import (
    BorrowType,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_FLAT_PARAMS = 16
"""Parameters of more core values than this are passed in memory."""

_WIDTHS = {"8": 1, "16": 2, "32": 4, "64": 8}
_CORE = {Primitive.F32: "f32", Primitive.F64: "f64", Primitive.S64: "i64", Primitive.U64: "i64"}


def size(kind: WitType) -> int:
    """Bytes of one value in memory, padding included."""
    match kind:
        case RecordType() | TupleType():
            end = 0
            for part in parts(kind):
                end = _up(end, alignment(part)) + size(part)
            return _up(end, alignment(kind))
        case VariantType() | OptionType() | ResultType():
            _, start = case_layout(kind)
            return _up(start + max((size(part) for part in cases(kind) if part), default=0), alignment(kind))
        case EnumType():
            return _discriminant(len(kind.cases))
        case FlagsType():
            return 1 if len(kind.names) <= 8 else 2 if len(kind.names) <= 16 else 4
        case Primitive.STRING | ListType():
            return 8
        case Primitive():
            return _scalar(kind)
        case OwnType() | BorrowType():
            return 4


def alignment(kind: WitType) -> int:
    """Alignment of one value in memory."""
    match kind:
        case RecordType() | TupleType():
            return max((alignment(part) for part in parts(kind)), default=1)
        case VariantType() | OptionType() | ResultType():
            width, _ = case_layout(kind)
            return max([width, *(alignment(part) for part in cases(kind) if part)])
        case Primitive.STRING | ListType():
            return 4
    return size(kind)


def parts(kind: RecordType | TupleType) -> tuple[WitType, ...]:
    """Types of the fields in order."""
    return kind.items if isinstance(kind, TupleType) else tuple(part for _, part in kind.fields)


def cases(kind: VariantType | OptionType | ResultType) -> tuple[WitType | None, ...]:
    """Payload of each case, in the order of the discriminants."""
    match kind:
        case VariantType():
            return tuple(part for _, part in kind.cases)
        case OptionType():
            return (None, kind.payload)
        case ResultType():
            return (kind.ok, kind.err)


def offsets(kinds: Iterable[WitType]) -> list[int]:
    """Where each field of a record starts."""
    found, end = [], 0
    for kind in kinds:
        start = _up(end, alignment(kind))
        found.append(start)
        end = start + size(kind)
    return found


def case_layout(kind: VariantType | OptionType | ResultType) -> tuple[int, int]:
    """Bytes of the discriminant, and where the payload starts."""
    payloads = cases(kind)
    width = _discriminant(len(payloads))
    return width, _up(width, max((alignment(part) for part in payloads if part), default=1))


def flat(kind: WitType) -> list[str]:
    """Core types in which a value is passed outside memory."""
    match kind:
        case Primitive.STRING | ListType():
            return ["i32", "i32"]
        case Primitive():
            return [_CORE.get(kind, "i32")]
        case RecordType() | TupleType():
            return [core for part in parts(kind) for core in flat(part)]
        case VariantType() | OptionType() | ResultType():
            return ["i32", *_joined(cases(kind))]
    return ["i32"]


def _joined(payloads: Sequence[WitType | None]) -> list[str]:
    joined: list[str] = []
    for payload in payloads:
        part = flat(payload) if payload else []
        joined = [_join(mine, theirs) for mine, theirs in zip_longest(joined, part)]
    return joined


def _join(mine: str | None, theirs: str | None) -> str:
    if mine is None or theirs is None or mine == theirs:
        return mine or theirs or "i32"
    return "i32" if {mine, theirs} == {"i32", "f32"} else "i64"


def _scalar(kind: Primitive) -> int:
    if kind is Primitive.BOOL:
        return 1
    return 4 if kind is Primitive.CHAR else _WIDTHS[kind[1:]]


def _discriminant(count: int) -> int:
    return 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 4


def _up(start: int, to: int) -> int:
    return -(-start // to) * to
