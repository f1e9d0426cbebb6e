"""A real Mosquitto on a loopback port, in a temporary directory; installed from Debian where it is missing and may be.

Nothing is faked: this only finds, starts and stops the broker.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.fakes.ports import free_port

START_S = 60.0


def find(name: str = "mosquitto") -> str:
    """Path of one of Mosquitto's programs; installs Debian's package for root, else says what to run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        install = ["apt-get", "install", "-y", "--no-install-recommends", "mosquitto"]
        may = shutil.which("apt-get") is not None and os.geteuid() == 0
        assert may, f"no {name} here; run as root: {' '.join(install)}"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run([install[0], "-qq", *install[1:]], env=environment, check=True)
        found = shutil.which(name, path=path)
    assert found is not None
    return found


class Mosquitto:
    """One broker; `start` and `stop` may be called again and again."""

    def __init__(self, folder: Path, *lines: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._config = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        settings = (f"listener {self.port} 127.0.0.1", *(lines or ("allow_anonymous true",)), "persistence false")
        self._config.write_text("\n".join((*settings, f"pid_file {folder / 'mosquitto.pid'}", "user root")) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the broker; returns when it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([find(), "-c", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End the broker, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
            self._process = None
