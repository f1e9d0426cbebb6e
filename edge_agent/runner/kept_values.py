"""Values of guest and host as a record keeps them, and how they are written.

Owns: `keep`, which copies what somebody could change and estimates how long a value is; `Note`, which stands for a
value that is not kept; `write_value` with `numbered`, the types in which the handle of a resource is a number. Never
decides how much is kept altogether.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.wave_print import print_value
from fleet.wit_types import (
    BorrowType,
    Err,
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
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.wit_types import WitType

NOTE_WEIGHT = 64
"""About how many characters a note takes."""

_SCALAR_WEIGHT = 16
_BYTE_WEIGHT = 5
_SCALARS = frozenset({int, float, bool, type(None)})
_WRAPPERS = (Ok, Err, Some)
_BUFFERS = (bytearray, memoryview)
_SETS = (set, frozenset)
_SEQUENCES = (list, tuple)


@dataclass(frozen=True, slots=True)
class Note:
    """Stands for a value that was not kept."""

    text: str


@lru_cache(maxsize=4_096)
def numbered(kind: WitType) -> WitType:
    """The same type with a number for every handle: a resource has no text of its own."""
    match kind:
        case OwnType() | BorrowType():
            return Primitive.U32
        case ListType(element):
            return ListType(numbered(element))
        case RecordType(fields):
            return RecordType(tuple((name, numbered(part)) for name, part in fields))
        case TupleType(items):
            return TupleType(tuple(map(numbered, items)))
        case VariantType(cases):
            return VariantType(tuple((name, None if part is None else numbered(part)) for name, part in cases))
        case OptionType(payload):
            return OptionType(numbered(payload))
        case ResultType(ok, err):
            return ResultType(None if ok is None else numbered(ok), None if err is None else numbered(err))
        case _:
            return kind


def write_value(value: object, kind: WitType | None) -> str:
    """Text of a kept value, "" where the type has none."""
    if isinstance(value, Note):
        return value.text
    if kind is None:
        return ""
    try:
        return print_value(value, numbered(kind))
    except FleetError:
        return f"<no {kind}>"  # a host function's own fault, which the engine has refused


def keep_all(values: tuple[object, ...], left: int) -> tuple[tuple[object, ...], int]:
    """Values to remember, and about how many characters they take: together at most `left` and some for notes."""
    total = 0
    kept: list[object] | None = None
    for at, value in enumerate(values):
        mine, weight = keep(value, left - total)
        if weight > left - total:
            mine, weight = describe(value), NOTE_WEIGHT
        total += weight
        if mine is not value:
            kept = kept or list(values)
            kept[at] = mine
    return (values if kept is None else tuple(kept)), total


def keep(value: object, left: int) -> tuple[object, int]:
    """One value that nobody can change any more, and its weight; more than `left` says that it is too large."""
    kind = type(value)
    if kind in _SCALARS:
        return value, _SCALAR_WEIGHT
    if kind is str:
        return value, len(value) + 2  # type: ignore[arg-type]  # mypy does not narrow by `type(value) is`
    if kind is bytes:
        return value, len(value) * _BYTE_WEIGHT  # type: ignore[arg-type]
    if isinstance(value, _WRAPPERS):
        inner, weight = keep(value.value, left)
        return value if inner is value.value else kind(inner), weight + 6  # type: ignore[call-arg]
    if isinstance(value, Variant):
        inner, weight = keep(value.payload, left)
        return Variant(value.case, inner), weight + len(value.case)
    if isinstance(value, _BUFFERS):
        size = len(value) * _BYTE_WEIGHT
        return (bytes(value) if size <= left else value), size
    if isinstance(value, dict):
        copy, total = value.copy(), 0
        for key, item in value.items():
            mine, weight = keep(item, left - total)
            total += weight + len(key)
            if total > left:
                return value, total
            if mine is not item:
                copy[key] = mine
        return copy, total
    if isinstance(value, _SETS):
        return frozenset(value), sum(map(len, value))
    if isinstance(value, _SEQUENCES):
        if 2 * len(value) > left:
            return value, left + 1
        if kind is list and set(map(type, value)) <= _SCALARS:
            return value[:], len(value) * _SCALAR_WEIGHT
        items, weight = _keep_items(value, left)
        return (items if kind is list else tuple(items)), weight
    return Note("<unknown>"), _SCALAR_WEIGHT


def _keep_items(values: Iterable[object], left: int) -> tuple[list[object], int]:
    total = 0
    kept: list[object] = []
    for value in values:
        mine, weight = keep(value, left - total)
        total += weight + 2
        if total > left:
            return kept, left + 1
        kept.append(mine)
    return kept, total


def describe(value: object) -> Note:
    """Length and digest of a value that is too large."""
    while isinstance(value, _WRAPPERS):
        value = value.value
    if isinstance(value, str):
        return Note(f"<{len(value)} characters, sha256:{sha256(value.encode(errors='replace')).hexdigest()}>")
    if isinstance(value, bytes | bytearray | memoryview):
        return Note(f"<{len(value)} bytes, sha256:{sha256(value).hexdigest()}>")
    return Note("<too large>")
