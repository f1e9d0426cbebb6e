"""Keeps every source of a node reading.

Owns: `Sensors`: one task for each source, and the back-off after a fault. A fault of one source concerns no other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge_agent.sensors.declarations import FileSource, HostSource, MqttSource, StreamSource
from edge_agent.sensors.files import watch_file
from edge_agent.sensors.host import watch_host
from edge_agent.sensors.streams import watch_stream
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from edge_agent.clock import Clock
    from edge_agent.sensors.declarations import Source
    from edge_agent.sensors.table import SensorTable

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0


class Sensors:
    """Reads sources into a table.

    Args:
        sources: what the operator declared.
        table: takes what they give.
        clock: time.
        random: spreads the moments at which nodes come back to one broker.
    """

    def __init__(self, sources: Iterable[Source], table: SensorTable, clock: Clock, random: Random) -> None:
        self._sources = tuple(sources)
        self._table = table
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._keep_reading(source))

    async def _keep_reading(self, source: Source) -> None:
        failures = 0
        while True:
            before = self._table.states(source.name)[0].taken_ns
            try:
                await self._read(source)
            except FleetError as error:
                self._table.fail(source.name, error.private)
            gave = self._table.states(source.name)[0].taken_ns > before
            failures = 0 if gave else failures + 1
            longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures, 10))
            await self._clock.sleep(longest * (0.5 + self._random.random() / 2))

    async def _read(self, source: Source) -> None:
        match source.origin:
            case HostSource():
                await watch_host(source.name, source.origin, self._table, self._clock)
            case FileSource():
                await watch_file(source.name, source.origin, self._table, self._clock)
            case StreamSource():
                await watch_stream(source.name, source.origin, self._table, self._clock)
            case MqttSource():
                from edge_agent.sensors.broker import watch_topic  # noqa: PLC0415 - only nodes with a broker load it

                await watch_topic(source.name, source.origin, self._table)
