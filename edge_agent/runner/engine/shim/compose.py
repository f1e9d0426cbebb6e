"""Puts the shim around a component.

Owns: `compose`. The result is a component that holds the original one unchanged, offers and asks for the same
functions, and has `string` where a moved function has a list of numbers:

    host -> [exports] -> original component -> [imports] -> host

Each shim is a component of its own: one has to be there before the original, the other is made of it. Everything is
written as text and made binary by the engine's own reader; only the original is put in as bytes, since text cannot hold
it.

The same shim is the adapter for asynchronous imports, which no host function can be: the original gets an asynchronous
function, which is lifted as one that never waits and calls the host's of the same types. The host sees no difference.
Where several calls can be in flight (`calls`), those that can are lifted as ones that wait instead (`waits`), and a
third component calls the original's asynchronous exports (`dispatcher`).

Not moved, and left as they are: functions of the component's world (only interfaces have shims on the import side),
functions that take borrowed resources inside other values, and asynchronous exports, of which one may not wait for
another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim.binary import binary, put_in
from edge_agent.runner.engine.shim.calls import CALLS, Concurrent, find_concurrent
from edge_agent.runner.engine.shim.convert import Converter
from edge_agent.runner.engine.shim.dispatcher import dispatcher_code
from edge_agent.runner.engine.shim.moved import Moved, as_hex
from edge_agent.runner.engine.shim.scope import INVENTED, Scope, Style, declare_resources
from edge_agent.runner.engine.shim.selection import all_marks, can_be_written, moved_exports, moved_imports
from edge_agent.runner.engine.shim.waits import WaitingImports
from edge_agent.runner.engine.types import ROOT, ComponentTypes, InterfaceType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.wit_types import FuncType

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
    imports = {name: moved_imports(declared, lists=lists) for name, declared in types.imports.items() if name != ROOT}
    exports = {name: moved_exports(declared) if lists else _NOTHING for name, declared in types.exports.items()}
    # Where instructions are counted they are one call's, and several in flight could not be told apart.
    concurrent = find_concurrent(types) if lists else Concurrent()
    if not any(imports.values()) and not any(exports.values()) and not concurrent.exports:
        return None
    if not can_be_written(types):
        return None
    text = _Composition(types, imports, exports, concurrent).text()
    converted = {
        interface: frozenset(name for name in names if f"{interface}#{name}" not in concurrent.imports)
        for interface, names in imports.items()
    }
    moved = Moved(
        all_marks(types.imports, converted),
        all_marks(types.exports, exports),
        calls=tuple(concurrent.exports),
        waits=tuple(concurrent.imports),
    )
    return put_in(binary(text), component), moved


class _Composition:
    """Writes the text around one component."""

    def __init__(
        self,
        types: ComponentTypes,
        imports: Mapping[str, frozenset[str]],
        exports: Mapping[str, frozenset[str]],
        concurrent: Concurrent,
    ) -> None:
        self._concurrent = concurrent
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
        calls = self._fresh("i")
        if self._concurrent.exports:
            calls, text = self._import(CALLS, self._concurrent.interface(), _NOTHING, resources)
            lines.append(text)
        if any(self._moved_imports.values()):
            offered = [*given, (CALLS, calls)] if self._concurrent.imports else given
            lines += self._imports_shim(
                " ".join(f'(with "{name}" (instance ${instance}))' for name, instance in offered)
            )
        agent = [
            f'(with "{interface}" (instance {f"$imports {_quoted(interface)}" if moved else f"${instance}"}))'
            for (interface, instance), moved in zip(given, self._moved_imports.values(), strict=True)
        ]
        lines += self._world_imports(agent, resources)
        lines.append(f"(instance $agent (instantiate 0 {' '.join(agent)}))")
        lines += self._exports_shim()
        if self._concurrent.exports:
            lines += self._dispatcher(calls)
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
        if self._concurrent.imports:
            calls, text = self._import(CALLS, self._concurrent.interface(), _NOTHING, resources)
            head.append(text)
            waiting = WaitingImports(self._numbers, calls)
            for number, (name, function) in enumerate(self._concurrent.imports.items()):
                interface, _, own = name.rpartition("#")
                shim.ready[interface, own] = waiting.add(number, function)
            head += waiting.lines()
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

    def _dispatcher(self, calls: str) -> list[str]:
        """The component that calls the original's asynchronous exports for the host."""
        host, text = self._import(CALLS, self._concurrent.interface(), _NOTHING, {})
        taken = Scope(Style.IMPORT, self._numbers, {})
        plain = Scope(Style.PLAIN, self._numbers, {})
        outside, imports, given, exports = [], [], [f'(with "{CALLS}" (instance ${calls}))'], []
        paths = {ROOT: "$agent"}
        for name, function in self._concurrent.exports.items():
            interface, _, own = name.rpartition("#")
            if interface not in paths:
                paths[interface] = f"${self._fresh('i')}"
                outside.append(f'(alias export $agent "{interface}" (instance {paths[interface]}))')
            identifier = self._fresh("f")
            imports.append(f'(import "shim-{identifier}" (func ${identifier}{taken.signature(function)}))')
            given.append(f'(with "shim-{identifier}" (func {paths[interface]} "{own}"))')
            exports.append((function, identifier))
        if self._concurrent.imports:
            imports.append('(import "shim-wake" (func $wake (param "end" u32)))')
            given.append('(with "shim-wake" (func $imports "wake"))')
        given += [f'(with "{name}" (type {plain.use(kind)}))' for name, kind in taken.named]
        return [
            *outside,
            *plain.lines,
            "(component $dispatcher-code",
            text,
            *taken.lines,
            *imports,
            *dispatcher_code(exports, host, wakes=bool(self._concurrent.imports)),
            ")",
            f"(instance $dispatcher (instantiate $dispatcher-code {' '.join(given)}))",
            f'(export "{CALLS}" (instance $dispatcher))',
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
                    sources[at] = shim.ready.get(at) or converter.add(
                        declared.functions[name], f"${sources[at]}", local
                    )
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
        ready: identifier of every function that is already what it exports, and is not converted.
    """

    interfaces: Mapping[str, InterfaceType]
    moved: Mapping[str, frozenset[str]]
    sources: Mapping[tuple[str, str], str]
    resources: Mapping[str, str]
    inward: bool
    ready: dict[tuple[str, str], str] = field(default_factory=dict)


def _quoted(name: str) -> str:
    return f'"{name}"'
