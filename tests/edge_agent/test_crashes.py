"""Crash reports on a node's disk: bounded, whole after a power cut, and told as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from edge_agent import crashes as module
from edge_agent.admission import AdmittedAgent
from edge_agent.crashes import MAX_PER_AGENT, MAX_WAITING, Crashes, CrashKeeper
from edge_agent.journal import Journal
from edge_agent.runtime import AgentCrashed, AgentStart
from edge_agent.sensors import SensorTable
from edge_agent.supervision import Accepted, Parts
from edge_agent.supervisor import Supervisor
from edge_agent.traffic import Inputs
from edge_agent.triggers import HostTelemetry
from fleet.crash import CrashReport, GuestCall, HostCall, Recording, decode_report, encode_recording
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Limits
from fleet.model import AssignedAgent, Event, Exit, ExitCause, LogLine, Phase, TargetRef
from tests.fakes.clock import START, VirtualClock
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until

FOLDER = Path("/data/crashes")
DIGEST = "sha256:" + "0" * 64
SPEC = AssignedAgent("app/one", TargetRef("b", DIGEST), TargetRef("g", "sha256:" + "1" * 64))
AUTHORITY = Authority({}, Limits()).encode()
AGENT_START = AgentStart("app/one", Path("/c"), "sha256:" + "2" * 64, AUTHORITY, Path("/state"))
RECORDING = Recording(GuestCall(""), (GuestCall("run", (), (HostCall("a:b/c#d", ("1",), "2"),)),))


def report(at_ms: int, agent: str = "app/one", message: str = "why") -> CrashReport:
    return CrashReport(
        node="n1",
        agent=agent,
        generation=1,
        bundle=DIGEST,
        grant=DIGEST,
        component=DIGEST,
        authority="{}",
        engine="wasmtime 1",
        cause=ExitCause.UNREACHABLE,
        message=message,
        at_ms=at_ms,
    )


def test_reports_are_found_again_by_whoever_opens_the_folder_next() -> None:
    disk = MemoryDisk()
    first = Crashes(disk, FOLDER)
    kept = [first.keep(report(at, agent)) for at, agent in ((2, "app/two"), (1, "app/one"), (3, "app/one"))]
    for store in (first, Crashes(disk, FOLDER)):
        assert [r.at_ms for r in store.reports()] == [1, 2, 3]
        assert [r.at_ms for r in store.reports("app/one")] == [1, 3]
        assert decode_report(store.document(kept[0].id), "") == kept[0]
    assert first.reports("app/none") == ()


@pytest.mark.parametrize("identifier", ["0" * 16, "", "../../../etc/passwd", "*" * 16])
def test_what_is_not_kept_is_not_found(identifier: str) -> None:
    store = Crashes(MemoryDisk(), FOLDER)
    store.keep(report(1))
    with pytest.raises(FleetError) as caught:
        store.document(identifier)
    assert caught.value.code is Code.NOT_FOUND


def test_one_agent_cannot_drive_out_the_reports_of_others() -> None:
    store = Crashes(MemoryDisk(), FOLDER)
    store.keep(report(1, "app/quiet"))
    for at in range(2, 30):
        store.keep(report(at, "app/loud"))
    assert [r.at_ms for r in store.reports("app/loud")] == list(range(30 - MAX_PER_AGENT, 30))
    assert len(store.reports("app/quiet")) == 1


@pytest.mark.parametrize(("limit", "value"), [("MAX_REPORTS", 3), ("MAX_BYTES", 1_500)])
def test_all_reports_together_have_a_bound(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(module, limit, value)
    disk = MemoryDisk()
    store = Crashes(disk, FOLDER)
    for at in range(1, 20):
        store.keep(report(at, f"app/a{at}"))
    kept = store.reports()
    assert 1 <= len(kept) <= 3
    assert kept[-1].at_ms == 19
    assert len(disk.names(FOLDER)) == len(kept)


def test_files_that_are_no_reports_are_removed() -> None:
    disk = MemoryDisk()
    Crashes(disk, FOLDER).keep(report(1))
    (name,) = disk.names(FOLDER)
    disk.write(FOLDER / f"{name}.new", b"half", 0)
    disk.write(FOLDER / name.replace("0000", "0001", 1), b"{}", 0)
    assert [r.at_ms for r in Crashes(disk, FOLDER).reports()] == [1]
    assert disk.names(FOLDER) == (name,)


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_costs_at_most_the_newest_report(seed: int) -> None:
    for cut in range(1, 12):
        disk = MemoryDisk()
        store = Crashes(disk, FOLDER)
        for at in range(1, MAX_PER_AGENT + 1):
            store.keep(report(at))
        disk.cut_at = disk.operations + cut
        try:
            store.keep(report(100))
            store.keep(report(101))
        except PowerCutError:
            pass
        after = Crashes(disk.after_power_cut(Random(seed)), FOLDER).reports()
        times = [r.at_ms for r in after]
        assert times == sorted(times)
        assert set(range(3, MAX_PER_AGENT + 1)) <= set(times), "older ones gave way to at most two"


@pytest.fixture
async def keeper() -> AsyncIterator[CrashKeeper]:
    keeper = CrashKeeper(Crashes(MemoryDisk(), FOLDER), Journal("n1", 500), VirtualClock(), "n1", "wasmtime 1")
    running = asyncio.create_task(keeper.run())
    yield keeper
    running.cancel()
    await asyncio.wait((running,))


def crashed(**fields: object) -> AgentCrashed:
    event = AgentCrashed("app/one", Exit(ExitCause.UNREACHABLE, "why", START))
    return replace(event, **fields)


async def events(keeper: CrashKeeper) -> list[Event]:
    found: list[Event] = []

    def told() -> bool:
        found.extend(keeper._journal.take_events(10, START))
        return bool(found)

    await until(told, "an event")
    return found


async def test_a_report_has_what_the_supervisor_knows(keeper: CrashKeeper) -> None:
    for second in range(60):
        at = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=second)
        keeper._journal.log(LogLine(at, "n1", "app/one", "info", "here", f"line {second}"))
    recording = encode_recording(RECORDING).decode()
    keeper.take(crashed(backtrace="trace", recording=recording), SPEC, AGENT_START, 7)
    (event,) = await events(keeper)
    (found,) = await keeper.list("")
    assert (event.kind, event.agent, event.detail) == ("agent:crash:recorded", "app/one", {"id": found.id})
    assert (found.node, found.generation, found.engine) == ("n1", 7, "wasmtime 1")
    assert (found.bundle, found.grant, found.component) == (DIGEST, SPEC.grant.digest, AGENT_START.component_digest)
    assert (found.authority, found.backtrace, found.recording) == (AUTHORITY.decode(), "trace", RECORDING)
    assert [line.message for line in found.log] == [f"line {second}" for second in range(10, 60)]
    assert decode_report(await keeper.document(found.id), "") == found


async def test_a_record_that_cannot_be_read_costs_the_record_alone(keeper: CrashKeeper) -> None:
    keeper.take(crashed(recording='{"calls":7}', invocation="run()"), SPEC, AGENT_START, 1)
    assert [event.kind for event in await events(keeper)] == ["agent:crash:recorded"]
    (found,) = await keeper.list("app/one")
    assert (found.recording, found.invocation) == (None, "run()")


async def test_a_report_that_cannot_be_written_is_told(keeper: CrashKeeper) -> None:
    keeper.take(crashed(), SPEC, replace(AGENT_START, authority=b"x" * 1_000_000), 1)
    (event,) = await events(keeper)
    assert event.kind == "agent:crash:not-recorded"
    assert await keeper.list("") == ()


async def test_ends_that_come_too_fast_are_counted(keeper: CrashKeeper) -> None:
    for number in range(MAX_WAITING + 3):
        keeper.take(crashed(exit=Exit(ExitCause.QUOTA, f"end {number}", START)), SPEC, AGENT_START, 1)
    found: list[Event] = []
    while not any(event.kind == "node:crashes:lost" for event in found):
        found += await events(keeper)
    assert found[-1].detail == {"lost": "3"}
    assert sum(event.kind == "agent:crash:recorded" for event in found) == MAX_WAITING


async def test_the_supervisor_hands_on_the_ends_of_what_it_runs() -> None:
    runtime, clock = ScriptedRuntime(), VirtualClock()
    taken: list[tuple[str, str, str, int]] = []

    def keep(event: AgentCrashed, spec: AssignedAgent, start: AgentStart, generation: int) -> None:
        taken.append((event.agent, spec.grant.digest, start.component_digest, generation))

    async def admit(spec: AssignedAgent) -> AdmittedAgent:
        return AdmittedAgent(replace(AGENT_START, name=spec.name), None)

    inputs = Inputs(HostTelemetry(), SensorTable((), clock, lambda *_: None))

    async def granted(_: AssignedAgent) -> Authority:
        return Authority({})

    parts = Parts(runtime, admit, granted, Journal("n1", 10), clock, Random(7), inputs, keep_crash=keep)
    supervisor = Supervisor(parts)
    running = asyncio.create_task(supervisor.run())
    await clock.settle()
    supervisor.desire(Accepted(4, DIGEST, (SPEC,)))
    await clock.settle()
    assert supervisor.observed().agents[0].phase is Phase.RUNNING
    runtime.trap("app/one", ExitCause.UNREACHABLE)
    runtime.events.put_nowait(crashed())
    runtime.events.put_nowait(crashed(agent="app/unknown"))
    await clock.settle()
    assert taken == [("app/one", SPEC.grant.digest, AGENT_START.component_digest, 4)]
    running.cancel()
    await asyncio.wait((running,))
