"""What reaches agents while they run: calls from elsewhere, triggers, messages of the node's bus, answers.

Owns: `Traffic`, the triggers that are armed, the bus, and what is kept about an agent's invocations (what was dropped,
the last output, the last fault). Whether an agent can be called is the supervisor's word, given by `arm` and `disarm`.
Never starts or ends an agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.bus import Bus
from edge_agent.runtime import AgentAskedSensors
from edge_agent.triggers import Telemetry, Triggers
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.clock import Clock
    from edge_agent.runtime import Answer, BusMessage, Runtime, Said
    from edge_agent.sensors import SensorTable
    from fleet.grants import Authority
    from fleet.model import AssignedAgent

MAX_OUTPUT = 512
"""Characters of an agent's last output that are reported."""

Report = Callable[[str, str, str], None]
"""Tells the operator: agent, kind of event, message."""


SENSOR_READER = "fleet:sensors/reader"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where triggers get their values from.

    Attributes:
        telemetry: readings of the host.
        sensors: the node's sources.
        shortest_period_ms: faster triggers are slowed down to this.
    """

    telemetry: Telemetry
    sensors: SensorTable
    shortest_period_ms: int = 100


@dataclass(slots=True)
class _Invocations:
    """What is kept about the invocations of one agent."""

    authority: Authority
    in_flight: bool = False
    dropped: int = 0
    last_output: str = ""
    last_fault: str = ""
    last_drop: str = ""


class Traffic:
    """Takes invocations to the agents of a node.

    Args:
        runtime: runs the agents.
        inputs: where triggers get their values from.
        clock: time.
        report: tells the operator.
    """

    def __init__(self, runtime: Runtime, inputs: Inputs, clock: Clock, report: Report) -> None:
        self._runtime = runtime
        self._report = report
        self._sensors = inputs.sensors
        self._triggers = Triggers(self.deliver, inputs.telemetry, inputs.sensors, clock, inputs.shortest_period_ms)
        self._bus = Bus(self, clock)
        self._agents: dict[str, _Invocations] = {}

    def arm(self, spec: AssignedAgent, authority: Authority) -> None:
        """Begin to fire the triggers of an agent that runs now; what was armed for it before is disarmed."""
        self._agents.setdefault(spec.name, _Invocations(authority)).authority = authority
        self._triggers.arm(spec, authority)
        self._bus.open(spec.name, authority, spec.triggers)

    def disarm(self, agent: str) -> None:
        """Stop firing for an agent."""
        self._triggers.disarm(agent)
        self._bus.leave(agent)

    def forget(self, agent: str) -> None:
        """Drop what is kept about an agent that is gone."""
        self.disarm(agent)
        self._agents.pop(agent, None)

    def close(self) -> None:
        """Stop firing."""
        self._triggers.close()
        self._bus.close()

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
            if error.code is not Code.AGENT_TRAPPED:
                self._fail(agent, kept, "agent:trigger:failed", f"{invocation.partition('(')[0]}: {error.public}")
            return error.code is Code.AGENT_TRAPPED
        else:
            kept.last_fault = kept.last_drop = ""
            return True
        finally:
            if not queued:
                kept.in_flight = False

    async def hand_over(self, agent: str, message: BusMessage) -> bool:
        """Call an agent's handler of messages; return whether it took the message. Faults are told as `deliver` does.

        An error that the handler returns is a fault too: the message was taken, and is not sent again.
        """
        kept = self._agents.get(agent)
        if kept is None:
            return False
        try:
            result = await self._runtime.deliver(agent, message)
        except FleetError as error:
            if error.code is Code.AGENT_BUSY:
                self.drop(agent, error.public)
                return False
            if error.code is not Code.AGENT_TRAPPED:
                self._fail(agent, kept, "agent:message:failed", f"{message.topic}: {error.public}")
            return error.code is Code.AGENT_TRAPPED
        kept.last_output = result.output[:MAX_OUTPUT]
        if result.output.startswith("err"):
            self._fail(agent, kept, "agent:message:failed", f"{message.topic}: {result.output[:MAX_OUTPUT]}")
        else:
            kept.last_fault = kept.last_drop = ""
        return True

    def drop(self, agent: str, what: str) -> None:
        """Count something that an agent was not given or may not send; told once, until a message arrives again."""
        kept = self._agents.get(agent)
        if kept is None:
            return
        kept.dropped += 1
        if not kept.last_drop:
            kept.last_drop = what
            self._report(agent, "agent:message:dropped", what)

    def answer(self, agent: str, request: int, answer: Answer) -> None:
        """Hand an agent what it waits for inside a call."""
        self._runtime.answer(agent, request, answer)

    def hear(self, event: Said) -> None:
        """Take what an agent has to say: a message for the bus, or a question about the node's sources."""
        if not isinstance(event, AgentAskedSensors):
            self._bus.hear(event)
        elif (kept := self._agents.get(event.agent)) is not None:
            states = self._sensors.states(event.source)
            # Asked again here: a runner may be in the hands of its guest.
            known = tuple(state for state in states if kept.authority.allows(SENSOR_READER, source=state.source))
            self._runtime.answer(event.agent, event.request, known)

    def _fail(self, agent: str, kept: _Invocations, kind: str, fault: str) -> None:
        if fault != kept.last_fault:
            kept.last_fault = fault
            self._report(agent, kind, fault)

    async def publish(self, topic: str, payloads: Iterable[str]) -> int:
        """Hand payloads (WAVE text) to the agents that listen to a topic, in order; return how many were taken."""
        return sum([await self._bus.send(topic, payload) for payload in payloads])

    def dropped(self, agent: str) -> int:
        """How many invocations of triggers an agent was too busy for."""
        kept = self._agents.get(agent)
        return 0 if kept is None else kept.dropped

    def last_output(self, agent: str) -> str:
        """WAVE text of an agent's last result, cut to `MAX_OUTPUT` characters."""
        kept = self._agents.get(agent)
        return "" if kept is None else kept.last_output
