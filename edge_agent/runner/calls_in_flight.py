"""The calls that one instance has in flight: taken from its agent's queue while there is room, answered one by one.

Owns: `CallsInFlight`, which the engine asks for calls (`engine.Calls`). A job that is not one call of a function which
can have several in flight waits until those have ended; so does every job behind it. Used by the instance's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edge_agent.runner.engine import Trap

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Instance
    from edge_agent.runner.jobs import Job, PreparedCall
    from fleet.errors import FleetError
    from fleet.wit_types import WitValue


class Turns(Protocol):
    """What the instance's thread does for its calls."""

    def beside(self) -> Job | None:
        """Take the next job, while others run; None when there is none to be taken."""
        ...

    def give_back(self, job: Job) -> None:
        """Let a job wait again, before all others."""
        ...

    def served(self, job: Job) -> None:
        """Hear that a job has ended and the instance lives."""
        ...

    def seconds_for(self, job: Job) -> float:
        """Return the time that a job may take."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep until something may have changed, at most so long."""
        ...

    def until(self, end: float) -> None:
        """Hear the monotonic second at which the first of the calls must be over."""
        ...


class _Call:
    """One job, as the engine sees it."""

    __slots__ = ("_ended", "_prepared", "arguments", "function", "seconds")

    def __init__(self, prepared: PreparedCall, seconds: float, ended: Callable[[], None]) -> None:
        self._prepared = prepared
        self._ended = ended
        self.function = prepared.function
        self.arguments = prepared.arguments
        self.seconds = seconds

    def returned(self, value: WitValue) -> None:
        """Answer whoever asked."""
        self._prepared.returned(value)
        self._ended()

    def failed(self, error: FleetError | Trap) -> None:
        """Answer whoever asked; a trap ends everything else as well, and is told to the agent elsewhere."""
        self._prepared.failed(error)
        if not isinstance(error, Trap):
            self._ended()


class CallsInFlight:
    """The calls of one instance, from a first one until none is left.

    Args:
        first: prepared by `prepared`.
        instance: what is called.
        limit: how many may be in flight.
        turns: gives the others.
    """

    def __init__(self, first: tuple[Job, PreparedCall], instance: Instance, limit: int, turns: Turns) -> None:
        self._first: tuple[Job, PreparedCall] | None = first
        self._instance = instance
        self._limit = limit
        self._turns = turns
        self._closed = False

    def next(self, in_flight: int) -> _Call | None:
        """As `engine.Calls` says."""
        if self._first is not None:
            (job, prepared), self._first = self._first, None
            return self._call(job, prepared)
        if self._closed or in_flight >= self._limit:
            return None
        if (job_beside := self._turns.beside()) is None:
            return None
        found = job_beside.prepare(self._instance)
        if found is None:
            self._turns.give_back(job_beside)
            self._closed = True
            return None
        return self._call(job_beside, found)

    def wait(self, seconds: float) -> None:
        """As `engine.Calls` says."""
        self._turns.wait(seconds)

    def until(self, end: float) -> None:
        """As `engine.Calls` says."""
        self._turns.until(end)

    def _call(self, job: Job, prepared: PreparedCall) -> _Call:
        return _Call(prepared, self._turns.seconds_for(job), lambda: self._turns.served(job))
