"""The supervisor over a scripted runtime and virtual time: what it starts, stops, restarts, delivers and tells."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from edge_agent.admission import AdmittedAgent
from edge_agent.journal import Journal
from edge_agent.runtime import AgentLogged, AgentStart, CacheEntryRefused
from edge_agent.sensors import SensorTable
from edge_agent.succession import Admission
from edge_agent.supervision import Accepted, Parts
from edge_agent.supervisor import Supervisor
from edge_agent.traffic import Inputs
from edge_agent.triggers import Reading
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Limits
from fleet.model import (
    AssignedAgent,
    EventTrigger,
    ExitCause,
    LogLine,
    ObservedAgent,
    Phase,
    RestartPolicy,
    TargetRef,
    TelemetryTrigger,
    TimerTrigger,
    Trigger,
)
from tests.fakes.clock import START, VirtualClock
from tests.fakes.runtime import ScriptedRuntime

REF = TargetRef("p", "sha256:" + "0" * 64)


def spec(name: str, *triggers: Trigger, **config: str) -> AssignedAgent:
    return AssignedAgent(name, REF, REF, config=config, triggers=triggers, restart=RestartPolicy(1_000, 8_000, 60_000))


class OneReading:
    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        return tuple(Reading(source, 12.5) for source in sources if source != "absent")


@dataclass
class Bench:
    clock: VirtualClock = field(default_factory=VirtualClock)
    runtime: ScriptedRuntime = field(default_factory=ScriptedRuntime)
    refusals: dict[str, list[FleetError]] = field(default_factory=lambda: defaultdict(list))
    valid_until: datetime | None = None
    admissions: list[str] = field(default_factory=list)
    authority: bytes = Authority({}).encode()
    generation: int = 0

    def __post_init__(self) -> None:
        self.journal = Journal("node-1", 500)
        inputs = Inputs(OneReading(), SensorTable((), self.clock, lambda *_: None))
        parts = Parts(self.runtime, self.decide, self.granted, self.journal, self.clock, Random(7), inputs)
        self.admission: Admission = self.admit
        self.supervisor = Supervisor(parts)

    async def decide(self, agent: AssignedAgent) -> AdmittedAgent:
        return await self.admission(agent)

    def withdraw(self, admission: Admission) -> None:
        self.admission = admission

    async def admit(self, agent: AssignedAgent) -> AdmittedAgent:
        self.admissions.append(agent.name)
        await asyncio.sleep(0)
        if self.refusals[agent.name]:
            raise self.refusals[agent.name].pop(0)
        start = AgentStart(agent.name, Path("/c"), "sha256:0", self.authority, Path("/state"), config=agent.config)
        return AdmittedAgent(start, self.valid_until)

    async def granted(self, agent: AssignedAgent) -> Authority:
        return Authority.decode(self.authority)

    async def desire(self, *agents: AssignedAgent) -> None:
        self.generation += 1
        self.supervisor.desire(Accepted(self.generation, f"sha256:{self.generation}", agents))
        await self.clock.settle()

    def agent(self, name: str = "app/one") -> ObservedAgent:
        (found,) = (agent for agent in self.supervisor.observed().agents if agent.name == name)
        return found

    def phases(self) -> dict[str, Phase]:
        return {agent.name: agent.phase for agent in self.supervisor.observed().agents}

    def kinds(self, agent: str = "app/one") -> list[str]:
        return [event.kind for event in self.journal.take_events(1_000, START) if event.agent == agent]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.supervisor.run())
    await bench.clock.settle()
    yield bench
    running.cancel()
    await asyncio.wait((running,))
    if not running.cancelled():
        running.result()


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
