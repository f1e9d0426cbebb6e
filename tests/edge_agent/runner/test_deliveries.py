"""Messages, changes and questions of real guests, over a real runner."""

import asyncio
from pathlib import Path

import pytest

from edge_agent.runtime import (
    AgentAskedSensors,
    AgentPublished,
    AgentReplied,
    AgentRequested,
    AgentRestored,
    BusMessage,
    Probation,
    SensorState,
)
from fleet.errors import Code, FleetError
from fleet.grants.constraints import Literals, Maximum, Patterns
from fleet.grants.limits import Limits
from fleet.grants.rules import Rule
from tests.edge_agent.runner.conftest import component

EVENTS = Path(__file__).parents[3] / "components" / "events-agent" / "events_agent.wasm"


def patterns(**constraints):
    return (Rule({name: Patterns(frozenset(values)) for name, values in constraints.items()}),)


GRANT = {
    "wasi:logging/logging": (Rule({}),),
    "wasi:keyvalue/store": (
        Rule({"buckets": Patterns(frozenset({"seen"})), "ops": Literals(frozenset({"get", "set", "delete"}))}),
    ),
    "wasi:keyvalue/watcher": patterns(buckets=["seen"]),
    "wasi:messaging/producer": (Rule({"topics": Patterns(frozenset({"site/*"})), "max_bytes": Maximum(1 << 20)}),),
    "wasi:messaging/request-reply": patterns(topics=["site/*"]),
    "wasi:messaging/incoming-handler": patterns(topics=["site/*"]),
    "fleet:sensors/reader": patterns(sources=["roof"]),
    "fleet:sensors/handler": patterns(sources=["roof"]),
}


@pytest.fixture
def events(tmp_path):
    return component(tmp_path / "events.wasm", EVENTS.read_bytes())


@pytest.fixture
async def agent(host, events):
    await host.start(events.start("app/a", capabilities=GRANT))
    return host


async def said(host, kind):
    """The next event of one kind; log lines and others are passed over."""
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), kind):
            pass
    return event


async def received(host, agent="app/a"):
    return (await host.call(agent, "received()")).output


async def test_what_an_agent_sends_leaves_the_runner(agent):
    assert (await agent.call("app/a", 'publish("site/alerts", "hot")')).output == "ok"
    event = await said(agent, AgentPublished)
    assert event == AgentPublished("app/a", BusMessage("site/alerts", b"hot", "text/plain", ("sender", "events-agent")))


async def test_a_topic_outside_the_grant_is_an_error_value(agent):
    output = (await agent.call("app/a", 'publish("other/alerts", "hot")')).output
    assert "permission-denied" in output
    assert "other/alerts" in output
    assert "no topic" in (await agent.call("app/a", 'publish("Site Alerts", "hot")')).output


async def test_a_message_is_delivered_whole(agent):
    data = bytes(range(256)) * 4096
    result = await agent.deliver("app/a", BusMessage("site/in", data, "a/b", ("k", "v", "l", "w")))
    assert result.output == "ok"
    assert await received(agent) == f'["message site/in [a/b k=v l=w] {len(data)} bytes"]'


async def test_what_a_handler_returns_is_told(agent):
    assert (await agent.deliver("app/a", BusMessage("site/in", b"fail"))).output == 'err(other("as asked"))'
    with pytest.raises(FleetError) as caught:
        await agent.deliver("app/a", BusMessage("site/in", b"trap"))
    assert caught.value.code is Code.AGENT_TRAPPED


async def test_an_agent_without_a_handler_takes_no_message(host, tiny):
    await host.start(tiny.start("app/a"))
    with pytest.raises(FleetError) as caught:
        await host.deliver("app/a", BusMessage("site/in", b"x"))
    assert caught.value.code is Code.EXPORT_NOT_FOUND


async def test_a_request_waits_for_its_answers(agent):
    asking = asyncio.create_task(agent.call("app/a", 'ask("site/question", "who?", 5000, 2)'))
    event = await said(agent, AgentRequested)
    assert (event.replies, event.timeout_ms, event.message.data) == (2, 5000, b"who?")
    for text in (b"one", b"two", b"three"):
        agent.answer("app/a", event.request, BusMessage("", text))
    assert (await asking).output == 'ok(["one", "two"])'


async def test_a_request_without_an_answer_is_a_timeout(agent):
    assert (await agent.call("app/a", 'ask("site/question", "who?", 50, 1)')).output == 'err("timeout")'
    agent.answer("app/a", 1, BusMessage("", b"too late"))
    assert (await agent.call("app/a", "received()")).output == "[]"


async def test_an_agent_replies_to_whom_it_was_told(agent):
    await agent.deliver("app/a", BusMessage("site/question", b"who?", "", (), "7"))
    assert await said(agent, AgentReplied) == AgentReplied("app/a", BusMessage("", b"who!", "", (), "7"))
    assert (await agent.deliver("app/a", BusMessage("site/question", b"who?"))).output == "ok"


async def test_a_request_ends_with_the_deadline_of_the_call(host, events):
    await host.start(events.start("app/a", Limits(deadline_ms=300), GRANT))
    with pytest.raises(FleetError) as caught:
        await host.call("app/a", 'ask("site/question", "who?", 60000, 1)')
    assert caught.value.detail["cause"] == "deadline"


async def test_sensors_are_asked_of_the_node(agent):
    reading = asyncio.create_task(agent.call("app/a", 'read("roof")'))
    event = await said(agent, AgentAskedSensors)
    assert event.source == "roof"
    agent.answer("app/a", event.request, (SensorState("roof", "file", "celsius", "good", "20.5", 7),))
    assert (await reading).output == 'ok("roof 20.500 celsius good")'
    assert "not-granted" in (await agent.call("app/a", 'read("cellar")')).output


async def test_changes_reach_the_other_agents_that_watch(host, events):
    for name in ("app/a", "app/b", "other/c"):
        await host.start(events.start(name, capabilities=GRANT))
    assert (await host.call("app/a", 'put("seen", "door", "open")')).output == "ok"
    assert (await host.call("app/a", 'remove("seen", "door")')).output == "ok"
    assert (await host.call("app/a", 'remove("seen", "door")')).output == "ok"
    told = await received(host, "app/b")
    assert "set door open kept " in told
    assert told.count("delete door") == 1
    assert await received(host, "app/a") == "[]", "not of its own changes"
    assert await received(host, "other/c") == "[]", "buckets belong to an application"


async def test_a_watcher_is_told_what_its_grant_names(host, events):
    await host.start(events.start("app/a", capabilities=GRANT))
    await host.start(events.start("app/b", capabilities=GRANT | {"wasi:keyvalue/watcher": patterns(buckets=["x"])}))
    await host.call("app/a", 'put("seen", "door", "open")')
    assert await received(host, "app/b") == "[]"


async def test_an_agent_watches_with_the_grant_of_the_instance_that_serves(host, events):
    """Not with that of one which did not come to serve, or which had to give way."""
    older = events.start("app/b", capabilities=GRANT | {"wasi:keyvalue/watcher": patterns(buckets=["x"])})
    newer = events.start("app/b", capabilities=GRANT)
    await host.start(events.start("app/a", capabilities=GRANT))
    await host.start(older)
    await host.replace(newer, Probation(100, 60_000))
    await host.call("app/a", 'put("seen", "door", "open")')
    assert "set door open" in await received(host, "app/b")
    with pytest.raises(FleetError):
        await host.deliver("app/b", BusMessage("site/in", b"trap"))
    await said(host, AgentRestored)
    await host.call("app/a", 'put("seen", "door", "shut")')
    assert await received(host, "app/b") == "[]"


async def test_what_does_not_watch_any_more_is_told_nothing(host, events, tiny):
    await host.start(events.start("app/a", capabilities=GRANT))
    await host.start(events.start("app/b", capabilities=GRANT))
    await host.replace(tiny.start("app/b", capabilities=GRANT), Probation(100, 60_000))
    before = host.stats("app/b").calls
    await host.call("app/a", 'put("seen", "door", "open")')
    assert (await host.call("app/b", "count()")).output == "1"
    assert host.stats("app/b").calls == before + 1


async def test_a_full_queue_costs_changes_that_are_counted(host, events):
    await host.start(events.start("app/a", capabilities=GRANT))
    await host.start(events.start("app/b", Limits(queue=1, deadline_ms=20_000), GRANT))
    busy = asyncio.create_task(host.call("app/b", 'ask("site/question", "who?", 10000, 1)'))
    event = await said(host, AgentRequested)
    for number in range(5):
        await host.call("app/a", f'put("seen", "k{number}", "v")')
    host.answer("app/b", event.request, BusMessage("", b"done"))
    await busy
    assert (await received(host, "app/b")).count("set k") == 1
    assert host.stats("app/b").dropped == 4
