"""`wasi:messaging`: messages between the agents of a node, over the node's own bus.

Owns: what the functions of `types`, `producer` and `request-reply` mean, who may call them, and the limits on messages;
and `message_for`, which makes the message that a handler is given. Never carries a message: that is the context's
exchange, and on its other end `edge_agent.bus`.

- There is one bus, called `local`; `default` and the empty name mean it too.
- Delivery is at most once. `send` without error means that the message is on its way to the bus; a message that the
  runner has no room for is an error value. What a slow subscriber misses is counted on the node.
- Topics are written as in triggers (`sensors/temperature`); another text is an error value. A topic that no rule of
  the grant names is `permission-denied`.
- `request` without a timeout waits `DEFAULT_TIMEOUT_MS`; the deadline of the running call ends the agent before that
  if it comes first. Answers beyond the expected ones are dropped.
- `reply` needs the grant to name the topic that the message came on; it reaches nobody else than who asked.
- Nothing is sent for a message whose bytes or texts are above the limits below: an error value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, Table, bind
from edge_agent.capabilities.messaging_wit import (
    PRODUCER,
    PRODUCER_FUNCTIONS,
    REQUEST_REPLY,
    REQUEST_REPLY_FUNCTIONS,
    TYPES,
    TYPES_FUNCTIONS,
    VERSION,
)
from edge_agent.capabilities.pace import Pace
from edge_agent.capabilities.results import Answering, RefusedError
from edge_agent.runtime import BusMessage
from fleet.errors import Code, FleetError
from fleet.names import is_topic
from fleet.wit_types import Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext

BUS_NAMES = ("local", "default", "")
"""Names under which a guest finds the bus."""

MAX_DATA_BYTES = 1 << 20
"""Bytes of one message that is sent."""

MAX_PAIRS = 64
"""Pairs of metadata of one message that is sent."""

MAX_TEXT_BYTES = 8 * 1024
"""UTF-8 bytes of all metadata and the content type of one message that is sent."""

MAX_MESSAGES = 256
"""Messages that an agent holds."""

MAX_HELD_BYTES = 16 << 20
"""Bytes of all messages that an agent holds."""

MAX_CLIENTS = 64
"""Clients, and sets of request options, that an agent holds."""

MAX_REPLIES = 64
"""Most answers to one request."""

DEFAULT_TIMEOUT_MS = 1_000
"""How long a request waits when the guest does not say."""

MAX_TIMEOUT_MS = 60_000
"""Longest wait of a request."""


@dataclass(slots=True)
class _Held:
    """A message that the guest holds; `topic` and `reply_to` are empty for one that it made."""

    data: bytes
    topic: str = ""
    content_type: str | None = None
    metadata: list[tuple[str, str]] | None = None
    reply_to: str = ""

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of content type and metadata."""
        texts = [self.content_type or "", *(text for pair in self.metadata or () for text in pair)]
        return sum(len(text.encode()) for text in texts)

    @property
    def size(self) -> int:
        """What it counts for among the bytes that the agent holds."""
        return len(self.data) + self.text_bytes


@dataclass(slots=True)
class _Client:
    connected: bool = True


@dataclass(slots=True)
class _Options:
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    replies: int = 1


@dataclass(slots=True)
class _Messages:
    """The messages of one agent, of bounded number and size."""

    table: Table[_Held] = field(default_factory=lambda: Table("messages", MAX_MESSAGES))
    bytes: int = 0

    def insert(self, message: _Held) -> int:
        """Keep a message.

        Raises:
            FleetError: LIMIT_EXCEEDED.
        """
        self._grow(message.size)
        try:
            return self.table.insert(message)
        except FleetError:
            self.bytes -= message.size
            raise

    def change(self, handle: int, change: Callable[[_Held], None]) -> None:
        """Change a message; one that has become too large has changed all the same, and the agent ends.

        Raises:
            FleetError: LIMIT_EXCEEDED.
        """
        message = self.table.get(handle)
        before = message.size
        change(message)
        self._grow(message.size - before)

    def take(self, handle: int) -> _Held:
        """Remove and return a message."""
        message = self.table.take(handle)
        self.bytes -= message.size
        return message

    def drop(self, handle: int) -> None:
        """Destructor."""
        self.take(handle)

    def _grow(self, size: int) -> None:
        if self.bytes + size > MAX_HELD_BYTES:
            raise FleetError(
                Code.LIMIT_EXCEEDED, f"the messages that the agent holds would be above {MAX_HELD_BYTES} bytes"
            )
        self.bytes += size


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The package for one agent."""
    return context.shared(_Package).interfaces()


def message_for(context: AgentContext, message: BusMessage) -> int:
    """Make the message that the agent's handler is given; the guest owns it once the call begins.

    Raises:
        FleetError: LIMIT_EXCEEDED when the agent holds too many messages.
    """
    return context.shared(_Package).receive(message)


class _Package:
    """The package for one agent, with the handles that its guest holds."""

    def __init__(self, context: AgentContext) -> None:
        self._authority = context.authority
        self._exchange = context.exchange
        self._paces = {interface: Pace(context.clock.monotonic_ns) for interface in (PRODUCER, REQUEST_REPLY)}
        self._clients: Table[_Client] = Table("clients", MAX_CLIENTS)
        self._options: Table[_Options] = Table("request options", MAX_CLIENTS)
        self._messages = _Messages()

    def interfaces(self) -> tuple[HostInterface, ...]:
        types = f"{TYPES}@{VERSION}"
        shared = {"client": types, "message": types}
        messages = self._messages
        return (
            HostInterface(
                types,
                bind(
                    TYPES_FUNCTIONS,
                    {
                        "[static]client.connect": _answering(self._connect),
                        "[method]client.disconnect": _answering(self._disconnect),
                        "[constructor]message": lambda data: messages.insert(_Held(bytes(data))),
                        "[method]message.topic": lambda handle: messages.table.get(handle).topic or None,
                        "[method]message.content-type": lambda handle: messages.table.get(handle).content_type,
                        "[method]message.set-content-type": self._set_content_type,
                        "[method]message.data": lambda handle: messages.table.get(handle).data,
                        "[method]message.set-data": self._set_data,
                        "[method]message.metadata": lambda handle: messages.table.get(handle).metadata,
                        "[method]message.add-metadata": self._add_metadata,
                        "[method]message.set-metadata": self._set_metadata,
                        "[method]message.remove-metadata": self._remove_metadata,
                    },
                ),
                resources={"client": self._clients.drop, "message": messages.drop},
            ),
            HostInterface(
                f"{PRODUCER}@{VERSION}", bind(PRODUCER_FUNCTIONS, {"send": _answering(self._send)}), uses=shared
            ),
            HostInterface(
                f"{REQUEST_REPLY}@{VERSION}",
                bind(
                    REQUEST_REPLY_FUNCTIONS,
                    {
                        "[constructor]request-options": lambda: self._options.insert(_Options()),
                        "[method]request-options.set-timeout-ms": self._set_timeout,
                        "[method]request-options.set-expected-replies": self._set_replies,
                        "request": _answering(self._request),
                        "reply": _answering(self._reply),
                    },
                ),
                resources={"request-options": self._options.drop},
                uses=shared,
            ),
        )

    def receive(self, message: BusMessage) -> int:
        """Keep a message that came over the bus."""
        pairs = list(zip(message.metadata[::2], message.metadata[1::2], strict=True))
        content_type = message.content_type or None
        return self._messages.insert(_Held(message.data, message.topic, content_type, pairs or None, message.reply_to))

    # types

    def _connect(self, name: str) -> int:
        granted = self._authority.capabilities
        if not granted.get(PRODUCER) and not granted.get(REQUEST_REPLY):
            raise _refused("permission-denied", "the grant names no topic to send to")
        if name not in BUS_NAMES:
            raise _refused("connection", f"the node has one bus, called {BUS_NAMES[0]!r}")
        return self._clients.insert(_Client())

    def _disconnect(self, handle: int) -> None:
        self._connected(handle).connected = False

    def _connected(self, handle: int) -> _Client:
        client = self._clients.get(handle)
        if not client.connected:
            raise _refused("connection", "the client is disconnected")
        return client

    def _set_content_type(self, handle: int, content_type: str) -> None:
        def change(message: _Held) -> None:
            message.content_type = content_type

        self._messages.change(handle, change)

    def _set_data(self, handle: int, data: bytes) -> None:
        def change(message: _Held) -> None:
            message.data = bytes(data)

        self._messages.change(handle, change)

    def _add_metadata(self, handle: int, key: str, value: str) -> None:
        def change(message: _Held) -> None:
            pairs = dict(message.metadata or ())
            message.metadata = list((pairs | {key: value}).items())

        self._messages.change(handle, change)

    def _set_metadata(self, handle: int, pairs: Sequence[tuple[str, str]]) -> None:
        def change(message: _Held) -> None:
            message.metadata = list(pairs)

        self._messages.change(handle, change)

    def _remove_metadata(self, handle: int, key: str) -> None:
        def change(message: _Held) -> None:
            if message.metadata is not None:
                message.metadata = [pair for pair in message.metadata if pair[0] != key]

        self._messages.change(handle, change)

    # producer and request-reply

    def _send(self, client: int, topic: str, handle: int) -> None:
        message = self._messages.take(handle)  # given away, whatever happens next
        self._connected(client)
        self._exchange.publish(self._sendable(PRODUCER, topic, message))

    def _set_timeout(self, handle: int, timeout_ms: int) -> None:
        self._options.get(handle).timeout_ms = min(timeout_ms, MAX_TIMEOUT_MS)

    def _set_replies(self, handle: int, replies: int) -> None:
        self._options.get(handle).replies = max(1, min(replies, MAX_REPLIES))

    def _request(self, client: int, topic: str, handle: int, options_handle: int | None) -> list[int]:
        options = _Options() if options_handle is None else self._options.take(options_handle)
        self._connected(client)
        message = self._sendable(REQUEST_REPLY, topic, self._messages.table.get(handle))
        answers = self._exchange.request(message, options.replies, options.timeout_ms)
        if not answers:
            raise _refused("timeout")
        return [self.receive(answer) for answer in answers]

    def _reply(self, reply_to: int, handle: int) -> None:
        message = self._messages.take(handle)
        asked = self._messages.table.get(reply_to)
        if not asked.reply_to:
            return
        answer = self._sendable(REQUEST_REPLY, asked.topic, message)
        self._exchange.reply(BusMessage("", answer.data, answer.content_type, answer.metadata, asked.reply_to))

    def _sendable(self, interface: str, topic: str, message: _Held) -> BusMessage:
        """What leaves the agent, if its grant and the limits let it."""
        if not is_topic(topic):
            raise _refused("other", "the text is no topic such as sensors/temperature")
        if not self._authority.allows(interface, topic=topic):
            raise _refused("permission-denied", f"the grant does not name {topic} for {interface}")
        most = self._authority.maximum(interface, "max_bytes", topic=topic)
        most = MAX_DATA_BYTES if most is None else min(most, MAX_DATA_BYTES)
        if len(message.data) > most:
            raise _refused("other", f"a message to {topic} may have {most} bytes, this one has {len(message.data)}")
        if len(message.metadata or ()) > MAX_PAIRS or message.text_bytes > MAX_TEXT_BYTES:
            raise _refused("other", f"a message may have {MAX_PAIRS} pairs and {MAX_TEXT_BYTES} bytes of text")
        per_second = self._authority.maximum(interface, "max_rps", topic=topic)
        if not self._paces[interface].take(per_second):
            raise _refused("other", f"the grant allows {per_second} messages per second")
        flat = tuple(text for pair in message.metadata or () for text in pair)
        return BusMessage(topic, message.data, message.content_type or "", flat)


def _refused(case: str, text: str | None = None) -> RefusedError:
    return RefusedError(Variant(case, text))


def _error_of(error: FleetError) -> Variant[str]:
    return Variant("permission-denied" if error.code is Code.CALL_DENIED else "other", error.private)


_answering = Answering(_error_of)
