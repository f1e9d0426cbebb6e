"""What waits in an agent's queue.

Owns: the protocol `Job`, and `AnsweredJob`, which the supervisor asked for and waits for: a call, or a message to
deliver. Work that comes from elsewhere (requests of other programs, calls of other agents, changes to buckets) is
another kind of job, in the module it comes from. When a job has its turn is `edge_agent.runner.agent_thread`'s to
decide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.runner.engine import Trap
from edge_agent.runner.messages import CallDone, CallFailed, Fault
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Instance
    from edge_agent.runner.messages import CallAgent, Counters, DeliverMessage
    from edge_agent.runner.outbox import Outbox


class Job(Protocol):
    """One piece of work for an agent. Exactly one of `run` and `refuse` is called, once."""

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


@dataclass(frozen=True, slots=True)
class AnsweredJob:
    """A job that the supervisor waits for: it is told the text of the result, or the fault.

    Attributes:
        message: what it asked.
        work: calls the guest within so many seconds and returns the text of the result.
        outbox: takes the answer.
        counters: the agent's, as they go with the answer.
        max_output: bytes of the result's text.
    """

    message: CallAgent | DeliverMessage
    work: Callable[[Instance, float], str]
    outbox: Outbox
    counters: Callable[[], Counters]
    max_output: int

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says."""
        return self.message.deadline_ms

    def run(self, instance: Instance, seconds: float) -> None:
        """As `Job` says."""
        began = time.monotonic()
        try:
            output = self.work(instance, seconds)
            _check_output(output, self.max_output)
            duration_us = int((time.monotonic() - began) * 1_000_000)
            self.outbox.post(CallDone(self.message.call, self.message.agent, output, duration_us, self.counters()))
        except Trap as trap:
            self.refuse(Fault.of(trap))
            raise
        except FleetError as error:
            self.refuse(Fault.of(error))

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
