"""Readings of the machine itself.

Owns: `watch_host`. Everything comes from psutil; a measure that the machine does not have is a fault of the source.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import psutil

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.clock import Clock
    from edge_agent.sensors.declarations import HostSource
    from edge_agent.sensors.table import SensorTable


async def watch_host(name: str, origin: HostSource, table: SensorTable, clock: Clock) -> None:
    """Measure again and again; the first measure of a rate comes after one period.

    Raises:
        FleetError: UNAVAILABLE when the machine cannot tell.
    """
    psutil.cpu_percent(None)  # the first call only starts the measurement
    before = _traffic(origin.measure)
    while True:
        await clock.sleep(origin.every_ms / 1000)
        if origin.measure in ("received", "sent"):
            total = _traffic(origin.measure)
            table.put(name, max(0, total - before) * 1000 / origin.every_ms)
            before = total
        elif origin.measure == "disk":
            # A file system that does not answer must not hold up the supervisor.
            table.put(name, await asyncio.to_thread(_disk, origin.path))
        else:
            table.put(name, _measure(origin.measure))


def _measure(measure: str) -> float:
    if measure == "cpu":
        return psutil.cpu_percent(None)
    if measure == "memory":
        return psutil.virtual_memory().percent
    if measure == "load":
        return os.getloadavg()[0]
    # Only Linux and FreeBSD have this function, and a virtual machine has no sensor.
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    hottest = max((sensor.current for group in sensors.values() for sensor in group), default=None)
    if hottest is None:
        raise FleetError(Code.UNAVAILABLE, "the machine has no sensor of its temperature")
    return hottest


def _disk(path: str) -> float:
    try:
        return psutil.disk_usage(path).percent
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, f"{path}: {error.strerror}") from error


def _traffic(measure: str) -> int:
    if measure not in ("received", "sent"):
        return 0
    counters = psutil.net_io_counters()
    if counters is None:
        raise FleetError(Code.UNAVAILABLE, "the machine has no network interface")
    return counters.bytes_recv if measure == "received" else counters.bytes_sent
