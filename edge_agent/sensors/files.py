"""Readings from regular files: what the kernel shows of a device, or what another program writes down.

Owns: `watch_file`. At most `MAX_PAYLOAD` bytes are read at a time, from the end for a file of lines.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

from edge_agent.sensors.values import MAX_PAYLOAD
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.clock import Clock
    from edge_agent.sensors.declarations import FileSource
    from edge_agent.sensors.table import SensorTable


async def watch_file(name: str, origin: FileSource, table: SensorTable, clock: Clock) -> None:
    """Read again and again; a file of lines gives a reading when its newest complete line has changed place.

    Raises:
        FleetError: UNAVAILABLE when the file cannot be read.
    """
    seen: tuple[int, int, int] | None = None
    while True:
        # A file system that does not answer must not hold up the supervisor.
        identity, content = await asyncio.to_thread(_read, origin.path, from_end=origin.last_line)
        if not origin.last_line:
            table.take(name, content)
        elif identity != seen:
            seen = identity
            complete = content.rpartition(b"\n")[0]
            if complete:
                table.take(name, complete.rpartition(b"\n")[2])
        await clock.sleep(origin.every_ms / 1000)


def _read(path: str, *, from_end: bool) -> tuple[tuple[int, int, int], bytes]:
    """Identity (file, size, time of change) and content of a regular file."""
    try:
        # Not blocking: a named pipe without a writer would hold the thread for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            facts = os.fstat(number)
            if not stat.S_ISREG(facts.st_mode):
                raise FleetError(Code.UNAVAILABLE, f"{path} is no regular file; a stream is declared as `stream`")
            if from_end:
                file.seek(max(0, facts.st_size - MAX_PAYLOAD))
            # One byte more than is looked at, so that a longer content is seen to be.
            content = file.read(MAX_PAYLOAD + (0 if from_end else 1))
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, f"{path}: {error.strerror}") from error
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns), content
