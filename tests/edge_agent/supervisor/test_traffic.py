"""What a supervisor delivers to agents, and what it keeps of what they say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge_agent.runtime import AgentLogged
from fleet.errors import Code, FleetError
from fleet.model import (
    EventTrigger,
    ExitCause,
    LogLine,
    Phase,
    TelemetryTrigger,
    TimerTrigger,
)
from tests.edge_agent.supervisor.conftest import Bench, spec
from tests.fakes.clock import START


@pytest.mark.parametrize("name", ["app/absent", "app/refused"])
async def test_only_a_running_agent_can_be_called(bench: Bench, name: str) -> None:
    bench.refusals["app/refused"] = [FleetError(Code.GRANT_EXPIRED, "over")]
    await bench.desire(spec("app/refused"))
    with pytest.raises(FleetError) as caught:
        await bench.supervisor.call(name, "f()", None)
    assert caught.value.code is Code.AGENT_NOT_RUNNING


async def test_timers_fire_while_the_agent_runs(bench: Bench) -> None:
    await bench.desire(spec("app/one", TimerTrigger(500, "tick", "{n: 1}")))
    await bench.clock.advance(1.6)
    assert bench.runtime.calls["app/one"] == ["tick({n: 1})"] * 3
    assert bench.agent().last_output == 'ok("tick")'
    await bench.desire()
    await bench.clock.advance(5)
    assert len(bench.runtime.calls["app/one"]) == 3


async def test_telemetry_hands_over_a_record_for_each_source_that_exists(bench: Bench) -> None:
    await bench.desire(spec("app/one", TelemetryTrigger(1_000, "handle-data", ("cpu", "absent", "memory"))))
    await bench.clock.advance(1)
    seconds = int(START.timestamp()) + 1
    assert bench.runtime.calls["app/one"] == [
        f'handle-data({{source: "cpu", value: 12.5, timestamp: {seconds}}})',
        f'handle-data({{source: "memory", value: 12.5, timestamp: {seconds}}})',
    ]


async def test_a_local_event_reaches_its_listeners_in_order(bench: Bench) -> None:
    await bench.desire(
        spec("app/one", EventTrigger("t", "f")), spec("app/two", EventTrigger("t", "g")), spec("app/three")
    )
    assert await bench.supervisor.publish("t", ["1", "2"]) == 4
    assert await bench.supervisor.publish("nobody", ["1"]) == 0
    assert bench.runtime.calls["app/one"] == ["f(1)", "f(2)"]
    assert bench.runtime.calls["app/two"] == ["g(1)", "g(2)"]


async def test_one_trigger_call_is_in_flight_and_the_rest_is_dropped_and_counted(bench: Bench) -> None:
    bench.runtime.slow_calls["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one", TimerTrigger(100, "tick", "")))
    await bench.clock.advance(1.05)
    assert bench.runtime.calls["app/one"] == ["tick()"]
    assert bench.supervisor.traffic.dropped("app/one") == 9
    bench.runtime.slow_calls.pop("app/one").set()
    await bench.clock.advance(0.1)
    assert bench.runtime.calls["app/one"] == ["tick()"] * 2


async def test_an_event_waits_for_its_turn_behind_a_trigger(bench: Bench) -> None:
    bench.runtime.slow_calls["app/one"] = asyncio.Event()
    await bench.desire(spec("app/one", TimerTrigger(100, "tick", ""), EventTrigger("t", "f")))
    await bench.clock.advance(0.15)
    sent = asyncio.create_task(bench.supervisor.publish("t", ["1", "2"]))
    await bench.clock.settle()
    bench.runtime.slow_calls.pop("app/one").set()
    assert await sent == 2
    assert bench.runtime.calls["app/one"] == ["tick()", "f(1)", "f(2)"]
    assert bench.supervisor.traffic.dropped("app/one") == 0


async def test_a_trigger_that_keeps_failing_is_told_once(bench: Bench) -> None:
    await bench.desire(spec("app/one", TimerTrigger(100, "absent", "")))
    bench.kinds()

    async def refuse(*_: object) -> None:
        raise FleetError(Code.EXPORT_NOT_FOUND, "no such export")

    bench.runtime.call = refuse  # type: ignore[assignment]
    await bench.clock.advance(1)
    assert bench.kinds() == ["agent:trigger:failed"]


async def test_logs_of_agents_are_kept_with_the_name_of_the_node(bench: Bench) -> None:
    for number in range(600):
        bench.runtime.events.put_nowait(AgentLogged(LogLine(START, "", "app/one", "info", "", str(number))))
    await bench.clock.settle()
    for _ in range(20):
        await bench.clock.settle()
    lines = bench.journal.lines("app/one")
    assert (len(lines), lines[0].message, lines[-1].message, lines[0].node) == (500, "100", "599", "node-1")


async def test_a_restart_keeps_the_specification_that_was_accepted(bench: Bench) -> None:
    wanted = replace(spec("app/one"), config={"unit": "celsius"})
    await bench.desire(wanted)
    bench.runtime.trap("app/one", ExitCause.DEADLINE)
    await bench.clock.advance(2)
    assert bench.runtime.running["app/one"].config == {"unit": "celsius"}


async def test_news_of_health_are_told_and_an_agent_that_is_not_well_starts_again(bench: Bench) -> None:
    bench.runtime.unwell["app/one"] = 0
    await bench.desire(spec("app/one"))
    assert (bench.agent().vitals.ready, bench.agent().vitals.healthy) == (False, None)
    for error, told in (("", (True, True, "")), ("no network", (False, False, "no network"))):
        bench.supervisor.changed.clear()
        bench.runtime.answer_health("app/one", error)
        await bench.clock.settle()
        assert bench.supervisor.changed.is_set()
        vitals = bench.agent().vitals
        assert (vitals.healthy, vitals.ready, vitals.reason) == told
    for _ in range(2):
        bench.runtime.answer_health("app/one", "no network")
    await bench.clock.settle()
    assert bench.phases() == {"app/one": Phase.BACKOFF}
    assert (bench.agent().vitals.healthy, bench.agent().vitals.ready) == (False, False)
    ended = bench.agent().last_exit
    assert ended is not None
    assert ended.cause is ExitCause.UNHEALTHY
    await bench.clock.advance(2)
    assert bench.phases() == {"app/one": Phase.RUNNING}
    assert bench.runtime.journal.count("start app/one") == 2
