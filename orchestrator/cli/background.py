"""Background processes of a fleet on one machine: start, find again, stop.

Owns: pid files. A pid file holds the process id and its start time, so that a recycled id is never signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL_S = 0.05
STOP_TIMEOUT_S = 20.0
"""Seconds between SIGTERM and SIGKILL."""


def _start_time(pid: int) -> str | None:
    """Start time of a live process in clock ticks since boot (proc(5), /proc/PID/stat field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def running(pid_file: Path) -> int | None:
    """Return the process id in a pid file if that very process still runs."""
    try:
        pid_text, start = pid_file.read_text(encoding="ascii").split()
        pid = int(pid_text)
    except (OSError, ValueError):
        return None
    return pid if _start_time(pid) == start else None


def start(command: Sequence[str], pid_file: Path, log_file: Path) -> int:
    """Start a process in its own session with its output in a log file; returns its id.

    Raises:
        FleetError: ALREADY_EXISTS when the pid file names a live process.
    """
    if (pid := running(pid_file)) is not None:
        raise FleetError(Code.ALREADY_EXISTS, f"it runs already as process {pid}", place=str(pid_file))
    log_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    pid_file.write_text(f"{process.pid} {_start_time(process.pid)}\n", encoding="ascii")
    return process.pid


def stop(pid_file: Path) -> bool:
    """Stop the process of a pid file: SIGTERM, then SIGKILL after 20 s. Returns whether there was one."""
    pid = running(pid_file)
    if pid is None:
        pid_file.unlink(missing_ok=True)
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while running(pid_file) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(POLL_S)
    pid_file.unlink(missing_ok=True)
    return True


def last_lines(log_file: Path, count: int = 5) -> str:
    """Return the end of a log file for an error message."""
    try:
        return "\n".join(log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
    except OSError:
        return ""
