"""One running agent: a store, its limits, and calls into the guest.

Owns: `Instance`. An instance is used by one thread at a time; instances in different threads are
independent. After a trap the instance is dead: the engine lets nothing enter it again, so its memory is freed at once
and a restart is a new instance.
"""

from __future__ import annotations

import math
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import EndAgentError
from edge_agent.capabilities.lazy import LazyInterfaces
from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.arena import address_of
from edge_agent.runner.engine.bound import BoundFunction
from edge_agent.runner.engine.epochs import CHECK_SECONDS, CHECK_TICKS, on_epoch, ticks_until
from edge_agent.runner.engine.errors import check, take_error
from edge_agent.runner.engine.in_flight import InFlight, listed
from edge_agent.runner.engine.leaves import Mismatch
from edge_agent.runner.engine.linker import find_laters, resolve
from edge_agent.runner.engine.shim.calls import CALLS
from edge_agent.runner.engine.shim.moved import movable_bytes
from edge_agent.runner.engine.slots import AgentSlot, QuotaError, slots
from edge_agent.runner.engine.traps import Trap, classify, delete_store, delete_store_and_measure
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from edge_agent.capabilities.base import HostInterface
    from edge_agent.runner.engine.component import Component, ExportPlan
    from edge_agent.runner.engine.in_flight import Calls
    from edge_agent.runner.engine.limits import Limits
    from fleet.wit_types import FuncType, WitValue

_UNLIMITED_FUEL = (1 << 64) - 1

_QUOTA_SHARE = 0.75
"""A guest that aborts with at least this share of its memory in use is taken to have run out of it."""


class Instance:
    """A component instantiated for one agent.

    Args:
        component: what to run.
        interfaces: everything the agent may reach; nothing else is linked.
        limits: what it may use.
        last_words: what the guest said shortly before, asked when it has ended; becomes part of `Trap.message`.

    Raises:
        FleetError: IMPORT_NOT_GRANTED, COMPONENT_UNSUPPORTED as `linker.resolve` says.
        Trap: the guest's start code trapped, or the component is larger than its limits.
    """

    _store: int = 0

    def __init__(
        self,
        component: Component,
        interfaces: Iterable[HostInterface],
        limits: Limits,
        last_words: Callable[[], str] = str,
    ) -> None:
        if limits.fuel_per_call is not None and not component.engine.fuel:
            raise ValueError("fuel_per_call needs an engine made with fuel=True")
        interfaces = interfaces if isinstance(interfaces, LazyInterfaces) else tuple(interfaces)
        functions, destructors = resolve(component.imports, interfaces)
        self._component = component
        self._limits = limits
        self._last_words = last_words
        self._call_seconds = math.inf if limits.call_seconds is None else limits.call_seconds
        fuel = _UNLIMITED_FUEL if limits.fuel_per_call is None else limits.fuel_per_call
        self._fuel = fuel if component.engine.fuel else None
        self._slot = AgentSlot(
            functions, destructors, limits.resources, component.engine.clock, movable_bytes(limits.memory_bytes)
        )
        lock = threading.RLock()
        self._acquire = lock.acquire
        self._release = lock.release
        self._depth = 0
        self._trap: Trap | None = None
        self._bound: dict[str, BoundFunction] = {}
        self._result = bytearray(ffi.VAL_SIZE)
        self._result_address = address_of(self._result)
        self._free_result = partial(ffi.bare_val_delete, ffi.pointer(self._result_address))
        self._slot.drop_guest = partial(_drop_of, weakref.ref(self))
        slots[self._slot.number] = self._slot
        self._in_flight = self._make_in_flight(interfaces) if component.concurrent.exports else None
        self._store = ffi.store_new(component.engine.pointer, self._slot.number, None)
        self._context: int = ffi.store_context(self._store)
        self._slot.context = self._context
        ffi.store_limiter(
            self._store,
            limits.memory_bytes,
            limits.table_elements,
            limits.instances + component.moved.core_instances,
            limits.tables,
            limits.memories + component.moved.memories,
        )
        ffi.store_epoch_callback(self._store, on_epoch, self._slot.number, None)
        self._instance = bytearray(ffi.INSTANCE_SIZE)
        ffi.context_epoch_deadline(self._context, CHECK_TICKS)
        self._arm(math.inf, limits.start_seconds)
        self._depth = 1
        failed = ffi.linker_instantiate(component.linker, self._context, component.pointer, address_of(self._instance))
        self._depth = 0
        self._slot.deadline = math.inf
        if failed:
            raise self._end(failed)

    @property
    def exports(self) -> Mapping[str, FuncType]:
        """Type of every exported function, by `interface#function`, or by the bare name outside interfaces."""
        return self._component.exports

    @property
    def alive(self) -> bool:
        """False after a trap or `close`."""
        return self._store != 0

    @property
    def trapped(self) -> bool:
        """Whether a trap ended it."""
        return self._trap is not None

    def call(self, function: str, *arguments: WitValue, seconds: float | None = None) -> WitValue:
        """Call an exported function.

        Args:
            function: `interface#function`, or the bare name of a function outside interfaces.
            arguments: values as tabled in `fleet.wit_types`.
            seconds: wall-clock limit of this call; the smaller of it and `Limits.call_seconds` holds.

        Returns:
            The result, `None` for a function without one. A WIT error comes back as `Err`.

        Raises:
            Trap: the guest ended; the instance is dead.
            FleetError: EXPORT_NOT_FOUND, VALUE_INVALID (the guest did not run), AGENT_NOT_RUNNING.
            BaseException: what a host function raised, where that is no `Exception` (`KeyboardInterrupt`).
        """
        if not self._acquire(False):
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            if self._depth and self._component.engine.asynchronous:
                raise RuntimeError("a host function cannot call the asynchronous component that is calling it")
            bound = self._bound.get(function) or self._bind(function)
            slot = self._slot
            if slot.abandoned:
                self._drop_abandoned()
            if arguments or bound.params:
                self._lower(bound, arguments)
            outer = slot.deadline
            self._arm(outer, seconds)
            self._depth += 1
            failed = bound.run()
            self._depth -= 1
            slot.deadline = outer
            if slot.given:
                slot.hand_over()
            if failed or self._trap is not None:
                raise self._end(failed)
            lift = bound.lift
            if lift is None:
                return None
            if bound.plain_result:
                return lift(self._result, 0, slot)
            try:
                return lift(self._result, 0, slot)
            finally:
                self._free_result()
                # The engine drops what the buffer held before it writes the next result: leave it a plain bool.
                self._result[0] = 0
        finally:
            self._release()

    @property
    def concurrent(self) -> Container[str]:
        """The exported functions of which several calls can be in flight, by the names in `exports`."""
        return () if self._in_flight is None else self._in_flight.names

    def serve(self, calls: Calls) -> None:
        """Make calls of `concurrent` functions, several at a time, until none is in flight and there are no more.

        A result goes to its own call as soon as it is there, whatever else is in flight. Each call has its own deadline
        (see `in_flight`).

        Raises:
            Trap: the guest ended; all calls in flight were told, and the instance is dead.
            BaseException: what a host function raised, where that is no `Exception`.
        """
        in_flight = self._in_flight
        if in_flight is None:
            raise ValueError("no function of the component can have several calls in flight")
        if not self._acquire(False) or self._depth:
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            bound = self._bound.get(CALLS) or self._bind_plan(CALLS, self._component.run_plan())
            if self._slot.abandoned:
                self._drop_abandoned()
            in_flight.begin(calls)
            ffi.context_epoch_deadline(self._context, 1)
            self._depth += 1
            failed = bound.run(in_flight.stepped)
            self._depth -= 1
            self._slot.deadline = math.inf
            if failed or self._trap is not None:
                raise self._end_all(failed, in_flight)
            in_flight.end()
        finally:
            self._release()

    def _end_all(self, failed: int | None, in_flight: InFlight) -> BaseException:
        """End with calls in flight: all of them hear of the same end."""
        if in_flight.cancelling and self._slot.stopped_by is None and self._slot.failure is None:
            self._slot.stopped_by = ExitCause.DEADLINE  # with every task waiting the engine finds a deadlock
        left = in_flight.end()
        trap = self._end(failed)
        if isinstance(trap, Trap) and len(left) > 1:
            trap = self._trap = trap.also(f"{len(left)} calls were in flight: {listed(left)}")
        for call in left:
            call.failed(trap if isinstance(trap, Trap) else Trap(ExitCause.HOST_ERROR, "the host was interrupted"))
        return trap

    def _make_in_flight(self, interfaces: Iterable[HostInterface]) -> InFlight:
        component, slot = self._component, self._slot
        laters = find_laters(component.concurrent.imports, interfaces) if component.concurrent.imports else []
        in_flight = InFlight(component.concurrent, component.plan, slot, dict(enumerate(laters)))
        for name, place in component.calls.items():
            slot.functions[place] = in_flight.functions[name]
        return in_flight

    def interrupt(self) -> None:
        """Ask the guest to stop, from any thread; the running or next call ends with cause `stopped`."""
        self._slot.interrupted = True

    def close(self) -> None:
        """Free the instance and every resource the guest still holds. Idempotent; not during a call."""
        if not self._acquire(False):
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            if self._depth:
                raise RuntimeError("an instance cannot be closed by a host function it is calling")
            if self._store:
                self._delete_store(measure=False)
                self._slot.destroy_all()
        finally:
            self._release()

    def __del__(self) -> None:
        # What nobody closed is closed here; a host function that refers to its own instance prevents it.
        if self._store:
            self.close()

    def _drop_guest(self, pointer: int) -> None:
        """Drop a resource of the guest, whose destructor runs in the guest, and free the handle."""
        if not self._acquire(False):
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            failed = None
            if self._depth and self._component.engine.asynchronous:
                self._slot.abandoned.append(pointer)  # dropped with the next call: the engine is busy with this one
                return
            if self._store and self._trap is None:
                slot = self._slot
                outer = slot.deadline
                self._arm(outer, None)
                self._depth += 1
                failed = ffi.resource_any_drop(self._context, pointer)
                self._depth -= 1
                slot.deadline = outer
            ffi.resource_any_delete(pointer)
            if failed:
                raise self._end(failed)
        finally:
            self._release()

    def _drop_abandoned(self) -> None:
        slot = self._slot
        while slot.abandoned:
            self._drop_guest(slot.abandoned.pop())

    def _lower(self, bound: BoundFunction, arguments: tuple[WitValue, ...]) -> None:
        """Lay the arguments out in the function's buffer, which the engine copies before it runs anything."""
        slot = self._slot
        params = bound.params
        if len(arguments) != len(params):
            raise FleetError(Code.VALUE_INVALID, f"expected {len(params)} arguments, got {len(arguments)}")
        slot.arena.reset()
        if slot.lent:
            slot.lent = []
        name, buffer = "", bound.buffer
        try:
            for (name, lower, at), value in zip(params, arguments):  # noqa: B007, B905 - names the place; checked
                lower(value, buffer, at, slot)
        except Mismatch as mismatch:
            slot.take_back()
            raise mismatch.as_fleet_error(name) from None
        except QuotaError as error:
            slot.take_back()
            raise FleetError(Code.VALUE_INVALID, str(error), place=name) from None

    def _bind(self, function: str) -> BoundFunction:
        """Look up an exported function of this instance; remembered, since it stays where it is."""
        return self._bind_plan(function, self._component.plan(function))

    def _bind_plan(self, function: str, plan: ExportPlan) -> BoundFunction:
        if self._store == 0 or self._trap is not None:
            raise FleetError(Code.AGENT_NOT_RUNNING, "the instance has ended")
        bound = BoundFunction(plan, self._context, self._result_address, self._slot)
        if not ffi.instance_func(address_of(self._instance), self._context, plan.index, bound.pointer):
            raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no function '{function}'")
        self._bound[function] = bound
        return bound

    def _arm(self, outer: float, seconds: float | None) -> None:
        """Set the deadline of a call within another that ends at `outer`."""
        slot = self._slot
        limit = self._call_seconds
        if seconds is not None and seconds < limit:
            limit = seconds
        end = slot.clock() + limit
        slot.deadline = end if end < outer else outer  # noqa: FURB136 - a call of `min` costs four times as much
        if limit < CHECK_SECONDS:
            # Longer calls need no setting: the engine asks at least every CHECK_TICKS, and then the clock decides.
            ffi.context_epoch_deadline(self._context, ticks_until(slot))
        if self._fuel is not None:
            check(ffi.context_set_fuel(self._context, self._fuel))

    def _end(self, failed: int | None) -> BaseException:
        """Tell why the guest stopped, and free it unless one of its own calls is still on the stack."""
        slot = self._slot
        failure, slot.failure = slot.failure, None
        # A host function that called back into the guest may have met the trap first; the first one counts.
        found = self._explain(failed, failure) if failed else None
        trap = self._trap or found or Trap(ExitCause.TRAP, "the guest ended")
        self._trap = (self._bury(trap) if self._depth == 0 else trap).quoting(self._last_words())
        self._bound = {}
        if failure is not None and not isinstance(failure, Exception):
            return failure
        self._trap.__cause__ = failure
        return self._trap

    def _explain(self, failed: int, failure: BaseException | None) -> Trap:
        error = take_error(failed)
        stopped = self._slot.stopped_by
        if isinstance(failure, EndAgentError):
            return Trap(failure.cause, str(failure), error.text)
        if failure is not None:
            cause = ExitCause.QUOTA if isinstance(failure, QuotaError) else ExitCause.HOST_ERROR
            return Trap(cause, f"{type(failure).__name__}: {failure}", error.text)
        if stopped is ExitCause.DEADLINE:
            return Trap(stopped, "the call did not end before its deadline", error.text)
        if stopped is not None:
            return Trap(stopped, "the call was interrupted", error.text)
        return classify(error)

    def _bury(self, trap: Trap) -> Trap:
        """Free a dead instance, and look whether it ran out of memory."""
        used = self._delete_store(measure=trap.cause in (ExitCause.UNREACHABLE, ExitCause.OUT_OF_BOUNDS))
        limit = self._limits.memory_bytes
        if used >= limit * _QUOTA_SHARE:
            message = f"out of memory: {used} of {limit} bytes were in use ({trap.message})"
            trap = Trap(ExitCause.QUOTA, message, trap.backtrace)
        try:
            self._slot.destroy_all()
        except Exception as error:  # noqa: BLE001 - capability code; why the guest ended must not be lost to it
            trap.add_note(f"a destructor failed as well: {error!r}")
        return trap

    def _delete_store(self, *, measure: bool) -> int:
        """Free the guest; returns the bytes of its largest memory if they were to be measured, else 0."""
        store, self._store = self._store, 0
        used = 0
        if measure:
            used = delete_store_and_measure(store)
        else:
            delete_store(store)
        slot = self._slot
        del slots[slot.number]
        for pointer in (*slot.held.values(), *slot.abandoned):
            ffi.resource_any_delete(pointer)
        slot.held, slot.abandoned = {}, []
        self._bound = {}
        return used


def _drop_of(instance: weakref.ref[Instance]) -> Callable[[int], None]:
    """How to drop resources of an instance: a method, which keeps it alive as long as there are any."""
    found = instance()
    if found is None:
        raise RuntimeError("a resource of an instance that is gone")
    return found._drop_guest  # noqa: SLF001 - ours
