"""wasi:messaging as an agent sees it: who may send what, how messages are kept, and what leaves the agent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from edge_agent.capabilities import messaging
from edge_agent.capabilities.base import AgentContext
from edge_agent.capabilities.messaging import (
    DEFAULT_TIMEOUT_MS,
    MAX_CLIENTS,
    MAX_DATA_BYTES,
    MAX_HELD_BYTES,
    MAX_MESSAGES,
    MAX_PAIRS,
    MAX_REPLIES,
    MAX_TEXT_BYTES,
    MAX_TIMEOUT_MS,
    message_for,
)
from edge_agent.runtime import BusMessage, SensorState
from fleet.errors import Code, FleetError
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node

GRANT = {
    "wasi:messaging/producer": [{"topics": ["site/*"]}],
    "wasi:messaging/request-reply": [{"topics": ["site/*"]}],
}


@dataclass
class Wire:
    """An exchange that keeps what it is given, and answers requests with `replies`."""

    sent: list[BusMessage] = field(default_factory=list)
    asked: list[tuple[BusMessage, int, int]] = field(default_factory=list)
    replied: list[BusMessage] = field(default_factory=list)
    replies: list[BusMessage] = field(default_factory=list)
    full: bool = False

    def publish(self, message: BusMessage) -> None:
        if self.full:
            raise FleetError(Code.UNAVAILABLE, "too much waits")
        self.sent.append(message)

    def request(self, message: BusMessage, replies: int, timeout_ms: int) -> list[BusMessage]:
        self.asked.append((message, replies, timeout_ms))
        return self.replies

    def reply(self, message: BusMessage) -> None:
        self.replied.append(message)

    def sensors(self, source: str) -> tuple[SensorState, ...]:
        raise AssertionError(source)

    def changed(self, bucket: str, key: str, value: bytes | None) -> None:
        raise AssertionError((bucket, key, value))


class Guest:
    """The package's functions, called as a guest would."""

    def __init__(self, context: AgentContext) -> None:
        self.context = context
        self.calls = {
            name: function.call
            for interface in messaging.interfaces(context)
            for name, function in interface.functions.items()
        }
        self.drop = {
            name: drop for interface in messaging.interfaces(context) for name, drop in interface.resources.items()
        }

    def __call__(self, name: str, *arguments: object) -> object:
        return self.calls[name](*arguments)

    def client(self) -> int:
        result = self("[static]client.connect", "local")
        assert isinstance(result, Ok)
        return result.value

    def message(self, data: bytes = b"x") -> int:
        return self("[constructor]message", data)

    def send(self, topic: str, message: int | None = None) -> object:
        return self("send", self.client(), topic, self.message() if message is None else message)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def guest(node: Node, wire: Wire) -> Guest:
    return Guest(replace(node.agent(GRANT), exchange=wire))


def refusal(result: object) -> tuple[str, str | None]:
    assert isinstance(result, Err)
    assert isinstance(result.value, Variant)
    return result.value.case, result.value.payload


def test_a_message_is_what_was_put_into_it(guest: Guest) -> None:
    message = guest.message(b"one")
    assert guest("[method]message.topic", message) is None
    assert guest("[method]message.content-type", message) is None
    assert guest("[method]message.metadata", message) is None
    guest("[method]message.set-data", message, b"two")
    guest("[method]message.set-content-type", message, "text/plain")
    guest("[method]message.remove-metadata", message, "a")
    guest("[method]message.add-metadata", message, "a", "1")
    guest("[method]message.add-metadata", message, "b", "2")
    guest("[method]message.add-metadata", message, "a", "3")
    assert guest("[method]message.data", message) == b"two"
    assert guest("[method]message.content-type", message) == "text/plain"
    assert guest("[method]message.metadata", message) == [("a", "3"), ("b", "2")]
    guest("[method]message.remove-metadata", message, "a")
    guest("[method]message.set-metadata", message, [("c", "4"), ("c", "5")])
    assert guest("[method]message.metadata", message) == [("c", "4"), ("c", "5")]


def test_what_is_sent_is_the_whole_message(guest: Guest, wire: Wire) -> None:
    message = guest.message(b"hot")
    guest("[method]message.set-content-type", message, "text/plain")
    guest("[method]message.add-metadata", message, "k", "v")
    assert guest.send("site/alerts", message) == Ok(None)
    assert wire.sent == [BusMessage("site/alerts", b"hot", "text/plain", ("k", "v"))]
    with pytest.raises(KeyError):
        guest("[method]message.data", message)


def test_a_topic_outside_the_grant_is_permission_denied(guest: Guest, wire: Wire) -> None:
    assert refusal(guest.send("other"))[0] == "permission-denied"
    assert refusal(guest.send("Site Alerts"))[0] == "other"
    assert refusal(guest.send(""))[0] == "other"
    assert wire.sent == []


def test_an_agent_without_a_grant_gets_no_client(node: Node) -> None:
    guest = Guest(node.agent({}))
    assert refusal(guest("[static]client.connect", "local"))[0] == "permission-denied"


def test_an_agent_that_shares_nothing_with_its_node_is_denied(node: Node) -> None:
    guest = Guest(node.agent(GRANT))
    assert refusal(guest.send("site/a"))[0] == "permission-denied"


def test_there_is_one_bus(guest: Guest) -> None:
    for name in ("local", "default", ""):
        assert isinstance(guest("[static]client.connect", name), Ok)
    assert refusal(guest("[static]client.connect", "nats://elsewhere"))[0] == "connection"


def test_a_client_that_is_disconnected_sends_nothing(guest: Guest, wire: Wire) -> None:
    client = guest.client()
    assert guest("[method]client.disconnect", client) == Ok(None)
    assert refusal(guest("[method]client.disconnect", client))[0] == "connection"
    assert refusal(guest("send", client, "site/a", guest.message()))[0] == "connection"
    assert refusal(guest("request", client, "site/a", guest.message(), None))[0] == "connection"
    assert (wire.sent, wire.asked) == ([], [])


@pytest.mark.parametrize(("size", "taken"), [(MAX_DATA_BYTES, True), (MAX_DATA_BYTES + 1, False)])
def test_a_message_that_is_sent_has_a_largest_size(guest: Guest, size: int, *, taken: bool) -> None:
    assert isinstance(guest.send("site/a", guest.message(bytes(size))), Ok if taken else Err)


def test_the_grant_can_bound_size_and_rate(node: Node, wire: Wire) -> None:
    rule = {"topics": ["site/*"], "max_bytes": "2B", "max_rps": 3}
    guest = Guest(replace(node.agent({"wasi:messaging/producer": [rule]}), exchange=wire))
    assert "2 bytes" in str(refusal(guest.send("site/a", guest.message(b"abc")))[1])
    client = guest.client()
    results = [guest("send", client, "site/a", guest.message(b"ab")) for _ in range(5)]
    assert [isinstance(result, Ok) for result in results] == [True, True, True, False, False]
    node.clock.advance(1)
    assert guest.send("site/a", guest.message(b"ab")) == Ok(None)


def test_texts_of_a_message_are_bounded(guest: Guest) -> None:
    many = guest.message()
    guest("[method]message.set-metadata", many, [("k", "v")] * (MAX_PAIRS + 1))
    assert refusal(guest.send("site/a", many))[0] == "other"
    long = guest.message()
    guest("[method]message.set-content-type", long, "x" * (MAX_TEXT_BYTES + 1))
    assert refusal(guest.send("site/a", long))[0] == "other"


def test_what_an_agent_holds_is_bounded(guest: Guest) -> None:
    for _ in range(MAX_MESSAGES):
        guest.message()
    with pytest.raises(FleetError) as caught:
        guest.message()
    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_bytes_that_an_agent_holds_are_bounded_and_given_back(guest: Guest) -> None:
    half = guest.message(bytes(MAX_HELD_BYTES // 2))
    for change in (
        lambda: guest.message(bytes(MAX_HELD_BYTES // 2 + 1)),
        lambda: guest("[method]message.set-data", guest.message(), bytes(MAX_HELD_BYTES)),
        lambda: guest("[method]message.set-content-type", guest.message(), "x" * MAX_HELD_BYTES),
        lambda: guest("[method]message.set-metadata", guest.message(), [("k", "x" * MAX_HELD_BYTES)]),
        lambda: guest("[method]message.add-metadata", guest.message(), "k", "x" * MAX_HELD_BYTES),
    ):
        with pytest.raises(FleetError) as caught:
            change()
        assert caught.value.code is Code.LIMIT_EXCEEDED
    guest.drop["message"](half)


def test_messages_that_go_give_their_bytes_back(guest: Guest) -> None:
    for _ in range(3):
        guest.drop["message"](guest.message(bytes(MAX_HELD_BYTES)))
        guest.send("other", guest.message(bytes(MAX_HELD_BYTES)))


def test_clients_are_bounded_by_an_error_value(guest: Guest) -> None:
    for _ in range(MAX_CLIENTS):
        guest.client()
    assert refusal(guest("[static]client.connect", "local"))[0] == "other"


def test_a_runner_that_is_full_is_an_error_value(guest: Guest, wire: Wire) -> None:
    wire.full = True
    assert refusal(guest.send("site/a")) == ("other", "too much waits")


def options(guest: Guest, timeout_ms: int, replies: int) -> int:
    handle = guest("[constructor]request-options")
    guest("[method]request-options.set-timeout-ms", handle, timeout_ms)
    guest("[method]request-options.set-expected-replies", handle, replies)
    return handle


def test_a_request_is_bounded_and_keeps_its_message(guest: Guest, wire: Wire) -> None:
    message = guest.message(b"who?")
    wire.replies = [BusMessage("", b"me", "text/plain", ("k", "v"))]
    (answer,) = guest("request", guest.client(), "site/a", message, None).value
    assert guest("[method]message.data", answer) == b"me"
    assert guest("[method]message.topic", answer) is None
    assert guest("[method]message.metadata", answer) == [("k", "v")]
    guest("request", guest.client(), "site/a", message, options(guest, 1 << 31, 1 << 31))
    guest("request", guest.client(), "site/a", message, options(guest, 0, 0))
    assert [(replies, timeout) for _, replies, timeout in wire.asked] == [
        (1, DEFAULT_TIMEOUT_MS),
        (MAX_REPLIES, MAX_TIMEOUT_MS),
        (1, 0),
    ]
    assert guest("[method]message.data", message) == b"who?"


def test_a_request_without_an_answer_is_a_timeout(guest: Guest) -> None:
    assert refusal(guest("request", guest.client(), "site/a", guest.message(), None)) == ("timeout", None)


def test_a_request_outside_the_grant_is_not_sent(guest: Guest, wire: Wire) -> None:
    assert refusal(guest("request", guest.client(), "other", guest.message(), None))[0] == "permission-denied"
    assert wire.asked == []


def test_a_reply_goes_where_the_question_came_from(guest: Guest, wire: Wire) -> None:
    question = message_for(guest.context, BusMessage("site/a", b"who?", "", (), "7"))
    assert guest("[method]message.topic", question) == "site/a"
    for _ in range(2):
        assert guest("reply", question, guest.message(b"me")) == Ok(None)
    assert wire.replied == [BusMessage("", b"me", "", (), "7")] * 2


def test_a_reply_to_a_message_that_wants_none_is_no_error(guest: Guest, wire: Wire) -> None:
    told = message_for(guest.context, BusMessage("site/a", b"x"))
    assert guest("reply", told, guest.message()) == Ok(None)
    assert guest("reply", guest.message(), guest.message()) == Ok(None)
    assert wire.replied == []


def test_a_reply_on_a_topic_outside_the_grant_is_denied(guest: Guest, wire: Wire) -> None:
    question = message_for(guest.context, BusMessage("other", b"who?", "", (), "7"))
    assert refusal(guest("reply", question, guest.message()))[0] == "permission-denied"
    assert wire.replied == []
