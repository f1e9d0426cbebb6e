"""What the host offers to guests, and whether it is what a component asks for.

Owns: `resolve`; an interface itself is `edge_agent.capabilities.base.HostInterface`. The engine does not compare the
types of host functions: values are converted by the types the component declares. `resolve` therefore refuses a
component that declares an interface differently from the host, before anything runs, so that no capability ever sees a
value of a type it did not declare.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from edge_agent.capabilities.lazy import LazyInterfaces
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from edge_agent.capabilities.base import HostInterface, Later
    from edge_agent.runner.engine.types import InterfaceType
    from fleet.wit_types import FuncType


T = TypeVar("T")


@dataclass(slots=True)
class ImportTable:
    """The functions and resources one component imports, in a fixed order.

    Attributes:
        functions: interface, name and type of each function.
        resources: interface and name of each resource, by resource number.
        interfaces: what the component declares, by interface name.
        accepted: the host's type that each function was last compared with; the same object needs no second look.
        fitting: keys of the lazy interfaces that were compared as a whole.
    """

    functions: list[tuple[str, str, FuncType]]
    resources: list[tuple[str, str]]
    interfaces: Mapping[str, InterfaceType]
    accepted: dict[int, FuncType] = field(default_factory=dict)
    fitting: set[Hashable] = field(default_factory=set)


Function: TypeAlias = "Callable[..., object]"
Destructor: TypeAlias = "Callable[[int], None]"


class _OnDemand(dict[int, T]):
    """Looks everything up when the first is missing."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Mapping[int, T]]) -> None:
        self._find = find

    def __missing__(self, index: int) -> T:
        self.update(self._find())
        return self[index]


class _Later:
    """What `_found` returns, found once, by the first that asks for it."""

    __slots__ = ("_both", "_interfaces", "_table")

    def __init__(self, table: ImportTable, interfaces: Iterable[HostInterface]) -> None:
        self._table = table
        self._interfaces = interfaces
        self._both: tuple[Mapping[int, Function], Mapping[int, Destructor]] | None = None

    def functions(self) -> Mapping[int, Function]:
        return self._find()[0]

    def destructors(self) -> Mapping[int, Destructor]:
        return self._find()[1]

    def _find(self) -> tuple[Mapping[int, Function], Mapping[int, Destructor]]:
        if self._both is None:
            self._both = _found(self._table, self._interfaces)
        return self._both


def find_laters(
    imports: Iterable[str], interfaces: Iterable[HostInterface]
) -> list[tuple[Callable[..., Later | None] | None, Function]]:
    """Find how the host begins to answer functions, and how it answers them at once.

    Args:
        imports: `interface#function`, of what `resolve` has found.
        interfaces: what it was given.
    """
    offered = {interface.name: interface for interface in interfaces}
    found = []
    for name in imports:
        interface, _, function = name.rpartition("#")
        host = offered[interface].functions[function]
        found.append((host.later, host.call))
    return found


def resolve(
    table: ImportTable, interfaces: Iterable[HostInterface]
) -> tuple[dict[int, Function], Mapping[int, Destructor]]:
    """Find the host's function and destructor for everything a component imports.

    Interfaces that are lazy are made now only if none like them were compared with this component before.

    Returns:
        The function by its place in the table, and the destructor by the number of the resource.

    Raises:
        FleetError: IMPORT_NOT_GRANTED when nothing is offered under a name; COMPONENT_UNSUPPORTED when the component
            declares a function or resource differently from the host.
    """
    if not isinstance(interfaces, LazyInterfaces):
        return _found(table, interfaces)
    if interfaces.key not in table.fitting:
        found = _found(table, interfaces)
        table.fitting.add(interfaces.key)
        return found
    later = _Later(table, interfaces)
    return _OnDemand(later.functions), _OnDemand(later.destructors)


def _found(
    table: ImportTable, interfaces: Iterable[HostInterface]
) -> tuple[dict[int, Function], Mapping[int, Destructor]]:
    offered = {interface.name: interface for interface in interfaces}
    functions = {
        index: _function(table, index, _offer(offered, interface, name))
        for index, (interface, name, _) in enumerate(table.functions)
    }
    destructors = {}
    for number, (interface, name) in enumerate(table.resources):
        host = _offer(offered, interface, name)
        if name not in host.resources:
            raise _different(interface, name, "it is not a resource that the host defines there")
        destructors[number] = host.resources[name]
    for interface, declared in table.interfaces.items():
        for name, origin in declared.resources.items():
            if origin != f"{interface}#{name}":
                source = _offer(offered, interface, name).uses.get(name, "")
                if origin != (source if "#" in source else f"{source}#{name}"):
                    raise _different(interface, name, f"it is the resource {origin}")
    return functions, destructors


def _function(table: ImportTable, index: int, host: HostInterface) -> Function:
    interface, name, declared = table.functions[index]
    function = host.functions.get(name)
    if function is None:
        raise FleetError(
            Code.IMPORT_NOT_GRANTED, f"the host has no function '{name}' in {interface}", interface=interface
        )
    if table.accepted.get(index) is not function.signature:
        if not function.signature.accepts(declared):
            raise _different(interface, name, f"it declares {declared}, the host has {function.signature}")
        table.accepted[index] = function.signature
    return function.call


def _offer(offered: Mapping[str, HostInterface], interface: str, name: str) -> HostInterface:
    if interface not in offered:
        raise FleetError(
            Code.IMPORT_NOT_GRANTED,
            f"the component imports '{name}' of {interface or 'its world'}, which is not linked",
            interface=interface,
        )
    return offered[interface]


def _different(interface: str, name: str, reason: str) -> FleetError:
    return FleetError(
        Code.COMPONENT_UNSUPPORTED,
        f"the component declares {interface}#{name} differently from the host: {reason}",
        interface=interface,
        function=name,
    )
