"""What the agents of a runner share with the node: messages and questions that leave it, answers that come back.

Owns: `Mailbox`, where an agent's thread finds the answers it waits for; `Watchers`, which agents of the application
are told of changes to which buckets; and `AgentExchange`, the `Exchange` of one agent over the runner's outbox.
Never asks a grant about messages or sources: capabilities did, and the supervisor will.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from edge_agent.runner.messages import AskSensors, Published, Replied, Requested
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.runner.messages import Message
    from edge_agent.runner.outbox import Outbox
    from edge_agent.runtime import Answer, BusMessage, SensorState
    from fleet.grants import Authority

WATCHER = "wasi:keyvalue/watcher"

MAX_ANSWER_BYTES = 8 << 20
"""Bytes of the answers that wait for one agent; more are dropped, as answers that come too late are."""

SENSORS_TIMEOUT_S = 2.0
"""How long an agent waits for what the supervisor knows about sources."""

_LONGEST_WAIT_S = 0.25
"""A wait that nobody ends early looks at its answers again after this."""


@dataclass(slots=True)
class _Expected:
    most: int
    answers: list[Answer]
    bytes: int = 0


class Mailbox:
    """Answers for one agent, by the number of the question. The runner's reader puts, the agent's thread takes.

    Args:
        wake: ends a wait of the agent's thread.
        numbers: of the questions: shared by whatever may be given another one's late answer.
    """

    __slots__ = ("_expected", "_lock", "_numbers", "_wake")

    def __init__(self, wake: Callable[[], None], numbers: Iterator[int]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._expected: dict[int, _Expected] = {}
        self._numbers = numbers

    def open(self, most: int) -> int:
        """Begin to take up to `most` answers; return the number of the question."""
        number = next(self._numbers)
        with self._lock:
            self._expected[number] = _Expected(most, [])
        return number

    def put(self, number: int, answer: Answer) -> None:
        """Keep an answer, unless nobody waits for it any more or there are enough."""
        size = 0 if isinstance(answer, tuple) else len(answer.data)
        with self._lock:
            expected = self._expected.get(number)
            if expected is None or len(expected.answers) >= expected.most or expected.bytes + size > MAX_ANSWER_BYTES:
                return
            expected.answers.append(answer)
            expected.bytes += size
        self._wake()

    def answers(self, number: int) -> list[Answer]:
        """The answers so far."""
        with self._lock:
            return list(self._expected[number].answers)

    def close(self, number: int) -> None:
        """Take no more answers."""
        with self._lock:
            del self._expected[number]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a bucket after it is on disk; `value` is None for a key that was removed."""

    bucket: str
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class _Watcher:
    authority: Authority
    tell: Callable[[Change], None]


class Watchers:
    """Which agents of a runner, and so of an application, are told of changes to buckets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[str, _Watcher] = {}

    def add(self, agent: str, authority: Authority, tell: Callable[[Change], None]) -> None:
        """Tell an agent of the changes that its grant allows, by `tell`, which must not wait, and of no others."""
        with self._lock:
            if authority.capabilities.get(WATCHER):
                self._watchers[agent] = _Watcher(authority, tell)
            else:
                self._watchers.pop(agent, None)

    def remove(self, agent: str) -> None:
        """Tell an agent nothing more."""
        with self._lock:
            self._watchers.pop(agent, None)

    def tell(self, author: str, change: Change) -> None:
        """Tell everybody but the author: an agent that writes where it watches would never come to rest."""
        with self._lock:
            watchers = [watcher for name, watcher in self._watchers.items() if name != author]
        for watcher in watchers:
            if watcher.authority.allows(WATCHER, bucket=change.bucket):
                watcher.tell(change)


class AgentExchange:
    """The `edge_agent.capabilities.exchange.Exchange` of one agent.

    Args:
        agent: `application/agent`.
        outbox: takes what leaves the runner.
        mailbox: gives what comes back.
        watchers: who is told of changes.
        wait: waits so many nanoseconds at most, as `AgentContext.wait` does.
    """

    def __init__(
        self, agent: str, outbox: Outbox, mailbox: Mailbox, watchers: Watchers, wait: Callable[[int], None]
    ) -> None:
        self._agent = agent
        self._outbox = outbox
        self._mailbox = mailbox
        self._watchers = watchers
        self._wait = wait

    def publish(self, message: BusMessage) -> None:
        """As `Exchange` says."""
        self._send(Published(self._agent, message))

    def request(self, message: BusMessage, replies: int, timeout_ms: int) -> list[BusMessage]:
        """As `Exchange` says."""
        answers = self._ask(
            lambda number: Requested(self._agent, number, replies, timeout_ms, message), replies, timeout_ms / 1000
        )
        return cast("list[BusMessage]", answers)

    def reply(self, message: BusMessage) -> None:
        """As `Exchange` says."""
        self._send(Replied(self._agent, message))

    def sensors(self, source: str) -> tuple[SensorState, ...]:
        """As `Exchange` says."""
        answers = self._ask(lambda number: AskSensors(self._agent, number, source), 1, SENSORS_TIMEOUT_S)
        if not answers:
            raise FleetError(Code.UNAVAILABLE, "the node does not answer")
        return cast("tuple[SensorState, ...]", answers[0])

    def changed(self, bucket: str, key: str, value: bytes | None) -> None:
        """As `Exchange` says."""
        self._watchers.tell(self._agent, Change(bucket, key, value))

    def _ask(self, question: Callable[[int], Message], most: int, seconds: float) -> list[Answer]:
        number = self._mailbox.open(most)
        try:
            self._send(question(number))
            end = time.monotonic() + seconds
            while len(answers := self._mailbox.answers(number)) < most and (left := end - time.monotonic()) > 0:
                self._wait(int(min(left, _LONGEST_WAIT_S) * 1e9))
            return answers
        finally:
            self._mailbox.close(number)

    def _send(self, message: Message) -> None:
        if not self._outbox.offer(message):
            raise FleetError(Code.UNAVAILABLE, "too many messages wait to leave the runner")
