"""Fuses components: what one imports is answered by what another exports, and the whole is a component again.

Owns: `fuse`. Inside the whole the parts stay as they were, each with memories of its own, and call each other without
the host: that costs about as much as a function call, and one part that traps ends all. What no wire answers becomes
an import of the whole, once for each name, and is shared by the parts that ask for it.

Written as text around the binaries, as the byte shim is (`shim.compose`); the engine validates the result.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, TypeVar

from edge_agent.runner.engine.shim.binary import binary, put_in
from edge_agent.runner.engine.shim.scope import Scope, Style, declare_resources
from edge_agent.runner.engine.types import ROOT, ComponentTypes, InterfaceType
from fleet.errors import Code, FleetError
from fleet.links import answering_export, check_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edge_agent.fusion import Wire

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9:/@.+\-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FusedPart:
    """One component of the whole.

    Attributes:
        agent: the agent it belongs to, for errors.
        component: its bytes.
        types: its types, with the names of types that it imports.
    """

    agent: str
    component: bytes
    types: ComponentTypes


def fuse(parts: Sequence[FusedPart], wires: Iterable[Wire]) -> bytes:
    """Return the component that the parts make together; its exports are those of the first.

    Args:
        parts: the components; no circle of wires.
        wires: which part answers which import.

    Raises:
        FleetError: LINK_INVALID naming two parts and where their types differ; COMPONENT_UNSUPPORTED for what cannot
            be written around a component.
    """
    return put_in(_Fusion(parts, wires).text(), *(part.component for part in parts))


class _Fusion:
    def __init__(self, parts: Sequence[FusedPart], wires: Iterable[Wire]) -> None:
        self._parts = parts
        self._numbers = itertools.count()
        self._answers = {(wire.user, wire.interface): wire.provider for wire in wires}
        self._exports = {at: self._answering(*at, provider) for at, provider in self._answers.items()}
        self._instances: dict[str, str] = {}
        self._resources: dict[str, str] = {}

    def text(self) -> bytes:
        """The whole, with empty components where the parts go."""
        lines = ["(component", *("(component)" for _ in self._parts)]
        for interface, declared in self._outer_imports():
            lines.append(self._import(interface, declared))
        users: dict[int, set[int]] = {number: set() for number in range(len(self._parts))}
        for (user, _), provider in self._answers.items():
            users[user].add(provider)
        for number in TopologicalSorter(users).static_order():
            lines += self._instantiate(number)
        return binary("\n".join([*lines, *self._whole_exports(), ")"]))

    def _answering(self, user: int, interface: str, provider: int) -> str:
        """Name of the export behind an import, once their types are compared."""
        mine, theirs = self._parts[user], self._parts[provider]
        wanted = mine.types.imports.get(interface)
        if wanted is None:
            raise FleetError(Code.LINK_INVALID, f"{mine.agent} does not import {interface}", agent=mine.agent)
        export = answering_export(interface, theirs.types.exports, mine.agent, theirs.agent)
        check_types(
            wanted.functions,
            theirs.types.exports[export].functions,
            interface=interface,
            agent=mine.agent,
            target=theirs.agent,
        )
        return export

    def _outer_imports(self) -> list[tuple[str, InterfaceType]]:
        """What no wire answers: merged by name, and each after those whose resources it uses."""
        merged: dict[str, InterfaceType] = {}
        for number, part in enumerate(self._parts):
            for interface, declared in part.types.imports.items():
                if interface == ROOT:
                    _check_root(declared, part.agent)
                elif (number, interface) not in self._answers:
                    merged[interface] = _merge(interface, merged.get(interface), declared, part.agent)
        uses = {
            interface: {origin.rpartition("#")[0] for origin in declared.resources.values()} & merged.keys()
            for interface, declared in merged.items()
        }
        order = TopologicalSorter({name: found - {name} for name, found in uses.items()}).static_order()
        return [(interface, merged[interface]) for interface in order]

    def _fresh(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def _import(self, interface: str, declared: InterfaceType) -> str:
        """Import an interface as the parts know it."""
        _check_name(interface)
        resources = declare_resources(interface, declared.resources, self._resources, self._numbers)
        scope = Scope(Style.IN_INSTANCE, self._numbers, resources.local)
        for name, kind in declared.types.items():
            scope.define(kind, name)
        functions = [
            f'(export "{name}" (func{scope.signature(function)}))' for name, function in declared.functions.items()
        ]
        instance = self._instances[interface] = self._fresh("i")
        text = [f'(import "{interface}" (instance ${instance}', *resources.lines, *scope.lines, *functions, "))"]
        for name, origin in resources.own:
            resource = self._resources[origin] = self._fresh("r")
            text.append(f'(alias export ${instance} "{name}" (type ${resource}))')
        return "\n ".join(text)

    def _instantiate(self, number: int) -> list[str]:
        """Make a part; what answers it was made before."""
        types = self._parts[number].types
        scope = Scope(Style.PLAIN, self._numbers, self._resources)
        given = []
        for interface, declared in types.imports.items():
            if interface == ROOT:
                given += [f'(with "{name}" (type ${scope.define(kind)}))' for name, kind in declared.types.items()]
            elif (number, interface) in self._answers:
                provider, export = self._answers[number, interface], self._exports[number, interface]
                given.append(f'(with "{interface}" (instance $part{provider} "{export}"))')
            else:
                given.append(f'(with "{interface}" (instance ${self._instances[interface]}))')
        return [*scope.lines, f"(instance $part{number} (instantiate {number} {' '.join(given)}))"]

    def _whole_exports(self) -> list[str]:
        exports = self._parts[0].types.exports
        scope = Scope(Style.EXPORT, self._numbers, {})
        lines = []
        for interface, declared in exports.items():
            if interface == ROOT:
                _check_root(declared, self._parts[0].agent, functions=True)
                for name, function in declared.functions.items():
                    lines.append(f'(export "{name}" (func $part0 "{name}") (func{scope.signature(function)}))')
            else:
                _check_name(interface)
                lines.append(f'(export "{interface}" (instance $part0 "{interface}"))')
        return [*scope.lines, *lines]


def _merge(interface: str, one: InterfaceType | None, other: InterfaceType, agent: str) -> InterfaceType:
    """What two parts want of one interface, together."""
    if one is None:
        return other
    return InterfaceType(
        _union(interface, one.functions, other.functions, agent),
        _union(interface, one.resources, other.resources, agent),
        _union(interface, one.types, other.types, agent),
    )


def _union(interface: str, one: Mapping[str, T], other: Mapping[str, T], agent: str) -> dict[str, T]:
    for name in one.keys() & other.keys():
        if one[name] != other[name]:
            raise FleetError(
                Code.LINK_INVALID,
                f"{agent} imports {name} of {interface} as {other[name]}, another part as {one[name]}",
                agent=agent,
                imports=interface,
                remedy="Build both against one version of the interface, or keep them apart: `isolation: store`.",
            )
    return {**one, **other}


def _check_root(declared: InterfaceType, agent: str, *, functions: bool = False) -> None:
    if declared.resources or (declared.functions and not functions):
        raise FleetError(
            Code.COMPONENT_UNSUPPORTED, f"{agent} has functions or resources outside interfaces", agent=agent
        )


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise FleetError(Code.COMPONENT_UNSUPPORTED, f"{name[:64]!r} is not the name of an interface")
