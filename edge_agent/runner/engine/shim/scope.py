"""Types as component text, within one scope of names.

Owns: `Scope` and `Style`, and `declare_resources`. A component may use a record, variant, enum or flags type in what it
imports or exports only under a name that is imported or exported itself; a scope gives every such type one, the given
name or an invented one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim.moved import HexList, parts_of
from edge_agent.runner.engine.types import AsyncFuncType, PassedType
from fleet.wit_types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
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
    from collections.abc import Iterator, Mapping

INVENTED = "shim-type-"
"""How invented names of types begin."""


class Style(Enum):
    """How a scope makes a type known: `{id}` is its identifier, `{name}` its name and `{text}` what it is."""

    PLAIN = "(type ${id} {text})"
    IN_INSTANCE = '(type ${id}-is {text}) (export "{name}" (type ${id} (eq ${id}-is)))'
    IMPORT = '(type ${id}-is {text}) (import "{name}" (type ${id} (eq ${id}-is)))'
    EXPORT = '(type ${id}-is {text}) (export ${id} "{name}" (type ${id}-is))'


class Scope:
    """Types that were used so far, and the lines that define them.

    Args:
        style: how types are made known.
        numbers: for identifiers that are unique in the whole text.
        resources: identifier of each resource, by the name that types use.
        invented: how the names begin that this scope invents; another one where two scopes share their names.

    Attributes:
        lines: definitions, to be written before what uses them.
        named: name and type of what was made known, in order.
    """

    def __init__(
        self, style: Style, numbers: Iterator[int], resources: Mapping[str, str], invented: str = INVENTED
    ) -> None:
        self._style = style
        self._numbers = numbers
        self._resources = resources
        self._invented = invented
        self._known: dict[WitType, str] = {}
        self.lines: list[str] = []
        self.named: list[tuple[str, WitType]] = []

    def define(self, kind: WitType, name: str | None = None) -> str:
        """Make a type known, under a name of its own or an invented one; returns its identifier."""
        text = self._text(kind)
        identifier = f"t{next(self._numbers)}"
        name = name or f"{self._invented}{len(self.named)}"
        self.lines.append(self._style.value.format(id=identifier, name=name, text=text))
        self.named.append((name, kind))
        self._known.setdefault(kind, identifier)
        return identifier

    def use(self, kind: WitType | PassedType) -> str:
        """How to write a type where it is used."""
        match kind:
            case HexList():
                return "string"
            case Primitive():
                return str(kind)
            case RecordType() | VariantType() | EnumType() | FlagsType():
                return f"${self._known.get(kind) or self.define(kind)}"
        return self._text(kind)

    def signature(self, kind: FuncType) -> str:
        """Parameters and result of a function type, without the word before them but with `async`."""
        asynchronous = " async" if isinstance(kind, AsyncFuncType) else ""
        params = "".join(f' (param "{name}" {self.use(part)})' for name, part in kind.params)
        return f"{asynchronous}{params}{'' if kind.result is None else f' (result {self.use(kind.result)})'}"

    def _text(self, kind: WitType | PassedType) -> str:
        match kind:
            case Primitive():
                return str(kind)
            case ListType():
                return "string" if isinstance(kind, HexList) else f"(list {self.use(kind.element)})"
            case OptionType():
                return f"(option {self.use(kind.payload)})"
            case TupleType():
                return f"(tuple {' '.join(self.use(part) for part in kind.items)})"
            case ResultType():
                ok = "" if kind.ok is None else f" {self.use(kind.ok)}"
                return f"(result{ok}{'' if kind.err is None else f' (error {self.use(kind.err)})'})"
            case RecordType():
                return f"(record {' '.join(f'(field {_quoted(name)} {self.use(part)})' for name, part in kind.fields)})"
            case VariantType():
                cases = (f"(case {_quoted(name)}{f' {self.use(part)}' if part else ''})" for name, part in kind.cases)
                return f"(variant {' '.join(cases)})"
            case EnumType():
                return f"(enum {' '.join(map(_quoted, kind.cases))})"
            case FlagsType():
                return f"(flags {' '.join(map(_quoted, kind.names))})"
            case OwnType():
                return f"(own ${self._resources[kind.resource]})"
            case BorrowType():
                return f"(borrow ${self._resources[kind.resource]})"
            case PassedType(keyword, element):
                return f"({keyword}{'' if element is None else f' {self.use(element)}'})"


@dataclass(frozen=True, slots=True)
class DeclaredResources:
    """The resources of an interface that is imported.

    Attributes:
        local: identifier of each inside the interface, by name.
        lines: what declares them there.
        own: name and origin of those that the interface itself defines, for whoever else uses them.
    """

    local: Mapping[str, str]
    lines: tuple[str, ...]
    own: tuple[tuple[str, str], ...]


def declare_resources(
    interface: str, origins: Mapping[str, str], outer: Mapping[str, str], numbers: Iterator[int]
) -> DeclaredResources:
    """Write the resources of an interface that is imported.

    Args:
        interface: its name.
        origins: name of each resource to its origin, `interface#name`.
        outer: origin of a resource to its identifier one scope out, for those that other interfaces define.
        numbers: as `Scope` takes them.
    """
    local: dict[str, str] = {}
    lines: list[str] = []
    own: list[tuple[str, str]] = []
    for name, origin in origins.items():
        local[name] = f"r{next(numbers)}"
        if origin == f"{interface}#{name}":
            lines.append(f'(export "{name}" (type ${local[name]} (sub resource)))')
            own.append((name, origin))
        elif origin.startswith(f"{interface}#"):
            first = local[origin.removeprefix(f"{interface}#")]
            lines.append(f'(export "{name}" (type ${local[name]} (eq ${first})))')
        else:
            lines.append(f"(alias outer 1 ${outer[origin]} (type ${local[name]}-is))")
            lines.append(f'(export "{name}" (type ${local[name]} (eq ${local[name]}-is)))')
    return DeclaredResources(local, tuple(lines), tuple(own))


def names_in(kind: WitType) -> Iterator[str]:
    """Every name that the text of a type holds."""
    match kind:
        case RecordType():
            yield from (name for name, _ in kind.fields)
        case VariantType():
            yield from (name for name, _ in kind.cases)
        case EnumType():
            yield from kind.cases
        case FlagsType():
            yield from kind.names
    for part in parts_of(kind):
        yield from names_in(part)


def resources_in(kind: WitType) -> Iterator[str]:
    """Every resource that a type mentions."""
    if isinstance(kind, OwnType | BorrowType):
        yield kind.resource
    for part in parts_of(kind):
        yield from resources_in(part)


def _quoted(name: str) -> str:
    return f'"{name}"'
