"""A software TPM 2.0 (swtpm) in a temporary directory; installed from Debian where it is missing and may be.

Nothing is faked but the chip's metal: swtpm runs the TCG's reference implementation, and tpm2-tools talk to it
as to any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.fakes.ports import free_port
from tests.fakes.wait import wait_until

PACKAGES = ("swtpm", "tpm2-tools", "libtss2-tcti-swtpm0")


def find(name: str) -> str:
    """Path of a program; installs Debian's packages for root, else says what to run."""
    found = shutil.which(name)
    if found is None:
        install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
        may = shutil.which("apt-get") is not None and os.geteuid() == 0
        assert may, f"no {name} here; run as root: {' '.join(install)}"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run([install[0], "-qq", *install[1:]], env=environment, check=True)
        found = shutil.which(name)
    assert found is not None
    return found


def free_pair() -> int:
    """A port whose successor is free too: swtpm takes both, and its driver expects them side by side."""
    first, second = free_port(), free_port()
    while second != first + 1:
        first, second = second, free_port()
    return first


class SoftwareTpm:
    """One chip, whose seeds stay in its folder over `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        find("tpm2_create")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_pair()

    @property
    def tcti(self) -> str:
        """How tpm2-tools reach it."""
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def start(self) -> SoftwareTpm:
        """Switch it on; returns when it answers."""
        command = [find("swtpm"), "socket", "--tpm2", "--tpmstate", f"dir={self._folder}"]
        command += ["--server", f"type=tcp,port={self.port}", "--ctrl", f"type=tcp,port={self.port + 1}"]
        self._process = subprocess.Popen([*command, "--flags", "not-need-init,startup-clear"])
        wait_until(self._answers)
        return self

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        environment = os.environ | {"TPM2TOOLS_TCTI": self.tcti}
        done = subprocess.run([find("tpm2_getrandom"), "-Q", "4"], env=environment, capture_output=True, check=False)
        return done.returncode == 0
