"""The open sessions of nodes, level-triggered: one latest-wins slot per node, no queues.

Owns: what a session has yet to be told (newest desired state, log subscription, commands, good-bye) and the answers
to commands. A session's writer takes one message at a time with `next`; whoever changes something only marks the slot
and returns, so a node that does not read costs the others nothing. Never touches the network: `rpc.node` does. Every
method is called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleet.crash import CrashSummary

MAX_COMMANDS = 64
"""Commands of one session that wait to be sent or answered."""


@dataclass(frozen=True, slots=True)
class CallCommand:
    """Call an exported function of an agent; the invocation is WAVE text."""

    agent: str
    invocation: str


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Deliver an event to the agents of the node that listen to the topic."""

    topic: str
    payloads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CrashesCommand:
    """List the node's crash reports of an agent ("" for all), or send the one with an id."""

    agent: str = ""
    id: str = ""


Command = CallCommand | SendCommand | CrashesCommand


@dataclass(frozen=True, slots=True)
class CommandOut:
    """A command on its way; the node's answer carries the same id."""

    id: str
    deadline_ms: int
    what: Command


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What a node answered to a command; `document` is an encoded crash report."""

    output: str = ""
    delivered: int = 0
    crashes: tuple[CrashSummary, ...] = ()
    document: bytes = b""
    error_code: str = ""
    error_message: str = ""
    error_remedy: str = ""


@dataclass(frozen=True, slots=True)
class DesiredOut:
    """The node shall be sent its newest desired state, whatever that is when it is written.

    Attributes:
        again: even if it was sent before: the node could not place its proof in the log.
    """

    again: bool = False


@dataclass(frozen=True, slots=True)
class SecretsOut:
    """The node shall be sent everything that is sealed for it, whatever that is when it is written."""


@dataclass(frozen=True, slots=True)
class CheckpointOut:
    """The node shall be asked to cosign the newest checkpoint, whatever that is when it is written."""


@dataclass(frozen=True, slots=True)
class ReleaseOut:
    """The node shall look at the newest release now."""


@dataclass(frozen=True, slots=True)
class LogsOut:
    """Whether the node shall send log lines."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class GoAwayOut:
    """The session ends; the node shall come back after a while."""

    retry_after_ms: int
    reason: str


Outgoing = ReleaseOut | DesiredOut | SecretsOut | CheckpointOut | LogsOut | CommandOut | GoAwayOut


@dataclass(eq=False, slots=True)
class Session:
    """One open stream to a node.

    Attributes:
        seen: leaves of the largest audit log that the node has verified, as far as it is known.
        takes_secrets: whether the node has said which key to seal secrets for.
    """

    id: str
    node: str
    epoch: int
    _logs: bool
    seen: int = 0
    takes_secrets: bool = False
    _logs_told: bool = False
    _release: bool = False
    _desired: bool = True
    _again: bool = False
    _checkpoint: bool = False
    _secrets: bool = True
    _farewell: GoAwayOut | None = None
    _waiting: deque[CommandOut] = field(default_factory=deque)
    _answers: dict[str, asyncio.Future[CommandAnswer]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a message is on its way to the node."""

    async def next(self) -> Outgoing:
        """Wait for the next thing to tell.

        Good-bye first, then release, checkpoint, secrets, desired state, logs, commands.
        """
        while True:
            self._wake.clear()
            if self._farewell is not None:
                return self._farewell
            if self._release:  # it may say that something must stop
                self._release = False
                return ReleaseOut()
            if self._checkpoint:
                self._checkpoint = False
                return CheckpointOut()
            if self._secrets and self.takes_secrets:  # before the agents that want them
                self._secrets = False
                return SecretsOut()
            if self._desired:
                again, self._desired, self._again = self._again, False, False
                return DesiredOut(again)
            if self._logs != self._logs_told:
                self._logs_told = self._logs
                return LogsOut(self._logs)
            while self._waiting:
                command = self._waiting.popleft()
                if command.id in self._answers:  # the caller may have given up meanwhile
                    return command
            await self._wake.wait()

    def signal_release(self) -> None:
        """Mark the release as changed."""
        self._release = True
        self._wake.set()

    def signal_secrets(self) -> None:
        """Mark the secrets as changed."""
        self._secrets = True
        self._wake.set()

    def signal(self) -> None:
        """Mark the desired state as changed."""
        self._desired = True
        self._wake.set()

    def ask(self) -> None:
        """Ask the node to cosign the newest checkpoint."""
        self._checkpoint = True
        self._wake.set()

    def correct(self, seen: int) -> None:
        """Take a node's word for how much of the log it has seen, where something else was thought.

        What was sent meanwhile began its proofs elsewhere: checkpoint and desired state are sent again.
        """
        if seen != self.seen:
            self.seen = seen
            self._again = True
            self.ask()
            self.signal()

    def want_logs(self, *, enabled: bool) -> None:
        """Ask for log lines, or for none."""
        self._logs = enabled
        self._wake.set()

    def go_away(self, retry_after_ms: int, reason: str) -> None:
        """End the session politely."""
        self._farewell = GoAwayOut(retry_after_ms, reason)
        self._wake.set()

    async def command(self, command: CommandOut) -> CommandAnswer:
        """Send a command and wait for its answer.

        Raises:
            FleetError: LIMIT_EXCEEDED when too many wait; DEADLINE_EXCEEDED; NODE_OFFLINE when the session ends first.
        """
        if len(self._answers) >= MAX_COMMANDS:
            raise FleetError(
                Code.LIMIT_EXCEEDED, f"{MAX_COMMANDS} commands wait for the node", node=self.node, limit=MAX_COMMANDS
            )
        future: asyncio.Future[CommandAnswer] = asyncio.get_running_loop().create_future()
        self._answers[command.id] = future
        self._waiting.append(command)
        self._wake.set()
        try:
            async with asyncio.timeout(command.deadline_ms / 1000):
                return await future
        except TimeoutError as error:
            raise FleetError(
                Code.DEADLINE_EXCEEDED, f"no answer within {command.deadline_ms} ms", node=self.node
            ) from error
        finally:
            self._answers.pop(command.id, None)

    def awaits(self, identifier: str) -> bool:
        """Whether a caller waits for the answer to this command, and none has come."""
        future = self._answers.get(identifier)
        return future is not None and not future.done()

    def answer(self, identifier: str, answer: CommandAnswer) -> None:
        """Hand an answer to its caller; an answer that nobody waits for any more is dropped."""
        future = self._answers.get(identifier)
        if future is not None and not future.done():
            future.set_result(answer)

    def end(self) -> None:
        """Fail every command that waits: the stream is gone."""
        for future in self._answers.values():
            if not future.done():
                future.set_exception(FleetError(Code.NODE_OFFLINE, "the session ended", node=self.node))


class Sessions:
    """All open sessions, at most one per node: the newest wins."""

    def __init__(self, new_id: Callable[[], str], *, collect_logs: bool) -> None:
        self._new_id = new_id
        self._sessions: dict[str, Session] = {}
        self._collect_logs = collect_logs
        self._log_followers = 0

    def open(self, node: str, epoch: int) -> Session:
        """Open a session and send the node's older one away."""
        older = self._sessions.get(node)
        if older is not None:
            older.go_away(0, "a newer session of this node was opened")
        session = Session(self._new_id(), node, epoch, self._collect_logs or self._log_followers > 0)
        self._sessions[node] = session
        return session

    def close(self, session: Session) -> None:
        """Forget a session that ended."""
        session.end()
        if self._sessions.get(session.node) is session:
            del self._sessions[session.node]

    def signal_release(self) -> None:
        """Tell every session that a newer release is published: a node that looks once an hour looks now."""
        for session in self._sessions.values():
            session.signal_release()

    def signal_secrets(self, nodes: Iterable[str]) -> None:
        """Tell the sessions of some nodes that their secrets changed."""
        for node in nodes:
            if node in self._sessions:
                self._sessions[node].signal_secrets()

    def signal(self, nodes: Iterable[str]) -> None:
        """Tell the sessions of some nodes that their desired state changed."""
        for node in nodes:
            if node in self._sessions:
                self._sessions[node].signal()

    def ask(self, nodes: Iterable[str] | None) -> None:
        """Ask some nodes, or all for None, to cosign the newest checkpoint."""
        for node in tuple(self._sessions) if nodes is None else nodes:
            if node in self._sessions:
                self._sessions[node].ask()

    def shut_down(self, retry_after_ms: int) -> None:
        """Send every node away because the coordinator stops."""
        for session in self._sessions.values():
            session.go_away(retry_after_ms, "the coordinator stops")

    def names(self) -> tuple[str, ...]:
        """Return the nodes with an open session, by name."""
        return tuple(sorted(self._sessions))

    async def call(self, node: str, what: Command, deadline_ms: int) -> CommandAnswer:
        """Send a command to a node and wait for its answer.

        Raises:
            FleetError: NODE_OFFLINE and as `Session.command`.
        """
        session = self._sessions.get(node)
        if session is None:
            raise FleetError(Code.NODE_OFFLINE, f"{node} has no session", node=node)
        return await session.command(CommandOut(self._new_id(), deadline_ms, what))

    def follow_logs(self) -> None:
        """Note one more follower of log lines."""
        self._log_followers += 1
        self._tell_logs()

    def unfollow_logs(self) -> None:
        """Note one follower less."""
        self._log_followers -= 1
        self._tell_logs()

    def _tell_logs(self) -> None:
        for session in self._sessions.values():
            session.want_logs(enabled=self._collect_logs or self._log_followers > 0)
