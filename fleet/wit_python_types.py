"""Writes the types of a WIT interface as Python, and says how their values are converted.

Owns: `TypeWriter`, the half of a generated module that `fleet.wit_python` begins with, and the rules for names. Every
type has a Python form (`Conversion.annotation`) and two expressions, to and from the mapping of `fleet.wit_types`.
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.wit_document import TypeDefinition, TypeName
from fleet.wit_types import OptionType

if TYPE_CHECKING:
    from fleet.wit_world import Packages, Scope

_PLAIN = {"bool": "bool", "f32": "float", "f64": "float", "char": "str", "string": "str"}
_PLAIN |= {f"{sign}{bits}": "int" for sign in "su" for bits in (8, 16, 32, 64)}


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a type is written in Python, and converted.

    Attributes:
        annotation: the Python type.
        to_wit: expression with `{}` for the value; `{}` alone where nothing is converted.
        from_wit: the same, the other way.
    """

    annotation: str
    to_wit: str = "{}"
    from_wit: str = "{}"

    def reads(self, value: str) -> str:
        """Expression that makes the Python value of a mapped one."""
        return self.from_wit.replace("{}", value)

    def writes(self, value: str) -> str:
        """Expression that maps a Python value."""
        return self.to_wit.replace("{}", value)

    @property
    def plain(self) -> bool:
        """Whether the mapped value is the Python value."""
        return self.to_wit == "{}"


@dataclass(slots=True)
class TypeWriter:
    """Writes the types of one interface.

    Attributes:
        packages: where types are found.
        scope: the interface.
        lines: what is written so far.
    """

    packages: Packages
    scope: Scope
    lines: list[str] = field(default_factory=list)

    def used(self) -> list[str]:
        """Import statements for the types of other interfaces."""
        lines = []
        for use in self.scope.interface.uses:
            other = self.packages.interface(use.interface, self.scope.package)
            names = []
            for there, here in use.names:
                names.append(_as(class_name(there), class_name(here)))
                if not self.conversion(TypeName(here)).plain:
                    names += [
                        _as(f"{snake_case(there)}_{way}", f"{snake_case(here)}_{way}") for way in ("to_wit", "from_wit")
                    ]
            lines.append(f"from .{module_name(other.name)} import {', '.join(names)}")
        return lines

    def resources(self) -> dict[str, str]:
        """Resources that signatures may name: own ones with no origin, used ones with the interface they are of."""
        found = {name: "" for name, kind in self.scope.interface.types.items() if kind.kind == "resource"}
        for use in self.scope.interface.uses:
            for _, here in use.names:
                where, definition = self.packages.definition(self.scope, here)
                if definition.kind == "resource":
                    found[here] = where.name
        return found

    def type(self, definition: TypeDefinition) -> None:
        """Write one type."""
        name, snake = class_name(definition.name), snake_case(definition.name)
        match definition.kind:
            case "resource":
                self._statement(f'{name} = NewType("{name}", int)', definition.docs)
            case "type":
                ((_, kind, _),) = definition.parts
                self._alias(name, snake, self.of(kind), definition.docs)
            case "flags":
                names = ", ".join(f'"{part}"' for part, _, _ in definition.parts)
                self._statement(f"{name}: TypeAlias = frozenset[Literal[{names}]]", definition.docs)
            case "enum":
                self.lines += [f"class {name}(StrEnum):"]
                self.docstring(definition.docs or f"Enum `{definition.name}`.")
                for part, _, docs in definition.parts:
                    self.lines += ["", f'    {snake_case(part).upper()} = "{part}"']
                    self.docstring(docs)
                self._functions(name, snake, [f"    return {name}(value)"], ["    return str(value)"])
            case "record":
                self._record(name, snake, definition)
            case _:
                self._variant(name, snake, definition)

    def _alias(self, name: str, snake: str, kind: Conversion, docs: str) -> None:
        self._statement(f"{name}: TypeAlias = {kind.annotation!r}", docs)
        if not kind.plain:
            read, write = kind.reads("value"), kind.writes("value")
            self._functions(name, snake, [f"    return {read}"], [f"    return {write}"])

    def _record(self, name: str, snake: str, definition: TypeDefinition) -> None:
        self.lines += ["@dataclass(frozen=True, slots=True)", f"class {name}:"]
        self.docstring(definition.docs or f"Record `{definition.name}`.")
        read, write = [f"    return {name}("], ["    return {"]
        for part, type_name, docs in definition.parts:
            kind, attribute = self.of(type_name), snake_case(part)
            self.lines += ["", f"    {attribute}: {kind.annotation}"]
            self.docstring(docs)
            item = f'value["{part}"]'
            read.append(f"        {attribute}={kind.reads(item)},")
            write.append(f'        "{part}": {kind.writes(f"value.{attribute}")},')
        self._functions(name, snake, [*read, "    )"], [*write, "    }"])

    def _variant(self, name: str, snake: str, definition: TypeDefinition) -> None:
        classes = []
        read, write = ["    match value.case:"], ["    match value:"]
        for part, type_name, docs in definition.parts:
            case = f"{name}{class_name(part)}"
            classes.append(case)
            self.lines += ["@dataclass(frozen=True, slots=True)", f"class {case}:"]
            self.docstring(docs or f"Case `{part}` of `{definition.name}`.")
            read.append(f'        case "{part}":')
            write.append(f"        case {case}():")
            if type_name is None:
                read.append(f"            return {case}()")
                write.append(f'            return Variant("{part}")')
            else:
                kind = self.of(type_name)
                self.lines += ["", f"    value: {kind.annotation}"]
                read.append(f"            return {case}({kind.reads('value.payload')})")
                write.append(f'            return Variant("{part}", {kind.writes("value.value")})')
            self.lines += ["", ""]
        self._statement(f"{name}: TypeAlias = {' | '.join(classes)}", definition.docs)
        read.append('    raise ValueError(f"no case {value.case!r}")')
        self._functions(name, snake, read, write)

    def _functions(self, name: str, snake: str, read: list[str], write: list[str]) -> None:
        self.lines += ["", "", f"def {snake}_from_wit(value: Any) -> {name}:"]
        self.lines += [f'    """Make a `{name}` of a value as `fleet.wit_types` maps it."""', *read]
        self.lines += ["", "", f"def {snake}_to_wit(value: {name}) -> object:"]
        self.lines += [f'    """Map a `{name}` as `fleet.wit_types` does."""', *write, "", ""]

    def of(self, name: TypeName | None) -> Conversion:
        """Conversion of a result or a payload; None where there is none."""
        return Conversion("None") if name is None else self.conversion(name)

    def conversion(self, name: TypeName) -> Conversion:
        """Conversion of a type as the interface writes it."""
        self.packages.type(self.scope, name)  # refuses what has no value here
        if name.name in _PLAIN and not name.arguments:
            return Conversion(_PLAIN[name.name])
        inner = [self.of(item) for item in name.arguments]
        match name.name:
            case "list":
                if name.arguments[0] == TypeName("u8"):
                    return Conversion("bytes")
                each = "[{way} for item in {{}}]"
                return _wrap(f"list[{inner[0].annotation}]", inner, each, "item")
            case "option" if name.arguments:
                return self._option(name, inner[0])
            case "tuple" if name.arguments:
                return self._tuple(inner)
            case "result":
                return _result([*inner, Conversion("None"), Conversion("None")][:2])
            case "own" | "borrow" if name.arguments:
                return inner[0]
        definition = self.packages.definition(self.scope, name.name)[1]
        if definition.kind == "type" and not self._needs_functions(name):
            return Conversion(class_name(name.name))
        if definition.kind in ("resource", "flags"):
            return Conversion(class_name(name.name))
        snake = snake_case(name.name)
        return Conversion(class_name(name.name), f"{snake}_to_wit({{}})", f"{snake}_from_wit({{}})")

    def _needs_functions(self, name: TypeName) -> bool:
        """Whether an alias stands for something that is converted."""
        where, definition = self.packages.definition(self.scope, name.name)
        ((_, kind, _),) = definition.parts
        return not TypeWriter(self.packages, where).of(kind).plain

    def _option(self, name: TypeName, payload: Conversion) -> Conversion:
        nested = self.packages.type(self.scope, name.arguments[0] or name)
        if isinstance(nested, OptionType):
            annotation = f"Some[{payload.annotation}] | None"
            some = "(None if {{}} is None else Some({way}))"
            return _wrap(annotation, [payload], some, "{}.value", always=True)
        return _wrap(f"{payload.annotation} | None", [payload], "(None if {{}} is None else {way})", "{}")

    @staticmethod
    def _tuple(parts: list[Conversion]) -> Conversion:
        annotation = f"tuple[{', '.join(part.annotation for part in parts)}]"
        if all(part.plain for part in parts):
            return Conversion(annotation)
        ways = []
        for way in ("to_wit", "from_wit"):
            items = (getattr(part, way).replace("{}", f"{{}}[{at}]") for at, part in enumerate(parts))
            ways.append(f"({', '.join(items)},)")
        return Conversion(annotation, *ways)

    def _statement(self, statement: str, docs: str) -> None:
        self.lines.append(statement)
        self.docstring(docs, "")
        self.lines += ["", ""]

    def docstring(self, docs: str, indent: str = "    ") -> None:
        """Write documentation, if there is any."""
        if docs:
            text = docs.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
            text = text + "\n" if "\n" in text or text.endswith('"') else text
            self.lines += [(indent + line).rstrip() for line in f'"""{text}"""'.split("\n")]


def _wrap(annotation: str, inner: list[Conversion], shape: str, item: str, *, always: bool = False) -> Conversion:
    """A container of one kind of thing: `shape` has `{way}` where each thing is converted."""
    if inner[0].plain and not always:
        return Conversion(annotation)
    ways = (getattr(inner[0], way).replace("{}", item) for way in ("to_wit", "from_wit"))
    return Conversion(annotation, *(shape.replace("{way}", way).replace("{{}}", "{}") for way in ways))


def _result(sides: list[Conversion]) -> Conversion:
    annotation = f"Ok[{sides[0].annotation}] | Err[{sides[1].annotation}]"
    if all(side.plain for side in sides):
        return Conversion(annotation)
    ways = []
    for way in ("to_wit", "from_wit"):
        ok, err = (getattr(side, way).replace("{}", "{}.value") for side in sides)
        ways.append(f"(Ok({ok}) if isinstance({{}}, Ok) else Err({err}))")
    return Conversion(annotation, *ways)


def module_name(interface: str) -> str:
    """Name of the module for an interface, such as `wasi_keyvalue_store`; without its version."""
    return interface.partition("@")[0].replace(":", "_").replace("/", "_").replace("-", "_")


def snake_case(name: str) -> str:
    """Name of a function, a parameter or a field in Python."""
    text = name.replace("-", "_")
    return f"{text}_" if keyword.iskeyword(text) or keyword.issoftkeyword(text) else text


def class_name(name: str) -> str:
    """Name of a type in Python."""
    text = "".join(word[:1].upper() + word[1:] for word in name.split("-"))
    return f"{text}_" if text in ("None", "True", "False", "Any", "Ok", "Err", "Some", "Variant") else text


def _as(there: str, here: str) -> str:
    return f"{there} as {here}"
