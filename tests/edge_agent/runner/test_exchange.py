"""What is bounded between a runner and its supervisor, and who is told of a change."""

import itertools
import socket

import pytest

from edge_agent.runner import event_queue, exchange, outbox
from edge_agent.runner.connection import Connection
from edge_agent.runner.event_queue import EventQueue
from edge_agent.runner.exchange import AgentExchange, Change, Mailbox, Watchers
from edge_agent.runner.messages import AskSensors, Published, Replied, Requested
from edge_agent.runner.outbox import Outbox
from edge_agent.runtime import (
    AgentAskedSensors,
    AgentPublished,
    AgentReplied,
    AgentRequested,
    BusMessage,
    RunnerLost,
)
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Rule
from fleet.grants.constraints import Patterns
from fleet.model import Exit, ExitCause
from tests.fakes.clock import START

MESSAGE = BusMessage("t", b"1234")


def test_a_mailbox_takes_what_is_expected_and_no_more(monkeypatch):
    woken = []
    mailbox = Mailbox(lambda: woken.append(1), itertools.count(1))
    first, second = mailbox.open(2), mailbox.open(1)
    for _ in range(3):
        mailbox.put(first, MESSAGE)
    mailbox.put(99, MESSAGE)
    assert (mailbox.answers(first), mailbox.answers(second)) == ([MESSAGE] * 2, [])
    assert len(woken) == 2
    mailbox.close(first)
    mailbox.put(first, MESSAGE)
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", 3)
    mailbox.put(second, MESSAGE)
    assert mailbox.answers(second) == []


def test_watchers_are_told_by_their_grant_and_never_of_their_own_changes():
    told = []
    watchers = Watchers()
    granted = Authority({"wasi:keyvalue/watcher": (Rule({"buckets": Patterns(frozenset({"b*"}))}),)})
    for agent, authority in (("app/a", granted), ("app/b", granted), ("app/c", Authority({}))):
        watchers.add(agent, authority, lambda change, agent=agent: told.append((agent, change)))
    change = Change("bucket", "k", b"v")
    watchers.tell("app/a", change)
    watchers.tell("app/a", Change("other", "k", b"v"))
    watchers.remove("app/b")
    watchers.tell("app/a", change)
    assert told == [("app/b", change)]


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def agent_floods(agent):
    for _ in range(20):
        agent.publish(BusMessage("t", bytes(1 << 20)))


def test_a_late_answer_never_meets_the_question_of_another_instance():
    numbers = itertools.count(1)
    older, newer = Mailbox(lambda: None, numbers), Mailbox(lambda: None, numbers)
    asked = older.open(1)
    older.close(asked)
    waiting = newer.open(1)
    newer.put(asked, MESSAGE)
    assert newer.answers(waiting) == []


def test_what_a_supervisor_does_not_read_is_refused_to_the_agent(ends, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_OFFERED_BYTES", 4_000_000)
    post = Outbox(Connection(ends[0]))
    agent = AgentExchange("app/a", post, Mailbox(lambda: None, itertools.count(1)), Watchers(), lambda _: None)
    with pytest.raises(FleetError) as caught:
        agent_floods(agent)
    assert caught.value.code is Code.UNAVAILABLE
    ends[1].close()
    post.close()


def test_an_agent_gives_up_waiting_for_a_node_that_says_nothing(ends, monkeypatch):
    monkeypatch.setattr(exchange, "SENSORS_TIMEOUT_S", 0.0)
    post = Outbox(Connection(ends[0]))
    agent = AgentExchange("app/a", post, Mailbox(lambda: None, itertools.count(1)), Watchers(), lambda _: None)
    with pytest.raises(FleetError, match="does not answer"):
        agent.sensors("roof")
    assert agent.request(MESSAGE, 1, 0) == []
    post.close()


async def test_events_keep_their_order_and_messages_are_bounded(monkeypatch):
    monkeypatch.setattr(event_queue, "MAX_SAID_EVENTS", 4)
    monkeypatch.setattr(event_queue, "MAX_SAID_BYTES", 12)
    queue = EventQueue()
    lost = RunnerLost("app", (), Exit(ExitCause.KILLED, "", START))
    for message in (
        Published("app/a", MESSAGE),
        Requested("app/a", 1, 2, 3, MESSAGE),
        Replied("app/a", MESSAGE),
        Published("app/a", MESSAGE),
        AskSensors("app/a", 2, "roof"),
        AskSensors("app/a", 3, "roof"),
    ):
        queue.say(message)
    queue.put(lost)
    assert [await queue.next() for _ in range(5)] == [
        AgentPublished("app/a", MESSAGE),
        AgentRequested("app/a", 1, 2, 3, MESSAGE),
        AgentReplied("app/a", MESSAGE),
        AgentAskedSensors("app/a", 2, "roof"),
        lost,
    ]
    assert queue.lost_messages == 2
    queue.say(Published("app/a", MESSAGE))
    assert await queue.next() == AgentPublished("app/a", MESSAGE)
