"""Finds what the names in `.wit` files refer to: interfaces of other packages, used types, what a world includes.

Owns: `Packages`, to which parsed files are added, and the `ResolvedWorld` that it makes. Types come out as the trees of
`fleet.wit_types`, so that a signature read from a file compares with one declared by a capability.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.wit_document import Interface
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
    from collections.abc import Iterable

    from fleet.wit_document import Document, Function, TypeDefinition, TypeName, World

MAX_DEPTH = 64
"""Types within types, and worlds that include worlds: deeper is a circle."""


@dataclass(frozen=True, slots=True)
class Scope:
    """An interface with the package it belongs to.

    Attributes:
        name: `namespace:package/interface@version`; a plain name for an interface written inside a world.
        package: `namespace:package@version`.
    """

    name: str
    package: str
    interface: Interface


@dataclass(slots=True)
class ResolvedWorld:
    """What a world imports and exports, in the order of its text, included worlds first.

    Attributes:
        imports: interfaces by name, with those whose types they use.
        imported_functions: functions outside interfaces, by name.
    """

    name: str
    package: str
    docs: str = ""
    imports: dict[str, Scope] = field(default_factory=dict)
    exports: dict[str, Scope] = field(default_factory=dict)
    imported_functions: dict[str, Function] = field(default_factory=dict)
    exported_functions: dict[str, Function] = field(default_factory=dict)


class Packages:
    """All packages that a world may name."""

    def __init__(self) -> None:
        self._interfaces: dict[str, Scope] = {}
        self._worlds: dict[str, tuple[World, str]] = {}

    def add(self, documents: Iterable[Document], place: str) -> str:
        """Add the files of one folder, which are one package; return its name.

        Raises:
            FleetError: WIT_INVALID when the files name no package, or several, or one thing twice.
        """
        files = tuple(documents)
        names = {file.package for file in files if file.package}
        if len(names) != 1:
            raise FleetError(Code.WIT_INVALID, f"expected one package, found {sorted(names)}", place=place)
        (package,) = names
        for file in files:
            for name, interface in file.interfaces.items():
                path = _join(package, name)
                if path in self._interfaces and self._interfaces[path].interface != interface:
                    raise FleetError(Code.WIT_INVALID, f"{path} is there twice", place=place)
                self._interfaces[path] = Scope(path, package, interface)
            for name, world in file.worlds.items():
                self._worlds[_join(package, name)] = world, package
        return package

    def worlds(self, package: str) -> tuple[str, ...]:
        """Names of a package's worlds, without the package."""
        return tuple(world.name for world, owner in self._worlds.values() if owner == package)

    def world(self, name: str, package: str) -> ResolvedWorld:
        """Resolve a world.

        Args:
            name: `world`, or `namespace:package/world@version`.
            package: where a name without a package is looked up.

        Raises:
            FleetError: WIT_INVALID when it, or something that it names, is not there.
        """
        path = name if ":" in name else _join(package, name)
        found = ResolvedWorld(path, package)
        self._include(path, found, 0)
        return found

    def _include(self, path: str, into: ResolvedWorld, depth: int) -> None:
        if path not in self._worlds:
            raise _fault(path, "no package here has this world")
        if depth > MAX_DEPTH:
            raise _fault(path, "the world includes itself")
        world, package = self._worlds[path]
        for other in world.includes:
            self._include(other if ":" in other else _join(package, other), into, depth + 1)
        into.docs = world.docs
        for use in world.types.uses:
            self._import(self.interface(use.interface, package), into)
        for items, scopes, functions in (
            (world.imports, into.imports, into.imported_functions),
            (world.exports, into.exports, into.exported_functions),
        ):
            for name, item in items.items():
                if item is None:
                    scope = self.interface(name, package)
                elif isinstance(item, Interface):
                    scope = Scope(name, package, item)
                else:
                    functions[name] = item
                    continue
                for used in scope.interface.uses:
                    self._import(self.interface(used.interface, scope.package), into)
                scopes[scope.name] = scope

    def _import(self, scope: Scope, into: ResolvedWorld, depth: int = 0) -> None:
        """Import an interface whose types are used; what it uses itself comes before it."""
        if scope.name in into.imports or scope.name in into.exports:
            return
        if depth > MAX_DEPTH:
            raise _fault(scope.name, "the interface uses itself")
        for use in scope.interface.uses:
            self._import(self.interface(use.interface, scope.package), into, depth + 1)
        into.imports[scope.name] = scope

    def interface(self, path: str, package: str) -> Scope:
        """Find an interface by the path that a file of `package` writes."""
        full = path if ":" in path else _join(package, path)
        if full not in self._interfaces:
            raise _fault(full, "no package here has this interface")
        return self._interfaces[full]

    def definition(self, scope: Scope, name: str, depth: int = 0) -> tuple[Scope, TypeDefinition]:
        """Find where a type is defined, through `use`, and how."""
        if name in scope.interface.types:
            return scope, scope.interface.types[name]
        for use in scope.interface.uses:
            for there, here in use.names:
                if here == name and depth <= MAX_DEPTH:
                    return self.definition(self.interface(use.interface, scope.package), there, depth + 1)
        raise _fault(f"{scope.name}#{name}", "no type of this name is defined or used there")

    def type(self, scope: Scope, name: TypeName, depth: int = 0) -> WitType:
        """Tree of a type as an interface writes it.

        Raises:
            FleetError: WIT_INVALID; COMPONENT_UNSUPPORTED for a stream, a future or an error context.
        """
        if depth > MAX_DEPTH:
            raise _fault(f"{scope.name}#{name.name}", "the type is part of itself")
        if name.name in ("stream", "future", "error-context"):
            raise FleetError(Code.COMPONENT_UNSUPPORTED, f"{name.name} has no value outside a guest", place=scope.name)
        if not name.arguments and name.name not in ("result", "tuple"):
            return self._named(scope, name.name, depth)
        inner = [None if item is None else self.type(scope, item, depth + 1) for item in name.arguments]
        if name.name == "result":
            ok, err = [*inner, None, None][:2]
            return ResultType(ok, err)
        kinds = tuple(kind for kind in inner if kind is not None)
        if len(kinds) != len(inner):
            raise _fault(f"{scope.name}#{name.name}", "`_` stands only in results")
        match name.name:
            case "list":
                return ListType(kinds[0])
            case "option":
                return OptionType(kinds[0])
            case "tuple":
                return TupleType(kinds)
        if not isinstance(kinds[0], OwnType):
            raise _fault(f"{scope.name}#{name.name}", f"{name.name} takes a resource")
        return kinds[0] if name.name == "own" else BorrowType(kinds[0].resource)

    def _named(self, scope: Scope, name: str, depth: int) -> WitType:
        if name in _PRIMITIVES:
            return Primitive(name)
        where, found = self.definition(scope, name)
        parts = [(part, None if kind is None else self.type(where, kind, depth + 1)) for part, kind, _ in found.parts]
        match found.kind:
            case "record":
                return RecordType(tuple((part, kind) for part, kind in parts if kind is not None))
            case "variant":
                return VariantType(tuple(parts))
            case "enum":
                return EnumType(tuple(part for part, _ in parts))
            case "flags":
                return FlagsType(tuple(part for part, _ in parts))
            case "resource":
                return OwnType(name)
        (aliased,) = (kind for _, kind in parts if kind is not None)
        return aliased

    def signature(self, scope: Scope, function: Function, resource: str = "") -> FuncType:
        """Type of a function; of a method with `self` first, where `resource` names what it belongs to."""
        params = [(name, self.type(scope, kind)) for name, kind in function.params]
        result = None if function.result is None else self.type(scope, function.result)
        if resource and function.name == "constructor":
            result = result or OwnType(resource)
        elif resource and not function.name.startswith("static "):
            params.insert(0, ("self", BorrowType(resource)))
        return FuncType(tuple(params), result)

    def functions(self, scope: Scope) -> dict[str, tuple[Function, FuncType]]:
        """All functions of an interface by the names of the component model, those of its resources included."""
        found = {name: (item, self.signature(scope, item)) for name, item in scope.interface.functions.items()}
        for resource, definition in scope.interface.types.items():
            for item in definition.functions:
                found[method_name(resource, item)] = item, self.signature(scope, item, resource)
        return found


def method_name(resource: str, function: Function) -> str:
    """Name of a resource's function in the component model: `[method]bucket.get`."""
    if function.name == "constructor":
        return f"[constructor]{resource}"
    kind, _, name = function.name.rpartition(" ")
    return f"[{kind or 'method'}]{resource}.{name}"


_PRIMITIVES = frozenset(map(str, Primitive))


def _join(package: str, name: str) -> str:
    """Path of a package's interface or world: the version stands last."""
    path, at, version = package.partition("@")
    return f"{path}/{name}{at}{version}"


def _fault(place: str, message: str) -> FleetError:
    return FleetError(Code.WIT_INVALID, message, place=place)
