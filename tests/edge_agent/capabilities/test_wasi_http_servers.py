"""wasi:http to others: servers that mean harm, and quotas."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import replace

import pytest
import trustme

from edge_agent.capabilities import http_client
from edge_agent.capabilities.http_types import MAX_FIELDS, MAX_MESSAGES
from fleet.errors import FleetError
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.http import Guest, Names, RawServer, answering, live, plain, raw_server
from tests.fakes.http_guest import DENIED, LOCAL, OUTGOING, fetch, guest
from tests.fakes.wait import wait_until

# --- TLS ---


def test_servers_are_verified(node: Node, tmp_path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    (tmp_path / "ca.pem").write_bytes(ours.cert_pem.bytes())
    outcomes = []
    for authority, name in ((ours, "host.example"), (ours, "other.example"), (theirs, "host.example")):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(tls)

        def talk(server: RawServer, connection: socket.socket, tls=tls) -> None:
            with tls.wrap_socket(connection, server_side=True) as secure:
                answering(plain())(server, secure)

        with raw_server(talk) as server:
            context = replace(
                live(node.agent({OUTGOING: [{**LOCAL, "networks": ["public"]}]})), http_authorities=tmp_path / "ca.pem"
            )
            agent = Guest(context, Names({"host.example": ["8.8.8.8"]}, server.port))
            outcomes.append(agent.fetch(agent.request("host.example", scheme="HTTPS")))
    assert outcomes[0].status == 200
    assert outcomes[1:] == [Variant("TLS-certificate-error")] * 2


def test_a_server_without_tls_is_none(node: Node) -> None:
    with raw_server(lambda _server, connection: connection.sendall(b"SSH-2.0-x\r\n")) as server:
        agent = guest(node)
        found = agent.fetch(agent.request(f"127.0.0.1:{server.port}", scheme="HTTPS"))
    assert found == Variant("TLS-protocol-error")


# --- servers that mean harm ---


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (b"", "HTTP-protocol-error"),
        (b"garbage\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "HTTP-response-header-section-size"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "HTTP-response-header-section-size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "HTTP-response-incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP-response-incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "HTTP-response-incomplete"),
    ],
)
def test_malformed_responses_are_error_values(node: Node, response: bytes, code: str) -> None:
    found = fetch(node, answering(response))
    assert isinstance(found, Variant)
    assert found.case == code


def test_a_few_informational_responses_are_passed_over(node: Node) -> None:
    assert fetch(node, answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + plain())).body == b"hello"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_larger_than_granted_is_cut(node: Node, declared: bool) -> None:
    def endless(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        length = "Content-Length: 99999999" if declared else "X: y"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        while True:
            connection.sendall(bytes(65536))

    found = fetch(node, endless, max_response_bytes="1MiB")
    assert found == Variant("HTTP-response-body-size", 1 << 20)


def drip(piece: bytes, start: bytes = b""):
    def talk(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(start)
        while not server.closed.wait(0.02):
            connection.sendall(piece)

    return talk


@pytest.mark.parametrize(
    ("talk", "options", "code"),
    [
        (drip(b""), {"first_byte": 0.1}, "HTTP-response-timeout"),
        (drip(b"x", b"HTTP/1.1 200 OK\r\nX: "), {"first_byte": 0.2}, "HTTP-response-timeout"),
        (drip(b"", plain(b"abc")[:-1]), {"between_bytes": 0.1}, "connection-read-timeout"),
        (drip(b"HTTP/1.1 100 Continue\r\n\r\n"), {"first_byte": 5.0}, "HTTP-protocol-error"),
    ],
)
def test_slow_servers_end_with_the_guests_patience(node: Node, talk, options, code) -> None:
    before = time.monotonic()
    assert fetch(node, talk, options=options).case == code
    assert time.monotonic() - before < 3


def test_a_request_lives_no_longer_than_a_call_may(node: Node) -> None:
    """A body that comes byte by byte never breaks a pause between bytes."""
    talk = drip(b"x", b"HTTP/1.1 200 OK\r\n\r\n")
    before = time.monotonic()
    found = fetch(node, talk, limits={"deadline": "400ms"})
    assert found == Variant("connection-read-timeout")
    assert time.monotonic() - before < 3


def test_a_resolver_that_never_answers_is_given_up(node: Node) -> None:
    class Stuck(Names):
        def resolve(self, host, port):
            while not over:
                time.sleep(0.01)
            return []

    over: list[bool] = []
    agent = Guest(live(node.agent({OUTGOING: [LOCAL]}, deadline="200ms")), Stuck({}))
    assert agent.fetch(agent.request("host.example")) == Variant("HTTP-response-timeout")
    over.append(True)


def test_a_server_that_answers_before_the_body_has_ended(node: Node) -> None:
    """It says no and hangs up: the answer counts, not the broken connection."""

    def refuse(_server: RawServer, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(plain(b"no", "413 Content Too Large"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with raw_server(refuse) as server:
        agent = guest(node)
        request = agent.request(f"127.0.0.1:{server.port}", method="post")
        body, stream = agent.body(request)
        future = agent.handle(request, None).value
        for _ in range(64):
            if agent.write(stream, bytes(4096)) != Ok(None):
                break
        agent.types["[static]outgoing-body.finish"](body, None)
        assert agent.read(agent.outcome(future).value).status == 413


# --- quotas ---


def test_a_request_body_larger_than_granted_fails(node: Node) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node, max_request_bytes="1KiB")
        request = agent.request(f"127.0.0.1:{server.port}", method="post")
        body, stream = agent.body(request)
        future = agent.handle(request, None).value
        failed = agent.write(stream, bytes(1025)).value
        size = Variant("HTTP-request-body-size", 1024)
        assert agent.types["http-error-code"](failed.payload) == size
        assert agent.types["[static]outgoing-body.finish"](body, None) == Err(size)
        assert agent.outcome(future) == Err(size)
        before = agent.request(f"127.0.0.1:{server.port}", method="post")
        _, stream = agent.body(before)
        agent.write(stream, bytes(1025))
        assert agent.handle(before, None) == Err(size)


@pytest.mark.parametrize(("declared", "written"), [(3, b"abcd"), (3, b"ab"), (10**17, b"")])
def test_a_body_is_as_long_as_it_says(node: Node, declared: int, written: bytes) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node)
        headers = agent.fields(("content-length", str(declared).encode()))
        request = agent.request(f"127.0.0.1:{server.port}", method="post", headers=headers)
        body, stream = agent.body(request)
        future = agent.handle(request, None).value
        agent.write(stream, written)
        assert isinstance(agent.types["[static]outgoing-body.finish"](body, None), Err)
        assert agent.outcome(future).value.case == "HTTP-request-body-size"


def test_a_body_that_is_dropped_is_not_taken_for_a_whole_one(node: Node) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node)
        request = agent.request(f"127.0.0.1:{server.port}", method="post")
        body, stream = agent.body(request)
        future = agent.handle(request, None).value
        agent.write(stream, b"abc")
        agent.drops["output-stream"](stream)
        agent.drops["outgoing-body"](body)
        assert agent.outcome(future) == Err(Variant("HTTP-protocol-error"))
    assert not any(request.endswith(b"0\r\n\r\n") for request in server.requests)


def test_requests_per_second_are_counted(node: Node) -> None:
    with raw_server(answering(plain())) as server:
        context = live(node.agent({OUTGOING: [{**LOCAL, "max_rps": 2}]}))
        agent = Guest(replace(context, clock=node.clock))
        codes = [agent.handle(agent.request(f"127.0.0.1:{server.port}"), None) for _ in range(3)]
        assert codes[2] == Err(Variant("connection-limit-reached"))
        assert all(isinstance(code, Ok) for code in codes[:2])
        node.clock.advance(1)
        assert isinstance(agent.handle(agent.request(f"127.0.0.1:{server.port}"), None), Ok)


def test_requests_at_a_time_are_bounded_and_end_with_their_handles(node: Node) -> None:
    with raw_server(drip(b"")) as server:
        context = live(node.agent({OUTGOING: [LOCAL]}))
        agent = Guest(context)
        most = http_client.MAX_REQUESTS
        begun = [agent.handle(agent.request(f"127.0.0.1:{server.port}"), None) for _ in range(most)]
        assert agent.handle(agent.request(f"127.0.0.1:{server.port}"), None) == Err(Variant("connection-limit-reached"))
        wait_until(lambda: len(server.requests) == most)
        for future in begun:
            agent.drops["future-incoming-response"](future.value)

        def again() -> bool:
            return isinstance(agent.handle(agent.request(f"127.0.0.1:{server.port}"), None), Ok)

        wait_until(again)
        context.close()


def test_handles_are_bounded(node: Node) -> None:
    agent = guest(node)
    for function, most in (("[constructor]fields", MAX_FIELDS), ("[constructor]request-options", MAX_MESSAGES)):
        for _ in range(most):
            agent.types[function]()
        with pytest.raises(FleetError):
            agent.types[function]()


def test_an_ungranted_guest_is_denied(node: Node) -> None:
    agent = Guest(live(node.agent({})))
    assert agent.handle(agent.request("host.example"), None) == Err(DENIED)
