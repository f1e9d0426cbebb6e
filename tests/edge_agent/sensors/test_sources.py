"""Each kind of source, read from what the system really has: files, pipes, terminals, sockets, the machine."""

import asyncio
import os
import pty
import socket
import termios
import time
from contextlib import suppress

import psutil
import pytest

from edge_agent.sensors import run
from edge_agent.sensors.declarations import MEASURES, FileSource, HostSource, StreamSource
from edge_agent.sensors.streams import MAX_BYTES_PER_SECOND
from tests.fakes.sensed import reading
from tests.fakes.wait import until

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(run, "LONGEST_DELAY_S", 0.05)


@pytest.mark.parametrize("measure", MEASURES)
async def test_the_machine_measures_itself_or_says_that_it_cannot(measure):
    async with reading(HostSource(measure, 20, "/")) as bench:
        await until(lambda: bench.state.value or bench.state.fault, "a measure")
        if measure != "temperature":
            assert float(bench.state.value) >= 0


async def test_a_machine_without_a_sensor_of_temperature(monkeypatch):
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    async with reading(HostSource("temperature", 20, "/")) as bench:
        await until(lambda: bench.state.fault, "a fault")
        assert "temperature" in bench.state.fault


async def test_a_file_is_read_again_and_again(tmp_path):
    path = tmp_path / "temp"
    async with reading(FileSource(str(path), 20, last_line=False)) as bench:
        await until(lambda: "No such file" in bench.state.fault, "a fault")
        path.write_text("20\n")
        await bench.value("20.0")
        path.write_text("21\n")
        await bench.value("21.0")
        path.write_text("junk")
        await until(lambda: bench.table.counts("s")[0], "malformed input")
    assert [kind for kind, _ in bench.told] == [
        "node:sensor:unavailable",
        "node:sensor:recovered",
        "node:sensor:malformed",
    ]


async def test_a_file_of_lines_gives_its_newest_complete_line_once(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("1\n2\n3")
    async with reading(FileSource(str(path), 20, last_line=True)) as bench:
        await bench.value("2.0")
        heard, looks = [], bench.clock.sleeps
        bench.table.subscribe("s", heard.append)
        await until(lambda: bench.clock.sleeps > looks + 2, "more looks at the file")
        assert heard == [], "the same line is no new reading"
        with path.open("a") as file:
            file.write("\n")
        await bench.value("3.0")


async def test_a_large_file_is_read_from_its_end(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"1\n" * 500_000 + b"7\n")
    async with reading(FileSource(str(path), 20, last_line=True)) as bench:
        await bench.value("7.0")
    async with reading(FileSource(str(path), 20, last_line=False)) as bench:
        await until(lambda: bench.table.counts("s")[0], "too much for one value")


async def test_what_is_no_file_or_no_stream(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with reading(FileSource(str(fifo), 20, last_line=False)) as bench:
        await until(lambda: "no regular file" in bench.state.fault, "a fault")
    (tmp_path / "file").touch()
    async with reading(StreamSource(str(tmp_path / "file"), 9600)) as bench:
        await until(lambda: "no device" in bench.state.fault, "a fault")


async def test_a_pipe_outlives_its_writers(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with reading(StreamSource(str(fifo), 9600)) as bench:
        for value in (1, 2):
            number = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
            os.write(number, b"%d\n" % value)
            os.close(number)
            await bench.value(f"{value}.0")
    assert bench.told == []


async def test_a_device_is_set_to_raw_bytes():
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    async with reading(StreamSource(path, 115200)) as bench:
        await until(lambda: not termios.tcgetattr(theirs)[3] & termios.ICANON, "raw bytes")
        os.write(ours, b"20.5\r\n\x03\x04junk\n")
        await bench.value("20.5")
        await until(lambda: bench.table.counts("s")[0] == 1, "the junk")
        os.write(ours, b"21.5\n")
        await bench.value("21.5")
        os.close(theirs)
        os.close(ours)
        await until(lambda: bench.state.fault, "the end of the device")


async def test_a_socket_is_connected_again(tmp_path):
    path = tmp_path / "socket"
    async with reading(StreamSource(str(path), 9600)) as bench:
        for value in (1, 2):
            path.unlink(missing_ok=True)
            with socket.create_server(str(path), family=socket.AF_UNIX) as server:
                server.setblocking(False)
                other, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(server), PATIENCE_S)
                other.send(b"%d\n" % value)
                await bench.value(f"{value}.0")
                other.close()
            await until(lambda: bench.state.fault, "the end of the connection")


async def test_a_device_that_floods_is_read_slowly_and_its_long_lines_are_passed_over(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with reading(StreamSource(str(fifo), 9600), rate=5) as bench:
        number = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            written, began = 0, time.monotonic()
            while not all(bench.table.counts("s")):
                assert time.monotonic() < began + PATIENCE_S, bench.told
                with suppress(BlockingIOError):
                    written += os.write(number, b"x" * 30_000 + b"\n" + b"1\n" * 500)
                await asyncio.sleep(0)
        finally:
            os.close(number)
        seconds = time.monotonic() - began
        assert written < 300_000 + seconds * MAX_BYTES_PER_SECOND, "what is not read stays with its writer"
        told = [kind for kind, _ in bench.told].count("node:sensor:malformed")
        assert told <= 5 * (seconds + 2), "at most once between two values"
