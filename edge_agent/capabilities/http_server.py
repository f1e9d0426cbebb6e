"""Speaks HTTP/1.1 to whoever connects to a port that an agent is granted.

Owns: `HttpServer`, the connections of one agent; `Reply`, where the agent's answer to one request goes; and the
size of everything that a client may send.

A request is read whole before the agent hears of it, so that a slow client costs a connection and none of the agent's
time. Everything about a connection is bounded: how many there are, the size of head and body, how long each part may
take. The agent's own queue decides how many requests wait; one too many is answered 503.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

import h11

from edge_agent.capabilities.http_listeners import LISTENERS, Listener, Place, cut
from edge_agent.capabilities.http_policy import HttpError
from edge_agent.capabilities.pace import Pace
from fleet.errors import FleetError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from edge_agent.capabilities.http_body import Entries
    from edge_agent.capabilities.http_types import OutgoingMessage

MAX_CONNECTIONS = 32
"""Connections of one agent at a time."""

MAX_HEAD = 32 * 1024
"""Bytes of a request line and headers."""

MAX_BODY = 16 << 20
"""Bytes of a request's body at most, whatever the grant says: it is held in memory."""

USUAL_BODY = 1 << 20
"""Bytes of a request's body where the grant has no maximum."""

HEAD_S = 10.0
"""Seconds for a request's head, and for the next request of a connection to come."""

BODY_S = 30.0
"""Seconds for a request's body."""

SEND_S = 10.0
"""Seconds that a client may take nothing of the response."""

QUEUE_S = 60.0
"""Seconds that a request may wait for its turn and its answer, on top of what one call may take."""

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, whole."""

    method: str
    path: str
    authority: str | None
    headers: Entries
    body: bytes


class Reply:
    """What becomes of one request; the agent's thread puts it, the connection's thread waits for it."""

    def __init__(self) -> None:
        self._put = threading.Event()
        self._lock = threading.Lock()
        self._message: OutgoingMessage | None = None
        self._status = 0
        self.gone = False
        """Whether nobody waits any more."""

    def answer(self, message: OutgoingMessage | HttpError) -> None:
        """Answer with what the guest has set: a failure that it reports is a bad gateway to the client."""
        if isinstance(message, HttpError):
            self.fail(502)
            return
        with self._lock:
            if not self._put.is_set():
                self._message = message
                self._put.set()
                return
        if message.body is not None:
            message.body.shut()

    def fail(self, status: int) -> None:
        """Answer with a status of ours; an answer that is already on its way is cut off instead."""
        with self._lock:
            if not self._put.is_set():
                self._status = status
                self._put.set()
            elif self._message is not None and self._message.body is not None:
                self._message.body.abandon()

    def wait(self, seconds: float) -> OutgoingMessage | int:
        """Return the message, or the status of ours; 504 when neither comes in time."""
        self._put.wait(seconds)
        with self._lock:
            if not self._put.is_set():
                self.gone, self._status = True, 504
                self._put.set()
            return self._status if self._message is None else self._message


class HttpServer:
    """Serves one agent.

    Args:
        agent: `application/agent`.
        places: where to listen.
        submit: takes each request, with the place of its answer; never waits longer than a client may.
        call_s: seconds that one call may take.

    Raises:
        FleetError: PORT_UNAVAILABLE.
    """

    def __init__(
        self, agent: str, places: tuple[Place, ...], submit: Callable[[HttpRequest, Reply], None], call_s: float
    ) -> None:
        self._agent = agent
        self._submit = submit
        self._patience = call_s + QUEUE_S
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listening: set[socket.socket] = set()
        """Connections that wait for a request or read one."""
        self._closed = False
        self._paces = {place: Pace(time.monotonic_ns) for place in places}
        self._listeners: list[Listener] = []
        try:
            for place in places:
                self._listeners.append(LISTENERS.open(agent, place))
        except FleetError:
            self.close()
            raise

    def start(self) -> None:
        """Take connections from now on; those that came before wait in the system's backlog."""
        for listener in self._listeners:
            listener.hand_to(self)

    def close(self) -> None:
        """Close the ports unless a newer instance of the agent has them, and cut connections without a request.

        A request that the agent has, or that waits for it, is still answered: with 502 or 503 if need be.
        """
        for listener in self._listeners:
            LISTENERS.close(listener, self)
        with self._lock:
            self._closed = True
            connections = tuple(self._listening)
        for connection in connections:
            cut(connection)

    def take(self, connection: socket.socket, place: Place) -> None:
        """Serve a connection; one too many is closed at once."""
        with self._lock:
            if self._closed or len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                return
            self._connections.add(connection)
        threading.Thread(target=self._run, args=(connection, place), name="http connection", daemon=True).start()

    # --- in the thread of a connection ---

    def _run(self, connection: socket.socket, place: Place) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            while self._listen(connection) and self._serve_one(connection, protocol, place):
                protocol.start_next_cycle()
        except (OSError, HttpError, h11.LocalProtocolError):
            pass  # the client has gone, is too slow, or the agent's answer broke off: cutting the connection says so
        finally:
            with self._lock:
                self._connections.discard(connection)
                self._listening.discard(connection)
            cut(connection)
            connection.close()

    def _listen(self, connection: socket.socket) -> bool:
        with self._lock:
            if not self._closed:
                self._listening.add(connection)
            return not self._closed

    def _serve_one(self, connection: socket.socket, protocol: h11.Connection, place: Place) -> bool:
        """Answer one request; True when the connection may bring another one."""
        try:
            request = _read(connection, protocol, place.max_body)
        except h11.RemoteProtocolError as error:
            _say(connection, protocol, error.error_status_hint)
            return False
        with self._lock:
            self._listening.discard(connection)
        if isinstance(request, int):
            if request:
                _say(connection, protocol, request)
            return False
        if not self._paces[place].take(place.max_rps):
            _say(connection, protocol, 429)
        else:
            reply = Reply()
            self._submit(request, reply)
            answer = reply.wait(self._patience)
            if isinstance(answer, int):
                _say(connection, protocol, answer)
            else:
                _send(connection, protocol, answer)
        return protocol.our_state is h11.DONE and protocol.their_state is h11.DONE


def _read(connection: socket.socket, protocol: h11.Connection, max_body: int) -> HttpRequest | int:
    """Read one request; the status that refuses it, 0 for a connection that brought none.

    Raises:
        OSError: the client is too slow or has gone.
        h11.RemoteProtocolError: it is no HTTP.
    """
    until = time.monotonic() + HEAD_S
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            if head is not None and protocol.they_are_waiting_for_100_continue:
                _write(connection, protocol.send(h11.InformationalResponse(status_code=100, headers=[])))
            connection.settimeout(max(until - time.monotonic(), 0.001))
            protocol.receive_data(connection.recv(_CHUNK))
        elif isinstance(event, h11.Request):
            if event.method == b"CONNECT":
                return 501
            if _length(event) > max_body:
                return 413
            head, until = event, time.monotonic() + BODY_S
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_body:
                return 413
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, bytes(body))
        else:
            return 0


def _request(head: h11.Request, body: bytes) -> HttpRequest | int:
    try:
        path = head.target.decode("ascii")
    except UnicodeDecodeError:
        return 400
    headers = [(bytes(name).decode("ascii"), bytes(value)) for name, value in head.headers]
    hosts = [value for name, value in headers if name == "host"]
    authority = hosts[0].decode("latin-1") if hosts else None
    return HttpRequest(head.method.decode("ascii"), path, authority, headers, body)


def _length(head: h11.Request) -> int:
    return next((int(value) for name, value in head.headers if name == b"content-length"), 0)


def _say(connection: socket.socket, protocol: h11.Connection, status: int) -> None:
    """Answer with a status of ours and close."""
    if protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    text = f"{status}\n".encode()
    headers = [*_date(), ("Content-Type", "text/plain"), ("Content-Length", str(len(text))), ("Connection", "close")]
    if status in (429, 503):
        headers.append(("Retry-After", "1"))
    _write(connection, protocol.send(h11.Response(status_code=status, headers=headers)))
    _write(connection, protocol.send(h11.Data(text)))
    _write(connection, protocol.send(h11.EndOfMessage()))


def _send(connection: socket.socket, protocol: h11.Connection, answer: OutgoingMessage) -> None:
    """Send the agent's answer as it is made.

    Raises:
        HttpError: the body broke off.
        OSError: the client has gone.
    """
    headers = [(name.encode(), value) for name, value in answer.headers.entries]
    if answer.body is None and answer.length is None:
        headers.append((b"content-length", b"0"))
    if not answer.headers.get("date"):
        headers += [(name.encode(), value.encode()) for name, value in _date()]
    try:
        _write(connection, protocol.send(h11.Response(status_code=answer.status, headers=headers)))
        trailers: Entries = []
        if answer.body is not None:
            while contents := answer.body.take(time.monotonic() + QUEUE_S):
                _write(connection, protocol.send(h11.Data(contents)))
            trailers = answer.body.trailers()
        raw = [(name.encode(), value) for name, value in trailers]
        _write(connection, protocol.send(h11.EndOfMessage(headers=raw)))
    finally:
        if answer.body is not None:
            answer.body.shut()


def _write(connection: socket.socket, contents: bytes | None) -> None:
    if contents:
        connection.settimeout(SEND_S)
        connection.sendall(contents)


def _date() -> list[tuple[str, str]]:
    return [("Date", formatdate(usegmt=True))]
