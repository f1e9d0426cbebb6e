"""Counts the readings of each source, logs them, and prints their values. Runs as a WebAssembly component."""

import encodings.idna  # noqa: F401 - looked up by name when a host name is resolved, when there are no files any more
import os
import random
import socket
import sys
import time
from pathlib import Path

from wit_world import exports
from wit_world.imports import store
from wit_world.imports.logging import Level, log


def count(source: str) -> int:
    with store.open("readings") as bucket:
        number = int(bucket.get(source) or b"0") + 1
        bucket.set(source, str(number).encode())
    return number


def reach() -> str:
    """Look for everything that an agent must not find."""
    found = [f"env {dict(os.environ)}", f"argv {sys.argv[1:]}", f"stdin {sys.stdin.read()!r}"]
    for name, attempt in {
        "read": lambda: Path("/etc/hostname").read_text(),
        "write": lambda: Path("note").write_text("x"),
        "list": lambda: list(Path("/").iterdir()),
        "socket": lambda: socket.socket().connect(("127.0.0.1", 80)),
        "lookup": lambda: socket.getaddrinfo("localhost", 80),
    }.items():
        try:
            found.append(f"{name} {attempt()}")
        except OSError:
            found.append(f"{name} refused")
    return "; ".join(found)


class SensorHandler(exports.SensorHandler):
    def handle_data(self, data: exports.sensor_handler.SensorData) -> str:
        if data.source == "reach":
            return reach()
        if data.source == "sleep":
            time.sleep(data.value)
        if data.source == "random":
            return str(random.SystemRandom().random())
        number = count(data.source)
        log(Level.INFO, "sensor", f"reading {number} of {data.source}")
        print("value", data.value)
        return f"{data.source}: {number}"
