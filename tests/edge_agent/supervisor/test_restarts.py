"""What a supervisor does when agents end, are refused or lapse."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from edge_agent.runtime import CacheEntryRefused
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import (
    ExitCause,
    Phase,
)
from tests.edge_agent.supervisor.conftest import Bench, spec
from tests.fakes.clock import START


async def test_a_trap_restarts_the_agent_alone(bench: Bench) -> None:
    await bench.desire(spec("app/one"), spec("app/two"))
    bench.runtime.trap("app/one", ExitCause.QUOTA, "more than 32 MiB")
    await bench.clock.settle()
    agent = bench.agent()
    assert (agent.phase, agent.last_exit.cause) == (Phase.BACKOFF, ExitCause.QUOTA)  # type: ignore[union-attr]
    assert agent.next_attempt_at is not None
    assert START <= agent.next_attempt_at <= START + timedelta(seconds=1)
    await bench.clock.advance(1)
    assert (bench.agent().phase, bench.agent().restarts) == (Phase.RUNNING, 1)
    assert bench.runtime.journal.count("start app/two") == 1
    assert bench.kinds() == ["agent:instance:started", "agent:trap:caught", "agent:trap:restarted"]


async def test_a_trap_inside_a_call_restarts_too(bench: Bench) -> None:
    await bench.desire(spec("app/one"))
    bench.runtime.traps.add("crash()")
    with pytest.raises(FleetError) as caught:
        await bench.supervisor.call("app/one", "crash()", None)
    assert caught.value.code is Code.AGENT_TRAPPED
    await bench.clock.advance(1)
    assert (bench.agent().phase, bench.agent().restarts) == (Phase.RUNNING, 1)
    assert await bench.supervisor.call("app/one", "fine()", None) == 'ok("fine")'


async def test_restarts_go_on_for_ever_with_capped_delays(bench: Bench) -> None:
    await bench.desire(spec("app/one"))
    for _ in range(100):
        bench.runtime.trap("app/one", ExitCause.UNREACHABLE)
        await bench.clock.advance(8)
        assert bench.agent().phase is Phase.RUNNING
    assert bench.agent().restarts == 100


async def test_a_lost_runner_restarts_the_agents_of_its_application_only(bench: Bench) -> None:
    await bench.desire(spec("app/one"), spec("app/two"), spec("other/three"))
    bench.runtime.lose_runner("app")
    await bench.clock.settle()
    assert bench.phases() == {"app/one": Phase.BACKOFF, "app/two": Phase.BACKOFF, "other/three": Phase.RUNNING}
    assert bench.kinds("") == ["runner:process:lost"]
    await bench.clock.advance(1)
    assert set(bench.phases().values()) == {Phase.RUNNING}
    assert bench.runtime.journal.count("start other/three") == 1


async def test_refused_code_of_the_cache_is_told(bench: Bench) -> None:
    await bench.desire(spec("app/one"))
    bench.runtime.events.put_nowait(CacheEntryRefused("sha256:abc"))
    await bench.clock.settle()
    assert bench.kinds("") == ["cache:entry:refused"]
    assert bench.agent().phase is Phase.RUNNING


async def test_a_refused_agent_tells_why_and_waits_for_change(bench: Bench) -> None:
    bench.refusals["app/one"] = [FleetError(Code.IMPORT_NOT_GRANTED, "secret", imports="wasi:x/y", remedy="grant it")]
    await bench.desire(spec("app/one"))
    refusal = bench.agent().refusal
    assert bench.agent().phase is Phase.FAILED
    assert refusal is not None
    assert (refusal.code, refusal.remedy) == ("IMPORT_NOT_GRANTED", "grant it")
    ended = bench.agent().last_exit
    assert ended is not None
    assert (ended.cause, ended.message) == (ExitCause.ADMISSION_REFUSED, refusal.message)
    assert "wasi:x/y" in refusal.message
    assert "secret" not in refusal.message
    await bench.clock.advance(3_600)
    assert bench.admissions == ["app/one"]
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert bench.agent().phase is Phase.RUNNING


async def test_a_missing_blob_is_asked_for_and_admission_tried_again(bench: Bench) -> None:
    bench.refusals["app/one"] = [FleetError(Code.BLOB_MISSING, "gone")]
    await bench.desire(spec("app/one"))
    assert bench.supervisor.missing.is_set()
    assert bench.agent().phase is Phase.BACKOFF
    await bench.clock.advance(1)
    assert bench.agent().phase is Phase.RUNNING


async def test_reconsidering_waits_for_no_delay_after_a_refusal(bench: Bench) -> None:
    bench.refusals["app/one"] = [FleetError(Code.BLOB_MISSING, "gone") for _ in range(6)]
    await bench.desire(spec("app/one"))
    for _ in range(6):
        assert bench.agent().phase is Phase.BACKOFF
        bench.supervisor.reconsider()
        await bench.clock.settle()
    assert bench.agent().phase is Phase.RUNNING
    await bench.clock.advance(3_600)
    assert bench.runtime.journal == ["start app/one"], "the delays that were cut short begin nothing"


async def test_reconsidering_shortens_no_delay_after_a_trap(bench: Bench) -> None:
    await bench.desire(spec("app/one"))
    bench.runtime.trap("app/one", ExitCause.UNREACHABLE, "trap")
    await bench.clock.settle()
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert bench.agent().phase is Phase.BACKOFF


async def test_a_blob_that_reconsidering_finds_lost_is_asked_for_while_the_agent_runs_on(bench: Bench) -> None:
    await bench.desire(spec("app/one"))
    bench.refusals["app/one"] = [FleetError(Code.BLOB_CORRUPT, "rot")]
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert (bench.agent().phase, bench.supervisor.missing.is_set()) == (Phase.RUNNING, True)


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (FleetError(Code.COMPONENT_UNSUPPORTED, "async"), Phase.FAILED),
        (FleetError(Code.AGENT_TRAPPED, "in start", cause="stack-overflow"), Phase.BACKOFF),
        (FleetError(Code.RUNNER_LOST, "killed"), Phase.BACKOFF),
    ],
)
async def test_a_start_that_fails(bench: Bench, error: FleetError, phase: Phase) -> None:
    bench.runtime.start_faults["app/one"] = [error]
    await bench.desire(spec("app/one"))
    assert bench.agent().phase is phase


async def test_an_agent_that_is_dropped_while_it_starts_is_stopped_afterwards(bench: Bench) -> None:
    bench.runtime.slow_starts["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one"))
    await bench.desire()
    assert bench.phases() == {"app/one": Phase.STOPPING}
    bench.runtime.slow_starts["app/one"].set()
    await bench.clock.settle()
    assert (bench.phases(), bench.runtime.running) == ({}, {})


async def test_a_lapsed_admission_ends_the_instance_and_asks_again(bench: Bench) -> None:
    bench.valid_until = START + timedelta(hours=2)
    await bench.desire(spec("app/one"))
    bench.refusals["app/one"] = [FleetError(Code.GRANT_EXPIRED, "over")]
    await bench.clock.advance(2 * 3_600)
    assert bench.agent().phase is Phase.FAILED
    assert bench.runtime.running == {}


async def test_a_lapse_follows_a_wall_clock_that_is_set_forward(bench: Bench) -> None:
    bench.valid_until = START + timedelta(days=2)
    await bench.desire(spec("app/one"))
    bench.refusals["app/one"] = [FleetError(Code.GRANT_EXPIRED, "over")]
    bench.clock.wall += timedelta(days=3)
    await bench.clock.advance(60)
    assert bench.agent().phase is Phase.FAILED


async def test_reconsidering_extends_ends_or_replaces_what_runs(bench: Bench) -> None:
    bench.valid_until = START + timedelta(hours=1)
    await bench.desire(spec("app/one"))
    bench.valid_until = START + timedelta(hours=3)
    bench.supervisor.reconsider()
    await bench.clock.advance(2 * 3_600)
    assert bench.runtime.journal == ["start app/one"]
    less = bench.authority = Authority({"wasi:logging/logging": ()}).encode()
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert bench.runtime.journal == ["start app/one", "stop app/one", "start app/one"]
    assert bench.runtime.running["app/one"].authority == less
    bench.refusals["app/one"] = [FleetError(Code.TARGET_UNSIGNED, "withdrawn") for _ in range(2)]
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert (bench.agent().phase, bench.runtime.running) == (Phase.FAILED, {})


async def test_a_generation_is_applied_when_every_agent_has_settled(bench: Bench) -> None:
    bench.runtime.slow_starts["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one"))
    assert bench.supervisor.applied is None
    bench.runtime.slow_starts["app/one"].set()
    await bench.clock.settle()
    assert bench.supervisor.applied is not None
    assert bench.supervisor.applied.generation == 1
    await bench.desire()
    assert bench.supervisor.applied.generation == 2
