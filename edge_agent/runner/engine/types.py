"""Component types, read once from the engine into plain data.

Owns: `ComponentTypes`, `InterfaceType` and the walk over the C API that makes them. Never converts a value.

A type the binding cannot carry (stream, future, error-context, modules and components as values) is refused here for
the whole component, because the engine ends the process when such a value crosses the boundary. So are imported
asynchronous functions, which no host function can be; adapters meet them before (see `shim.compose`).
"""

from __future__ import annotations

from contextlib import contextmanager
from ctypes import addressof, string_at
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from edge_agent.runner.engine import ffi
from fleet.errors import Code, FleetError
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
    from collections.abc import Callable, Iterator, Mapping

MAX_TYPE_NODES = 50_000
"""Most nodes in all type trees of one component. Types may share parts, so a small file can describe a huge tree."""

ROOT = ""
"""Name under which functions imported or exported by the component itself, outside any interface, are listed."""

_PRIMITIVES = {ffi.TYPE_KIND[kind.name]: kind for kind in Primitive}
_KIND_NAMES = {number: name.lower().replace("_", "-") for name, number in ffi.TYPE_KIND.items()}


@dataclass(frozen=True, slots=True)
class AsyncFuncType(FuncType):
    """A function that may wait; differs from one with the same types that may not."""

    def __str__(self) -> str:
        return f"async {FuncType(self.params, self.result)}"

    def accepts(self, other: FuncType) -> bool:
        """True for an asynchronous function with the same types."""
        return isinstance(other, AsyncFuncType) and FuncType(self.params, self.result).accepts(other)


@dataclass(frozen=True, slots=True)
class PassedType:
    """A stream or a future, which parts of one component pass to each other; the host has no value for it.

    Attributes:
        keyword: `stream` or `future`.
        element: what it carries; None for one that only ends.
    """

    keyword: str
    element: WitType | None

    def __str__(self) -> str:
        return self.keyword if self.element is None else f"{self.keyword}<{self.element}>"


@dataclass(frozen=True, slots=True)
class InterfaceType:
    """Functions of one interface, and its resources.

    Attributes:
        functions: type of each function by WIT name (`open`, `[method]bucket.get`).
        resources: for each resource name used in the interface, where the resource is defined (`interface#name`).
        types: the other types that the interface names; empty unless they were asked for.
    """

    functions: Mapping[str, FuncType]
    resources: Mapping[str, str]
    types: Mapping[str, WitType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComponentTypes:
    """Everything a component asks for and offers, by interface name; `ROOT` holds what is outside interfaces."""

    imports: Mapping[str, InterfaceType]
    exports: Mapping[str, InterfaceType]


def read_types(engine: int, component: int, *, named: bool = False, inner: bool = False) -> ComponentTypes:
    """Read the types of a compiled component.

    Args:
        engine: pointer to the engine.
        component: pointer to the component.
        named: read the types that imports name as well, which only a component that replaces the host needs; imports
            may be asynchronous.
        inner: streams and futures too, as parts pass them to each other.

    Raises:
        FleetError: COMPONENT_UNSUPPORTED when the component uses what the binding cannot carry.
    """
    reader = _Reader(engine, inner=inner)
    component_type = ffi.component_type(component)
    try:
        reader.named = named
        imports = reader.section(component_type, ffi.import_count, ffi.import_nth)
        if not named:
            _check_imports(imports)
        reader.named = False
        exports = reader.section(component_type, ffi.export_count, ffi.export_nth)
    finally:
        ffi.component_type_delete(component_type)
        reader.close()
    return ComponentTypes(imports, exports)


class _Reader:
    """Walks the types of one component; holds the resource types met so far, to recognise them by equality."""

    def __init__(self, engine: int, *, inner: bool) -> None:
        self._engine = engine
        self._inner = inner
        self._resources: list[tuple[int, str]] = []
        self._local: list[tuple[int, str]] = []
        self._left = MAX_TYPE_NODES
        self.named = False

    def close(self) -> None:
        for pointer, _ in self._resources:
            ffi.resource_type_delete(pointer)

    def section(self, owner: int, count: Callable[..., int], nth: Callable[..., bool]) -> dict[str, InterfaceType]:
        """Imports or exports of the component."""
        found: dict[str, InterfaceType] = {}
        functions: dict[str, FuncType] = {}
        resources: dict[str, str] = {}
        types: dict[str, WitType] = {}
        for index in range(count(owner, self._engine)):
            with self._item(nth, owner, index) as (name, item):
                match item.kind:
                    case kind if kind == ffi.ITEM_KIND["COMPONENT_INSTANCE"]:
                        found[name] = self._interface(name, item.of)
                    case kind if kind == ffi.ITEM_KIND["COMPONENT_FUNC"]:
                        self._local = []
                        functions[name] = self._function(item.of)
                    case kind if kind == ffi.ITEM_KIND["RESOURCE"]:
                        resources[name] = self._origin(item.of, f"{ROOT}#{name}")
                    case kind if kind != ffi.ITEM_KIND["TYPE"]:
                        raise _unsupported(f"'{name}' is neither an interface nor a function")
                    case _ if self.named:
                        self._local = []
                        types[name] = self._type(item.valtype.kind, item.valtype.of)
        if functions or resources or types:
            found[ROOT] = InterfaceType(functions, resources, types)
        return found

    def _interface(self, interface: str, pointer: int) -> InterfaceType:
        """One interface: resources first, since the functions mention them."""
        resources: dict[str, str] = {}
        functions: dict[str, FuncType] = {}
        types: dict[str, WitType] = {}
        indexes = range(ffi.instance_export_count(pointer, self._engine))
        self._local = []
        for index in indexes:
            with self._item(ffi.instance_export_nth, pointer, index) as (name, item):
                if item.kind == ffi.ITEM_KIND["RESOURCE"]:
                    resources[name] = self._origin(item.of, f"{interface}#{name}")
                    self._local.append((self._resources[-1][0], name))
        for index in indexes:
            with self._item(ffi.instance_export_nth, pointer, index) as (name, item):
                if item.kind == ffi.ITEM_KIND["COMPONENT_FUNC"]:
                    functions[name] = self._function(item.of)
                elif item.kind not in (ffi.ITEM_KIND["RESOURCE"], ffi.ITEM_KIND["TYPE"]):
                    raise _unsupported(f"'{interface}#{name}' is neither a function nor a type")
                elif item.kind == ffi.ITEM_KIND["TYPE"] and self.named:
                    types[name] = self._type(item.valtype.kind, item.valtype.of)
        return InterfaceType(functions, resources, types)

    def _origin(self, pointer: int, name: str) -> str:
        """Where the resource was first named; remembers a copy of the pointer under that name."""
        for known, origin in self._resources:
            if ffi.resource_type_equal(known, pointer):
                name = origin
                break
        self._resources.append((ffi.resource_type_clone(pointer), name))
        return name

    @contextmanager
    def _item(self, nth: Callable[..., bool], owner: int, index: int) -> Iterator[tuple[str, ffi.Item]]:
        name, length, extern = ffi.Pointer(), ffi.Size(), ffi.Pointer()
        nth(owner, self._engine, index, addressof(name), addressof(length), addressof(extern))
        item = ffi.Item()
        ffi.extern_type(extern, addressof(item))
        try:
            yield string_at(name.value or 0, length.value).decode(), item
        finally:
            ffi.item_delete(addressof(item))
            ffi.extern_delete(extern)

    def _function(self, pointer: int) -> FuncType:
        make = AsyncFuncType if ffi.func_type_async(pointer) else FuncType
        params = tuple(
            self._named(ffi.func_type_param_nth, pointer, index) for index in range(ffi.func_type_param_count(pointer))
        )
        return make(params, self._maybe(ffi.func_type_result, pointer))

    def _named(self, nth: Callable[..., bool], pointer: int, index: int) -> tuple[str, WitType]:
        name, length, part = ffi.Pointer(), ffi.Size(), ffi.ValType()
        nth(pointer, index, addressof(name), addressof(length), addressof(part))
        return string_at(name.value or 0, length.value).decode(), self._take(part)

    def _maybe(self, get: Callable[..., bool], pointer: int) -> WitType | None:
        part = ffi.ValType()
        return self._take(part) if get(pointer, addressof(part)) else None

    def _part(self, get: Callable[..., Any], *arguments: int) -> WitType:
        part = ffi.ValType()
        get(*arguments, addressof(part))
        return self._take(part)

    def _take(self, part: ffi.ValType) -> WitType:
        """Read a type that was handed over to us, and free it."""
        try:
            return self._type(part.kind, part.of)
        finally:
            ffi.valtype_delete(addressof(part))

    def _type(self, kind: int, pointer: int) -> WitType:
        self._left -= 1
        if self._left < 0:
            raise _unsupported(f"types with more than {MAX_TYPE_NODES} parts")
        if kind in _PRIMITIVES:
            return _PRIMITIVES[kind]
        match _KIND_NAMES.get(kind, f"kind {kind}"):
            case "list":
                return ListType(self._part(ffi.list_element, pointer))
            case "record":
                indexes = range(ffi.record_count(pointer))
                return RecordType(tuple(self._named(ffi.record_nth, pointer, index) for index in indexes))
            case "tuple":
                indexes = range(ffi.tuple_count(pointer))
                return TupleType(tuple(self._part(ffi.tuple_nth, pointer, index) for index in indexes))
            case "variant":
                indexes = range(ffi.variant_count(pointer))
                return VariantType(tuple(self._case(pointer, index) for index in indexes))
            case "enum":
                return EnumType(_names(ffi.enum_count, ffi.enum_nth, pointer))
            case "flags":
                return FlagsType(_names(ffi.flags_count, ffi.flags_nth, pointer))
            case "option":
                return OptionType(self._part(ffi.option_payload, pointer))
            case "result":
                return ResultType(self._maybe(ffi.result_ok, pointer), self._maybe(ffi.result_err, pointer))
            case "own":
                return OwnType(self._resource(pointer))
            case "borrow":
                return BorrowType(self._resource(pointer))
            case "stream" if self._inner:
                return _passed("stream", self._maybe(ffi.stream_element, pointer))
            case "future" if self._inner:
                return _passed("future", self._maybe(ffi.future_payload, pointer))
            case "stream" | "future" | "error-context" as other:
                raise _unsupported(f"a {other} in what they import or export: it has no value in the engine's C API")
            case other:
                raise _unsupported(f"type {other}")

    def _case(self, pointer: int, index: int) -> tuple[str, WitType | None]:
        name, length, present, part = ffi.Pointer(), ffi.Size(), ffi.Bool(), ffi.ValType()
        ffi.variant_nth(pointer, index, addressof(name), addressof(length), addressof(present), addressof(part))
        return string_at(name.value or 0, length.value).decode(), self._take(part) if present.value else None

    def _resource(self, pointer: int) -> str:
        """Name of a resource as the interface being read calls it, else by its origin."""
        for known, name in (*self._local, *self._resources):
            if ffi.resource_type_equal(known, pointer):
                return name
        raise _unsupported("a resource that no interface names")


def _names(count: Callable[..., int], nth: Callable[..., bool], pointer: int) -> tuple[str, ...]:
    found = []
    for index in range(count(pointer)):
        name, length = ffi.Pointer(), ffi.Size()
        nth(pointer, index, addressof(name), addressof(length))
        found.append(string_at(name.value or 0, length.value).decode())
    return tuple(found)


def _passed(keyword: str, element: WitType | None) -> WitType:
    """A type of which the host never has a value, so that nothing that converts values has to know it."""
    return cast("WitType", PassedType(keyword, element))


def _check_imports(imports: Mapping[str, InterfaceType]) -> None:
    for interface, declared in imports.items():
        for name, function in declared.functions.items():
            if isinstance(function, AsyncFuncType):
                where = f"{interface}#{name}" if interface else f"{name}, outside interfaces"
                raise _unsupported(f"the async import {where}, which no adapter can meet")


def _unsupported(what: str) -> FleetError:
    return FleetError(Code.COMPONENT_UNSUPPORTED, f"this host cannot run components with {what}", what=what)
