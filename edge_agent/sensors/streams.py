"""Readings from lines that arrive by themselves: a serial device, a named pipe, a Unix socket.

Owns: `watch_stream`. A device is set to raw bytes at its speed, eight bits without parity. What arrives faster than
`MAX_BYTES_PER_SECOND` waits in the kernel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import termios
import tty
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.sensors.values import LineBuffer
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.clock import Clock
    from edge_agent.sensors.declarations import StreamSource
    from edge_agent.sensors.table import SensorTable

CHUNK = 4096
"""Bytes of one read."""

MAX_BYTES_PER_SECOND = 256 * 1024
"""How fast a stream is read."""

CONNECT_TIMEOUT_S = 5.0

_CONTROL_SPEEDS = (4, 5)
"""Places of the input and output speed in the attributes of a terminal (termios)."""


async def watch_stream(name: str, origin: StreamSource, table: SensorTable, clock: Clock) -> None:
    """Read lines until the stream ends.

    Raises:
        FleetError: UNAVAILABLE when it cannot be opened, and when it ends.
    """
    lines = LineBuffer()
    with _translated(origin.path), _opened(origin) as number:
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            await _connect(number, origin.path)
        while True:
            await _readable(number)
            try:
                data = os.read(number, CHUNK)
            except BlockingIOError:
                continue
            if not data:
                raise FleetError(Code.UNAVAILABLE, f"{origin.path} was closed by its other end")
            before = lines.too_long
            for line in lines.feed(data):
                table.take(name, line)
            if lines.too_long > before:
                table.malformed(name, "a line is too long", lines.too_long - before)
            await clock.sleep(len(data) / MAX_BYTES_PER_SECOND)


@contextmanager
def _opened(origin: StreamSource) -> Iterator[int]:
    mode = Path(origin.path).stat().st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            yield sock.fileno()
        return
    # A pipe that is also open for writing here does not end with each of its writers.
    access = os.O_RDWR if stat.S_ISFIFO(mode) else os.O_RDONLY
    if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
        raise FleetError(Code.UNAVAILABLE, f"{origin.path} is no device, pipe or socket")
    number = os.open(origin.path, access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if os.isatty(number):
            _set_raw(number, origin.baud)
        yield number
    finally:
        os.close(number)


def _set_raw(number: int, baud: int) -> None:
    try:
        tty.setraw(number, termios.TCSANOW)
        attributes = termios.tcgetattr(number)
        for place in _CONTROL_SPEEDS:
            attributes[place] = getattr(termios, f"B{baud}")
        termios.tcsetattr(number, termios.TCSANOW, attributes)
    except termios.error as error:
        raise FleetError(Code.UNAVAILABLE, f"the device cannot be set to {baud} baud") from error


async def _connect(number: int, path: str) -> None:
    with socket.socket(fileno=os.dup(number)) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(sock, path)


async def _readable(number: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def arrived() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(number, arrived)
    try:
        await ready
    finally:
        loop.remove_reader(number)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise FleetError(Code.UNAVAILABLE, f"{path} does not answer") from error
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, f"{path}: {error.strerror}") from error
