"""The process from which runners and compile workers are forked: `python -m edge_agent.runner.zygote SOCKET`.

Owns: forking, killing and reaping. It has the engine's library imported and nothing created, one thread, and no
secrets; a fork of it runs an agent within milliseconds. It serves one supervisor at a socket of its own, so that on a
hardened host it can be a unit of its own with the permission to write machine code, which the supervisor's unit lacks.

It ends when the supervisor's connection ends, and its children end with it: each is bound to the life of its parent.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edge_agent.runner.compiler import main as compile_one
from edge_agent.runner.confinement import confine, die_with_parent, leave, name_process
from edge_agent.runner.connection import Connection
from edge_agent.runner.message_values import Role
from edge_agent.runner.messages import ChildExited, Fork, Forked, ForkFailed, Hello, Kill
from edge_agent.runner.process import main as run_agents
from edge_agent.socket_address import address_of
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.connection import Received

MAX_CHILDREN = 1024
"""Runners and workers at a time; the supervisor keeps its own smaller numbers."""

ACCEPT_TIMEOUT_S = 60.0
"""How long a zygote waits for its supervisor: one that died before it connected must not leave a zygote behind."""

_CREDENTIALS = struct.Struct("3i")
_MAIN: dict[Role, Callable[[Connection], None]] = {Role.RUNNER: run_agents, Role.COMPILER: compile_one}


@dataclass(frozen=True, slots=True)
class _Child:
    number: int
    pid: int
    handle: int
    """Descriptor of the process (pidfd_open(2)): unlike a pid it never means another process."""


class Zygote:
    """Serves one supervisor until the connection ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer requests and report ended children.

        Raises:
            FleetError: MESSAGE_INVALID; the supervisor starts another zygote.
        """
        self._connection.send(Hello(os.getpid()))
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.data, _Child):
                    self._reap(key.data)
                elif not self._answer():
                    return

    def _answer(self) -> bool:
        received = self._connection.receive()
        if received is None:
            return False
        while received is not None:
            self._handle(received)
            received = self._connection.waiting()
        return True

    def kill_children(self) -> None:
        """End every child at once and wait until each is gone."""
        for child in tuple(self._children.values()):
            signal.pidfd_send_signal(child.handle, signal.SIGKILL)
        for child in tuple(self._children.values()):
            os.waitpid(child.pid, 0)

    def _handle(self, received: Received) -> None:
        message, descriptors = received
        match message:
            case Fork():
                self._fork(message, descriptors[0])
            case Kill():
                child = self._children.get(message.child)
                if child is not None:
                    signal.pidfd_send_signal(child.handle, signal.SIGKILL)
            case _:
                raise FleetError(Code.MESSAGE_INVALID, f"a zygote does not take {type(message).__name__}")

    def _fork(self, message: Fork, control: int) -> None:
        if message.child in self._children or len(self._children) >= MAX_CHILDREN:
            os.close(control)
            self._connection.send(ForkFailed(message.child, "number in use, or too many children"))
            return
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(control)
            self._connection.send(ForkFailed(message.child, error.strerror or "fork failed"))
            return
        if pid == 0:
            run_child(message, control, parent)
        os.close(control)
        child = _Child(message.child, pid, os.pidfd_open(pid))
        self._children[child.number] = child
        self._selector.register(child.handle, selectors.EVENT_READ, child)
        self._connection.send(Forked(child.number, pid))

    def _reap(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.handle)
        os.close(child.handle)
        del self._children[child.number]
        code = os.waitstatus_to_exitcode(status)
        self._connection.send(ChildExited(child.number, max(code, 0), max(-code, 0)))


def run_child(message: Fork, control: int, parent: int) -> NoReturn:
    """Turn the calling process, just forked, into what `message` asks for; never returns."""
    status = 1
    try:
        confine(control, f"fleet-{message.name}", parent)
        _MAIN[message.role](Connection(socket.socket(fileno=control)))
        status = 0
    except ConnectionError:  # the supervisor has ended, or wants no answer any more
        status = 0
    except BaseException:  # noqa: BLE001 - the edge of a process: nothing may return into the zygote's code
        traceback.print_exc()
    finally:
        leave(status)


def accept(path: Path) -> Connection:
    """Wait for the supervisor at the socket `path`, which only this user may open.

    Raises:
        TimeoutError: nobody came within `ACCEPT_TIMEOUT_S`.
        PermissionError: somebody else came.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, address_of(path) as address:
        before = os.umask(0o177)
        listener.bind(address)
        os.umask(before)
        listener.listen(1)
        listener.settimeout(ACCEPT_TIMEOUT_S)
        peer, _ = listener.accept()
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    if user not in {0, os.geteuid()}:
        peer.close()
        raise PermissionError(f"the peer at {path} is user {user}")
    return Connection(peer)


def main() -> int:
    """Run a zygote until its supervisor goes away."""
    die_with_parent(os.getppid())
    name_process("fleet-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the group; the supervisor decides
    zygote = Zygote(accept(Path(sys.argv[1])))
    # Objects that exist now are never collected, so that a collection in a child does not copy their pages.
    gc.collect()
    gc.freeze()
    try:
        zygote.serve()
    except ConnectionError:
        pass  # the supervisor has ended, and did not read what was sent last
    finally:
        zygote.kill_children()
    return 0


if __name__ == "__main__":
    sys.exit(main())
