"""What a supervisor starts, stops and swaps, and what it tells of it."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.admission import AdmittedAgent
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Limits
from fleet.model import (
    AssignedAgent,
    ExitCause,
    Phase,
)
from tests.edge_agent.supervisor.conftest import Bench, spec
from tests.fakes.clock import START


async def test_it_runs_what_is_desired_and_tells_so(bench: Bench) -> None:
    await bench.desire(spec("app/one"), spec("app/two"))
    observed = bench.supervisor.observed()
    assert (observed.generation, observed.digest) == (1, "sha256:1")
    assert bench.phases() == {"app/one": Phase.RUNNING, "app/two": Phase.RUNNING}
    assert bench.agent().running_since == START
    assert bench.kinds() == ["agent:instance:started"]
    assert bench.supervisor.changed.is_set()


async def test_stops_come_before_starts(bench: Bench) -> None:
    await bench.desire(spec("app/old"), spec("app/kept"))
    bench.runtime.journal.clear()
    await bench.desire(spec("app/kept"), spec("app/new"))
    assert bench.runtime.journal == ["stop app/old", "start app/new"]
    assert bench.phases() == {"app/kept": Phase.RUNNING, "app/new": Phase.RUNNING}


async def test_a_changed_agent_is_swapped_while_it_runs_and_the_newest_order_counts(bench: Bench) -> None:
    await bench.desire(spec("app/one", version="1"))
    bench.runtime.slow_starts["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one", version="2"))
    await bench.desire(spec("app/one", version="3"))
    assert bench.phases() == {"app/one": Phase.RUNNING}
    assert await bench.supervisor.call("app/one", "fine()", None) == 'ok("fine")'
    bench.runtime.slow_starts["app/one"].set()
    await bench.clock.settle()
    assert bench.runtime.running["app/one"].config == {"version": "3"}
    assert bench.runtime.journal == ["start app/one", "replace app/one", "replace app/one"]


async def test_a_version_that_ends_on_probation_is_rolled_back_and_told_as_refused(bench: Bench) -> None:
    old, new = spec("app/one", version="1"), spec("app/one", version="2")
    await bench.desire(old)
    bench.runtime.faulty["app/one"] = {"version": "2"}
    await bench.desire(new)
    with pytest.raises(FleetError) as caught:
        await bench.supervisor.call("app/one", "f()", None)
    assert caught.value.code is Code.AGENT_TRAPPED
    assert await bench.supervisor.call("app/one", "f()", None) == 'ok("f")'
    await bench.clock.settle()
    agent = bench.agent()
    assert (agent.phase, bench.runtime.running["app/one"].config) == (Phase.RUNNING, {"version": "1"})
    assert agent.refusal is not None
    assert agent.refusal.code == "AGENT_TRAPPED"
    bench.supervisor.reconsider()
    await bench.clock.advance(3_600)
    assert bench.runtime.journal == ["start app/one", "replace app/one"], "it is not tried again"
    await bench.desire(old)
    assert bench.agent().refusal is None
    assert "agent:swap:rolled-back" in bench.kinds()


async def test_a_version_that_is_refused_leaves_the_older_one_running(bench: Bench) -> None:
    await bench.desire(spec("app/one", version="1"))
    bench.refusals["app/one"] = [FleetError(Code.IMPORT_NOT_GRANTED, "secret", imports="wasi:x/y")]
    await bench.desire(spec("app/one", version="2"))
    agent = bench.agent()
    assert (agent.phase, bench.runtime.running["app/one"].config) == (Phase.RUNNING, {"version": "1"})
    assert agent.refusal is not None
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert (bench.agent().refusal, bench.runtime.running["app/one"].config) == (None, {"version": "2"})


async def test_a_version_with_less_authority_starts_when_the_older_one_has_stopped(bench: Bench) -> None:
    bench.authority = Authority({}, Limits(memory_bytes=32 << 20)).encode()
    await bench.desire(spec("app/one", version="1"))
    bench.authority = Authority({}, Limits(memory_bytes=16 << 20)).encode()
    await bench.desire(spec("app/one", version="2"))
    assert bench.runtime.journal == ["start app/one", "stop app/one", "start app/one"]
    assert (bench.agent().phase, bench.runtime.running["app/one"].config) == (Phase.RUNNING, {"version": "2"})
    assert "agent:swap:hindered" in bench.kinds()


async def test_less_authority_ends_the_older_version_even_if_the_newer_one_is_refused(bench: Bench) -> None:
    bench.authority = Authority({}, Limits(memory_bytes=32 << 20)).encode()
    await bench.desire(spec("app/one", version="1"))
    bench.authority = Authority({}, Limits(memory_bytes=16 << 20)).encode()
    refusal = FleetError(Code.IMPORT_NOT_GRANTED, "secret", imports="wasi:x/y")
    bench.refusals["app/one"] = [refusal, refusal]
    await bench.desire(spec("app/one", version="2"))
    assert (bench.phases(), bench.runtime.running) == ({"app/one": Phase.FAILED}, {})


async def test_an_older_version_that_is_withdrawn_gives_way_to_what_is_desired(bench: Bench) -> None:
    await bench.desire(spec("app/one", version="1"))
    refusal = FleetError(Code.IMPORT_NOT_GRANTED, "secret", imports="wasi:x/y")
    bench.refusals["app/one"] = [refusal]
    await bench.desire(spec("app/one", version="2"))
    withdrawn = FleetError(Code.TARGET_UNSIGNED, "secret")
    bench.refusals["app/one"] = [refusal, withdrawn, refusal]
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert (bench.phases(), bench.runtime.running) == ({"app/one": Phase.FAILED}, {})
    refused = bench.agent().refusal
    assert refused is not None
    assert refused.code == Code.IMPORT_NOT_GRANTED, "of what is desired"


async def test_what_waits_to_come_back_is_let_go_when_it_is_withdrawn(bench: Bench) -> None:
    await bench.desire(spec("app/one", version="1"))
    await bench.desire(spec("app/one", version="2"))
    admit = bench.admit

    async def withdrawn(agent: AssignedAgent) -> AdmittedAgent:
        if agent.config == {"version": "1"}:
            raise FleetError(Code.TARGET_UNSIGNED, "secret")
        return await admit(agent)

    bench.withdraw(withdrawn)
    bench.supervisor.reconsider()
    await bench.clock.settle()
    assert (bench.runtime.older, bench.runtime.running["app/one"].config) == ({}, {"version": "2"})


async def test_an_agent_that_is_confirmed_restarts_as_it_is(bench: Bench) -> None:
    await bench.desire(spec("app/one", version="1"))
    await bench.desire(spec("app/one", version="2"))
    for _ in range(3):
        await bench.supervisor.call("app/one", "f()", None)
    await bench.clock.settle()
    bench.runtime.trap("app/one", ExitCause.QUOTA, "more than 32 MiB")
    await bench.clock.advance(1)
    assert (bench.agent().phase, bench.runtime.running["app/one"].config) == (Phase.RUNNING, {"version": "2"})
    assert "agent:swap:confirmed" in bench.kinds()


async def test_a_stop_that_hangs_is_pressed_until_it_works(bench: Bench) -> None:
    bench.runtime.stubborn["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one"))
    await bench.desire()
    await bench.clock.advance(10)
    await bench.clock.advance(5)
    assert bench.runtime.journal.count("stop app/one") == 3
    assert bench.kinds().count("agent:stop:overdue") == 2
    bench.runtime.stubborn["app/one"].set()
    await bench.clock.settle()
    assert bench.phases() == {}
