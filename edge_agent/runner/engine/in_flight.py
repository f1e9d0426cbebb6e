"""Several calls in flight in one instance: the host's side of the dispatcher.

Owns: `InFlight`, which answers the generated components of one instance (`engine.shim.calls`), `GuestCall` and `Calls`,
as which it takes calls, and the rule when the thread may wait. Used by the instance's thread only.

The engine returns to the host once for every task that has yielded and is resumed. The dispatcher yields after every
turn. When nothing but the dispatcher itself was resumed between two of its turns, and the second had nothing to do,
every task of the guest waits for the host: the thread then sleeps until there is a call, an answer or a deadline.

A call at its deadline is cancelled by itself, which the guest may use to clean up; one that does not end at once for it
ends the agent, as does guest code that runs on and lets nobody else have a turn.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.runner.engine.leaves import Mismatch
from edge_agent.runner.engine.shim.calls import (
    MAX_CALLS,
    NEXT_CANCEL,
    NEXT_END,
    NEXT_NOTHING,
    NEXT_WAKE,
    Concurrent,
    full_name,
)
from edge_agent.runner.engine.slots import QuotaError
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import Later
    from edge_agent.runner.engine.component import ExportPlan
    from edge_agent.runner.engine.slots import AgentSlot
    from edge_agent.runner.engine.traps import Trap
    from fleet.wit_types import WitValue

MAX_WAITS = 1024
"""Answers that the guest of one instance may wait for at a time."""

CANCEL_SECONDS = 0.5
"""Time that a guest has to take a cancellation, and others that a call is at its deadline while they run."""


class GuestCall(Protocol):
    """One call of an exported function. Exactly one of `returned` and `failed` is called, in the instance's thread."""

    @property
    def function(self) -> str:
        """`interface#function`, or the bare name of a function outside interfaces."""
        ...

    @property
    def arguments(self) -> tuple[WitValue, ...]:
        """Values as tabled in `fleet.wit_types`."""
        ...

    @property
    def seconds(self) -> float:
        """Wall-clock limit, from the moment it is taken."""
        ...

    def returned(self, value: WitValue) -> None:
        """Take the result."""
        ...

    def failed(self, error: FleetError | Trap) -> None:
        """Hear that there is none: the guest did not run, it was cancelled at its deadline, or the guest ended."""
        ...


class Calls(Protocol):
    """Where calls come from."""

    def next(self, in_flight: int) -> GuestCall | None:
        """Return a call that is to begin now, None when there is none; so many are in flight."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass: until there may be a call, until an answer is there, or at most so long."""
        ...

    def until(self, end: float) -> None:
        """Hear the monotonic second at which the first of the calls in flight must be over."""
        ...


class _Flight:
    """A call between its start and its end."""

    __slots__ = ("call", "cancelled", "end")

    def __init__(self, call: GuestCall, end: float) -> None:
        self.call = call
        self.end = end
        self.cancelled = False


class InFlight:
    """The calls in flight of one instance.

    Args:
        concurrent: the functions that take part.
        plan: how a function is called, by its name.
        slot: of the instance.
        laters: for each function in `concurrent.imports`, how the host begins to answer and how it answers at once.
    """

    def __init__(
        self,
        concurrent: Concurrent,
        plan: Callable[[str], ExportPlan],
        slot: AgentSlot,
        laters: Mapping[int, tuple[Callable[..., Later | None] | None, Callable[..., WitValue]]],
    ) -> None:
        self._names = [full_name(*name.rpartition("#")[::2]) for name in concurrent.exports]
        self._numbers = {name: number for number, name in enumerate(self._names, 1)}
        self._plan = plan
        self._slot = slot
        self._laters = laters
        self._calls: Calls | None = None
        self._flights: dict[int, _Flight] = {}
        self._waits: dict[int, tuple[int, Later]] = {}
        """What the guest waits for: end of a future that the guest reads to the end that is written, and the answer."""
        self._answers: dict[int, Later] = {}
        self._values: dict[int, WitValue] = {}
        self._steps = 0
        self._stirred = True
        """Whether anything happened since the dispatcher's last turn."""
        self._asleep = False
        self._looked = False
        """Whether nothing was ready or late in this turn."""
        self._first = math.inf
        """When the first of the calls must be over."""
        self.cancelling = False
        """Whether the guest was asked to end a call and has not."""
        self.functions = self._functions(concurrent)
        """What the generated components call, by name."""

    @property
    def names(self) -> Mapping[str, int]:
        """The exports that can be in flight several at a time."""
        return self._numbers

    @property
    def flying(self) -> tuple[GuestCall, ...]:
        """The calls that have begun and not ended, oldest first."""
        return tuple(flight.call for flight in self._flights.values())

    def begin(self, calls: Calls) -> None:
        """Take calls from here until `end`."""
        self._calls = calls
        self._steps, self._stirred, self._asleep, self._looked = 0, True, False, False

    def end(self) -> tuple[GuestCall, ...]:
        """Take no more; returns the calls that nothing will come of."""
        left = self.flying
        self._calls, self._flights, self._first, self.cancelling = None, {}, math.inf, False
        return left

    def stepped(self) -> None:
        """Hear that the engine has returned to the host; wait when the guest has nothing else to do either."""
        self._steps += 1
        if self._asleep and self._calls is not None:
            self._asleep = False
            seconds = min([self._first - self._slot.clock(), *map(_left, self._waits.values())])
            if seconds > 0:
                self._calls.wait(seconds)
            self._arm(self._slot.clock() + CANCEL_SECONDS)

    def _functions(self, concurrent: Concurrent) -> dict[str, Callable[..., WitValue]]:
        functions: dict[str, Callable[..., WitValue]] = {
            "next": self._next,
            "cancelled": self._cancelled,
            "forget": self._forget,
        }
        for number in range(len(concurrent.exports)):
            functions[f"take-n{number}"] = self._take
            functions[f"done-n{number}"] = self._done
        for number in range(len(concurrent.imports)):
            functions[f"start-n{number}"] = self._starter(number)
            functions[f"finish-n{number}"] = self._finish
        return functions

    # --- what the dispatcher calls ---

    def _next(self) -> int:
        if self._calls is None:
            raise RuntimeError("the dispatcher runs without calls")
        now = self._slot.clock()
        found = None if self._looked else self._ready() or self._overdue(now)
        self._looked = found is None
        if found is not None or (found := self._taken(now)) is not None:
            self._stirred = True
            return found
        if not self._flights:
            return NEXT_END
        self._asleep = not self._stirred and self._steps == 1
        self._steps, self._stirred, self._looked = 0, False, False
        self._arm(-math.inf)
        return NEXT_NOTHING

    def _ready(self) -> int | None:
        for reader, (writer, later) in self._waits.items():
            if later.left_ns() == 0:
                del self._waits[reader]
                self._answers[reader] = later
                return NEXT_WAKE | writer << 32
        return None

    def _overdue(self, now: float) -> int | None:
        if self._first > now:
            return None
        for row, flight in self._flights.items():
            if flight.end <= now and not flight.cancelled:
                flight.cancelled = self.cancelling = True
                flight.end = now + CANCEL_SECONDS
                self._find_first()
                self._arm(-math.inf)
                return NEXT_CANCEL | row << 32
        return None

    def _taken(self, now: float) -> int | None:
        if self._calls is None or len(self._flights) >= MAX_CALLS:
            return None
        while (call := self._calls.next(len(self._flights))) is not None:
            plan = self._plan(call.function)
            try:
                self._check(plan, call.arguments)
            except FleetError as error:
                call.failed(error)
                continue
            row = next(row for row in range(MAX_CALLS) if row not in self._flights)
            end = now + call.seconds
            self._flights[row] = _Flight(call, end)
            self._first = min(self._first, end)
            self._arm(-math.inf)
            return self._numbers[call.function] | row << 32
        return None

    def _check(self, plan: ExportPlan, arguments: tuple[WitValue, ...]) -> None:
        """Check arguments before the guest hears of them.

        Raises:
            FleetError: VALUE_INVALID.
        """
        if len(arguments) != len(plan.params):
            raise FleetError(Code.VALUE_INVALID, f"expected {len(plan.params)} arguments, got {len(arguments)}")
        name, buffer = "", bytearray(plan.blank)
        try:
            for at, ((name, lower), value) in enumerate(zip(plan.params, arguments, strict=True)):  # noqa: B007 - names the place
                lower(value, buffer, at * (len(buffer) // len(plan.params)), self._slot)
        except Mismatch as mismatch:
            raise mismatch.as_fleet_error(name) from None
        finally:
            self._slot.arena.reset()

    def _take(self, row: int) -> WitValue:
        return self._flights[row].call.arguments

    def _done(self, row: int, value: WitValue = None) -> None:
        self._landed(row).returned(value)

    def _cancelled(self, row: int) -> None:
        self._landed(row).failed(FleetError(Code.DEADLINE_EXCEEDED, "the call was cancelled at its deadline"))

    def _landed(self, row: int) -> GuestCall:
        flight = self._flights.pop(row)
        self._stirred = True
        if flight.cancelled:
            self.cancelling = False
        if flight.end <= self._first:
            self._find_first()
        self._arm(-math.inf)
        return flight.call

    # --- what the adapters call ---

    def _starter(self, number: int) -> Callable[..., bool]:
        begin, call = self._laters[number]

        def start(*given: Any) -> bool:
            *arguments, ends = given
            reader, writer = ends & 0xFFFF_FFFF, ends >> 32
            self._stirred = True
            later = begin(*arguments) if begin is not None and self._calls is not None else None
            if later is None:
                self._values[reader] = call(*arguments)
                return False
            if len(self._waits) >= MAX_WAITS:
                raise QuotaError(f"the guest waits for {MAX_WAITS} answers, its limit")
            self._waits[reader] = writer, later
            return True

        return start

    def _finish(self, reader: int) -> WitValue:
        self._stirred = True
        if reader in self._values:
            return self._values.pop(reader)
        return self._answers.pop(reader).result()

    def _forget(self, reader: int) -> int:
        """The guest gave up waiting; returns the end that is still to be written, 0 when it was."""
        self._stirred = True
        self._answers.pop(reader, None)
        return self._waits.pop(reader, (0, None))[0]

    # --- time ---

    def _find_first(self) -> None:
        self._first = min((flight.end for flight in self._flights.values()), default=math.inf)

    def _arm(self, least: float) -> None:
        """Set when the engine ends the guest whatever it does.

        Args:
            least: not before this monotonic second.
        """
        end = self._first
        # With others in flight, what runs may not be what is late: let it come to where the dispatcher has its turn.
        alone = len(self._flights) <= 1
        self._slot.deadline = max(least, end if alone else end + CANCEL_SECONDS)
        if self._calls is not None:
            self._calls.until(end)


def listed(calls: Iterable[GuestCall]) -> str:
    """Names of the functions that are called, and how often."""
    counts = Counter(call.function for call in calls)
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in counts.items())


def _left(waiting: tuple[int, Later]) -> float:
    left = waiting[1].left_ns()
    return math.inf if left is None else left / 1e9
