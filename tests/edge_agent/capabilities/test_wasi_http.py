"""wasi:http to others: what is sent, what may be sent, and servers that mean harm."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import replace

import pytest
import trustme

from edge_agent.capabilities import http_client
from edge_agent.capabilities.http_body import MAX_WAITING
from edge_agent.capabilities.http_types import MAX_FIELDS, MAX_MESSAGES
from fleet.errors import FleetError
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.http import Guest, Names, RawServer, Response, answering, live, plain, raw_server
from tests.fakes.wait import wait_until

OUTGOING = "wasi:http/outgoing-handler"
LOCAL = {"hosts": ["*"], "ports": ["*"], "methods": ["GET", "HEAD", "POST"], "networks": ["loopback"]}
DENIED = Variant("HTTP-request-denied")
PROHIBITED = Variant("destination-IP-prohibited")


def guest(node: Node, network: Names | None = None, seconds: float = 20.0, **rule: object) -> Guest:
    return Guest(live(node.agent({OUTGOING: [{**LOCAL, **rule}]}), seconds), network)


def fetch(node: Node, talk, path: str = "/", *, limits=None, options=None, **rule: object):
    with raw_server(talk) as server:
        context = node.agent({OUTGOING: [{**LOCAL, **rule}]}, **(limits or {}))
        agent = Guest(live(context))
        found = agent.fetch(agent.request(f"127.0.0.1:{server.port}", path), options and agent.options(**options))
        context.close()
        return found


# --- an ordinary exchange ---


def test_a_request_and_its_response(node: Node) -> None:
    with raw_server(answering(plain(b"hello", "200 OK", "X-One: 1", "x-one: 2"))) as server:
        agent = guest(node)
        headers = agent.fields(("Accept", b"text/plain"), ("x-own", b"\xff"))
        found = agent.fetch(agent.request(f"127.0.0.1:{server.port}", "/a?b=c", headers=headers))
    assert found == Response(200, [("content-length", b"5"), ("x-one", b"1"), ("x-one", b"2")], b"hello", [])
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /a?b=c HTTP/1.1"
    assert set(lines[1:-2]) == {
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"Accept: text/plain",
        b"x-own: \xff",
        b"Connection: close",
    }, "and nothing that the guest has not asked for"


def test_a_chunked_response_with_trailers(node: Node) -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    found = fetch(node, answering(response))
    assert (found.body, found.trailers) == (b"abcde", [("x-sum", b"5")])


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_is_sent_as_it_is_written(node: Node, declared: bool) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node)
        headers = agent.fields(("content-length", b"6")) if declared else None
        request = agent.request(f"127.0.0.1:{server.port}", method="post", headers=headers)
        body, stream = agent.body(request)
        assert agent.write(stream, b"abc") == Ok(None)
        future = agent.handle(request, None).value
        assert agent.write(stream, b"def") == Ok(None)
        assert agent.types["[static]outgoing-body.finish"](body, None) == Ok(None)
        assert agent.read(agent.outcome(future).value).body == b"hello"
    request = server.requests[0].lower()
    assert (b"transfer-encoding: chunked" in request) is not declared
    assert request.endswith(b"abcdef" if declared else b"0\r\n\r\n")


def test_a_large_body_waits_for_its_reader(node: Node) -> None:
    size = 4 * MAX_WAITING
    found = fetch(node, answering(plain(bytes(size))))
    assert found.body == bytes(size)


def test_redirects_are_the_guests_business(node: Node) -> None:
    found = fetch(node, answering(plain(b"", "302 Found", "Location: http://127.0.0.1:1/")))
    assert (found.status, dict(found.headers)["location"]) == (302, b"http://127.0.0.1:1/")


def test_no_proxy_of_the_environment_is_used(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(node, answering(plain())).body == b"hello"


def test_nothing_is_unpacked(node: Node) -> None:
    found = fetch(node, answering(plain(b"\x1f\x8b bomb", "200 OK", "Content-Encoding: gzip")))
    assert found.body == b"\x1f\x8b bomb"


# --- what may be sent ---


@pytest.mark.parametrize(
    ("rule", "change", "code"),
    [
        ({"hosts": ["other.example"]}, {}, DENIED),
        ({"methods": ["POST"]}, {}, DENIED),
        ({"ports": ["1"]}, {}, DENIED),
        ({"schemes": ["https"]}, {}, DENIED),
        ({"paths": ["/api/*"]}, {"path": "/ap"}, DENIED),
        ({"paths": ["/api/*"]}, {"path": "/other?/api/x"}, DENIED),
        ({"paths": ["/api/*"]}, {"path": "/api/../secret"}, Variant("HTTP-request-URI-invalid")),
        ({"paths": ["/api/*"]}, {"path": "/api/%2E%2e/secret"}, Variant("HTTP-request-URI-invalid")),
        ({"paths": ["/api/*"]}, {"path": "/api/..%2Fsecret"}, Variant("HTTP-request-URI-invalid")),
        ({"paths": ["/api/*"]}, {"path": "/api/..\\secret"}, Variant("HTTP-request-URI-invalid")),
        ({}, {"method": "connect"}, DENIED),
        ({}, {"method": "trace"}, DENIED),
        ({}, {"method": "get "}, None),
        ({}, {"method": "FOO"}, DENIED),
    ],
)
def test_what_no_rule_allows_is_an_error_value_and_never_sent(node: Node, rule, change, code) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node, Names({"127.0.0.1": ["127.0.0.1"]}), **rule)
        try:
            request = agent.request(f"127.0.0.1:{server.port}", **change)
        except AssertionError:
            assert code is None, "the guest cannot even set it"
            return
        assert agent.handle(request, None) == Err(code)
    assert server.connections == []


def test_a_name_is_not_looked_up_before_it_is_allowed(node: Node) -> None:
    network = Names({"secret.attacker.example": ["127.0.0.1"]})
    agent = guest(node, network, hosts=["*.example.org"])
    assert agent.handle(agent.request("secret.attacker.example"), None) == Err(DENIED)
    assert network.asked == []


@pytest.mark.parametrize(
    "authority",
    [
        "user@host.example",
        "host.example:0",
        "host.example:99999",
        "host.example:",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
        "b\u00fccher.example",
        "host.example/path",
        "host\r\nx: y",
        "[::1",
        "[fe80::1%25eth0]",
        "",
        "a" * 400,
    ],
)
def test_odd_authorities_cannot_be_set(node: Node, authority: str) -> None:
    agent = guest(node)
    request = agent.types["[constructor]outgoing-request"](agent.fields())
    assert agent.method("outgoing-request", "set-authority", request, authority) == Err(None)
    assert agent.handle(request, None) == Err(Variant("HTTP-request-URI-invalid"))


@pytest.mark.parametrize("path", ["no-slash", "/a b", "/a\r\nX: y", "/a#b", "/\u00fc", "/" + "a" * 9000])
def test_odd_paths_cannot_be_set(node: Node, path: str) -> None:
    agent = guest(node)
    request = agent.types["[constructor]outgoing-request"](agent.fields())
    assert agent.method("outgoing-request", "set-path-with-query", request, path) == Err(None)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("host", b"other", "forbidden"),
        ("Connection", b"keep-alive", "forbidden"),
        ("transfer-encoding", b"chunked", "forbidden"),
        ("proxy-authorization", b"x", "forbidden"),
        ("upgrade", b"h2c", "forbidden"),
        ("x", b"a\r\nhost: b", "invalid-syntax"),
        ("x", b"a\nb", "invalid-syntax"),
        ("x", b"a\0b", "invalid-syntax"),
        ("x", b" a", "invalid-syntax"),
        ("x y", b"a", "invalid-syntax"),
        ("x\r\n", b"a", "invalid-syntax"),
        ("", b"a", "invalid-syntax"),
        ("x", b"a" * 70_000, "forbidden"),
    ],
)
def test_odd_fields_are_refused(node: Node, name: str, value: bytes, error: str) -> None:
    agent = guest(node)
    assert agent.types["[static]fields.from-list"]([(name, value)]) == Err(Variant(error))
    fields = agent.fields(("x", b"1"))
    assert agent.method("fields", "append", fields, name, value) == Err(Variant(error))
    assert agent.method("fields", "set", fields, name, [value]) == Err(Variant(error))
    assert agent.method("fields", "entries", fields) == [("x", b"1")]


def test_fields_are_a_list_of_named_values(node: Node) -> None:
    agent = guest(node)
    fields = agent.types["[constructor]fields"]()
    for value in (b"1", b"2"):
        assert agent.method("fields", "append", fields, "X-A", value) == Ok(None)
    assert agent.method("fields", "get", fields, "x-a") == [b"1", b"2"]
    copy = agent.method("fields", "clone", fields)
    assert agent.method("fields", "set", copy, "x-a", [b"3"]) == Ok(None)
    assert agent.method("fields", "delete", fields, "x-A") == Ok(None)
    assert not agent.method("fields", "has", fields, "x-a")
    assert agent.method("fields", "entries", copy) == [("x-a", b"3")]
    request = agent.types["[constructor]outgoing-request"](copy)
    taken = agent.method("outgoing-request", "headers", request)
    assert agent.method("fields", "append", taken, "b", b"") == Err(Variant("immutable"))
    too_many = [("a", b"")] * 300
    assert agent.types["[static]fields.from-list"](too_many) == Err(Variant("forbidden"))


# --- where it may go ---


@pytest.mark.parametrize(
    ("addresses", "networks", "allowed"),
    [
        (["127.0.0.1"], ["loopback"], True),
        (["127.0.0.1"], ["public"], False),
        (["8.8.8.8"], ["public"], True),
        (["8.8.8.8", "10.0.0.1"], ["public"], False),
        (["8.8.8.8", "10.0.0.1"], ["public", "10.0.0.0/24"], True),
        (["10.0.1.1"], ["10.0.0.0/24"], False),
        (["::ffff:127.0.0.1"], ["public"], False),
        (["64:ff9b::7f00:1"], ["public"], False),
        (["169.254.169.254"], ["public", "private", "loopback"], False),
        (["fe80::1"], ["link-local"], True),
        (["0.0.0.0"], ["public", "private", "loopback", "link-local"], False),
        (["224.0.0.1"], ["public", "private", "loopback", "link-local"], False),
        ([], ["public"], False),
    ],
)
def test_every_address_of_a_name_must_be_in_a_granted_network(node: Node, addresses, networks, allowed) -> None:
    with raw_server(answering(plain())) as server:
        network = Names({"host.example": addresses}, server.port)
        agent = guest(node, network, networks=networks)
        found = agent.fetch(agent.request("host.example"))
    assert (isinstance(found, Response) and found.status == 200) is allowed
    assert found == PROHIBITED or allowed
    assert network.connected == (addresses[:1] if allowed else [])


def test_the_address_that_was_checked_is_the_one_that_is_used(node: Node) -> None:
    """A name that changes its address between the check and the connection gains nothing: it is asked once."""

    class Rebinding(Names):
        def resolve(self, host, port):
            super().resolve(host, port)
            return ["8.8.8.8"] if len(self.asked) == 1 else ["127.0.0.1"]

    with raw_server(answering(plain())) as server:
        network = Rebinding({"host.example": []}, server.port)
        agent = guest(node, network, networks=["public"])
        assert agent.fetch(agent.request("host.example")).status == 200
        assert (network.asked, network.connected) == (["host.example"], ["8.8.8.8"])
        assert b"\r\nHost: host.example\r\n" in server.requests[0]
        assert agent.fetch(agent.request("host.example")) == PROHIBITED


def test_the_rules_of_one_request_hold_together(node: Node) -> None:
    """The larger maximum belongs to the rule for another network."""
    rules = [
        {"hosts": ["*"], "ports": ["*"], "methods": ["GET"], "networks": ["loopback"], "max_response_bytes": "4B"},
        {"hosts": ["*"], "ports": ["*"], "methods": ["GET"], "networks": ["public"], "max_response_bytes": "1MiB"},
    ]
    with raw_server(answering(plain())) as server:
        for address, expected in (("127.0.0.1", Variant("HTTP-response-body-size", 4)), ("8.8.8.8", None)):
            agent = Guest(live(node.agent({OUTGOING: rules})), Names({"host.example": [address]}, server.port))
            found = agent.fetch(agent.request("host.example"))
            assert found == expected or found.status == 200


def test_names_that_nobody_knows_and_ports_that_nobody_listens_on(node: Node) -> None:
    agent = guest(node, Names({}))
    assert agent.fetch(agent.request("nowhere.example")).case == "DNS-error"
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    agent = guest(node)
    assert agent.fetch(agent.request(f"127.0.0.1:{port}")) == Variant("connection-refused")


def test_a_real_name_of_this_machine(node: Node) -> None:
    with raw_server(answering(plain())) as server:
        agent = guest(node)
        assert agent.fetch(agent.request(f"localhost:{server.port}")).status == 200
        public = guest(node, networks=["public"])
        assert public.fetch(public.request(f"localhost:{server.port}")) == PROHIBITED


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
