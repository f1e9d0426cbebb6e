"""A source of a node's sensors that is read for as long as a block runs, and what is known of it."""

import asyncio
import random
from contextlib import asynccontextmanager, suppress

from edge_agent.clock import SystemClock
from edge_agent.sensors.declarations import FileSource, HostSource, MqttSource, Source, StreamSource
from edge_agent.sensors.run import Sensors
from edge_agent.sensors.table import SensorTable
from tests.fakes.wait import until

KINDS = {HostSource: "host", FileSource: "file", StreamSource: "stream", MqttSource: "mqtt"}


class CountingClock(SystemClock):
    """The system's time; counts how often somebody waited for it."""

    def __init__(self):
        self.sleeps = 0

    async def sleep(self, seconds):
        self.sleeps += 1
        await super().sleep(seconds)


class Bench:
    """One source that is read, and what is known of it."""

    def __init__(self, origin, **parts):
        kind = KINDS[type(origin)]
        self.told = []
        self.source = Source("s", kind, origin, **{"rate": 1000, **parts})
        self.clock = CountingClock()
        self.table = SensorTable([self.source], self.clock, lambda *event: self.told.append(event))
        self.sensors = Sensors([self.source], self.table, self.clock, random.Random(1))

    @property
    def state(self):
        return self.table.states("s")[0]

    async def value(self, text):
        await until(lambda: self.state.value == text and self.state.state == "good", f"the value {text}")


@asynccontextmanager
async def reading(origin, **parts):
    bench = Bench(origin, **parts)
    task = asyncio.create_task(bench.sensors.run())
    try:
        yield bench
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
