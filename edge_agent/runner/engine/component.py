"""A loaded component: its types, its conversions compiled once, and its linker shared by all of its instances.

Owns: `Component` and the trampolines through which guests call the host. A trampoline finds the agent by the store it
is called from, so one linker serves every agent that runs the component, in any thread.
"""

from __future__ import annotations

import weakref
from ctypes import addressof, string_at
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.errors import check
from edge_agent.runner.engine.leaves import Mismatch, template
from edge_agent.runner.engine.lift import lifting
from edge_agent.runner.engine.linker import ImportTable
from edge_agent.runner.engine.lower import lowering
from edge_agent.runner.engine.shim.calls import CALLS, RUN, taking_part, without_calls
from edge_agent.runner.engine.shim.moved import as_declared, as_hex
from edge_agent.runner.engine.slots import slots
from edge_agent.runner.engine.types import ROOT, AsyncFuncType, ComponentTypes, read_types
from fleet.errors import Code, FleetError
from fleet.wit_types import Primitive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.runner.engine.engine import Engine
    from edge_agent.runner.engine.leaves import Lower, Resources
    from edge_agent.runner.engine.lift import Lift
    from edge_agent.runner.engine.shim.moved import Moved
    from fleet.wit_types import FuncType, WitType

_HOST_FAILED = b"the host function failed"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """How to call one exported function.

    Attributes:
        type: its WIT type.
        index: pointer to the engine's index of the export.
        params: name and conversion of each parameter.
        blank: the values of all parameters before their payloads are known.
        lift: conversion of the result, if there is one.
        plain_result: the result holds no memory that has to be freed.
    """

    type: FuncType
    index: int
    params: tuple[tuple[str, Lower], ...]
    blank: bytes
    lift: Lift | None
    plain_result: bool


class Component:
    """A component ready to be instantiated; made by `Engine.load`. May be used from any thread."""

    def __init__(self, engine: Engine, pointer: int, moved: Moved) -> None:
        self.engine = engine
        self.pointer = pointer
        self.moved = moved
        owned: list[tuple[Callable[[int], Any], int]] = [(ffi.component_delete, pointer)]
        # The functions are bound now: at interpreter exit modules may be gone before the last component is.
        self._finalizer = weakref.finalize(self, _delete_all, owned)
        self._finalizer.atexit = False
        self.types: ComponentTypes = as_declared(without_calls(read_types(engine.pointer, pointer)), moved)
        self.concurrent = taking_part(self.types, moved.calls, moved.waits)
        """The functions of which several calls can be in flight."""
        self.imports = _import_table(self.types)
        self._numbers = {f"{interface}#{name}": at for at, (interface, name) in enumerate(self.imports.resources)}
        self._callbacks: list[object] = []
        self._owned = owned
        self._plans: dict[str, ExportPlan] = {}
        self.linker: int = ffi.linker_new(engine.pointer)
        owned.append((ffi.linker_delete, self.linker))
        self._link()

    @property
    def exports(self) -> Mapping[str, FuncType]:
        """Type of every exported function, by `interface#function`, or by the bare name outside interfaces."""
        return {
            f"{interface}#{name}" if interface else name: kind
            for interface, exported in self.types.exports.items()
            for name, kind in exported.functions.items()
        }

    def find(self, function: str) -> str:
        """Full name of an exported function that is given by its full or its bare name.

        Raises:
            FleetError: EXPORT_NOT_FOUND when no function, or more than one, has the name.
        """
        exports = self.exports
        if function in exports:
            return function
        found = [name for name in exports if name.rpartition("#")[2] == function]
        if len(found) != 1:
            reason = f"several functions '{function}': {', '.join(found)}" if found else f"no function '{function}'"
            raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports {reason}", function=function)
        return found[0]

    def plan(self, function: str) -> ExportPlan:
        """How to call an exported function.

        Raises:
            FleetError: EXPORT_NOT_FOUND.
        """
        plan = self._plans.get(function)
        if plan is None:
            plan = self._plans[function] = self._make_plan(function)
        return plan

    def run_plan(self) -> ExportPlan:
        """How to call the dispatcher, where there is one."""
        plan = self._plans.get(CALLS)
        if plan is None:
            index = self._index(self._index(None, CALLS), RUN)
            plan = self._plans[CALLS] = ExportPlan(AsyncFuncType((), None), index, (), b"", None, plain_result=False)
        return plan

    def _make_plan(self, function: str) -> ExportPlan:
        interface, _, name = function.rpartition("#")
        exported = self.types.exports.get(interface)
        kind = exported.functions.get(name) if exported else None
        if exported is None or kind is None:
            raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no function '{function}'")
        resources = self._resources(exported.resources)
        crossing = as_hex(kind) if f"{interface}#{name}" in self.moved.exports else kind
        params = tuple((label, lowering(part, resources)) for label, part in crossing.params)
        lift = None if crossing.result is None else lifting(crossing.result, resources)
        blank = b"".join(template(part) for _, part in crossing.params)
        parent = self._index(None, interface) if interface else None
        plain = isinstance(kind.result, Primitive) and kind.result is not Primitive.STRING
        return ExportPlan(kind, self._index(parent, name), params, blank, lift, plain)

    def _index(self, parent: int | None, name: str) -> int:
        raw = name.encode()
        index: int = ffi.export_index(self.pointer, parent, raw, len(raw))
        self._owned.append((ffi.export_index_delete, index))
        return index

    def _resources(self, local: Mapping[str, str]) -> dict[str, int | str]:
        """What resources are, by the name that an interface uses and by the name of their origin.

        The host defines those that are imported, and the guest all others.
        """
        everywhere = {
            origin: self._numbers.get(origin, origin)
            for interface in (*self.types.imports.values(), *self.types.exports.values())
            for origin in interface.resources.values()
        }
        return {**everywhere, **{name: everywhere[origin] for name, origin in local.items()}}

    def _link(self) -> None:
        """Define what the component imports; which agent's functions run is decided call by call."""
        root = ffi.linker_root(self.linker)
        try:
            if self.concurrent.exports:
                instance = _add_instance(root, CALLS)
                try:
                    self._link_calls(instance)
                finally:
                    ffi.linker_instance_delete(instance)
            for interface, declared in self.types.imports.items():
                instance = root if interface == ROOT else _add_instance(root, interface)
                try:
                    self._link_interface(instance, interface, declared.resources)
                finally:
                    if interface != ROOT:
                        ffi.linker_instance_delete(instance)
        finally:
            ffi.linker_instance_delete(root)

    @property
    def calls(self) -> Mapping[str, int]:
        """Place of each function of `CALLS` behind those that the agent imports."""
        first = len(self.imports.functions)
        return {name: first + at for at, name in enumerate(self.concurrent.interface().functions)}

    def _link_calls(self, instance: int) -> None:
        """Define what the generated components import for themselves."""
        places = self.calls
        for name, kind in self.concurrent.interface().functions.items():
            callback = _trampoline(places[name], kind, {})
            self._callbacks.append(callback)
            raw = name.encode()
            check(ffi.linker_add_func(instance, raw, len(raw), callback, None, None), Code.COMPONENT_UNSUPPORTED)

    def _link_interface(self, instance: int, interface: str, local: Mapping[str, str]) -> None:
        for number, (owner, name) in enumerate(self.imports.resources):
            if owner == interface:
                callback = _destructor(number)
                self._callbacks.append(callback)
                host = ffi.resource_type_host(number)
                raw = name.encode()
                failed = ffi.linker_add_resource(instance, raw, len(raw), host, callback, None, None)
                ffi.resource_type_delete(host)
                check(failed, Code.COMPONENT_UNSUPPORTED)
        resources = self._resources(local)
        for index, (owner, name, kind) in enumerate(self.imports.functions):
            if owner == interface:
                crossing = as_hex(kind) if f"{interface}#{name}" in self.moved.imports else kind
                callback = _trampoline(index, crossing, resources)
                self._callbacks.append(callback)
                raw = name.encode()
                check(ffi.linker_add_func(instance, raw, len(raw), callback, None, None), Code.COMPONENT_UNSUPPORTED)


def _delete_all(owned: list[tuple[Callable[[int], Any], int]]) -> None:
    for delete, pointer in reversed(owned):
        delete(pointer)


def _import_table(types: ComponentTypes) -> ImportTable:
    functions = [
        (interface, name, kind)
        for interface, declared in types.imports.items()
        for name, kind in declared.functions.items()
    ]
    resources = [
        (interface, name)
        for interface, declared in types.imports.items()
        for name, origin in declared.resources.items()
        if origin == f"{interface}#{name}"
    ]
    return ImportTable(functions, resources, types.imports)


def _add_instance(root: int, interface: str) -> int:
    raw, instance = interface.encode(), ffi.Pointer()
    check(ffi.linker_add_instance(root, raw, len(raw), addressof(instance)), Code.COMPONENT_UNSUPPORTED)
    return instance.value or 0


def _trampoline(index: int, kind: FuncType, resources: Resources) -> object:
    """The C callback behind one imported function.

    Every exception is caught, whatever its kind, and kept for the caller of the guest: one that left a C callback
    would be printed and forgotten, and the guest would go on with a result that was never made.
    """
    lifts = [(lifting(part, resources), at * ffi.VAL_SIZE) for at, (_, part) in enumerate(kind.params)]
    size = len(lifts) * ffi.VAL_SIZE
    lower = None if kind.result is None else _result_lowering(kind.result, resources)

    def call(_data: int, context: int, _type: int, args: int, _nargs: int, results: int, _nresults: int) -> int:
        slot = slots[ffi.context_data(context)]
        try:
            raw = string_at(args, size) if size else b""
            value = slot.functions[index](*[lift(raw, at, slot) for lift, at in lifts])
            if lower is not None:
                lower(value, results, slot)
            elif value is not None:
                raise Mismatch("expected no result")  # noqa: TRY301 - all failures take the same way out
        except BaseException as error:  # noqa: BLE001 - see above
            slot.failure = error.as_fleet_error("result") if isinstance(error, Mismatch) else error
            return ffi.error_new(_HOST_FAILED)  # type: ignore[no-any-return]
        return 0

    return ffi.HostCallback(call)


def _result_lowering(kind: WitType, resources: Resources) -> Callable[[object, int, Any], None]:
    """Write the result of a host function where the engine wants it, in memory that the engine owns."""
    lower = lowering(kind, resources)
    blank = template(kind)

    def write(value: object, results: int, slot: Any) -> None:
        arena = slot.arena
        try:
            buffer, start, address = arena.take(ffi.VAL_SIZE)
            buffer[start : start + ffi.VAL_SIZE] = blank
            lower(value, buffer, start, slot)
            ffi.val_clone(address, results)
        finally:
            arena.reset()

    return write


def _destructor(number: int) -> object:
    """The C callback behind the destructor of one resource."""

    def drop(_data: int, context: int, rep: int) -> int:
        slot = slots[ffi.context_data(context)]
        try:
            slot.drop(number, rep)
        except BaseException as error:  # noqa: BLE001 - kept for the caller of the guest, as in the trampoline
            slot.failure = error
            return ffi.error_new(_HOST_FAILED)  # type: ignore[no-any-return]
        return 0

    return ffi.DestructorCallback(drop)
