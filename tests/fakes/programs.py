"""Processes of this project's programs within milliseconds: forked from one that has imported them.

Loading a program takes up to a second of processor time, and the tests start hundreds. Each program still runs in a
process of its own, with its own arguments, environment, directory and descriptors, as if it had been executed; tests of
how a program begins execute it.
"""

from __future__ import annotations

import array
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_REQUEST = 128 * 1024
"""Bytes of one request: arguments and environment."""

STANDARD_ERROR = 2


@dataclass
class Program:
    """A process that was started.

    Attributes:
        pid: its process id.
    """

    arguments: Sequence[str]
    pid: int
    _status: socket.socket

    def wait(self, timeout_s: float) -> int:
        """Return the exit status, or the signal's number below zero; kill it when it takes longer."""
        self._status.settimeout(timeout_s)
        try:
            return int(self._status.recv(64))
        except TimeoutError as error:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(self.arguments), timeout_s) from error
        finally:
            self._status.close()


class Loaded:
    """A process that has imported `module` and becomes its `main` in each fork; it ends when this process does."""

    def __init__(self, module: str, *, environment: Mapping[str, str] | None = None) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__, str(theirs.fileno()), module],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        cwd: Path,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = STANDARD_ERROR,
    ) -> Program:
        """Start the program; it reads nothing."""
        request = json.dumps([list(arguments), dict(environment), str(cwd)]).encode()
        assert len(request) <= MAX_REQUEST
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, Path(os.devnull).open("r+b") as nothing:
            handed = [theirs.fileno()]
            for file in (stdout, stderr):
                number = file if isinstance(file, int) else file.fileno()
                handed.append(nothing.fileno() if number == subprocess.DEVNULL else number)
            self._requests.sendmsg(
                [request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed).tobytes())]
            )
        ours.settimeout(60)
        pid = ours.recv(64)
        if not pid:
            ours.close()
            raise RuntimeError("the program cannot be loaded: see standard error")
        return Program(arguments, int(pid), ours)

    def run(
        self, *arguments: str, environment: Mapping[str, str], cwd: Path, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end and return what it wrote."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            program = self.start(*arguments, environment=environment, cwd=cwd, stdout=stdout, stderr=stderr)
            status = program.wait(timeout_s)
            texts = []
            for file in (stdout, stderr):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(list(arguments), status, *texts)

    def close(self) -> None:
        """End it; what it started runs on."""
        self._requests.close()
        self._process.wait(60)


def _serve(requests: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Answer requests until nobody can ask any more; returns in each fork what it is to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a watcher ended
    while True:
        data, ancillary, _, _ = requests.recvmsg(MAX_REQUEST, socket.CMSG_SPACE(3 * 4))
        if not data:
            return None
        ((_, _, raw),) = ancillary
        handed = array.array("i", raw)
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            watch, stdout, stderr = handed
            _watch(watch)
            for number, target in ((stdout, 1), (stderr, 2)):
                os.dup2(number, target)
                os.close(number)
            os.close(watch)
            arguments, environment, cwd = json.loads(data)
            return arguments, environment, cwd
        for number in handed:
            os.close(number)


def _watch(status: int) -> None:
    """Return in a fork; tell its process id and, at its end, how it ended, and end."""
    pid = os.fork()
    if pid:
        os.closerange(0, status)  # the descriptors of the program are its alone
        os.closerange(status + 1, status + 8)
        os.write(status, str(pid).encode())
        _, ended = os.waitpid(pid, 0)
        with suppress(OSError):  # perhaps nobody waits any more
            os.write(status, str(os.waitstatus_to_exitcode(ended)).encode())
        os._exit(0)


def main() -> object:
    """Load the program, then run it in every fork that is asked for."""
    requests, module = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    program = import_module(module).main
    gc.collect()
    gc.freeze()  # what is loaded is never collected, so that a fork copies few pages
    asked = _serve(requests)
    if asked is None:
        return 0
    arguments, environment, cwd = asked
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[1:] = arguments
    return program()


if __name__ == "__main__":
    sys.exit(main())
