"""The node's bus: topics, who listens to them, requests and their answers.

Owns: `Bus`. Every message of an agent or of an operator goes to every running agent whose triggers name its topic and
whose grant allows it, of whichever application. Delivery is at most once and in order for each subscriber; what a
subscriber has no room for is dropped and counted, and told as an event once until it takes messages again. Nothing is
kept for agents that do not run. Never calls an agent: `Outlet` does.

What a runner says is checked again by the grant: it may be in the hands of its guest.

- A subscriber's queue is that of its runner, with the policy that fleet.yaml declares. On its way there it may have as
  many messages as the queue may hold, and `MAX_WAITING_BYTES`.
- A message trigger takes any message; an event trigger takes text in WAVE only, which `fleetctl send` sends and an
  agent marks with the content type `text/wave`.
- An answer reaches who asked, while it waits, and only from agents that were given the question.
- An agent is given its own messages too, if it listens to their topic.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edge_agent.runtime import AgentPublished, AgentReplied, AgentRequested, BusMessage
from fleet.model import EventTrigger, MessageTrigger
from fleet.triggers import BELOW

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from edge_agent.clock import Clock
    from edge_agent.runtime import Answer
    from fleet.grants import Authority
    from fleet.model import Trigger

T = TypeVar("T")

PRODUCER = "wasi:messaging/producer"
REQUEST_REPLY = "wasi:messaging/request-reply"
HANDLER = "wasi:messaging/incoming-handler"

WAVE = "text/wave"
"""Media type of a payload for event triggers."""

MAX_WAITING_BYTES = 8 << 20
"""Bytes of the messages that are on their way to one subscriber."""

MAX_EVENT_BYTES = 256 * 1024
"""Bytes of a payload for event triggers."""

MAX_REQUESTS = 1024
"""Requests of all agents that wait for answers; one more gets none."""


class Outlet(Protocol):
    """Takes what the bus has for agents."""

    async def deliver(self, agent: str, invocation: str, *, queued: bool) -> bool:
        """Call a function of an agent; return whether it took the call."""
        ...

    async def hand_over(self, agent: str, message: BusMessage) -> bool:
        """Call an agent's handler of messages; return whether it took the message."""
        ...

    def drop(self, agent: str, what: str) -> None:
        """Count something that an agent was not given, and tell why."""
        ...

    def answer(self, agent: str, request: int, answer: Answer) -> None:
        """Hand an agent what it waits for inside a call."""
        ...


@dataclass(slots=True)
class _Listener:
    """One running agent.

    Attributes:
        topics: of its message triggers.
        functions: of its event triggers, by topic.
        waiting: messages on their way to it.
        waiting_bytes: bytes of them.
    """

    authority: Authority
    topics: tuple[str, ...]
    functions: dict[str, list[str]]
    waiting: int = 0
    waiting_bytes: int = 0

    def wants(self, topic: str) -> bool:
        """Whether its message triggers name the topic and its grant allows it."""
        named = any(
            topic == wanted or (wanted.endswith(BELOW) and topic.startswith(wanted[:-1])) for wanted in self.topics
        )
        return named and self.authority.allows(HANDLER, topic=topic)


@dataclass(slots=True)
class _Request:
    """A request that waits for answers.

    Attributes:
        left: answers that it still takes.
        asked: agents that were given the question.
    """

    agent: str
    number: int
    topic: str
    left: int
    asked: set[str] = field(default_factory=set)


class Bus:
    """The bus of one node; used from one event loop.

    Args:
        outlet: takes messages to agents.
        clock: ends requests.
    """

    def __init__(self, outlet: Outlet, clock: Clock) -> None:
        self._outlet = outlet
        self._clock = clock
        self._listeners: dict[str, _Listener] = {}
        self._requests: dict[str, _Request] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self, agent: str, authority: Authority, triggers: Iterable[Trigger]) -> None:
        """Take messages of an agent that runs now, and give it those that its triggers name."""
        topics: list[str] = []
        functions: dict[str, list[str]] = {}
        for trigger in triggers:
            match trigger:
                case MessageTrigger(topic):
                    topics.append(topic)
                case EventTrigger(topic, function):
                    functions.setdefault(topic, []).append(function)
        self._listeners[agent] = _Listener(authority, tuple(topics), functions)

    def leave(self, agent: str) -> None:
        """Take nothing from an agent and give it nothing."""
        self._listeners.pop(agent, None)
        for token in [token for token, request in self._requests.items() if request.agent == agent]:
            del self._requests[token]

    def close(self) -> None:
        """Stop everything that is under way."""
        self._listeners.clear()
        self._requests.clear()
        for task in self._tasks:
            task.cancel()

    async def send(self, topic: str, payload: str) -> int:
        """Send an operator's payload (WAVE text); return how many took it, after their calls."""
        deliveries = self._deliver(BusMessage(topic, payload.encode(), WAVE))
        return sum(await asyncio.gather(*(delivery for _, delivery in deliveries)))

    def hear(self, event: AgentPublished | AgentRequested | AgentReplied) -> None:
        """Take what an agent has to say."""
        listener = self._listeners.get(event.agent)
        if listener is None:
            return
        match event:
            case AgentPublished(agent, message):
                if self._may(agent, listener, PRODUCER, message.topic):
                    self._deliver(replace(message, reply_to=""))
            case AgentRequested(agent, _, _, _, message):
                if self._may(agent, listener, REQUEST_REPLY, message.topic):
                    self._request(event)
            case AgentReplied(agent, message):
                self._reply(agent, listener, message)

    def _may(self, agent: str, listener: _Listener, interface: str, topic: str) -> bool:
        if listener.authority.allows(interface, topic=topic):
            return True
        self._outlet.drop(agent, f"its grant does not let it send to {topic!r}")
        return False

    def _request(self, event: AgentRequested) -> None:
        if len(self._requests) >= MAX_REQUESTS:
            self._outlet.drop(event.agent, f"the node has {MAX_REQUESTS} requests that wait for answers")
            return
        token = str(next(self._numbers))
        request = _Request(event.agent, event.request, event.message.topic, event.replies)
        self._requests[token] = request
        request.asked.update(agent for agent, _ in self._deliver(replace(event.message, reply_to=token)))
        self._spawn(self._expire(token, event.timeout_ms / 1000))

    async def _expire(self, token: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._requests.pop(token, None)

    def _reply(self, agent: str, listener: _Listener, message: BusMessage) -> None:
        request = self._requests.get(message.reply_to)
        if request is None or agent not in request.asked:
            return  # nobody waits any more, or it was never asked
        if not self._may(agent, listener, REQUEST_REPLY, request.topic):
            return
        self._outlet.answer(request.agent, request.number, replace(message, topic="", reply_to=""))
        request.left -= 1
        if request.left == 0:
            del self._requests[message.reply_to]

    def _deliver(self, message: BusMessage) -> list[tuple[str, asyncio.Task[bool]]]:
        """Begin to deliver a message; return who is given it, and what tells whether it was taken."""
        found: list[tuple[str, asyncio.Task[bool]]] = []
        outlet, payload = self._outlet, _text(message)
        for agent, listener in self._listeners.items():
            if listener.wants(message.topic) and self._has_room(agent, listener, message):
                found.append((agent, self._carry(listener, message, outlet.hand_over(agent, message))))
            for function in listener.functions.get(message.topic, ()):
                if payload is None:
                    outlet.drop(
                        agent, f"a message on {message.topic} is no WAVE text of {MAX_EVENT_BYTES} bytes at most"
                    )
                elif self._has_room(agent, listener, message):
                    call = outlet.deliver(agent, f"{function}({payload})", queued=True)
                    found.append((agent, self._carry(listener, message, call)))
        return found

    def _has_room(self, agent: str, listener: _Listener, message: BusMessage) -> bool:
        """Take a place on the way to a subscriber, or count the message as dropped."""
        full = listener.waiting >= listener.authority.limits.queue
        if full or listener.waiting_bytes + len(message.data) > MAX_WAITING_BYTES:
            self._outlet.drop(agent, f"{listener.waiting} messages are on their way to it")
            return False
        listener.waiting += 1
        listener.waiting_bytes += len(message.data)
        return True

    def _carry(
        self, listener: _Listener, message: BusMessage, delivery: Coroutine[None, None, bool]
    ) -> asyncio.Task[bool]:
        def arrived(_: asyncio.Task[bool]) -> None:
            listener.waiting -= 1
            listener.waiting_bytes -= len(message.data)

        task = self._spawn(delivery)
        task.add_done_callback(arrived)
        return task

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _text(message: BusMessage) -> str | None:
    """Payload for event triggers; None when the message is not for them."""
    if message.content_type.partition(";")[0].strip() != WAVE or len(message.data) > MAX_EVENT_BYTES:
        return None
    try:
        return message.data.decode()
    except UnicodeDecodeError:
        return None
