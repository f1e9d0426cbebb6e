"""The node's bus: who is given which message, what is dropped, and whom an answer reaches."""

import asyncio

import pytest

from edge_agent import bus as bus_module
from edge_agent.bus import MAX_EVENT_BYTES, Bus
from edge_agent.runtime import AgentPublished, AgentReplied, AgentRequested, BusMessage
from fleet.grants import Authority, Rule
from fleet.grants.constraints import Patterns
from fleet.grants.limits import Limits
from fleet.model import EventTrigger, MessageTrigger
from tests.fakes.clock import VirtualClock

PRODUCER, ASK, HANDLER = (f"wasi:messaging/{name}" for name in ("producer", "request-reply", "incoming-handler"))


def granting(*patterns, interfaces=(PRODUCER, ASK, HANDLER), queue=64):
    return Authority(
        {name: (Rule({"topics": Patterns(frozenset(patterns))}),) for name in interfaces}, Limits(queue=queue)
    )


class Agents:
    """Takes what the bus delivers; an agent in `busy` takes it once its event is set."""

    def __init__(self):
        self.given = []
        self.dropped = []
        self.answers = []
        self.busy = {}

    async def deliver(self, agent, invocation, *, queued):
        assert queued
        return await self._give(agent, invocation)

    async def hand_over(self, agent, message):
        return await self._give(agent, message)

    async def _give(self, agent, what):
        self.given.append((agent, what))
        if agent in self.busy:
            await self.busy[agent].wait()
        return True

    def drop(self, agent, what):
        self.dropped.append((agent, what))

    def answer(self, agent, request, answer):
        self.answers.append((agent, request, answer))


@pytest.fixture
def agents():
    return Agents()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def bus(agents, clock):
    bus = Bus(agents, clock)
    yield bus
    bus.close()


async def test_a_message_reaches_every_subscriber_of_its_topic(bus, agents, clock):
    bus.open("a/sender", granting("site/*"), ())
    bus.open("b/exact", granting("site/*"), [MessageTrigger("site/alerts")])
    bus.open("c/below", granting("site/*"), [MessageTrigger("site/*")])
    bus.open("d/other", granting("site/*"), [MessageTrigger("site/frames")])
    message = BusMessage("site/alerts", b"hot", "text/plain", ("k", "v"))
    bus.hear(AgentPublished("a/sender", message))
    await clock.settle()
    assert agents.given == [("b/exact", message), ("c/below", message)]
    assert agents.dropped == []


async def test_a_prefix_is_one_of_whole_words(bus, agents, clock):
    bus.open("a/sender", granting("*"), ())
    bus.open("b/below", granting("*"), [MessageTrigger("site/*")])
    for topic in ("site", "sites/x"):
        bus.hear(AgentPublished("a/sender", BusMessage(topic, b"")))
    await clock.settle()
    assert agents.given == []


async def test_grants_decide_on_both_sides(bus, agents, clock):
    bus.open("a/sender", granting("site/*"), ())
    bus.open("b/denied", granting("other"), [MessageTrigger("site/alerts")])
    bus.open("c/producer-only", granting("site/*", interfaces=(PRODUCER,)), [MessageTrigger("site/alerts")])
    bus.hear(AgentPublished("a/sender", BusMessage("site/alerts", b"x")))
    bus.hear(AgentPublished("b/denied", BusMessage("site/alerts", b"forged")))
    bus.hear(AgentPublished("z/unknown", BusMessage("site/alerts", b"forged")))
    await clock.settle()
    assert agents.given == []
    assert [agent for agent, _ in agents.dropped] == ["b/denied"]


async def test_order_is_kept_for_each_subscriber(bus, agents, clock):
    bus.open("a/both", granting("t"), [MessageTrigger("t")])
    for number in range(20):
        bus.hear(AgentPublished("a/both", BusMessage("t", str(number).encode())))
    await clock.settle()
    assert [message.data for _, message in agents.given] == [str(number).encode() for number in range(20)]


async def test_a_slow_subscriber_costs_nobody_else_and_what_it_misses_is_counted(bus, agents, clock):
    agents.busy["b/slow"] = asyncio.Event()
    bus.open("a/sender", granting("t"), ())
    bus.open("b/slow", granting("t", queue=3), [MessageTrigger("t")])
    bus.open("c/quick", granting("t", queue=3), [MessageTrigger("t")])
    for _ in range(10):
        bus.hear(AgentPublished("a/sender", BusMessage("t", b"x")))
        await clock.settle()
    assert [agent for agent, _ in agents.given].count("b/slow") == 3
    assert [agent for agent, _ in agents.given].count("c/quick") == 10
    assert agents.dropped == [("b/slow", "3 messages are on their way to it")] * 7
    agents.busy["b/slow"].set()
    await clock.settle()
    bus.hear(AgentPublished("a/sender", BusMessage("t", b"x")))
    await clock.settle()
    assert [agent for agent, _ in agents.given].count("b/slow") == 4


async def test_bytes_on_their_way_are_bounded_too(bus, agents, clock, monkeypatch):
    monkeypatch.setattr(bus_module, "MAX_WAITING_BYTES", 100)
    agents.busy["b/slow"] = asyncio.Event()
    bus.open("a/sender", granting("t"), ())
    bus.open("b/slow", granting("t"), [MessageTrigger("t")])
    for _ in range(3):
        bus.hear(AgentPublished("a/sender", BusMessage("t", bytes(40))))
    await clock.settle()
    assert (len(agents.given), len(agents.dropped)) == (2, 1)


async def test_an_operators_payload_reaches_functions_and_handlers(bus, agents):
    bus.open("a/function", granting(), [EventTrigger("t", "f"), EventTrigger("t", "g")])
    bus.open("b/handler", granting("t"), [MessageTrigger("t")])
    assert await bus.send("t", "{n: 1}") == 3
    assert await bus.send("nobody", "1") == 0
    assert agents.given == [
        ("a/function", "f({n: 1})"),
        ("a/function", "g({n: 1})"),
        ("b/handler", BusMessage("t", b"{n: 1}", "text/wave")),
    ]


async def test_an_agents_text_in_wave_calls_functions_and_nothing_else_does(bus, agents, clock):
    bus.open("a/sender", granting("t"), ())
    bus.open("b/function", granting(), [EventTrigger("t", "f")])
    for data, kind in (
        (b"1", "text/wave"),
        (b"2", "text/wave; charset=utf-8"),
        (b"3", "text/plain"),
        (b"4", ""),
        (b"\xff", "text/wave"),
        (bytes(MAX_EVENT_BYTES + 1), "text/wave"),
    ):
        bus.hear(AgentPublished("a/sender", BusMessage("t", data, kind)))
    await clock.settle()
    assert agents.given == [("b/function", "f(1)"), ("b/function", "f(2)")]
    assert [agent for agent, _ in agents.dropped] == ["b/function"] * 4


async def test_an_agent_that_does_not_run_is_given_nothing(bus, agents, clock):
    bus.open("a/sender", granting("t"), ())
    bus.open("b/handler", granting("t"), [MessageTrigger("t")])
    bus.leave("b/handler")
    bus.hear(AgentPublished("a/sender", BusMessage("t", b"x")))
    bus.leave("a/sender")
    bus.hear(AgentPublished("a/sender", BusMessage("t", b"x")))
    await clock.settle()
    assert agents.given == []


def request(agent, number, replies=1, topic="t"):
    return AgentRequested(agent, number, replies, 1_000, BusMessage(topic, b"who?"))


async def test_an_answer_reaches_who_asked(bus, agents, clock):
    bus.open("a/asker", granting("t"), ())
    bus.open("b/answers", granting("t"), [MessageTrigger("t")])
    bus.hear(request("a/asker", 7))
    await clock.settle()
    ((_, question),) = agents.given
    assert question.reply_to
    answer = AgentReplied("b/answers", BusMessage("", b"me", "", (), question.reply_to))
    bus.hear(answer)
    bus.hear(answer)
    assert agents.answers == [("a/asker", 7, BusMessage("", b"me"))], "one was expected"


async def test_only_who_was_asked_may_answer_and_only_while_somebody_waits(bus, agents, clock):
    bus.open("a/asker", granting("t"), ())
    bus.open("b/asked", granting("t"), [MessageTrigger("t")])
    bus.open("c/mute", granting("t", interfaces=(HANDLER,)), [MessageTrigger("t")])
    bus.open("d/stranger", granting("t"), ())
    bus.hear(request("a/asker", 7, replies=5))
    await clock.settle()
    token = agents.given[0][1].reply_to
    for agent in ("c/mute", "d/stranger"):
        bus.hear(AgentReplied(agent, BusMessage("", b"me", "", (), token)))
    bus.hear(AgentReplied("b/asked", BusMessage("", b"me", "", (), "no such token")))
    assert agents.answers == []
    bus.hear(AgentReplied("b/asked", BusMessage("", b"me", "", (), token)))
    assert len(agents.answers) == 1
    await clock.advance(1.1)
    bus.hear(AgentReplied("b/asked", BusMessage("", b"late", "", (), token)))
    assert len(agents.answers) == 1


async def test_a_token_that_a_sender_makes_up_means_nothing(bus, agents, clock):
    bus.open("a/sender", granting("t"), [MessageTrigger("t")])
    bus.hear(AgentPublished("a/sender", BusMessage("t", b"x", "", (), "1")))
    await clock.settle()
    assert agents.given == [("a/sender", BusMessage("t", b"x"))]


async def test_requests_that_wait_are_bounded(bus, agents, clock, monkeypatch):
    monkeypatch.setattr(bus_module, "MAX_REQUESTS", 2)
    bus.open("a/asker", granting("t"), ())
    bus.open("b/answers", granting("t"), [MessageTrigger("t")])
    for number in range(3):
        bus.hear(request("a/asker", number))
    await clock.settle()
    assert (len(agents.given), len(agents.dropped)) == (2, 1)
    bus.leave("a/asker")
    bus.open("a/asker", granting("t"), ())
    bus.hear(request("a/asker", 4))
    await clock.settle()
    assert len(agents.given) == 3
