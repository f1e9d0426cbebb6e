"""WIT types as plain data, and the few Python classes that WIT values need beyond the built-in ones.

Owns: the type tree (`WitType`, `FuncType`) and the value classes `Some`, `Ok`, `Err`, `Variant`. The engine binding
(`edge_agent.runner.engine`) builds trees from a component, `fleet.wit_text` from text, and `fleet.wave` reads and
writes values by them. Never looks at a component and never converts a value.

One mapping holds everywhere, and it does not depend on the types involved (every choice is always tagged):

| WIT                       | Python                                                                     |
|---------------------------|----------------------------------------------------------------------------|
| bool                      | `bool`                                                                     |
| s8 ... u64                | `int`, range checked; a `bool` is refused                                  |
| f32, f64                  | `float` (an `int` is accepted as input)                                    |
| char                      | `str` of one character                                                     |
| string                    | `str`                                                                      |
| list<u8>                  | `bytes` (any bytes-like object is accepted as input)                       |
| list of other numbers     | `Numbers` (any sequence of numbers, or buffer of them, is accepted)        |
| list<T>                   | `list` (any sequence that is not text is accepted as input)                |
| record                    | `dict` keyed by WIT field name: exactly the fields, no more                |
| tuple                     | `tuple`                                                                    |
| variant                   | `Variant(case, payload)`, payload `None` where the case has none           |
| enum                      | `str`                                                                      |
| flags                     | `frozenset[str]` (any set is accepted as input)                            |
| option<T>                 | `None` or the value; where T is itself an option, `None` or `Some(value)`  |
| result<T, E>              | `Ok(value)` or `Err(value)`, value `None` where the side has none          |
| own<R>, borrow<R>         | `int`: the host's number for the resource; for one of the guest its handle |

A record is a `dict` because WIT field names are kebab-case, which no attribute can be; an author who wants static
types writes `TypedDict("SensorData", {"source": str, "time-stamp": int})`, which mypy checks field by field.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import StrEnum
from types import GenericAlias
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    _Array = array
else:

    class _Array(array):
        """`array`, which Python 3.11 cannot subscript."""

        __class_getitem__ = classmethod(GenericAlias)


T = TypeVar("T")
N = TypeVar("N", int, float)

WitValue: TypeAlias = object
"""Any Python value of the table above. Values are checked against the type tree when they cross a boundary."""


class Numbers(_Array[N]):
    """A list of numbers other than u8, `Numbers[int]` or `Numbers[float]`: in one piece, as machines hold them.

    It is an `array.array`, so `numpy.asarray` takes it without a copy. Equal to any list or tuple of the same numbers.
    """

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple):
            return self.tolist() == list(other)
        return super().__eq__(other)

    __hash__ = None  # it can change, as any array


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """The present case of an option whose payload is itself an option."""

    value: T


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The ok side of a result."""

    value: T


@dataclass(frozen=True, slots=True)
class Err(Generic[T]):
    """The error side of a result."""

    value: T


@dataclass(frozen=True, slots=True)
class Variant(Generic[T]):
    """One case of a variant, by its WIT name."""

    case: str
    payload: T | None = None


class Primitive(StrEnum):
    """Types without parts; the member's text is its WIT name."""

    BOOL = "bool"
    S8 = "s8"
    U8 = "u8"
    S16 = "s16"
    U16 = "u16"
    S32 = "s32"
    U32 = "u32"
    S64 = "s64"
    U64 = "u64"
    F32 = "f32"
    F64 = "f64"
    CHAR = "char"
    STRING = "string"


INTEGER_RANGES: dict[Primitive, tuple[int, int]] = {
    Primitive.S8: (-(1 << 7), (1 << 7) - 1),
    Primitive.U8: (0, (1 << 8) - 1),
    Primitive.S16: (-(1 << 15), (1 << 15) - 1),
    Primitive.U16: (0, (1 << 16) - 1),
    Primitive.S32: (-(1 << 31), (1 << 31) - 1),
    Primitive.U32: (0, (1 << 32) - 1),
    Primitive.S64: (-(1 << 63), (1 << 63) - 1),
    Primitive.U64: (0, (1 << 64) - 1),
}
"""Smallest and largest value of each integer type."""

NUMBER_FORMATS: dict[Primitive, str] = {
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
"""Letter of each number type in `struct`, `array` and the buffer protocol."""


@dataclass(frozen=True, slots=True)
class ListType:
    """`list<element>`."""

    element: WitType

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class RecordType:
    """`record { name: type, ... }`; two records are equal when their fields are, whatever they are called."""

    fields: tuple[tuple[str, WitType], ...]

    def __str__(self) -> str:
        return _braces("record", (f"{name}: {kind}" for name, kind in self.fields))


@dataclass(frozen=True, slots=True)
class TupleType:
    """`tuple<type, ...>`."""

    items: tuple[WitType, ...]

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.items))}>"


@dataclass(frozen=True, slots=True)
class VariantType:
    """`variant { case, case(type), ... }`."""

    cases: tuple[tuple[str, WitType | None], ...]

    def __str__(self) -> str:
        return _braces("variant", (name if kind is None else f"{name}({kind})" for name, kind in self.cases))


@dataclass(frozen=True, slots=True)
class EnumType:
    """`enum { case, ... }`."""

    cases: tuple[str, ...]

    def __str__(self) -> str:
        return _braces("enum", self.cases)


@dataclass(frozen=True, slots=True)
class FlagsType:
    """`flags { name, ... }`."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return _braces("flags", self.names)


@dataclass(frozen=True, slots=True)
class OptionType:
    """`option<payload>`."""

    payload: WitType

    def __str__(self) -> str:
        return f"option<{self.payload}>"


@dataclass(frozen=True, slots=True)
class ResultType:
    """`result<ok, err>`; either side may be absent."""

    ok: WitType | None = None
    err: WitType | None = None

    def __str__(self) -> str:
        if self.err is not None:
            return f"result<{self.ok or '_'}, {self.err}>"
        return "result" if self.ok is None else f"result<{self.ok}>"


@dataclass(frozen=True, slots=True)
class OwnType:
    """`own<resource>`, the resource by its name within the interface that uses it."""

    resource: str

    def __str__(self) -> str:
        return f"own<{self.resource}>"


@dataclass(frozen=True, slots=True)
class BorrowType:
    """`borrow<resource>`, the resource by its name within the interface that uses it."""

    resource: str

    def __str__(self) -> str:
        return f"borrow<{self.resource}>"


WitType: TypeAlias = (
    Primitive
    | ListType
    | RecordType
    | TupleType
    | VariantType
    | EnumType
    | FlagsType
    | OptionType
    | ResultType
    | OwnType
    | BorrowType
)

BYTES = ListType(Primitive.U8)
"""`list<u8>`, the only list that is `bytes` in Python."""


@dataclass(frozen=True, slots=True)
class FuncType:
    """Parameters by name, and the result if there is one."""

    params: tuple[tuple[str, WitType], ...] = ()
    result: WitType | None = None

    def __str__(self) -> str:
        params = ", ".join(f"{name}: {kind}" for name, kind in self.params)
        return f"func({params})" if self.result is None else f"func({params}) -> {self.result}"

    def accepts(self, other: FuncType) -> bool:
        """True when `other` has the same parameter and result types; parameter names carry no meaning."""
        return (
            self.result == other.result
            and len(self.params) == len(other.params)
            and all(mine[1] == theirs[1] for mine, theirs in zip(self.params, other.params, strict=True))
        )


def _braces(keyword: str, parts: Iterable[str]) -> str:
    inner = ", ".join(parts)
    return f"{keyword} {{ {inner} }}" if inner else f"{keyword} {{}}"
