"""Several calls in flight in one agent of a real runner: who waits for whom, and what becomes of all when one ends."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.runtime import AgentCrashed, AgentExited, Probation
from fleet.crash import decode_recording
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Primitive
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.asynchronous import NUMBERS, answerer, importer
from tests.fakes.overlapping import ASK, answering, overlapping

pytestmark = pytest.mark.system

AGENT = "app/a"
HOUR = 3_600_000_000_000
SOON = 20_000_000
LONG = small(deadline_ms=600_000)


@pytest.fixture(scope="module")
def built():
    return overlapping(Primitive.STRING, ask=False)


@pytest.fixture
def guest(built, tmp_path):
    return component(tmp_path / "overlapping.wasm", built)


def later(host, text, ns, deadline_ms=None, agent=AGENT):
    return asyncio.create_task(host.call(agent, f'later("{text}", {ns})', deadline_ms))


async def fault(awaitable):
    with pytest.raises(FleetError) as caught:
        await awaitable
    return caught.value


async def until_begun(host, calls):
    """Wait until so many calls have had their turn; a report says so, at most once a second."""
    async with asyncio.timeout(60):
        while host.stats(AGENT).calls < calls:
            await host.call(AGENT, f'later("look", {SOON})')
            calls += 1


async def event(host, kind):
    async with asyncio.timeout(60):
        while not isinstance(found := await host.next_event(), kind):
            pass
        return found


async def test_a_call_that_waits_holds_up_nobody_and_ends_alone_at_its_deadline(host, guest):
    await host.start(guest.start(AGENT, LONG))
    slow, late = later(host, "slow", HOUR), later(host, "late", HOUR, 300)
    others = await asyncio.gather(*(later(host, f"quick-{at}", SOON) for at in range(20)))
    assert [result.output for result in others] == [f'"quick-{at}"' for at in range(20)]
    assert (await fault(late)).code is Code.DEADLINE_EXCEEDED
    assert (await host.call(AGENT, 'later("still here", 1)')).output == '"still here"'
    assert not slow.done()
    stats = host.stats(AGENT)
    assert (stats.calls, stats.errors) == (23, 0)
    await host.stop(AGENT, 0)
    assert (await fault(slow)).detail["cause"] == ExitCause.STOPPED


async def test_what_cannot_run_beside_others_waits_for_them(host, guest):
    await host.start(guest.start(AGENT, LONG))
    ended = []
    slow = later(host, "slow", 100_000_000)
    slow.add_done_callback(lambda _: ended.append("slow"))
    alone = asyncio.create_task(host.call(AGENT, "seven()"))
    alone.add_done_callback(lambda _: ended.append("alone"))
    assert (await alone).output == "7"
    assert (await slow).output == '"slow"'
    assert ended == ["slow", "alone"]


async def test_a_grant_says_how_many(host, guest):
    await host.start(guest.start(AGENT, small(deadline_ms=600_000, calls_in_flight=1)))
    ended = []
    slow, quick = later(host, "slow", HOUR, 200), later(host, "quick", 1)
    slow.add_done_callback(lambda _: ended.append("slow"))
    quick.add_done_callback(lambda _: ended.append("quick"))
    assert (await quick).output == '"quick"'
    assert (await fault(slow)).code is Code.DEADLINE_EXCEEDED
    assert ended == ["slow", "quick"]


async def test_what_cannot_be_read_is_refused_and_nobody_else_notices(host, guest):
    await host.start(guest.start(AGENT, LONG))
    slow = later(host, "slow", 100_000_000)
    assert (await fault(host.call(AGENT, "later(5, 1)"))).code is Code.WAVE_INVALID
    assert (await fault(host.call(AGENT, "nothing()"))).code is Code.EXPORT_NOT_FOUND
    assert (await slow).output == '"slow"'


async def test_a_result_that_is_too_long_is_an_error_of_its_own_call(host, guest):
    await host.start(guest.start(AGENT, small(deadline_ms=600_000, output_bytes=20)))
    slow = later(host, "slow", 100_000_000)
    assert (await fault(later(host, "x" * 100, 1))).code is Code.LIMIT_EXCEEDED
    assert (await slow).output == '"slow"'


async def test_a_trap_ends_all_and_the_report_names_them(host, guest):
    await host.start(guest.start(AGENT, LONG))
    waiting = [later(host, f"w{at}", HOUR) for at in range(3)]
    await host.call(AGENT, 'later("first", 1)')
    faults = [await fault(host.call(AGENT, "break()")), *[await fault(call) for call in waiting]]
    assert {one.code for one in faults} == {Code.AGENT_TRAPPED}
    assert {one.detail["cause"] for one in faults} == {ExitCause.UNREACHABLE}
    end = await event(host, AgentExited)
    assert "4 calls were in flight: later (3), break" in end.exit.message
    crash = await event(host, AgentCrashed)
    recording = decode_recording(crash.recording.encode())
    assert recording.overlapping
    assert not recording.complete
    assert recording.in_flight == 4
    assert [(call.function, call.arguments[:1]) for call in recording.calls[-4:]] == [
        *[("later", (f'"w{at}"',)) for at in range(3)],
        ("break", ()),
    ]


@pytest.mark.slow
async def test_a_stop_lets_calls_in_flight_end_and_then_interrupts_them(host, guest):
    await host.start(guest.start(AGENT, LONG))
    ending, waiting = later(host, "ending", 200_000_000), later(host, "waiting", HOUR)
    await until_begun(host, 2)
    stopping = asyncio.create_task(host.stop(AGENT, 4_000))
    assert (await ending).output == '"ending"'
    assert (await fault(waiting)).detail["cause"] == ExitCause.STOPPED
    await stopping


@pytest.mark.slow
async def test_a_replacement_begins_when_the_calls_in_flight_have_ended(host, guest, tmp_path):
    await host.start(guest.start(AGENT, LONG))
    slow = later(host, "old", 1_000_000_000)
    await until_begun(host, 1)
    newer = component(tmp_path / "newer.wasm", overlapping(Primitive.U8, ask=False))
    await host.replace(newer.start(AGENT, LONG), Probation(0, 0))
    ended = []
    young = asyncio.create_task(host.call(AGENT, "later(7, 1)"))
    slow.add_done_callback(lambda _: ended.append("old"))
    young.add_done_callback(lambda _: ended.append("young"))
    assert (await young).output == "7"
    assert ended == ["old", "young"]
    assert (await slow).output == '"old"'


@pytest.mark.slow
async def test_another_agent_that_is_asked_holds_up_nobody(host, tmp_path):
    """The one that asks has calls in flight, and so has the one that answers."""
    asking = component(tmp_path / "asking.wasm", overlapping(Primitive.STRING))
    other = component(tmp_path / "answering.wasm", answering())
    await host.start(other.start("app/b", LONG))
    await host.start(asking.start(AGENT, LONG, links={ASK: "app/b"}))
    waiting = asyncio.create_task(host.call(AGENT, 'asked("never")', 2_000))
    answers = await asyncio.gather(*(host.call(AGENT, f'asked("{at}")') for at in range(20)))
    assert [answer.output for answer in answers] == [f'"{at}"' for at in range(20)]
    assert not waiting.done()
    assert (await fault(waiting)).code in {Code.DEADLINE_EXCEEDED, Code.AGENT_TRAPPED}


async def test_two_agents_whose_calls_of_both_kinds_are_mixed(host, tmp_path):
    asking = component(tmp_path / "importer.wasm", importer())
    await host.start(component(tmp_path / "answerer.wasm", answerer()).start("app/b", small(queue=1_000)))
    await host.start(asking.start(AGENT, small(queue=1_000), links={NUMBERS: "app/b"}))
    results = await asyncio.gather(*(host.call(AGENT, f"sum({at}, 1)") for at in range(60)))
    assert [result.output for result in results] == [str(2 * at + 4) for at in range(60)]
