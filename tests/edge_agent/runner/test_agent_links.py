"""Linked agents in real runners: each with a store of its own, or fused into one."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.fusion import Fusion, Part, Wire
from edge_agent.runtime import AgentExited, Probation, RunnerLost
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.components import wasm
from tests.fakes.linked_guests import HANGS, REFUSES, SCORE, TRAPS, asker, scorer

pytestmark = pytest.mark.system

A, B, C = "p/asker", "p/scorer", "p/other"
LINK = {SCORE: B}


@pytest.fixture
def asking(tmp_path):
    return component(tmp_path / "asker.wasm", asker())


@pytest.fixture
def scoring(tmp_path):
    return component(tmp_path / "scorer.wasm", scorer())


async def output(host, invocation, agent=A):
    return (await host.call(agent, invocation)).output


async def fault(awaitable):
    with pytest.raises(FleetError) as caught:
        await awaitable
    return caught.value


async def exited(host):
    """The next end of an agent; what else there is to tell is passed over."""
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), AgentExited | RunnerLost):
            pass
    return event


# --- a store each ---


async def test_a_call_reaches_the_other_agent_and_comes_back(host, asking, scoring):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, links=LINK))
    assert await output(host, "run(21)") == "ok(42)"
    assert await output(host, f"run({REFUSES})") == 'err("bad")'
    assert await output(host, "run-plain(4)") == "8"
    await output(host, f"{SCORE}#plain(1)", B)
    assert host.stats(B).calls == 4, "counters come with answers, and with reports in between"


async def test_a_trap_of_the_other_agent_is_an_error_result(host, asking, scoring):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, links=LINK))
    answer = await output(host, f"run({TRAPS})")
    assert answer.startswith('err("p/scorer: AGENT_TRAPPED: ')
    assert "unreachable" in answer
    ended = await exited(host)
    assert isinstance(ended, AgentExited)
    assert (ended.agent, ended.exit.cause) == (B, ExitCause.UNREACHABLE)
    assert await output(host, "run(21)") == 'err("p/scorer: AGENT_NOT_RUNNING: p/scorer is not running")'
    await host.start(scoring.start(B))
    assert await output(host, "run(21)") == "ok(42)", "the asking agent never stopped and finds the new one"


async def test_without_room_for_an_error_the_caller_ends_and_names_the_other(host, asking, scoring):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, links=LINK))
    error = await fault(host.call(A, f"run-plain({TRAPS})"))
    assert error.code is Code.AGENT_TRAPPED
    assert error.detail["cause"] == ExitCause.HOST_ERROR
    assert "p/scorer: AGENT_TRAPPED" in error.private
    ended = {(await exited(host)).agent for _ in range(2)}
    assert ended == {A, B}


async def test_the_other_agent_may_start_later(host, asking, scoring):
    await host.start(asking.start(A, links=LINK))
    assert "AGENT_NOT_RUNNING" in await output(host, "run(21)")
    await host.start(scoring.start(B))
    assert await output(host, "run(21)") == "ok(42)"


async def test_an_agent_that_hangs_costs_its_caller_an_error(host, asking, scoring):
    await host.start(scoring.start(B, small(deadline_ms=400)))
    await host.start(asking.start(A, small(deadline_ms=5000), links=LINK))
    assert (await output(host, f"run({HANGS})")).startswith('err("p/scorer: AGENT_TRAPPED: ')
    ended = await exited(host)
    assert (ended.agent, ended.exit.cause) == (B, ExitCause.DEADLINE)
    assert "AGENT_NOT_RUNNING" in await output(host, "run(21)")


async def test_the_callers_time_bounds_the_others_and_leaves_some_to_the_caller(host, asking, scoring):
    await host.start(scoring.start(B, small(deadline_ms=60_000)))
    await host.start(asking.start(A, small(deadline_ms=1000), links=LINK))
    result = await host.call(A, f"run({HANGS})")
    assert result.output.startswith('err("p/scorer: ')
    assert 800 <= result.duration_ms < 1000
    ended = await exited(host)
    assert (ended.agent, ended.exit.cause) == (B, ExitCause.DEADLINE)


async def test_a_call_whose_turn_comes_too_late_is_never_made(host, asking, scoring):
    await host.start(scoring.start(B, small(deadline_ms=1500)))
    await host.start(asking.start(A, small(deadline_ms=500), links=LINK))
    busy = asyncio.create_task(host.call(B, f"{SCORE}#score({HANGS})"))
    await asyncio.sleep(0)
    answer = await output(host, "run(21)")
    assert answer == 'err("p/scorer: DEADLINE_EXCEEDED: no answer in time")'
    assert (await fault(busy)).code is Code.AGENT_TRAPPED
    assert (await exited(host)).agent == B


async def test_a_full_queue_is_an_error_result(host, asking, scoring):
    await host.start(scoring.start(B, small(deadline_ms=2000, queue=1)))
    await host.start(asking.start(A, links=LINK))
    running = asyncio.create_task(host.call(B, f"{SCORE}#score({HANGS})"))
    await asyncio.sleep(0)
    while True:  # until the first call has its turn, there is no place for a second
        waiting = asyncio.create_task(host.call(B, f"{SCORE}#plain(1)"))
        if not (await asyncio.wait({waiting}, timeout=0.1))[0]:
            break
        assert (await fault(waiting)).code is Code.AGENT_BUSY
    assert "AGENT_BUSY" in await output(host, "run(21)")
    for call in (running, waiting):
        await fault(call)
    assert (await exited(host)).agent == B


async def test_stopping_the_caller_does_not_wait_for_the_other(host, asking, scoring):
    await host.start(scoring.start(B, small(deadline_ms=30_000)))
    await host.start(asking.start(A, small(deadline_ms=30_000), links=LINK))
    waiting = asyncio.create_task(host.call(A, f"run({HANGS})"))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await host.stop(A, 100)
        assert (await fault(waiting)).code in (Code.AGENT_TRAPPED, Code.AGENT_NOT_RUNNING)
    async with asyncio.timeout(60):
        await host.stop(B, 0)


async def test_no_call_is_lost_while_the_other_agent_is_replaced(host, asking, scoring, tmp_path):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, links=LINK))
    answers = []
    enough = asyncio.Event()

    async def ask():
        while not answers or answers[-1] != "ok(63)":
            answers.append(await output(host, "run(21)"))
            if len(answers) == 50:
                enough.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(ask())
        await enough.wait()
        await host.stop(B, 1000)
        await host.start(component(tmp_path / "next.wasm", scorer(factor=3)).start(B))
    assert set(answers) == {"ok(42)", "ok(63)"}


async def test_a_replacement_of_other_types_changes_nothing(host, asking, scoring, tmp_path):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, links=LINK))
    other = component(tmp_path / "other.wasm", scorer(result="s32"))
    assert (await fault(host.replace(other.start(B), Probation(3, 60_000)))).code is Code.LINK_INVALID
    assert await output(host, "run(21)") == "ok(42)"
    await host.stop(A, 100)
    await host.start(asking.start(A, links=LINK))
    assert await output(host, "run(21)") == "ok(42)", "whoever starts meets the types of what runs"


async def test_waiting_for_an_agent_that_does_not_return_costs_an_error(host, asking, scoring):
    await host.start(scoring.start(B))
    await host.start(asking.start(A, small(deadline_ms=500), links=LINK))
    await host.stop(B, 0)
    assert "AGENT_NOT_RUNNING" in await output(host, "run(21)")


async def test_a_chain_of_agents(host, asking, scoring, tmp_path):
    middle = component(
        tmp_path / "middle.wasm",
        wasm("""(component
 (import "acme:pipeline/score@0.1.0" (instance $below (export "plain" (func (param "value" u32) (result u32)))))
 (core func $plain (canon lower (func $below "plain")))
 (core module $main (import "b" "plain" (func $plain (param i32) (result i32)))
  (func (export "plain") (param i32) (result i32) (i32.add (call $plain (local.get 0)) (i32.const 1))))
 (core instance $m (instantiate $main (with "b" (instance (export "plain" (func $plain))))))
 (func $f (param "value" u32) (result u32) (canon lift (core func $m "plain")))
 (instance $answers (export "plain" (func $f)))
 (export "acme:pipeline/middle@0.1.0" (instance $answers)))"""),
    )
    await host.start(scoring.start(B))
    await host.start(middle.start(C, links=LINK))
    assert await output(host, "plain(20)", C) == "41"


@pytest.mark.parametrize("joined", [False, True])
async def test_an_interface_of_types_alone_is_met_by_a_stub_without_functions(host, scoring, tmp_path, joined):
    types = """(import "acme:pipeline/types@0.1.0" (instance
     (type $reading (record (field "value" u32))) (export "reading" (type (eq $reading)))))"""
    asking = component(tmp_path / "asker.wasm", asker(imports=types))
    more = {"fusion": fused(asking, scoring)} if joined else {"links": LINK}
    if not joined:
        await host.start(scoring.start(B))
    await host.start(asking.start(A, deny_stubs=("acme:pipeline/types@0.1.0",), **more))
    assert await output(host, "run(21)") == "ok(42)"


# --- types ---


@pytest.mark.parametrize("order", ["answering first", "asking first"])
async def test_types_that_differ_are_refused_before_the_second_starts(host, asking, tmp_path, order):
    other = component(tmp_path / "other.wasm", scorer(result="s32"))
    first, second = other.start(B), asking.start(A, links=LINK)
    if order == "asking first":
        first, second = second, first
    await host.start(first)
    error = await fault(host.start(second))
    assert error.code is Code.LINK_INVALID
    assert "p/asker and p/scorer do not agree on acme:pipeline/score@0.1.0" in error.private
    assert "result<u32, string> and exported as result<s32, string>" in error.private


async def test_a_version_of_the_same_track_answers_and_another_does_not(host, asking, tmp_path):
    await host.start(asking.start(A, links=LINK))
    newer = component(tmp_path / "newer.wasm", scorer("acme:pipeline/score@0.1.9"))
    await host.start(newer.start(B))
    assert await output(host, "run(21)") == "ok(42)"
    await host.stop(B, 0)
    breaking = component(tmp_path / "breaking.wasm", scorer("acme:pipeline/score@0.2.0"))
    assert (await fault(host.start(breaking.start(B)))).code is Code.LINK_INVALID


async def test_resources_do_not_leave_their_store(host, tmp_path):
    holder = component(
        tmp_path / "holder.wasm",
        wasm("""(component (import "acme:pipeline/things@0.1.0" (instance
 (export "thing" (type $thing (sub resource))) (export "make" (func (result (own $thing)))))))"""),
    )
    error = await fault(host.start(holder.start(A, links={"acme:pipeline/things@0.1.0": B})))
    assert error.code is Code.LINK_INVALID
    assert "isolation: none" in error.remedy


# --- fused ---


def fused(*components):
    parts = zip((A, B), components, strict=True)
    return Fusion(tuple(Part(agent, part.path, part.digest) for agent, part in parts), (Wire(0, SCORE, 1),))


async def test_fused_agents_answer_as_one(host, asking, scoring):
    fusion = fused(asking, scoring)
    await host.prepare(asking.path, asking.digest, fusion)
    await host.start(asking.start(A, fusion=fusion))
    assert await output(host, "run(21)") == "ok(42)"
    assert await output(host, f"run({REFUSES})") == 'err("bad")'
    assert (await fault(host.call(B, "score(1)"))).code is Code.AGENT_NOT_RUNNING


async def test_fused_agents_end_as_one(host, asking, scoring):
    await host.start(asking.start(A, fusion=fused(asking, scoring)))
    assert (await fault(host.call(A, f"run({TRAPS})"))).code is Code.AGENT_TRAPPED
    ended = await exited(host)
    assert not isinstance(ended, RunnerLost)
    assert (ended.agent, ended.exit.cause) == (A, ExitCause.UNREACHABLE)


async def test_other_parts_make_another_whole(host, asking, scoring, tmp_path):
    other = component(tmp_path / "other.wasm", scorer(factor=3))
    assert fused(asking, scoring).digest != fused(asking, other).digest
    for part, answer in ((scoring, "ok(42)"), (other, "ok(63)")):
        await host.start(asking.start(A, fusion=fused(asking, part)))
        assert await output(host, "run(21)") == answer
        await host.stop(A, 0)


async def test_parts_that_do_not_fit_are_refused_before_the_start(host, asking, tmp_path):
    other = component(tmp_path / "other.wasm", scorer(result="s32"))
    error = await fault(host.prepare(asking.path, asking.digest, fused(asking, other)))
    assert error.code is Code.LINK_INVALID
    assert "p/asker and p/scorer do not agree on acme:pipeline/score@0.1.0" in error.private


async def test_the_digests_of_parts_are_checked(host, asking, scoring):
    scoring.path.write_bytes(scorer(factor=9))
    error = await fault(host.prepare(asking.path, asking.digest, fused(asking, scoring)))
    assert error.code is Code.DIGEST_MISMATCH


async def test_a_part_that_is_not_stored(host, asking, scoring):
    scoring.path.unlink()
    error = await fault(host.prepare(asking.path, asking.digest, fused(asking, scoring)))
    assert error.code is Code.BLOB_MISSING
