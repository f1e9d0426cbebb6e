"""Reads `.wit` files: packages with their interfaces, worlds, types and functions, as they are written.

Owns: `parse_document` and the tree it returns. The grammar is that of the component model's `WIT.md`. Names stay names:
what they refer to, across files and packages, is found by `fleet.wit_world`. Documentation comments are kept, since
generated code repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.wit_tokens import TokenReader

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NESTING = 64
"""Types inside types."""

_GATES = {"since": "version", "unstable": "feature", "deprecated": "version"}
_GENERIC = {"list": (1, 1), "option": (1, 1), "result": (0, 2), "tuple": (1, 1000), "own": (1, 1), "borrow": (1, 1)}
"""How many types each may take."""
_ASYNC_GENERIC = {"future": (0, 1), "stream": (0, 1)}


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type as it is used: a name, with the types between its angle brackets; `_` is None."""

    name: str
    arguments: tuple[TypeName | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """One function; a method has no `self` here."""

    name: str
    params: tuple[tuple[str, TypeName], ...]
    result: TypeName | None
    docs: str = ""
    is_async: bool = False


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """One named type.

    Attributes:
        kind: `record`, `variant`, `enum`, `flags`, `resource` or `type`, an alias.
        parts: fields, cases or names with their types and documentation; an alias has one part, without a name.
        functions: of a resource: methods by their name, `static NAME` and `constructor`.
    """

    name: str
    kind: str
    parts: tuple[tuple[str, TypeName | None, str], ...] = ()
    functions: tuple[Function, ...] = ()
    docs: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """Types of another interface under names of this one: (name there, name here)."""

    interface: str
    names: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Interface:
    """One interface, in the order of its file."""

    name: str
    docs: str = ""
    types: dict[str, TypeDefinition] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    """One world; what it imports and exports by name is a path, an interface written in place, or a function."""

    name: str
    docs: str = ""
    imports: dict[str, Interface | Function | None] = field(default_factory=dict)
    exports: dict[str, Interface | Function | None] = field(default_factory=dict)
    includes: list[str] = field(default_factory=list)
    types: Interface = field(default_factory=lambda: Interface(""))


@dataclass(slots=True)
class Document:
    """One file; `package` is `namespace:name@version`, or empty where another file of the folder names it."""

    package: str = ""
    interfaces: dict[str, Interface] = field(default_factory=dict)
    worlds: dict[str, World] = field(default_factory=dict)


def parse_document(text: str, name: str) -> Document:
    """Read one file.

    Args:
        text: the file.
        name: its name, for errors.

    Raises:
        FleetError: WIT_INVALID with file, line and column.
    """
    return _Parser(text, name).document()


class _Parser(TokenReader):
    def document(self) -> Document:
        found = Document()
        while self.peek.kind != "end":
            docs = self._gate()
            match self.word("`package`, `interface`, `world` or `use`"):
                case "package":
                    if found.package:
                        self.fail("a second `package`")
                    found.package = self._package()
                    self.expect(";")
                case "interface":
                    name = self.word("a name")
                    self._check_new(found.interfaces, name)
                    found.interfaces[name] = self._interface(name, docs)
                case "world":
                    name = self.word("a name")
                    self._check_new(found.worlds, name)
                    found.worlds[name] = self._world(name, docs)
                case "use":
                    self._path()  # a name for an interface at the top of a file; interfaces are found by path anyway
                    if self.take("as"):
                        self.word("a name")
                    self.expect(";")
                case other:
                    self.fail(f"unexpected {other!r}")
        return found

    # --- interfaces and worlds ---

    def _interface(self, name: str, docs: str) -> Interface:
        found = Interface(name, docs)
        self.expect("{")
        while not self.take("}"):
            docs = self._gate()
            if not self._definition(found, docs):
                function = self.word("a function or a type")
                self.expect(":")
                self._check_new(found.functions, function)
                found.functions[function] = self._function(function, docs)
        return found

    def _world(self, name: str, docs: str) -> World:
        found = World(name, docs)
        self.expect("{")
        while not self.take("}"):
            docs = self._gate()
            if self._definition(found.types, docs):
                continue
            match self.word("`import`, `export`, `include`, `use` or a type"):
                case "import":
                    self._external(found.imports, docs)
                case "export":
                    self._external(found.exports, docs)
                case "include":
                    found.includes.append(self._path())
                    if self.take("with"):
                        self.fail("`include ... with` is not supported")
                    self.expect(";")
                case other:
                    self.fail(f"unexpected {other!r}")
        return found

    def _external(self, into: dict[str, Interface | Function | None], docs: str) -> None:
        path = self._path()
        if ":" not in path and self.take(":"):
            if self.take("interface"):
                self._check_new(into, path)
                into[path] = self._interface(path, docs)
            else:
                self._check_new(into, path)
                into[path] = self._function(path, docs)
            return
        into[path] = None
        self.expect(";")

    def _definition(self, interface: Interface, docs: str) -> bool:
        """Read a type or a `use`, if one is next."""
        keyword = self.peek.text
        if keyword not in ("use", "type", "record", "variant", "enum", "flags", "resource"):
            return False
        if self.ahead(1).text == ":":  # a function of that name
            return False
        self.next()
        if keyword == "use":
            interface.uses.append(self._use())
            return True
        name = self.word("a name")
        types = interface.types
        self._check_new(types, name)
        if keyword == "type":
            self.expect("=")
            types[name] = TypeDefinition(name, keyword, (("", self._type(), ""),), docs=docs)
            self.expect(";")
        elif keyword == "resource":
            types[name] = TypeDefinition(name, keyword, functions=self._methods(), docs=docs)
        else:
            types[name] = TypeDefinition(name, keyword, self._parts(keyword), docs=docs)
        return True

    def _use(self) -> Use:
        path = self._path()
        self.expect(".")
        names = []
        self.expect("{")
        while not self.take("}"):
            name = self.word("a name")
            names.append((name, self.word("a name") if self.take("as") else name))
            self.separate("}")
        self.expect(";")
        return Use(path, tuple(names))

    def _methods(self) -> tuple[Function, ...]:
        if self.take(";"):
            return ()
        found = []
        self.expect("{")
        while not self.take("}"):
            docs = self._gate()
            name = self.word("a method")
            if name == "constructor" and self.peek.text == "(":
                params = self._params()
                result = self._type() if self.take("->") else None
                self.expect(";")
                found.append(Function("constructor", params, result, docs))
                continue
            self.expect(":")
            static = "static " if self.take("static") else ""
            found.append(self._function(static + name, docs))
        return tuple(found)

    def _parts(self, keyword: str) -> tuple[tuple[str, TypeName | None, str], ...]:
        found: list[tuple[str, TypeName | None, str]] = []
        self.expect("{")
        while not self.take("}"):
            docs = self._gate()
            name = self.word("a name")
            kind: TypeName | None = None
            if keyword == "record":
                self.expect(":")
                kind = self._type()
            elif keyword == "variant" and self.take("("):
                kind = self._type()
                self.expect(")")
            if any(name == other for other, _, _ in found):
                self.fail(f"a second {name!r}")
            found.append((name, kind, docs))
            self.separate("}")
        return tuple(found)

    # --- functions and types ---

    def _function(self, name: str, docs: str) -> Function:
        is_async = self.take("async")
        if not self.take("func"):
            self.fail("expected `func`")
        params = self._params()
        result = self._type() if self.take("->") else None
        self.expect(";")
        return Function(name, params, result, docs, is_async)

    def _params(self) -> tuple[tuple[str, TypeName], ...]:
        found = []
        self.expect("(")
        while not self.take(")"):
            name = self.word("a parameter")
            self.expect(":")
            found.append((name, self._type()))
            self.separate(")")
        return tuple(found)

    def _type(self, depth: int = 0) -> TypeName:
        if depth > MAX_NESTING:
            self.fail(f"types more than {MAX_NESTING} deep")
        escaped = self.peek.text.startswith("%")
        name = self.word("a type")
        bounds = None if escaped else (_GENERIC | _ASYNC_GENERIC).get(name)
        arguments: list[TypeName | None] = []
        if bounds is not None and self.take("<"):
            while not self.take(">"):
                if name == "list" and arguments and self.peek.kind == "number":
                    self.fail("lists of a fixed length are not supported")
                arguments.append(None if self.take("_") else self._type(depth + 1))
                self.separate(">")
        if bounds is not None and not bounds[0] <= len(arguments) <= bounds[1]:
            self.fail(f"{name} with {len(arguments)} types")
        return TypeName(name, tuple(arguments))

    # --- names ---

    def _package(self) -> str:
        name = f"{self.word('a namespace')}:"
        self.expect(":")
        name += self.word("a name")
        return name + self._version()

    def _path(self) -> str:
        """An interface or world: `name`, or `namespace:package/name@version`."""
        name = self.word("a name")
        if self.peek.text == ":" and self.ahead(2).text == "/":
            self.next()
            name += f":{self.word('a package')}"
            self.expect("/")
            name += f"/{self.word('a name')}" + self._version()
        return name

    def _version(self) -> str:
        return self.next().text if self.peek.kind == "version" else ""

    def _gate(self) -> str:
        """Read marks that say since when something exists; return the documentation before them and after."""
        docs = self.peek.docs
        while self.take("@"):
            argument = _GATES.get(self.word("a mark"))
            self.expect("(")
            if argument is None or not self.take(argument):
                self.fail("an unknown mark")
            self.expect("=")
            self.next()
            self.expect(")")
            docs = docs or self.peek.docs
        return docs

    def _check_new(self, names: Mapping[str, object], name: str) -> None:
        if name in names:
            self.fail(f"a second {name!r}")
