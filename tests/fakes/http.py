"""Both sides of HTTP for tests: servers that say exactly what a test wants, and a guest that fetches."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from edge_agent.capabilities import wasi_http, wasi_io
from edge_agent.capabilities.base import AgentContext, EndAgentError
from edge_agent.capabilities.http_wit import OUTGOING_HANDLER, TYPES
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok, Variant, WitValue
from tests.fakes.agents import functions


@dataclass
class RawServer:
    """A server on the loopback interface whose side of a connection is a function."""

    talk: Callable[[socket.socket], None]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    requests: list[bytes] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.port: int = self.listener.getsockname()[1]

    def read_request(self, connection: socket.socket) -> bytes:
        """One request with the body that it declares; kept in `requests`."""
        data = b""
        while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        chunked = b"transfer-encoding: chunked" in head.lower()
        while (len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n"))) and (
            piece := connection.recv(65536)
        ):
            body += piece
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection:
            self.talk(connection)


@contextmanager
def raw_server(talk: Callable[[RawServer, socket.socket], None]) -> Iterator[RawServer]:
    server = RawServer(lambda connection: talk(server, connection))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        with suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        thread.join()


def answering(response: bytes) -> Callable[[RawServer, socket.socket], None]:
    """Read one request, say this, and hang up."""

    def talk(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return talk


def plain(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Names:
    """A network whose names are those of a test; connections to any of its addresses go to the loopback interface."""

    def __init__(self, names: dict[str, Sequence[str]], port: int | None = None) -> None:
        self.names = names
        self.port = port
        self.asked: list[str] = []
        self.connected: list[str] = []

    def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(-2, "unknown")
        return self.names[host]

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        self.connected.append(address)
        return socket.create_connection(("127.0.0.1", port if self.port is None else self.port), timeout)


def live(context: AgentContext, seconds: float = 20.0) -> AgentContext:
    """The agent in real time, as its thread in a runner has it."""
    stirred = threading.Event()
    until = time.monotonic() + seconds

    def wait(nanoseconds: int) -> None:
        stirred.wait(min(nanoseconds / 1e9, max(0.0, until - time.monotonic())))
        stirred.clear()
        if time.monotonic() >= until:
            raise EndAgentError(ExitCause.DEADLINE, "over")

    return replace(context, clock=time, wait=wait, wake=stirred.set)


@dataclass
class Response:
    status: int
    headers: list[tuple[str, bytes]]
    body: bytes
    trailers: list[tuple[str, bytes]]


class Guest:
    """What a guest does with the interfaces."""

    def __init__(self, context: AgentContext, network: Names | None = None) -> None:
        self.interfaces = (*wasi_http.interfaces(context, network), *wasi_io.interfaces(context))
        self.types = functions(self.interfaces, TYPES)
        self.handle = functions(self.interfaces, OUTGOING_HANDLER)["handle"]
        self.streams = functions(self.interfaces, wasi_io.STREAMS)
        self.poll = functions(self.interfaces, wasi_io.POLL)
        self.drops = {name: drop for found in self.interfaces for name, drop in found.resources.items()}

    def method(self, resource: str, name: str, *arguments: WitValue) -> WitValue:
        return self.types[f"[method]{resource}.{name}"](*arguments)

    def fields(self, *entries: tuple[str, bytes]) -> int:
        answer = self.types["[static]fields.from-list"](list(entries))
        assert isinstance(answer, Ok), answer
        return answer.value

    def request(
        self, authority: str, path: str = "/", method: str = "get", scheme: str = "HTTP", headers: int | None = None
    ) -> int:
        request = self.types["[constructor]outgoing-request"](self.fields() if headers is None else headers)
        for name, value in (
            ("method", Variant(method) if method.islower() else Variant("other", method)),
            ("scheme", Variant(scheme)),
            ("authority", authority),
            ("path-with-query", path),
        ):
            assert self.method("outgoing-request", f"set-{name}", request, value) == Ok(None), (name, value)
        return request

    def options(self, **seconds: float) -> int:
        options = self.types["[constructor]request-options"]()
        for key, value in seconds.items():
            name = f"{key.replace('_', '-')}-timeout"
            assert self.method("request-options", f"set-{name}", options, int(value * 1e9)) == Ok(None)
            assert self.method("request-options", name, options) == int(value * 1e9)
        return options

    def outcome(self, future: int) -> WitValue:
        """The message's number, or the error code."""
        self.poll["poll"]([self.method("future-incoming-response", "subscribe", future)])
        answer = self.method("future-incoming-response", "get", future)
        assert isinstance(answer, Ok)
        assert self.method("future-incoming-response", "get", future) == Err(None), "it is given out once"
        return answer.value

    def fetch(self, request: int, options: int | None = None) -> Response | Variant[object]:
        """The whole response, or the error code."""
        sent = self.handle(request, options)
        if isinstance(sent, Err):
            return sent.value
        outcome = self.outcome(sent.value)
        return outcome.value if isinstance(outcome, Err) else self.read(outcome.value)

    def read(self, response: int) -> Response | Variant[object]:
        headers = self.method("fields", "entries", self.method("incoming-response", "headers", response))
        status = self.method("incoming-response", "status", response)
        body = self.method("incoming-response", "consume", response).value
        stream = self.method("incoming-body", "stream", body).value
        content = b""
        while isinstance(piece := self.streams["[method]input-stream.blocking-read"](stream, 1 << 20), Ok):
            content += piece.value
        if piece.value.case == "last-operation-failed":
            return self.types["http-error-code"](piece.value.payload)
        self.drops["input-stream"](stream)
        future = self.types["[static]incoming-body.finish"](body)
        self.poll["[method]pollable.block"](self.method("future-trailers", "subscribe", future))
        trailers = self.method("future-trailers", "get", future).value.value
        return Response(
            status, headers, content, [] if trailers is None else self.method("fields", "entries", trailers)
        )

    def body(self, request: int) -> tuple[int, int]:
        """The body of a request, and its stream."""
        body = self.method("outgoing-request", "body", request).value
        return body, self.method("outgoing-body", "write", body).value

    def write(self, stream: int, contents: bytes) -> WitValue:
        return self.streams["[method]output-stream.blocking-write-and-flush"](stream, contents)
