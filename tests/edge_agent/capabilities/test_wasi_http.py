"""wasi:http to others: what is sent, what may be sent and where to."""

from __future__ import annotations

import socket

import pytest

from edge_agent.capabilities.http_body import MAX_WAITING
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.http import Guest, Names, Response, answering, live, plain, raw_server
from tests.fakes.http_guest import DENIED, OUTGOING, PROHIBITED, fetch, guest

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
