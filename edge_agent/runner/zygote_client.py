"""The supervisor's view of the zygote: starts it, asks it for children, hears when they end.

Owns: the zygote process and the numbers of its children. A zygote that dies takes its children with it; they are
reported as killed and the next `fork` starts another one. What a child does is not known here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.runner.channel import Channel
from edge_agent.runner.messages import ChildExited, Fork, Forked, ForkFailed, Hello, Kill
from edge_agent.socket_address import address_of
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.runner.message_values import Role
    from edge_agent.runner.messages import Message

START_TIMEOUT_S = 30.0
"""How long a zygote may take from its start to its first message; importing takes 0.2 s on an idle machine."""

STOP_TIMEOUT_S = 5.0
"""How long a zygote may take to kill its children and end."""

_CONNECT_INTERVAL_S = 0.01

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: exit status, or the number of the signal that killed it."""

    status: int
    signal: int

    @property
    def verdict(self) -> tuple[ExitCause, str]:
        """What that end means for the agents of a runner."""
        if self.signal in _CRASHES:
            return ExitCause.ENGINE_CRASH, f"the engine crashed with {self}"
        if self.signal:
            return ExitCause.KILLED, f"the process was killed with {self}"
        return ExitCause.ENGINE_CRASH, f"the process ended with {self}"

    def __str__(self) -> str:
        return signal.Signals(self.signal).name if self.signal in signal.valid_signals() else f"status {self.status}"


@dataclass(frozen=True, slots=True)
class Child:
    """A forked child and this side's end of its control socket, which the caller owns."""

    number: int
    pid: int
    control: socket.socket


class ZygoteClient:
    """Forks children through one zygote.

    Args:
        path: the zygote's socket.
        spawn: whether to start the process here; False where the system runs it as a unit of its own.
    """

    def __init__(self, path: Path, *, spawn: bool = True) -> None:
        self._path = path
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._hello: asyncio.Future[Hello] | None = None
        self._forks: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Callable[[Ended], None]] = {}
        self._numbers = itertools.count(1)
        self._opening = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of a zygote started here, while it runs."""
        return self._process.pid if self._process is not None else None

    async def open(self) -> Hello:
        """Start and greet the zygote unless it runs already.

        Must be called in the process's main thread: the zygote dies with the thread that started it (prctl(2)).

        Raises:
            FleetError: RUNNER_LOST when it does not come up.
        """
        async with self._opening:
            if self._channel is None or self._hello is None:
                await self._end_process()
                hello = self._hello = asyncio.get_running_loop().create_future()
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        self._channel = Channel(await self._connect(), self, asyncio.get_running_loop())
                        await hello
                except TimeoutError as error:
                    self._drop_channel()
                    raise FleetError(Code.RUNNER_LOST, "the zygote does not answer", path=str(self._path)) from error
            return await self._hello

    async def fork(self, role: Role, name: str, ended: Callable[[Ended], None]) -> Child:
        """Fork a child; `ended` is called once when it is gone.

        Raises:
            FleetError: RUNNER_LOST when there is no zygote or no room for a process.
        """
        await self.open()
        channel = self._channel
        if channel is None:
            raise FleetError(Code.RUNNER_LOST, "the zygote ended")
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        forked = self._forks[number] = asyncio.get_running_loop().create_future()
        self._children[number] = ended
        try:
            with theirs:
                channel.send(Fork(number, role, name), [theirs.fileno()])
            return Child(number, await forked, ours)
        except BaseException:  # cancellation included: a child without an owner must not live
            ours.close()
            self._children.pop(number, None)
            self.kill(number)
            raise
        finally:
            self._forks.pop(number, None)

    def kill(self, number: int) -> None:
        """End a child with SIGKILL; nothing happens when it has ended."""
        if self._channel is not None and self._channel.open:
            self._channel.send(Kill(number))

    async def close(self) -> None:
        """End the zygote and all children. Idempotent."""
        self._drop_channel()
        await self._end_process()

    def received(self, message: Message, descriptors: tuple[int, ...]) -> None:
        """Take one message of the zygote."""
        for number in descriptors:
            os.close(number)
        match message:
            case Hello():
                if self._hello is not None and not self._hello.done():
                    self._hello.set_result(message)
            case Forked():
                self._answer(message.child, message.pid)
            case ForkFailed():
                self._children.pop(message.child, None)
                self._answer(message.child, FleetError(Code.RUNNER_LOST, f"cannot fork: {message.message}"))
            case ChildExited():
                ended = self._children.pop(message.child, None)
                if ended is not None:
                    ended(Ended(message.status, message.signal))
            case _:
                raise FleetError(Code.MESSAGE_INVALID, f"a zygote does not send {type(message).__name__}")

    def closed(self, error: FleetError | None) -> None:
        """Hear that the zygote is gone, and its children with it."""
        _log.error("the zygote ended: %s", error or "end of stream")
        self._drop_channel()

    def _answer(self, number: int, result: int | FleetError) -> None:
        future = self._forks.get(number)
        if future is None or future.done():
            return
        if isinstance(result, FleetError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        lost = FleetError(Code.RUNNER_LOST, "the zygote ended")
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(lost)
            self._hello.exception()  # also retrieved here: perhaps nobody waits
        self._hello = None
        for number in tuple(self._forks):
            self._answer(number, lost)
        children, self._children = self._children, {}
        for ended in children.values():
            ended(Ended(0, signal.SIGKILL))

    def _start_process(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        # -I: neither the environment nor the current directory decide what the zygote imports.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-m", "edge_agent.runner.zygote", str(self._path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"LANG": "C.UTF-8"},
        )

    async def _connect(self) -> socket.socket:
        if self._spawn:
            self._start_process()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with address_of(self._path) as address:
                    sock.connect(address)
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
            except OSError as error:
                sock.close()
                raise FleetError(Code.RUNNER_LOST, "cannot reach the zygote", path=str(self._path)) from error
            else:
                return sock
            if self._process is not None and self._process.poll() is not None:
                raise FleetError(Code.RUNNER_LOST, f"the zygote ended with status {self._process.returncode}")
            await asyncio.sleep(_CONNECT_INTERVAL_S)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        handle = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(handle, gone.set)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await gone.wait()
        except TimeoutError:
            process.kill()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
            process.wait()
