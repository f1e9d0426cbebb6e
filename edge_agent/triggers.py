"""What calls agents without anybody asking: timers, local events and readings of the host.

Owns the tasks that fire while an agent runs, and the node's local events: a payload goes to every agent that listens
to its topic. A trigger builds the text of an invocation and gives it to `Deliver`; whether the agent is free to take
it is the supervisor's business. Timers and readings never queue: the next one is fresher, so what an agent cannot take
now is dropped and counted there. An event is sent once: it waits in the agent's own queue, as a call does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psutil

from fleet.model import AssignedAgent, EventTrigger, TelemetryTrigger, TimerTrigger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.clock import Clock


class Deliver(Protocol):
    """Takes an invocation to an agent."""

    async def __call__(self, agent: str, invocation: str, *, queued: bool) -> bool:
        """Call an agent; unless `queued`, only when no other trigger's call is in flight. Return whether it took it."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of the host: per cent of processor or memory in use, or degrees Celsius."""

    source: str
    value: float


class Telemetry(Protocol):
    """Where readings of the host come from."""

    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        """Return one reading for each source that the host has."""
        ...


class HostTelemetry:
    """Readings of this machine.

    `cpu` is the share of all processors since the last reading; `temperature` is the hottest sensor.
    """

    def __init__(self) -> None:
        psutil.cpu_percent(None)  # The first call only starts the measurement.

    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        """Return one reading for each source that the host has."""
        readings = ((source, self._value(source)) for source in sources)
        return tuple(Reading(source, value) for source, value in readings if value is not None)

    def _value(self, source: str) -> float | None:
        if source == "cpu":
            return psutil.cpu_percent(None)
        if source == "memory":
            return psutil.virtual_memory().percent
        if source == "temperature":
            # Only Linux and FreeBSD have this function, and a virtual machine has no sensor.
            sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
            return max((sensor.current for group in sensors.values() for sensor in group), default=None)
        return None


class Triggers:
    """Fires the triggers of every running agent.

    Args:
        deliver: takes an invocation to an agent.
        telemetry: readings of the host.
        clock: time.
        shortest_period_ms: faster telemetry triggers are slowed down to this.
    """

    def __init__(self, deliver: Deliver, telemetry: Telemetry, clock: Clock, shortest_period_ms: int) -> None:
        self._deliver = deliver
        self._telemetry = telemetry
        self._clock = clock
        self._shortest_ms = shortest_period_ms
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._topics: dict[str, dict[str, list[str]]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    def arm(self, spec: AssignedAgent) -> None:
        """Begin to fire for an agent that runs now; what was armed for it before is disarmed."""
        self.disarm(spec.name)
        tasks: list[asyncio.Task[None]] = []
        for trigger in spec.triggers:
            match trigger:
                case TimerTrigger():
                    tasks.append(asyncio.create_task(self._tick(spec.name, trigger)))
                case TelemetryTrigger():
                    tasks.append(asyncio.create_task(self._measure(spec.name, trigger)))
                case EventTrigger():
                    self._topics.setdefault(trigger.topic, {}).setdefault(spec.name, []).append(trigger.function)
        self._tasks[spec.name] = tasks

    def disarm(self, agent: str) -> None:
        """Stop firing for an agent."""
        for task in self._tasks.pop(agent, ()):
            task.cancel()
        for topic in [topic for topic, listeners in self._topics.items() if listeners.pop(agent, None)]:
            if not self._topics[topic]:
                del self._topics[topic]

    def close(self) -> None:
        """Stop firing."""
        for agent in list(self._tasks):
            self.disarm(agent)
        for task in self._deliveries:
            task.cancel()

    async def publish(self, topic: str, payload: str) -> int:
        """Hand a payload (WAVE text) to every listener of a topic; return how many took it, after their calls."""
        listeners = [
            (agent, function) for agent, functions in self._topics.get(topic, {}).items() for function in functions
        ]
        calls = [self._deliver(agent, f"{function}({payload})", queued=True) for agent, function in listeners]
        return sum(await asyncio.gather(*calls))

    async def _tick(self, agent: str, trigger: TimerTrigger) -> None:
        while True:
            await self._clock.sleep(trigger.every_ms / 1000)
            self._send(agent, [f"{trigger.function}({trigger.arguments})"])

    async def _measure(self, agent: str, trigger: TelemetryTrigger) -> None:
        while True:
            await self._clock.sleep(max(trigger.every_ms, self._shortest_ms) / 1000)
            seconds = int(self._clock.now().timestamp())
            records = [
                f'{{source: "{reading.source}", value: {reading.value:.6g}, timestamp: {seconds}}}'
                for reading in self._telemetry.read(trigger.sources)
            ]
            self._send(agent, [f"{trigger.function}({record})" for record in records])

    def _send(self, agent: str, invocations: list[str]) -> None:
        """Deliver one after another without holding up the next tick."""
        task = asyncio.create_task(self._deliver_all(agent, invocations))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver_all(self, agent: str, invocations: list[str]) -> None:
        for invocation in invocations:
            await self._deliver(agent, invocation, queued=False)
