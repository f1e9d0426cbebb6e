"""What waits in an agent's queue.

Owns: the protocol `Job`, and `AnsweredJob`, which the supervisor asked for and waits for: a call, or a message to
deliver. Work that comes from elsewhere (requests of other programs, calls of other agents, changes to buckets) is
another kind of job, in the module it comes from. When a job has its turn is `edge_agent.runner.agent_thread`'s to
decide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_agent.runner.engine import Trap
from edge_agent.runner.messages import CallDone, CallFailed, Fault
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Instance
    from edge_agent.runner.messages import CallAgent, Counters, DeliverMessage
    from edge_agent.runner.outbox import Outbox
    from fleet.wit_types import WitValue


class PreparedCall(Protocol):
    """One call of the guest that answers a job by itself. Exactly one of `returned` and `failed` is called, once."""

    @property
    def function(self) -> str:
        """Full name of the exported function."""
        ...

    @property
    def arguments(self) -> tuple[WitValue, ...]:
        """Values as tabled in `fleet.wit_types`."""
        ...

    def returned(self, value: WitValue) -> None:
        """Answer with what the guest returned."""
        ...

    def failed(self, error: FleetError) -> None:
        """Answer that there is no result."""
        ...


class Job(Protocol):
    """One piece of work for an agent. Exactly one of `run`, `refuse` and a call from `prepare` answers it, once."""

    @property
    def deadline_ms(self) -> int | None:
        """Wall-clock time that it may take once it has its turn; the smaller of it and the grant's deadline holds."""
        ...

    def run(self, instance: Instance, seconds: float) -> None:
        """Call the guest and answer whoever asked; in the agent's thread.

        Args:
            instance: the agent; only to be used before this returns.
            seconds: time that the guest has, for `Instance.call`.

        Raises:
            Trap: the guest ended, after whoever asked has been told. Every other fault is an answer: one that is
                raised ends the agent as a host error.
        """
        ...

    def refuse(self, fault: Fault) -> None:
        """Answer that the guest does not run for this job: it is busy, stopping or has ended. In any thread."""
        ...

    def prepare(self, instance: Instance) -> PreparedCall | None:  # noqa: ARG002 - for those that can
        """Return the call that makes up this job, where others can be in flight beside it; None for `run`."""
        return None


class Reading(Protocol):
    """Reads what a job asks for."""

    def __call__(self, instance: Instance) -> tuple[str, tuple[WitValue, ...], Callable[[WitValue], str]]:
        """Return the function, its arguments, and what makes a text of its result.

        Raises:
            FleetError: it cannot be called so.
        """
        ...


@dataclass(slots=True)
class _AnsweredCall:
    """The one call of an answered job."""

    job: AnsweredJob
    function: str
    arguments: tuple[WitValue, ...]
    printed: Callable[[WitValue], str]
    began: float = field(default_factory=time.monotonic)

    def returned(self, value: WitValue) -> None:
        """As `PreparedCall` says."""
        try:
            self.job.answer(self.printed(value), self.began)
        except FleetError as error:
            self.failed(error)

    def failed(self, error: FleetError) -> None:
        """As `PreparedCall` says."""
        self.job.refuse(Fault.of(error))


@dataclass(frozen=True, slots=True)
class AnsweredJob(Job):
    """A job that the supervisor waits for: it is told the text of the result, or the fault.

    Attributes:
        message: what it asked.
        work: calls the guest within so many seconds and returns the text of the result.
        outbox: takes the answer.
        counters: the agent's, as they go with the answer.
        max_output: bytes of the result's text.
        reading: reads what it asks for, where it is one call of the guest.
    """

    message: CallAgent | DeliverMessage
    work: Callable[[Instance, float], str]
    outbox: Outbox
    counters: Callable[[], Counters]
    max_output: int
    reading: Reading | None = None

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says."""
        return self.message.deadline_ms

    def run(self, instance: Instance, seconds: float) -> None:
        """As `Job` says."""
        began = time.monotonic()
        try:
            self.answer(self.work(instance, seconds), began)
        except Trap as trap:
            self.refuse(Fault.of(trap))
            raise
        except FleetError as error:
            self.refuse(Fault.of(error))

    def prepare(self, instance: Instance) -> PreparedCall | None:
        """As `Job` says; what cannot be read is refused by `run`."""
        if self.reading is None or not instance.concurrent:
            return None
        try:
            function, arguments, printed = self.reading(instance)
        except FleetError:
            return None
        return _AnsweredCall(self, function, arguments, printed) if function in instance.concurrent else None

    def answer(self, output: str, began: float) -> None:
        """Send the text of the result.

        Raises:
            FleetError: LIMIT_EXCEEDED.
        """
        _check_output(output, self.max_output)
        duration_us = int((time.monotonic() - began) * 1_000_000)
        self.outbox.post(CallDone(self.message.call, self.message.agent, output, duration_us, self.counters()))

    def refuse(self, fault: Fault) -> None:
        """As `Job` says."""
        self.outbox.post(CallFailed(self.message.call, self.message.agent, fault, self.counters()))


def _check_output(output: str, max_output: int) -> None:
    """Check that a result may leave the runner.

    Raises:
        FleetError: LIMIT_EXCEEDED. The guest has run, and what it did stays done.
    """
    size = len(output.encode())
    if size > max_output:
        message = f"the result has {size} bytes of text, the grant allows {max_output}"
        raise FleetError(Code.LIMIT_EXCEEDED, message, place="limits.output", limit=max_output)
