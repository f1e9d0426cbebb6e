"""Core code that reads a value from memory as the core values in which functions take it.

Owns: `Loader` (Component Model, Canonical ABI, "Flat Lifting", whose other direction this is). What a call takes or
gives in memory goes on to the next function in this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim import abi
from fleet.wit_types import (
    EnumType,
    FlagsType,
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
    from collections.abc import Iterable

_LOADS = {1: "i32.load8_u", 2: "i32.load16_u", 4: "i32.load"}
_SIGNED = {Primitive.S8: "i32.load8_s", Primitive.S16: "i32.load16_s"}

_CHANGES = {
    ("f32", "i32"): "(i32.reinterpret_f32 {})",
    ("i32", "i64"): "(i64.extend_i32_u {})",
    ("f32", "i64"): "(i64.extend_i32_u (i32.reinterpret_f32 {}))",
    ("f64", "i64"): "(i64.reinterpret_f64 {})",
}
"""How a core value is put into a wider one that several cases of a variant share."""


class Loader:
    """Reads values within one core function.

    Attributes:
        locals: declarations that the function needs.
        lines: what has to run before the returned expressions mean anything.
    """

    def __init__(self) -> None:
        self.locals: list[str] = []
        self.lines: list[str] = []

    def load(self, kind: WitType, at: str) -> list[str]:
        """Return one expression for each core value of the value at the address `at`, itself an expression."""
        match kind:
            case Primitive.STRING | ListType():
                return [f"(i32.load {at})", f"(i32.load offset=4 {at})"]
            case Primitive():
                return [f"({_scalar(kind)} {at})"]
            case EnumType() | FlagsType():
                return [f"({_LOADS[abi.size(kind)]} {at})"]
            case RecordType() | TupleType():
                return self.load_all(abi.parts(kind), at)
            case VariantType() | OptionType() | ResultType():
                return self._load_case(kind, at)
        raise ValueError(f"{kind} is not passed on from memory")

    def load_all(self, kinds: Iterable[WitType], at: str) -> list[str]:
        """Return the same for values that lie there as the fields of a record."""
        kinds = tuple(kinds)
        return [
            expression
            for part, offset in zip(kinds, abi.offsets(kinds), strict=True)
            for expression in self.load(part, f"(i32.add {at} (i32.const {offset}))")
        ]

    def _load_case(self, kind: VariantType | OptionType | ResultType, at: str) -> list[str]:
        width, start = abi.case_layout(kind)
        shared = abi.flat(kind)
        names = [self._local(core) for core in shared]
        self.lines.append(f"(local.set {names[0]} ({_LOADS[width]} {at}))")
        for index, part in enumerate(abi.cases(kind)):
            if part is not None:
                before, self.lines = self.lines, []
                found = self.load(part, f"(i32.add {at} (i32.const {start}))")
                self.lines += [
                    f"(local.set {name} {_changed(expression, own, common)})"
                    for name, expression, own, common in zip(names[1:], found, abi.flat(part), shared[1:], strict=False)
                ]
                inner, self.lines = " ".join(self.lines), before
                self.lines.append(f"(if (i32.eq (local.get {names[0]}) (i32.const {index})) (then {inner}))")
        return [f"(local.get {name})" for name in names]

    def _local(self, core: str) -> str:
        name = f"$flat-{len(self.locals)}"
        self.locals.append(f"(local {name} {core})")
        return name


def _scalar(kind: Primitive) -> str:
    core = abi.flat(kind)[0]
    return f"{core}.load" if core != "i32" else _SIGNED.get(kind) or _LOADS[abi.size(kind)]


def _changed(expression: str, own: str, common: str) -> str:
    return expression if own == common else _CHANGES[own, common].format(expression)
