"""A network between one coordinator and its nodes, in memory and in virtual time.

Speaks what gRPC speaks above the connection: generated stubs on one side, generated handlers on the other, real bytes
in between. Within a stream bytes stay in order, as TCP keeps them; everything else may go wrong. A cut line holds back
what is sent until it is healed, or until each end gives the other up by itself; a reset loses what is under way. Two
streams of one node know nothing of each other, so what an old one still carries arrives beside the new one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import grpc
from grpc import aio

KEEP_ALIVE_S = (5.0, 40.0)
"""When an end of a silent connection gives it up: 40 s after the last answer of the other."""

CONNECT_TIMEOUT_S = 5.0
WINDOW = 64
"""Messages that one end may send ahead of the other's reading."""


@dataclass
class Line:
    """How the way between one node and the coordinator is.

    Attributes:
        latency_s: bounds of the time that a message takes.
        cut: nothing passes, in either direction; the counter tells cuts apart.
        mute: what the node says does not arrive, though its machine still answers the connection's pings.
    """

    latency_s: tuple[float, float] = (0.001, 0.02)
    cut: bool = False
    cuts: int = 0
    mute: bool = False


class _End:
    """The last thing in a pipe."""


class Pipe:
    """One direction of one stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency: Callable[[], float], held: Callable[[], bool]) -> None:
        self._loop = loop
        self._latency = latency
        self._held = held
        self._last_due = 0.0
        self._on_the_way: deque[bytes | _End] = deque()
        self._waiting = 0
        self._arrived: deque[bytes | _End] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Send; waits while the other end is too far behind."""
        while len(self._on_the_way) + len(self._arrived) >= WINDOW and not self._closed:
            await self._change()
        self.send(data)

    def send(self, item: bytes | _End) -> None:
        """Put something on its way."""
        if self._closed:
            return
        self._last_due = max(self._last_due, self._loop.time() + self._latency())
        self._on_the_way.append(item)
        self._loop.call_at(self._last_due, self._arrive)

    def finish(self) -> None:
        """Put the end on its way, after everything that was sent."""
        self.send(_End())

    def release(self) -> None:
        """Deliver what was held back."""
        while self._waiting and not self._held():
            self._waiting -= 1
            self._deliver()

    def close(self) -> None:
        """Lose what is under way; the reader finds the end."""
        self._closed = True
        self._on_the_way.clear()
        self._arrived.append(_End())
        self._notify()

    async def read(self) -> bytes | None:
        """Return the next message, or None at the end, again and again."""
        while not self._arrived:
            await self._change()
        if isinstance(self._arrived[0], _End):
            return None
        data = self._arrived.popleft()
        self._notify()
        return data if isinstance(data, bytes) else None

    def _arrive(self) -> None:
        if self._held():
            self._waiting += 1
        else:
            self.release()
            self._deliver()

    def _deliver(self) -> None:
        if self._on_the_way:
            self._arrived.append(self._on_the_way.popleft())
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()


class Stream:
    """One call of a node, whatever its shape."""

    def __init__(self, network: Network, node: str, method: str) -> None:
        line = network.lines[node]

        def latency() -> float:
            return network.random.uniform(*line.latency_s)

        self.node, self.method = node, method
        self.up = Pipe(network.loop, latency, lambda: line.cut or line.mute)
        self.down = Pipe(network.loop, latency, lambda: line.cut)
        self.server: asyncio.Task[None] | None = None
        self.error: aio.AioRpcError | None = None
        self.client_open = self.server_open = True

    def lose_client(self, reason: str) -> None:
        """The client's end sees the connection break."""
        if self.client_open:
            self.client_open = False
            self.error = aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), reason)
            self.down.close()

    def lose_server(self) -> None:
        """The server's end sees the connection break: its handler is cancelled."""
        if self.server_open:
            self.server_open = False
            self.up.close()
            if self.server is not None:
                self.server.cancel()


class Server(Protocol):
    """What answers calls."""

    async def handle(self, stream: Stream) -> None:
        """Answer one call, from its beginning to its status."""
        ...


class Network:
    """Everything between one coordinator and its nodes.

    Attributes:
        lines: node -> how its line is.
        orders: node -> every desired state that was ever sent to it, as bytes.
        on_fault: takes what a handler raised that no handler may raise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.lines: dict[str, Line] = defaultdict(Line)
        self.orders: dict[str, list[bytes]] = defaultdict(list)
        self.streams: list[Stream] = []
        self._server: Server | None = None

    # What both ends do

    def serve(self, server: Server) -> None:
        """Answer calls from now on."""
        self._server = server

    def stop_serving(self) -> None:
        """The coordinator's process is gone; its machine resets every connection."""
        self._server = None
        for stream in self.streams:
            stream.server_open = False
            stream.up.close()
            if stream.server is not None:
                stream.server.cancel()
            self._break(stream, stream.lose_client, "connection reset")

    def channel(self, node: str) -> Channel:
        """What the node's stubs call through."""
        return Channel(self, node)

    def open(self, node: str, method: str) -> Stream:
        """Begin a call."""
        stream = Stream(self, node, method)
        self.streams = [other for other in self.streams if other.client_open or other.server_open]
        self.streams.append(stream)
        line = self.lines[node]
        if line.cut or self._server is None:
            stream.server_open = False
            delay = CONNECT_TIMEOUT_S if line.cut else self.random.uniform(*line.latency_s)
            self.loop.call_later(delay, stream.lose_client, "cannot connect")
        else:
            stream.server = self.loop.create_task(self._server.handle(stream))
        return stream

    def forget(self, node: str) -> None:
        """The node's process is gone; its machine resets every connection."""
        for stream in self._of(node):
            stream.lose_client("gone")
            self._break(stream, stream.lose_server)

    # What goes wrong

    def cut(self, node: str) -> None:
        """Nothing passes any more."""
        line = self.lines[node]
        line.cut, line.cuts = True, line.cuts + 1
        for stream in self._of(node):
            for lose in (lambda s=stream: s.lose_client("no answer to pings"), stream.lose_server):
                self.loop.call_later(self.random.uniform(*KEEP_ALIVE_S), self._give_up, line, line.cuts, lose)

    def heal(self, node: str) -> None:
        """Everything passes again, what was held back first."""
        line = self.lines[node]
        line.cut = line.mute = False
        line.latency_s = Line().latency_s
        for stream in self._of(node):
            stream.up.release()
            stream.down.release()

    def mute(self, node: str) -> None:
        """What the node says is held back."""
        self.lines[node].mute = True

    def slow(self, node: str, seconds: float) -> None:
        """Messages take up to this long."""
        self.lines[node].latency_s = (0.0, seconds)

    def vanish(self, node: str) -> None:
        """The node's machine is without power: it tells nobody, so the other end finds out by itself."""
        for stream in self._of(node):
            stream.client_open = False
            stream.down.close()
            self.loop.call_later(self.random.uniform(*KEEP_ALIVE_S), stream.lose_server)

    def reset(self, node: str) -> None:
        """Every connection of the node breaks; what is under way is lost."""
        for stream in self._of(node):
            self._later(stream.lose_client, "connection reset")
            self._later(stream.lose_server)

    def replay(self, node: str) -> bool:
        """Send the node an order again that it was sent before, and so a newer one out of turn."""
        sessions = [s for s in self._of(node) if s.method.endswith("/Session") and s.client_open and s.server_open]
        if not sessions or not self.orders[node]:
            return False
        sessions[-1].down.send(self.random.choice(self.orders[node]))
        return True

    def closes(self, stream: Stream) -> None:
        """The client ends a call; the server's handler is told, unless the line is cut."""
        stream.client_open = False
        self._break(stream, stream.lose_server)

    def _of(self, node: str) -> list[Stream]:
        return [stream for stream in self.streams if stream.node == node]

    def _break(self, stream: Stream, lose: Callable[..., None], *arguments: object) -> None:
        """One end is gone: the other is told, or finds out by itself when the line is cut, healed meanwhile or not."""
        if self.lines[stream.node].cut:
            self.loop.call_later(self.random.uniform(*KEEP_ALIVE_S), lose, *arguments)
        else:
            self._later(lose, *arguments)

    def _later(self, action: Callable[..., None], *arguments: object) -> None:
        self.loop.call_later(self.random.uniform(0, 0.02), action, *arguments)

    def _give_up(self, line: Line, number: int, lose: Callable[[], None]) -> None:
        if line.cut and line.cuts == number:
            lose()


# The client's side: what `fleet.v1.node_pb2_grpc.NodeServiceStub` and its callers use of `grpc.aio`.


class Channel:
    """Implements the part of `grpc.aio.Channel` that stubs call."""

    def __init__(self, network: Network, node: str) -> None:
        self._network = network
        self._node = node

    def stream_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Callable[..., ClientCall]:
        return lambda request=None: ClientCall(
            self._network, self._node, method, request_serializer, response_deserializer
        )

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Callable[..., ClientCall]:
        def begin(request: object) -> ClientCall:
            call = ClientCall(self._network, self._node, method, request_serializer, response_deserializer)
            call.stream.up.send(request_serializer(request))
            return call

        return begin

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Callable[..., Any]:
        async def ask(request: object, timeout: float | None = None) -> object:  # noqa: ASYNC109 - gRPC's signature
            call = ClientCall(self._network, self._node, method, request_serializer, response_deserializer)
            call.stream.up.send(request_serializer(request))
            try:
                async with asyncio.timeout(timeout):
                    return await call.read()
            except TimeoutError as error:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), "no reply in time") from error
            finally:
                call.cancel()

        return ask


class ClientCall:
    """A call as its caller holds it."""

    def __init__(self, network: Network, node: str, method: str, serialize: Any, deserialize: Any) -> None:
        self.stream = network.open(node, method)
        self._network = network
        self._serialize, self._deserialize = serialize, deserialize

    async def write(self, message: object) -> None:
        if not self.stream.client_open:
            raise asyncio.InvalidStateError("the call has ended")
        await self.stream.up.write(self._serialize(message))

    async def read(self) -> object:
        data = await self.stream.down.read()
        if data is not None:
            return self._deserialize(data)
        if self.stream.error is not None:
            raise self.stream.error
        return aio.EOF

    def cancel(self) -> bool:
        if self.stream.client_open:
            self._network.closes(self.stream)
        return True
