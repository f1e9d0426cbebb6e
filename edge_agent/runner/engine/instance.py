"""One running agent: a store, its limits, and calls into the guest.

Owns: `Limits` and `Instance`. An instance is used by one thread at a time; instances in different threads are
independent. After a trap the instance is dead: the engine lets nothing enter it again, so its memory is freed at once
and a restart is a new instance.
"""

from __future__ import annotations

import math
import threading
from ctypes import c_uint64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.arena import address_of
from edge_agent.runner.engine.engine import TICK_SECONDS
from edge_agent.runner.engine.errors import check, take_error
from edge_agent.runner.engine.leaves import Mismatch
from edge_agent.runner.engine.linker import resolve
from edge_agent.runner.engine.slots import AgentSlot, QuotaError, slots
from edge_agent.runner.engine.traps import Trap, classify, delete_store, delete_store_and_measure
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.capabilities.base import HostInterface
    from edge_agent.runner.engine.component import Component, ExportPlan
    from fleet.wit_types import FuncType, WitValue

_CHECK_TICKS = 10
"""Ticks between two looks at the clock and at `interrupt` while a guest runs: a tenth of a second."""

_QUOTA_SHARE = 0.75
"""A guest that aborts with at least this share of its memory in use is taken to have run out of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one agent may use.

    Attributes:
        memory_bytes: size of each linear memory; the agent's total is this times `memories`.
        memories: number of linear memories.
        tables: number of tables.
        table_elements: elements of each table.
        instances: core instances the component is made of.
        resources: host resources the guest may hold at one time.
        call_seconds: wall-clock time of one call, host functions included; none for no limit.
        fuel_per_call: instructions of one call, on an engine that counts them; none for no limit.
    """

    memory_bytes: int = 64 << 20
    memories: int = 2
    tables: int = 64
    table_elements: int = 100_000
    instances: int = 64
    resources: int = 1024
    call_seconds: float | None = 30.0
    fuel_per_call: int | None = None


class Instance:
    """A component instantiated for one agent.

    Args:
        component: what to run.
        interfaces: everything the agent may reach; nothing else is linked.
        limits: what it may use; `call_seconds` holds for the start as well.

    Raises:
        FleetError: IMPORT_NOT_GRANTED, COMPONENT_UNSUPPORTED as `linker.resolve` says.
        Trap: the guest's start code trapped, or the component is larger than its limits.
    """

    _store: int = 0

    def __init__(self, component: Component, interfaces: Iterable[HostInterface], limits: Limits) -> None:
        if limits.fuel_per_call is not None and not component.engine.fuel:
            raise ValueError("fuel_per_call needs an engine made with fuel=True")
        functions, destructors = resolve(component.imports, interfaces)
        self._component = component
        self._limits = limits
        self._clock = component.engine.clock
        self._slot = AgentSlot(functions, destructors, limits.resources, self._clock)
        self._lock = threading.RLock()
        self._depth = 0
        self._trap: Trap | None = None
        self._functions: dict[str, tuple[bytearray, int]] = {}
        self._result = bytearray(ffi.VAL_SIZE)
        self._result_address = address_of(self._result)
        slots[self._slot.number] = self._slot
        self._store = ffi.store_new(component.engine.pointer, self._slot.number, None)
        self._context: int = ffi.store_context(self._store)
        self._slot.context = self._context
        ffi.store_limiter(
            self._store,
            limits.memory_bytes,
            limits.table_elements,
            limits.instances,
            limits.tables,
            limits.memories,
        )
        ffi.store_epoch_callback(self._store, _on_epoch, self._slot.number, None)
        self._instance = bytearray(ffi.INSTANCE_SIZE)
        outer = self._arm(None)
        self._depth = 1
        failed = ffi.linker_instantiate(component.linker, self._context, component.pointer, address_of(self._instance))
        self._leave(outer, failed)

    @property
    def exports(self) -> Mapping[str, FuncType]:
        """Type of every exported function, by `interface#function`, or by the bare name outside interfaces."""
        return self._component.exports

    @property
    def alive(self) -> bool:
        """False after a trap or `close`."""
        return self._store != 0

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
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            if self._store == 0 or self._trap is not None:
                raise FleetError(Code.AGENT_NOT_RUNNING, "the instance has ended")
            plan = self._component.plan(function)
            _, pointer = self._functions.get(function) or self._find(function, plan)
            return self._call(plan, pointer, arguments, seconds)
        finally:
            self._lock.release()

    def interrupt(self) -> None:
        """Ask the guest to stop, from any thread; the running or next call ends with cause `stopped`."""
        self._slot.interrupted = True

    def close(self) -> None:
        """Free the instance and every resource the guest still holds. Idempotent; not during a call."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("an instance is used by one thread at a time")
        try:
            if self._depth:
                raise RuntimeError("an instance cannot be closed by a host function it is calling")
            if self._store:
                self._delete_store(measure=False)
                self._slot.destroy_all()
        finally:
            self._lock.release()

    def __del__(self) -> None:
        # What nobody closed is closed here; a host function that refers to its own instance prevents it.
        if self._store:
            self.close()

    def _call(self, plan: ExportPlan, pointer: int, arguments: tuple[WitValue, ...], seconds: float | None) -> WitValue:
        slot = self._slot
        arena = slot.arena
        count = len(plan.params)
        if len(arguments) != count:
            raise FleetError(Code.VALUE_INVALID, f"expected {count} arguments, got {len(arguments)}")
        try:
            size = len(plan.blank)
            buffer, start, address = arena.take(size)
            buffer[start : start + size] = plan.blank
            name = ""
            for at, (name, lower) in enumerate(plan.params):  # noqa: B007 - names the place of a mismatch
                lower(arguments[at], buffer, start + at * ffi.VAL_SIZE, slot)
        except (Mismatch, QuotaError) as error:
            arena.reset()
            mismatch = error if isinstance(error, Mismatch) else Mismatch(str(error))
            raise mismatch.as_fleet_error(name) from None
        outer = self._arm(seconds)
        self._depth += 1
        lift = plan.lift
        failed = ffi.func_call(
            pointer, self._context, address, count, self._result_address if lift else None, 1 if lift else 0
        )
        arena.reset()
        self._leave(outer, failed)
        if lift is None:
            return None
        try:
            return lift(self._result, 0, slot)
        finally:
            ffi.val_delete(self._result_address)
            # The engine drops what the buffer held before it writes the next result: leave it a plain bool.
            self._result[0] = 0

    def _find(self, function: str, plan: ExportPlan) -> tuple[bytearray, int]:
        """Look up an exported function of this instance; remembered, since it stays where it is."""
        handle = bytearray(ffi.FUNC_SIZE)
        pointer = address_of(handle)
        if not ffi.instance_func(address_of(self._instance), self._context, plan.index, pointer):
            raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no function '{function}'")
        self._functions[function] = handle, pointer
        return handle, pointer

    def _arm(self, seconds: float | None) -> float:
        """Set the deadline of a call; returns the deadline of the call around it, which still holds."""
        slot = self._slot
        outer = slot.deadline
        limit = self._limits.call_seconds
        if seconds is not None:
            limit = seconds if limit is None else min(limit, seconds)
        if limit is not None:
            slot.deadline = min(outer, self._clock() + limit)
        ffi.context_epoch_deadline(self._context, _ticks_until(slot))
        if self._limits.fuel_per_call is not None:
            check(ffi.context_set_fuel(self._context, self._limits.fuel_per_call))
        elif self._component.engine.fuel:
            check(ffi.context_set_fuel(self._context, (1 << 64) - 1))
        return outer

    def _leave(self, outer: float, failed: int | None) -> None:
        """End a call: restore the deadline around it, and tell why the guest stopped if it did."""
        slot = self._slot
        slot.deadline = outer
        self._depth -= 1
        failure, slot.failure = slot.failure, None
        if failed:
            trap = self._explain(failed, failure)
            # A host function that called back into the guest may have met the trap first; the first one counts.
            self._trap = self._trap or trap
        if self._trap is None:
            return
        if self._depth == 0:
            self._trap = self._bury(self._trap)
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        raise self._trap from failure

    def _explain(self, failed: int, failure: BaseException | None) -> Trap:
        error = take_error(failed)
        stopped = self._slot.stopped_by
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
        del slots[self._slot.number]
        return used


def _ticks_until(slot: AgentSlot) -> int:
    """Ticks until the clock must be looked at again."""
    left = slot.deadline - slot.clock()
    return _CHECK_TICKS if left > _CHECK_TICKS * TICK_SECONDS else max(1, math.ceil(left / TICK_SECONDS))


def _check_epoch(_context: int, number: int, delta: int, _kind: int) -> int:
    """Called by the engine while a guest runs and its ticks are used up: stop it, or give it more."""
    slot = slots[number]
    try:
        if slot.interrupted:
            slot.stopped_by = ExitCause.STOPPED
        elif slot.clock() >= slot.deadline:
            slot.stopped_by = ExitCause.DEADLINE
        else:
            c_uint64.from_address(delta).value = _ticks_until(slot)
            return 0
    except BaseException as error:  # noqa: BLE001 - a signal may arrive here: kept for the caller, as in host functions
        slot.failure = error
    return ffi.error_new(b"the host stopped the guest")  # type: ignore[no-any-return]


_on_epoch = ffi.EpochCallback(_check_epoch)
