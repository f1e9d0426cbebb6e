"""What calls agents without anybody asking: timers, readings of the host and of the node's sources.

Owns the tasks that fire while an agent runs. A trigger builds the text of an invocation and gives it to `Deliver`;
whether the agent is free to take it is `traffic`'s business. Timers and readings never queue: the next one is fresher,
so what an agent cannot take now is dropped and counted there. Triggers that wait for messages are `edge_agent.bus`'s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import psutil

from fleet.model import AssignedAgent, SensorTrigger, TelemetryTrigger, TimerTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_agent.clock import Clock
    from edge_agent.runtime import SensorState
    from edge_agent.sensors import SensorTable
    from fleet.grants import Authority

SENSOR_HANDLER = "fleet:sensors/handler"

FRESH = ("good", "out-of-range")
"""States of a source whose newest reading is worth a call."""


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
        sensors: the node's sources.
        shortest_period_ms: faster telemetry and sensor triggers are slowed down to this.
    """

    def __init__(
        self, deliver: Deliver, telemetry: Telemetry, sensors: SensorTable, clock: Clock, shortest_period_ms: int
    ) -> None:
        self._deliver = deliver
        self._telemetry = telemetry
        self._sensors = sensors
        self._clock = clock
        self._shortest_ms = shortest_period_ms
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._subscriptions: dict[str, list[Callable[[], None]]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    def arm(self, spec: AssignedAgent, authority: Authority) -> None:
        """Begin to fire for an agent that runs now; what was armed for it before is disarmed.

        A source that its grant does not name for `fleet:sensors/handler` never fires: admission says so before the
        start, and a lease that lapsed takes it away.
        """
        self.disarm(spec.name)
        tasks: list[asyncio.Task[None]] = []
        for trigger in spec.triggers:
            match trigger:
                case TimerTrigger():
                    tasks.append(asyncio.create_task(self._tick(spec.name, trigger)))
                case TelemetryTrigger():
                    tasks.append(asyncio.create_task(self._measure(spec.name, trigger)))
                case SensorTrigger(source) if authority.allows(SENSOR_HANDLER, source=source):
                    if trigger.every_ms is None:
                        end = self._sensors.subscribe(source, partial(self._sense, spec.name, trigger))
                        self._subscriptions.setdefault(spec.name, []).append(end)
                    else:
                        tasks.append(asyncio.create_task(self._sample(spec.name, trigger, trigger.every_ms)))
        self._tasks[spec.name] = tasks

    def disarm(self, agent: str) -> None:
        """Stop firing for an agent."""
        for task in self._tasks.pop(agent, ()):
            task.cancel()
        for end in self._subscriptions.pop(agent, ()):
            end()

    def close(self) -> None:
        """Stop firing."""
        for agent in list(self._tasks):
            self.disarm(agent)
        for task in self._deliveries:
            task.cancel()

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

    async def _sample(self, agent: str, trigger: SensorTrigger, every_ms: int) -> None:
        while True:
            await self._clock.sleep(max(every_ms, self._shortest_ms) / 1000)
            for state in self._sensors.states(trigger.source):
                if state.state in FRESH:
                    self._sense(agent, trigger, state)

    def _sense(self, agent: str, trigger: SensorTrigger, state: SensorState) -> None:
        whole = trigger.function.partition("@")[0].partition("#")[0] == SENSOR_HANDLER
        record = _whole_record(state) if whole else _short_record(state)
        self._send(agent, [f"{trigger.function}({record})"])

    def _send(self, agent: str, invocations: list[str]) -> None:
        """Deliver one after another without holding up the next tick."""
        task = asyncio.create_task(self._deliver_all(agent, invocations))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver_all(self, agent: str, invocations: list[str]) -> None:
        for invocation in invocations:
            await self._deliver(agent, invocation, queued=False)


def _whole_record(state: SensorState) -> str:
    """The reading of `fleet:sensors`, in WAVE."""
    unit = f'some("{state.unit}")' if state.unit else "none"
    return (
        f'{{source: "{state.source}", value: {state.value}, unit: {unit}, timestamp-ns: {state.taken_ns}, '
        f"quality: {state.state}}}"
    )


def _short_record(state: SensorState) -> str:
    """The record that telemetry triggers give, in WAVE."""
    seconds = state.taken_ns // 1_000_000_000
    return f'{{source: "{state.source}", value: {float(state.value):.6g}, timestamp: {seconds}}}'
