"""What reaches agents while they run: calls from elsewhere, triggers and local events.

Owns: `Traffic`, the triggers that are armed, and what is kept about an agent's invocations (what was dropped, the last
output, the last fault). Whether an agent can be called is the supervisor's word, given by `arm` and `disarm`. Never
starts or ends an agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.triggers import Telemetry, Triggers
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.clock import Clock
    from edge_agent.runtime import Runtime
    from fleet.model import AssignedAgent

MAX_OUTPUT = 512
"""Characters of an agent's last output that are reported."""

Report = Callable[[str, str, str], None]
"""Tells the operator: agent, kind of event, message."""


@dataclass(slots=True)
class _Invocations:
    """What is kept about the invocations of one agent."""

    in_flight: bool = False
    dropped: int = 0
    last_output: str = ""
    last_fault: str = ""


class Traffic:
    """Takes invocations to the agents of a node.

    Args:
        runtime: runs the agents.
        telemetry: readings of the host.
        clock: time.
        shortest_period_ms: shortest period of a telemetry trigger.
        report: tells the operator.
    """

    def __init__(
        self, runtime: Runtime, telemetry: Telemetry, clock: Clock, shortest_period_ms: int, report: Report
    ) -> None:
        self._runtime = runtime
        self._report = report
        self._triggers = Triggers(self.deliver, telemetry, clock, shortest_period_ms)
        self._agents: dict[str, _Invocations] = {}

    def arm(self, spec: AssignedAgent) -> None:
        """Begin to fire the triggers of an agent that runs now; what was armed for it before is disarmed."""
        self._agents.setdefault(spec.name, _Invocations())
        self._triggers.arm(spec)

    def disarm(self, agent: str) -> None:
        """Stop firing for an agent."""
        self._triggers.disarm(agent)

    def forget(self, agent: str) -> None:
        """Drop what is kept about an agent that is gone."""
        self._triggers.disarm(agent)
        self._agents.pop(agent, None)

    def close(self) -> None:
        """Stop firing."""
        self._triggers.close()

    async def call(self, agent: str, invocation: str, deadline_ms: int | None) -> str:
        """Call an exported function of an agent that runs; returns its result as WAVE text.

        Raises:
            FleetError: what `Runtime.call` raises.
        """
        result = await self._runtime.call(agent, invocation, deadline_ms)
        if (kept := self._agents.get(agent)) is not None:
            kept.last_output = result.output[:MAX_OUTPUT]
        return result.output

    async def deliver(self, agent: str, invocation: str, *, queued: bool) -> bool:
        """Call an agent for a trigger; return whether it took the call.

        A call that is not `queued` is made only when no other of its kind is in flight; one that is waits its turn in
        the agent's queue, which the grant bounds. What is not taken is dropped and counted. A fault is told once, until
        another one or a success follows; a trap is told by the exit that it causes.
        """
        kept = self._agents.get(agent)
        if kept is None:
            return False
        if not queued:
            if kept.in_flight:
                kept.dropped += 1
                return False
            kept.in_flight = True
        try:
            await self.call(agent, invocation, None)
        except FleetError as error:
            if error.code is Code.AGENT_BUSY:
                kept.dropped += 1
                return False
            if error.code is not Code.AGENT_TRAPPED and str(error) != kept.last_fault:
                kept.last_fault = str(error)
                self._report(agent, "agent:trigger:failed", f"{invocation.partition('(')[0]}: {error.public}")
            return error.code is Code.AGENT_TRAPPED
        else:
            kept.last_fault = ""
            return True
        finally:
            if not queued:
                kept.in_flight = False

    async def publish(self, topic: str, payloads: Iterable[str]) -> int:
        """Hand payloads (WAVE text) to the agents that listen to a topic, in order; return how many were taken."""
        return sum([await self._triggers.publish(topic, payload) for payload in payloads])

    def dropped(self, agent: str) -> int:
        """How many invocations of triggers an agent was too busy for."""
        kept = self._agents.get(agent)
        return 0 if kept is None else kept.dropped

    def last_output(self, agent: str) -> str:
        """WAVE text of an agent's last result, cut to `MAX_OUTPUT` characters."""
        kept = self._agents.get(agent)
        return "" if kept is None else kept.last_output
