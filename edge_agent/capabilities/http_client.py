"""Sends requests of one agent, each in a thread of its own, over HTTP/1.1.

Owns: `HttpClient`, which bounds how many requests there are, and `Sending`, one request from the look-up of its host
to the last byte of the response. What may be sent is decided by `http_policy`; this module keeps to it:

- The connection goes to an address that was checked. Name, certificate and `Host` are those that the grant allowed.
- Certificates are always verified, with the system's authorities and those of the node.
- Nothing is added but `Host`, `Connection` and the length: no cookies, no credentials, no proxy, no redirect followed,
  nothing decompressed. A connection carries one request.
- Everything has an end: a request lives no longer than a call of the agent may, whatever the other side does.
- A response is read once its request has been sent, or the server has stopped taking it.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from edge_agent.capabilities.http_body import Entries, Inflow, Outflow
from edge_agent.capabilities.http_network import Network, SystemNetwork, tls_context
from edge_agent.capabilities.http_policy import HttpError, Permit, Target, decide
from edge_agent.capabilities.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge_agent.capabilities.base import AgentContext

MAX_REQUESTS = 16
"""Requests of one agent at a time."""

MAX_HEAD = 64 * 1024
"""Bytes of a response's status line and headers, and of its trailers."""

MAX_INFORMATIONAL = 16
"""Responses of the class 1xx before the real one."""

MAX_ADDRESSES = 16
"""Addresses of one name that are checked; a name with more is refused."""

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a request may take for its parts; a guest may ask for other values."""

    connect: float = 10.0
    first_byte: float = 60.0
    between_bytes: float = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        headers: as the guest set them, checked.
        body: what the guest writes, None for a request without one.
    """

    target: Target
    headers: Entries
    body: Outflow | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the body may still be on its way."""

    status: int
    headers: Entries
    body: Inflow


class HttpClient:
    """The requests of one agent."""

    def __init__(self, context: AgentContext, network: Network | None = None) -> None:
        self._context = context
        self._network = SystemNetwork() if network is None else network
        self._pace = Pace(context.clock.monotonic_ns)
        self._lock = threading.Lock()
        self._running: set[Sending] = set()
        context.releases.callback(self.close)

    def send(self, request: Request, timeouts: Timeouts) -> Sending:
        """Begin a request; in the agent's thread.

        Raises:
            HttpError: HTTP-request-denied; HTTP-request-body-size for a body that is too large already;
                connection-limit-reached for one request too many, at a time or in this second.
        """
        permit = decide(self._context.authority, request.target)
        if request.body is not None:
            request.body.bound(permit.max_request_bytes)
        with self._lock:
            room = len(self._running) < MAX_REQUESTS
        if not room or not self._pace.take(permit.max_rps):
            raise HttpError("connection-limit-reached")
        lifetime = self._context.authority.limits.deadline_ms / 1000
        wake, authorities = self._context.wake, self._context.http_authorities
        sending = Sending(
            request, permit, timeouts, Surroundings(self._network, authorities, lifetime, wake, self._end)
        )
        with self._lock:
            self._running.add(sending)
        sending.start()
        return sending

    def close(self) -> None:
        """Stop every request; their threads end soon after."""
        with self._lock:
            running = tuple(self._running)
        for sending in running:
            sending.cancel()

    def _end(self, sending: Sending) -> None:
        with self._lock:
            self._running.discard(sending)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a request needs of its agent and node.

    Attributes:
        authorities: file with certificates of further authorities.
        lifetime: seconds from the start after which the request is over.
        wake: as `AgentContext.wake`.
        ended: called last, in the request's thread.
    """

    network: Network
    authorities: Path | None
    lifetime: float
    wake: Callable[[], None]
    ended: Callable[[Sending], None]


class Sending:
    """One request; made by `HttpClient.send`."""

    def __init__(self, request: Request, permit: Permit, timeouts: Timeouts, around: Surroundings) -> None:
        self._request = request
        self._permit = permit
        self._timeouts = timeouts
        self._around = around
        self._until = time.monotonic() + around.lifetime
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False
        self._inflow = Inflow(around.wake, self.cancel)
        self._outcome: Answer | HttpError | None = None
        self._thread = threading.Thread(target=self._run, name="http request", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ready(self) -> bool:
        """Whether there is an outcome. One whose time is up has one, even if the resolver has not come back."""
        return self._outcome is not None or time.monotonic() >= self._until

    def outcome(self) -> Answer | HttpError:
        """Return the outcome of a request that is ready."""
        outcome = self._outcome
        return HttpError("HTTP-response-timeout") if outcome is None else outcome

    def cancel(self) -> None:
        """Stop; for any thread. The connection is cut, so that its thread comes back from wherever it waits."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                _cut(self._socket)
        if self._request.body is not None:
            self._request.body.abandon()
        self._inflow.discard()

    # --- in the request's thread ---

    def _run(self) -> None:
        try:
            self._exchange()
        except HttpError as error:
            self._fail(error)
        except TimeoutError:
            self._fail(HttpError("connection-read-timeout"))
        except ssl.SSLError as error:
            self._fail(HttpError("TLS-protocol-error") if self._outcome is None else _incomplete(error))
        except OSError as error:
            self._fail(HttpError("connection-terminated") if self._outcome is None else _incomplete(error))
        finally:
            if self._request.body is not None:
                self._request.body.shut()
            if self._socket is not None:
                self._socket.close()
            self._around.ended(self)
            self._around.wake()

    def _fail(self, error: HttpError) -> None:
        self._inflow.fail(error)
        if self._outcome is None:
            self._outcome = error
        self._around.wake()

    def _exchange(self) -> None:
        target = self._request.target
        permit, addresses = self._checked_addresses(target)
        connection = self._connect(target, addresses)
        protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        try:
            self._send(connection, protocol)
            self._receive(connection, protocol, permit)
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                raise HttpError("HTTP-response-header-section-size", MAX_HEAD) from error
            raise HttpError("HTTP-protocol-error") if self._outcome is None else _incomplete(error) from error
        except h11.LocalProtocolError as error:
            raise HttpError("HTTP-protocol-error") from error

    def _checked_addresses(self, target: Target) -> tuple[Permit, Sequence[str]]:
        try:
            addresses = self._around.network.resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise HttpError("DNS-error", {"rcode": None, "info-code": None}) from error
        if len(addresses) > MAX_ADDRESSES:
            raise HttpError("DNS-error", {"rcode": "too many addresses", "info-code": None})
        return self._permit.narrowed(addresses), addresses

    def _connect(self, target: Target, addresses: Sequence[str]) -> socket.socket:
        until = min(self._until, time.monotonic() + self._timeouts.connect)
        failure = HttpError("connection-refused")
        for address in addresses:
            try:
                plain = self._around.network.connect(address, target.port, _left(until, "connection-timeout"))
            except TimeoutError:
                failure = HttpError("connection-timeout")
            except ConnectionRefusedError:
                failure = HttpError("connection-refused")
            except OSError:
                failure = HttpError("destination-unavailable")
            else:
                return self._own(self._secure(plain, target, until) if target.scheme == "https" else plain)
        raise failure

    def _secure(self, plain: socket.socket, target: Target, until: float) -> socket.socket:
        try:
            plain.settimeout(_left(until, "connection-timeout"))
            return tls_context(self._around.authorities).wrap_socket(plain, server_hostname=target.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise HttpError("TLS-certificate-error") from error
        except TimeoutError as error:
            plain.close()
            raise HttpError("connection-timeout") from error
        except (OSError, ValueError) as error:
            plain.close()
            raise HttpError("TLS-protocol-error") from error

    def _own(self, connection: socket.socket) -> socket.socket:
        with self._lock:
            self._socket = connection
            if self._cancelled:
                raise HttpError("connection-terminated")
        return connection

    def _send(self, connection: socket.socket, protocol: h11.Connection) -> None:
        """Send the request. A server that stops taking it may have answered already: what it said is read next."""
        request = self._request
        head = h11.Request(
            method=request.target.method,
            target=request.target.path,
            headers=_raw([("Host", request.target.authority.encode()), *request.headers, *_framing(request)]),
        )
        try:
            self._write(connection, protocol.send(head) or b"")
            trailers: Entries = []
            if request.body is not None:
                while contents := request.body.take(min(self._until, time.monotonic() + self._timeouts.between_bytes)):
                    self._write(connection, protocol.send(h11.Data(contents)) or b"")
                trailers = request.body.trailers()
            self._write(connection, protocol.send(h11.EndOfMessage(headers=_raw(trailers))) or b"")
        except TimeoutError as error:
            raise HttpError("connection-write-timeout") from error
        except ConnectionError:
            pass  # what the server said before it cut the connection may still be there
        if request.body is not None:
            request.body.shut()

    def _write(self, connection: socket.socket, contents: bytes) -> None:
        if contents:
            wait = _left(self._until, "connection-write-timeout")
            connection.settimeout(min(wait, self._timeouts.between_bytes))
            connection.sendall(contents)

    def _receive(self, connection: socket.socket, protocol: h11.Connection, permit: Permit) -> None:
        first = min(self._until, time.monotonic() + self._timeouts.first_byte)
        informational, received = 0, 0
        most = permit.max_response_bytes
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                protocol.receive_data(self._read(connection, first))
            elif isinstance(event, h11.InformationalResponse):
                informational += 1
                if informational > MAX_INFORMATIONAL:
                    raise HttpError("HTTP-protocol-error")
            elif isinstance(event, h11.Response):
                if most is not None and _length(event) > most and self._request.target.method != "HEAD":
                    raise HttpError("HTTP-response-body-size", most)
                self._outcome = Answer(event.status_code, _entries(event.headers), self._inflow)
                self._around.wake()
            elif isinstance(event, h11.Data):
                received += len(event.data)
                if most is not None and received > most:
                    raise HttpError("HTTP-response-body-size", most)
                self._inflow.put(bytes(event.data), self._until)
            else:
                trailers = event.headers if isinstance(event, h11.EndOfMessage) else []
                self._inflow.end(_entries(trailers))
                return

    def _read(self, connection: socket.socket, first: float) -> bytes:
        if self._outcome is None:
            until, late = first, "HTTP-response-timeout"
        else:
            until, late = min(self._until, time.monotonic() + self._timeouts.between_bytes), "connection-read-timeout"
        connection.settimeout(_left(until, late))
        try:
            return connection.recv(_CHUNK)
        except TimeoutError as error:
            raise HttpError(late) from error


def _framing(request: Request) -> Entries:
    """Headers that say where the body ends (RFC 9112, section 6)."""
    close = ("Connection", b"close")
    if request.body is None:
        return [("Content-Length", b"0"), close] if request.target.method in ("POST", "PUT", "PATCH") else [close]
    return [("Transfer-Encoding", b"chunked"), close] if request.body.declared is None else [close]


def _raw(entries: Entries) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value) for name, value in entries]


def _entries(headers: Sequence[tuple[bytes, bytes]]) -> Entries:
    return [(bytes(name).decode("ascii"), bytes(value)) for name, value in headers]


def _length(response: h11.Response) -> int:
    """Length that a response declares; h11 has checked that it is one number."""
    return next((int(value) for name, value in response.headers if name == b"content-length"), 0)


def _left(until: float, late: str) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise HttpError(late)
    return left


def _incomplete(_error: Exception) -> HttpError:
    return HttpError("HTTP-response-incomplete")


def _cut(connection: socket.socket) -> None:
    """End both directions. The plain method: a TLS connection's own would touch what its thread is using."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
