"""Puts the shim around a component.

Owns: `compose`. The result is a component that holds the original one unchanged, offers and asks for the same
functions, and has `string` where a moved function has a list of numbers:

    host -> [exports] -> original component -> [imports] -> host

Each shim is a component of its own: one has to be there before the original, the other is made of it. Everything is
written as text and made binary by the engine's own reader; only the original is put in as bytes, since text cannot hold
it.

The same shim is the adapter for asynchronous imports, which no host function can be: the original gets an asynchronous
function, which is lifted as one that never waits and calls the host's of the same types. The host sees no difference.

Not moved, and left as they are: functions of the component's world (only interfaces have shims on the import side),
functions that take borrowed resources inside other values, and asynchronous exports, of which one may not wait for
another.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim.binary import binary, put_in
from edge_agent.runner.engine.shim.convert import Converter
from edge_agent.runner.engine.shim.moved import Moved, as_hex, contains, has_numbers, marks, types_of
from edge_agent.runner.engine.shim.scope import INVENTED, Scope, Style, declare_resources, names_in, resources_in
from edge_agent.runner.engine.types import ROOT, AsyncFuncType, ComponentTypes, InterfaceType
from fleet.wit_types import BorrowType, FuncType

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAFE = re.compile(r"[A-Za-z0-9:/@.+\-\[\]]+", re.ASCII)
_WORLD = "shim-world"
_NOTHING: frozenset[str] = frozenset()


def compose(component: bytes, types: ComponentTypes, *, lists: bool = True) -> tuple[bytes, Moved] | None:
    """A component with the shim around it, and what the shim moves.

    Args:
        component: the original, valid component.
        types: its types, with the names of types that it imports.
        lists: move lists of numbers; else only what cannot do without.

    Returns:
        None when there is nothing to move, or names that cannot be written down.
    """
    imports = {name: _moved_imports(declared, lists=lists) for name, declared in types.imports.items() if name != ROOT}
    exports = {name: _moved(declared) if lists else _NOTHING for name, declared in types.exports.items()}
    if not any(imports.values()) and not any(exports.values()):
        return None
    if not _can_be_written(types):
        return None
    text = _Composition(types, imports, exports).text()
    moved = Moved(_marks(types.imports, imports), _marks(types.exports, exports))
    return put_in(binary(text), component), moved


def _moved_imports(declared: InterfaceType, *, lists: bool) -> frozenset[str]:
    waiting = {name for name, function in declared.functions.items() if _waits(function) and _can_move(function)}
    return frozenset(waiting) | _moved(declared) if lists else frozenset(waiting)


def _moved(declared: InterfaceType) -> frozenset[str]:
    return frozenset(
        name
        for name, function in declared.functions.items()
        if any(map(has_numbers, types_of(function))) and _can_move(function) and not _waits(function)
    )


def _waits(function: FuncType) -> bool:
    return isinstance(function, AsyncFuncType)


def _can_move(function: FuncType) -> bool:
    return not any(
        contains(kind, lambda part: isinstance(part, BorrowType))
        for _, kind in function.params
        if not isinstance(kind, BorrowType)
    )


def _marks(interfaces: Mapping[str, InterfaceType], moved: Mapping[str, frozenset[str]]) -> dict[str, str]:
    return {
        f"{interface}#{name}": marks(interfaces[interface].functions[name])
        for interface, names in moved.items()
        for name in sorted(names)
    }


def _can_be_written(types: ComponentTypes) -> bool:
    """Every name is plain, no resource stands outside interfaces, and functions use resources their interface names."""
    for interface, declared in (*types.imports.items(), *types.exports.items()):
        kinds = [kind for function in declared.functions.values() for kind in types_of(function)]
        kinds += declared.types.values()
        words = [word for kind in kinds for word in names_in(kind)]
        words += [*declared.functions, *declared.resources, *declared.types]
        words += [name for function in declared.functions.values() for name, _ in function.params]
        words += [interface] if interface != ROOT else []
        if not all(_SAFE.fullmatch(word) and not word.startswith(INVENTED) for word in words):
            return False
        used = {name for kind in kinds for name in resources_in(kind)}
        if declared.resources if interface == ROOT else used - declared.resources.keys():
            return False
    return True


class _Composition:
    """Writes the text around one component."""

    def __init__(
        self,
        types: ComponentTypes,
        imports: Mapping[str, frozenset[str]],
        exports: Mapping[str, frozenset[str]],
    ) -> None:
        self._types = types
        self._moved_imports = imports
        self._moved_exports = exports
        self._numbers = itertools.count()

    def text(self) -> str:
        """The whole component, with an empty one where the original goes."""
        resources: dict[str, str] = {}
        lines = ["(component", "(component)"]
        given = []
        for interface, moved in self._moved_imports.items():
            instance, text = self._import(interface, self._types.imports[interface], moved, resources)
            lines.append(text)
            given.append((interface, instance))
        if any(self._moved_imports.values()):
            lines += self._imports_shim(" ".join(f'(with "{name}" (instance ${instance}))' for name, instance in given))
        agent = [
            f'(with "{interface}" (instance {f"$imports {_quoted(interface)}" if moved else f"${instance}"}))'
            for (interface, instance), moved in zip(given, self._moved_imports.values(), strict=True)
        ]
        lines += self._world_imports(agent, resources)
        lines.append(f"(instance $agent (instantiate 0 {' '.join(agent)}))")
        lines += self._exports_shim()
        lines += [f'(export "{name}" (instance $exports "{name}"))' for name in self._types.exports if name != ROOT]
        return "\n".join([*lines, *self._world_exports(resources), ")"])

    def _fresh(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def _import(
        self, interface: str, declared: InterfaceType, moved: frozenset[str], resources: dict[str, str]
    ) -> tuple[str, str]:
        """Import an interface as the engine will see it; returns its identifier, and adds its own resources."""
        inner = declare_resources(interface, declared.resources, resources, self._numbers)
        scope = Scope(Style.IN_INSTANCE, self._numbers, inner.local)
        if not moved:
            for name, kind in declared.types.items():
                scope.define(kind, name)
        functions = [
            f'(export "{name}" (func{scope.signature(as_hex(function) if name in moved else function)}))'
            for name, function in declared.functions.items()
        ]
        instance = self._fresh("i")
        text = [f'(import "{interface}" (instance ${instance}', *inner.lines, *scope.lines, *functions, "))"]
        for name, origin in inner.own:
            resources[origin] = self._fresh("r")
            text.append(f'(alias export ${instance} "{name}" (type ${resources[origin]}))')
        return instance, "\n ".join(text)

    def _world_imports(self, agent: list[str], resources: Mapping[str, str]) -> list[str]:
        """What the component imports outside interfaces; passed on to it unchanged."""
        declared = self._types.imports.get(ROOT)
        if declared is None:
            return []
        scope = Scope(Style.IMPORT, self._numbers, resources)
        for name, kind in declared.types.items():
            agent.append(f'(with "{name}" (type ${scope.define(kind, name)}))')
        functions = []
        for name, function in declared.functions.items():
            identifier = self._fresh("f")
            functions.append(f'(import "{name}" (func ${identifier}{scope.signature(function)}))')
            agent.append(f'(with "{name}" (func ${identifier}))')
        return [*scope.lines, *functions]

    def _imports_shim(self, arguments: str) -> list[str]:
        """Between the component and the host: takes the host's interfaces, gives those the component asks for."""
        resources: dict[str, str] = {}
        sources: dict[tuple[str, str], str] = {}
        head = []
        for interface, names in self._moved_imports.items():
            declared = self._types.imports[interface]
            instance, text = self._import(interface, declared, names, resources)
            head.append(text)
            sources |= {(interface, name): f'{instance} "{name}"' for name in declared.functions}
        moved = {name: names for name, names in self._moved_imports.items() if names}
        shim = _Shim(self._types.imports, moved, sources, resources, inward=True)
        body = self._body(shim)
        return [
            "(component $imports-code",
            *head,
            *body,
            ")",
            f"(instance $imports (instantiate $imports-code {arguments}))",
        ]

    def _exports_shim(self) -> list[str]:
        """Between the host and the component: takes the component's functions, gives interfaces to the host.

        It holds every export, moved or not: what the component exports itself speaks of the types inside the shims, and
        a record, variant, enum or flags type must be one that the whole component names.
        """
        if not self._types.exports:
            return []
        resources: dict[str, str] = {}
        sources: dict[tuple[str, str], str] = {}
        outside, head, given = [], [], []
        for interface, declared in self._types.exports.items():
            path, outer = "$agent", {}
            if interface != ROOT:
                path = f"${self._fresh('i')}"
                outside.append(f'(alias export $agent "{interface}" (instance {path}))')
            for name, origin in declared.resources.items():
                outer[name] = self._fresh("r")
                outside.append(f'(alias export {path} "{name}" (type ${outer[name]}))')
                if origin not in resources:
                    inner = resources[origin] = self._fresh("r")
                    head.append(f'(import "shim-{inner}" (type ${inner} (sub resource)))')
                    given.append(f'(with "shim-{inner}" (type ${outer[name]}))')
            plain = Scope(Style.PLAIN, self._numbers, outer)
            local = {name: resources[origin] for name, origin in declared.resources.items()}
            taken = Scope(Style.IMPORT, self._numbers, local, f"{INVENTED}{len(head)}-")
            imports = []
            for name, function in declared.functions.items():
                identifier = sources[interface, name] = self._fresh("f")
                imports.append(f'(import "shim-{identifier}" (func ${identifier}{taken.signature(function)}))')
                given.append(f'(with "shim-{identifier}" (func {path} "{name}"))')
            given += [f'(with "{name}" (type {plain.use(kind)}))' for name, kind in taken.named]
            head += [*taken.lines, *imports]
            outside += plain.lines
        return [
            *outside,
            "(component $exports-code",
            *head,
            *self._body(_Shim(self._types.exports, self._moved_exports, sources, resources, inward=False)),
            ")",
            f"(instance $exports (instantiate $exports-code {' '.join(given)}))",
        ]

    def _world_exports(self, resources: Mapping[str, str]) -> list[str]:
        declared = self._types.exports.get(ROOT)
        if declared is None:
            return []
        scope = Scope(Style.EXPORT, self._numbers, resources)
        functions = []
        for name, function in declared.functions.items():
            signature = scope.signature(as_hex(function) if name in self._moved_exports[ROOT] else function)
            functions.append(f'(export "{name}" (func $exports "{_WORLD}" "{name}") (func{signature}))')
        return [*scope.lines, *functions]

    def _body(self, shim: _Shim) -> list[str]:
        """What is the same in both shims: convert what is moved, and export it with the rest of its interface."""
        lines = []
        sources = dict(shim.sources)
        if any(shim.moved.values()):
            converter = Converter(self._numbers, inward=shim.inward)
            for interface, names in shim.moved.items():
                declared = shim.interfaces[interface]
                local = {name: shim.resources[origin] for name, origin in declared.resources.items()}
                for name in sorted(names):
                    at = interface, name
                    sources[at] = converter.add(declared.functions[name], f"${sources[at]}", local)
            lines += converter.lines()
        for interface, names in shim.moved.items():
            declared = shim.interfaces[interface]
            functions = {
                name: (as_hex(function) if name in names and not shim.inward else function, sources[interface, name])
                for name, function in declared.functions.items()
            }
            lines += self._wrapped(interface or _WORLD, declared, functions, shim.resources)
        return lines

    def _wrapped(
        self,
        interface: str,
        declared: InterfaceType,
        functions: Mapping[str, tuple[FuncType, str]],
        resources: Mapping[str, str],
    ) -> list[str]:
        """Export functions, given by type and source, as an instance.

        Only a component can do it: methods are valid only beside the resource they belong to, under its name there.
        """
        code, instance = self._fresh("c"), self._fresh("i")
        inner = {name: self._fresh("r") for name in declared.resources}
        outer = {name: self._fresh("r") for name in declared.resources}
        local = {name: resources[origin] for name, origin in declared.resources.items()}
        plain = Scope(Style.PLAIN, self._numbers, local)
        taken = Scope(Style.IMPORT, self._numbers, inner)
        shown = Scope(Style.EXPORT, self._numbers, outer)
        for name, kind in declared.types.items():
            shown.define(kind, name)
        imports, exports, given = [], [], []
        for name, (function, source) in functions.items():
            identifier = self._fresh("f")
            imports.append(f'(import "shim-{identifier}" (func ${identifier}{taken.signature(function)}))')
            exports.append(f'(export "{name}" (func ${identifier}) (func{shown.signature(function)}))')
            given.append(f'(with "shim-{identifier}" (func ${source}))')
        given += [f'(with "{name}" (type {plain.use(kind)}))' for name, kind in taken.named]
        given += [f'(with "shim-{inner[name]}" (type ${local[name]}))' for name in inner]
        return [
            f"(component ${code}",
            *(f'(import "shim-{identifier}" (type ${identifier} (sub resource)))' for identifier in inner.values()),
            *taken.lines,
            *imports,
            *(f'(export ${outer[name]} "{name}" (type ${inner[name]}))' for name in outer),
            *shown.lines,
            *exports,
            ")",
            *plain.lines,
            f"(instance ${instance} (instantiate ${code} {' '.join(given)}))",
            f'(export "{interface}" (instance ${instance}))',
        ]


@dataclass(frozen=True, slots=True)
class _Shim:
    """One of the two shims.

    Attributes:
        interfaces: types as the original component knows them.
        moved: the interfaces that the shim exports, and the functions in them that it converts.
        sources: identifier of every function it takes.
        resources: identifier of every resource, by origin.
        inward: it takes what the host offers, and speaks text there; else it speaks text where it is called.
    """

    interfaces: Mapping[str, InterfaceType]
    moved: Mapping[str, frozenset[str]]
    sources: Mapping[tuple[str, str], str]
    resources: Mapping[str, str]
    inward: bool


def _quoted(name: str) -> str:
    return f'"{name}"'
