"""Replacing an instance while calls stream in: none is lost, none runs twice, no two at once."""

import asyncio
from collections import Counter

import pytest

from edge_agent.runtime import AgentConfirmed, AgentCrashed, AgentExited, AgentReplaced, AgentRestored, Probation
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.components import wasm
from tests.fakes.wait import until

pytestmark = pytest.mark.system

SWAPS = 20
CALLERS = 8


async def events_of(host, taken):
    while True:
        event = await host.next_event()
        if not isinstance(event, AgentCrashed | AgentReplaced):
            taken.append(event)


@pytest.fixture
async def taken(host):
    taken = []
    listener = asyncio.create_task(events_of(host, taken))
    yield taken
    listener.cancel()


async def test_calls_hammer_an_agent_through_many_replacements(host, tiny, taken):
    """The guest counts its own calls, so every instance accounts for the ones that it ran."""
    agent = tiny.start("app/a", small(queue=CALLERS))
    await host.start(agent)
    answers, stop = [], asyncio.Event()

    async def call():
        while not stop.is_set():
            answers.append(int((await host.call("app/a", "count()")).output))

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    await until(lambda: len(answers) > CALLERS, "the first calls")
    for _ in range(SWAPS):
        await host.replace(agent, Probation(3, 60_000))
        before = len(answers)
        await until(lambda before=before: len(answers) > before + 20, "some calls")
    stop.set()
    await asyncio.gather(*callers)

    instances = Counter(answers)
    assert instances[1] == SWAPS + 1, "each instance served"
    # An instance answered 1, 2, ... n: as many instances counted to k+1 as to k, or fewer.
    assert [instances[k] for k in sorted(instances)] == sorted(instances.values(), reverse=True)
    assert sorted(instances) == list(range(1, len(instances) + 1))
    assert host.stats("app/a").calls == len(answers)
    assert host.stats("app/a").errors == 0
    await until(lambda: taken.count(AgentConfirmed("app/a")) == SWAPS, "the confirmations")
    assert set(taken) == {AgentConfirmed("app/a")}


async def test_what_waits_when_the_new_instance_traps_is_done_by_the_old_one(host, tiny, taken):
    agent = tiny.start("app/a", small(queue=100))
    await host.start(agent)
    await host.call("app/a", "count()")
    await host.replace(agent, Probation(5, 60_000))
    orders = [host.call("app/a", "trap()"), *(host.call("app/a", "count()") for _ in range(50))]
    trapped, *counted = await asyncio.gather(*orders, return_exceptions=True)
    assert trapped.code is Code.AGENT_TRAPPED
    assert [int(result.output) for result in counted] == list(range(2, 52))
    await until(lambda: taken, "the news")
    assert isinstance(taken[0], AgentRestored)
    assert taken[0].exit.cause is ExitCause.UNREACHABLE


async def in_queue_behind_what_runs(host):
    """A call that waits in a queue of one: what was sent before it has begun, or it would have been refused."""
    while True:
        call = asyncio.create_task(host.call("app/a", "count()"))
        await asyncio.wait([call], timeout=0.5)
        if not call.done():
            return call
        assert call.exception().code is Code.AGENT_BUSY


async def test_the_new_instance_begins_when_the_call_that_runs_has_ended(host, tiny, taken):
    """The old instance's loop is cut off at its deadline; only then does the new one take the call that waits."""
    agent = tiny.start("app/a", small(deadline_ms=3000, queue=1))
    await host.start(agent)
    loop = asyncio.create_task(host.call("app/a", "loop()"))
    waiting = await in_queue_behind_what_runs(host)
    await host.replace(agent, Probation(5, 60_000))
    assert not loop.done()
    with pytest.raises(FleetError) as caught:
        await loop
    assert caught.value.detail["cause"] == ExitCause.DEADLINE
    assert (await waiting).output == "1"
    await until(lambda: taken == [AgentConfirmed("app/a")], "the end of the old instance")
    with pytest.raises(FleetError):
        await host.call("app/a", "trap()")
    await until(lambda: len(taken) == 2, "the end of the agent")
    assert isinstance(taken[1], AgentExited)


async def test_probation_ends_with_time(host, tiny, taken):
    await host.start(tiny.start("app/a"))
    await host.replace(tiny.start("app/a"), Probation(1_000_000, 50))
    await until(lambda: taken == [AgentConfirmed("app/a")], "the confirmation")


async def test_a_replacement_that_does_not_start_changes_nothing(host, tiny, tmp_path, taken):
    broken = component(
        tmp_path / "broken.wasm",
        wasm("""(component (core module $m (func $f unreachable) (start $f)) (core instance (instantiate $m)))"""),
    )
    await host.start(tiny.start("app/a"))
    assert (await host.call("app/a", "count()")).output == "1"
    with pytest.raises(FleetError) as caught:
        await host.replace(broken.start("app/a"), Probation(3, 60_000))
    assert caught.value.code is Code.AGENT_TRAPPED
    assert (await host.call("app/a", "count()")).output == "2"
    await host.replace(tiny.start("app/a"), Probation(3, 60_000))
    assert (await host.call("app/a", "count()")).output == "1"
    assert taken == []


async def test_a_replacement_may_be_replaced_on_probation(host, tiny, taken):
    await host.start(tiny.start("app/a"))
    await host.replace(tiny.start("app/a"), Probation(3, 60_000))
    assert (await host.call("app/a", "count()")).output == "1"
    await host.replace(tiny.start("app/a"), Probation(3, 60_000))
    with pytest.raises(FleetError):
        await host.call("app/a", "trap()")
    assert (await host.call("app/a", "count()")).output == "2", "back to the second, not to the first"


async def test_a_stop_ends_a_replacement_that_is_still_being_made(host, tiny):
    await host.start(tiny.start("app/a"))
    replacing = asyncio.create_task(host.replace(tiny.start("app/a"), Probation(3, 60_000)))
    await asyncio.sleep(0)
    await host.stop("app/a", 100)
    await asyncio.gather(replacing, return_exceptions=True)
    with pytest.raises(FleetError) as caught:
        await host.call("app/a", "count()")
    assert caught.value.code is Code.AGENT_NOT_RUNNING
    await host.start(tiny.start("app/a"))
    assert (await host.call("app/a", "count()")).output == "1"
