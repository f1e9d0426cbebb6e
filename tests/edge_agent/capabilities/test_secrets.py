"""fleet:secrets: what is held, what is told, what is sent for a guest, and guests that try to get more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.capabilities import find, secrets
from edge_agent.capabilities.base import AgentContext
from edge_agent.capabilities.secrets import HTTP, MAX_HELD, REVEAL, STORE, VERSION
from edge_agent.held_secret import MASKED, HeldSecret, Mask
from fleet.errors import Code, FleetError
from fleet.sealing import SecretKind
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions
from tests.fakes.http import Guest, answering, live, plain, raw_server

OUTGOING = "wasi:http/outgoing-handler"
NOT_GRANTED, NOT_FOUND = Err(Variant("not-granted")), Err(Variant("not-found"))
LOCAL = {"hosts": ["*"], "ports": ["*"], "methods": ["GET"], "networks": ["loopback"]}
SEND = {"names": ["token"], "hosts": ["127.0.0.1"], "schemes": ["http"]}


def agent(node: Node, **rules: list[dict[str, object]]) -> AgentContext:
    """An agent with two secrets and a line break; `rules` by the last word of the interface."""
    names = {"store": STORE, "reveal": REVEAL, "http": HTTP, "outgoing": OUTGOING}
    held = {
        "token": HeldSecret(SecretKind.TEXT, bytearray("hunter2 \N{SNOWMAN}".encode())),
        "key": HeldSecret(SecretKind.BYTES, bytearray(b"\xff\x00key")),
        "lines": HeldSecret(SecretKind.TEXT, bytearray(b"one\r\nX-Other: two")),
        "ascii": HeldSecret(SecretKind.TEXT, bytearray(b"hunter2")),
    }
    return replace(node.agent({names[name]: rule for name, rule in rules.items()}), secrets=held)


def calls(context: AgentContext) -> tuple:
    found = secrets.interfaces(context)
    get, reveal = functions(found, f"{STORE}{VERSION}")["get"], functions(found, f"{REVEAL}{VERSION}")["reveal"]
    return get, reveal, functions(found, f"{HTTP}{VERSION}")["attach"]


def test_a_secret_is_told_to_whom_the_grant_says(node: Node) -> None:
    get, reveal, _ = calls(agent(node, store=[{"names": ["*"]}], reveal=[{"names": ["token", "k*"]}]))
    assert reveal(get("token").value) == Ok(Variant("text", "hunter2 \N{SNOWMAN}"))
    assert reveal(get("key").value) == Ok(Variant("bytes", b"\xff\x00key"))
    assert reveal(get("lines").value) == NOT_GRANTED, "it may be held"
    assert get("none") == NOT_FOUND


@pytest.mark.parametrize("rules", [{}, {"store": []}, {"store": [{"names": ["other"]}], "reveal": [{"names": ["*"]}]}])
def test_a_name_outside_the_grant_says_nothing_about_the_node(node: Node, rules: dict) -> None:
    get, _, _ = calls(agent(node, **rules))
    assert get("token") == get("nowhere") == NOT_GRANTED


def test_holding_has_a_bound_and_what_is_dropped_makes_room(node: Node) -> None:
    context = agent(node, store=[{"names": ["token"]}])
    (store,) = (found for found in secrets.interfaces(context) if found.name.startswith(STORE))
    get = store.functions["get"].call
    handles = [get("token").value for _ in range(MAX_HELD)]
    with pytest.raises(FleetError) as caught:
        get("token")
    assert caught.value.code is Code.LIMIT_EXCEEDED
    store.resources["secret"](handles[0])
    assert isinstance(get("token"), Ok)


def test_secrets_are_overwritten_when_the_agent_ends(node: Node) -> None:
    context = agent(node, store=[{"names": ["token"]}], reveal=[{"names": ["token"]}])
    get, reveal, _ = calls(context)
    handle, memory = get("token").value, context.secrets["token"].data
    context.close()
    assert memory == b""
    assert reveal(handle) == Ok(Variant("text", ""))


def test_what_is_revealed_is_confidential_and_nothing_is_printed(node: Node) -> None:
    context = agent(node, store=[{"names": ["token"]}])
    by_name = {found.name: found for found in secrets.interfaces(context)}
    assert by_name[f"{REVEAL}{VERSION}"].confidential
    assert "hunter2" not in repr(context)
    assert find("fleet:secrets/reveal@0.1.0") == f"{REVEAL}{VERSION}"


class HttpGuest(Guest):
    """A guest with both packages."""

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self.get, self.reveal, self.attach = calls(context)


def test_a_held_secret_is_sent_and_never_seen(node: Node) -> None:
    rules = {"store": [{"names": ["ascii"]}], "http": [SEND | {"names": ["ascii"]}], "outgoing": [LOCAL]}
    with raw_server(answering(plain())) as server:
        guest = HttpGuest(live(agent(node, **rules)))
        request = guest.request(f"127.0.0.1:{server.port}", headers=guest.fields(("x-own", b"1")))
        secret = guest.get("ascii").value
        assert guest.reveal(secret) == NOT_GRANTED
        assert guest.attach(request, "Authorization", "Bearer ", secret) == Ok(None)
        shown = guest.method("fields", "entries", guest.method("outgoing-request", "headers", request))
        assert shown == [("x-own", b"1")]
        assert guest.fetch(request).status == 200
    assert b"\r\nAuthorization: Bearer hunter2\r\n" in server.requests[0]


@pytest.mark.parametrize(
    "send",
    [
        {"hosts": ["api.example.com"]},
        {"schemes": ["https"]},
        {"names": ["key"]},
    ],
    ids=lambda send: next(iter(send)),
)
def test_a_secret_goes_nowhere_else(node: Node, send: dict[str, list[str]]) -> None:
    """`outgoing-handler` alone would let the request go; with the secret on it, nothing of it is sent."""
    rules = {"store": [{"names": ["*"]}], "http": [SEND | {"names": ["ascii"]} | send], "outgoing": [LOCAL]}
    with raw_server(answering(plain())) as server:
        guest = HttpGuest(live(agent(node, **rules)))
        request = guest.request(f"127.0.0.1:{server.port}")
        if guest.attach(request, "authorization", "", guest.get("ascii").value) == NOT_GRANTED:
            assert send == {"names": ["key"]}
            return
        assert guest.fetch(request) == Variant("HTTP-request-denied")
        assert guest.fetch(guest.request(f"127.0.0.1:{server.port}")).status == 200, "without it, it may"
    assert len(server.requests) == 1


def test_the_target_is_asked_for_when_it_is_final(node: Node) -> None:
    """The host is set again after the secret was attached."""
    rules = {"store": [{"names": ["*"]}], "http": [SEND | {"names": ["ascii"]}], "outgoing": [LOCAL]}
    with raw_server(answering(plain())) as server:
        guest = HttpGuest(live(agent(node, **rules)))
        request = guest.request(f"127.0.0.1:{server.port}")
        assert guest.attach(request, "authorization", "", guest.get("ascii").value) == Ok(None)
        guest.method("outgoing-request", "set-authority", request, f"localhost:{server.port}")
        assert guest.fetch(request) == Variant("HTTP-request-denied")
    assert server.requests == []


@pytest.mark.parametrize(
    ("header", "prefix", "name"),
    [
        ("authorization", "", "lines"),
        ("authorization", "a\r\nb: ", "ascii"),
        ("not a header", "", "ascii"),
        ("Host", "", "ascii"),
        ("Transfer-Encoding", "", "ascii"),
        ("content-length", "", "ascii"),
        ("x-own", "", "ascii"),
        ("X-Attached", "", "ascii"),
    ],
)
def test_headers_that_cannot_be_attached(node: Node, header: str, prefix: str, name: str) -> None:
    rules = {"store": [{"names": ["*"]}], "http": [SEND | {"names": ["*"]}]}
    guest = HttpGuest(agent(node, **rules))
    request = guest.request("127.0.0.1", headers=guest.fields(("X-Own", b"1")))
    assert guest.attach(request, "x-attached", "", guest.get("ascii").value) == Ok(None)
    answer = guest.attach(request, header, prefix, guest.get(name).value)
    assert isinstance(answer, Err)
    assert answer.value.case == "unfit"
    assert "hunter2" not in str(answer)


def test_a_request_that_outlives_its_agent_has_no_secret_left(node: Node) -> None:
    rules = {"store": [{"names": ["*"]}], "http": [SEND | {"names": ["ascii"]}], "outgoing": [LOCAL]}
    context = agent(node, **rules)
    guest = HttpGuest(live(context))
    request = guest.request("127.0.0.1:1")
    guest.attach(request, "authorization", "", guest.get("ascii").value)
    context.close()
    assert guest.fetch(request) == Variant("HTTP-request-denied")


SECRET = 'pass"word\\1'


@pytest.mark.parametrize(
    "text",
    [
        f"the token is {SECRET}!",
        'say("pass\\"word\\\\1")',
        'say(\\"pass\\\\\\"word\\\\\\\\1\\")',
        SECRET.encode().hex(),
        "cGFzcyJ3b3JkXDE=",
        str(list(SECRET.encode())),
    ],
    ids=["plain", "wave", "wave in JSON", "hexadecimal", "base64", "list"],
)
def test_texts_that_leave_the_runner_are_masked(text: str) -> None:
    mask = Mask(
        [HeldSecret(SecretKind.TEXT, bytearray(SECRET.encode())), HeldSecret(SecretKind.BYTES, bytearray(b"\xff" * 8))]
    )
    masked = mask(text)
    assert masked != text
    assert "word" not in masked
    assert mask("255, 255, 255, 255, 255, 255, 255, 255") == "0, 0, 0, 0, 0, 0, 0, 0"


def test_short_secrets_do_not_blank_everything() -> None:
    assert Mask([HeldSecret(SecretKind.TEXT, bytearray(b"a"))])("banana") == "banana"
    assert Mask([])("nothing") == "nothing"
    assert MASKED in Mask([HeldSecret(SecretKind.TEXT, bytearray(b"four"))])("four")
