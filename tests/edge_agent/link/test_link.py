"""A whole node over a scripted runtime, against a coordinator in this process: real gRPC, real TLS, real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from edge_agent import agent
from edge_agent.clock import SystemClock
from edge_agent.config import Settings
from edge_agent.data_dir import lock_data_dir
from edge_agent.disk import LocalDisk
from edge_agent.identity import Identity, IdentityStore
from edge_agent.link import session as session_module
from edge_agent.runtime import AgentLogged, AgentStats, CallResult
from fleet.assignment import open_receipt
from fleet.errors import Code, FleetError
from fleet.model import AssignedAgent, DesiredState, EventTrigger, LogLine, Phase, RestartPolicy
from fleet.signing import PublicKey
from fleet.v1 import node_pb2 as pb
from tests.fakes.coordinator import FakeCoordinator, NodeSession
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import Publisher
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until

HOUR_MS = 3_600_000
ALWAYS = "{not_before: 2020-01-01T00:00:00Z, not_after: 2100-01-01T00:00:00Z}"


@dataclass
class RunningNode:
    """A joined node that can be switched off and on."""

    folder: Path
    coordinator: FakeCoordinator
    runtime: ScriptedRuntime = field(default_factory=ScriptedRuntime)
    changes: dict[str, int] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    identity: Identity | None = None

    def released(self, name: str = "app/one") -> AssignedAgent:
        return self.coordinator.world.agent(name, validity=ALWAYS)

    def order(self, *agents: AssignedAgent, generation: int = 1) -> DesiredState:
        return self.coordinator.world.assign(*agents, generation=generation, now=datetime.now(UTC))

    async def join(self) -> None:
        root = self.folder.parent / "root.json"
        root.write_bytes(self.coordinator.world.publisher.root)
        address, token = self.coordinator.enrolment_address, self.coordinator.token()
        self.identity = await agent.join(Settings(self.folder), address, token, root, {"site": "oslo"})

    def on(self) -> None:
        settings = replace(
            Settings(
                self.folder,
                allow_dev_profile=True,
                coalesce_ms=10,
                reconnect_initial_ms=20,
                reconnect_cap_ms=50,
                fetch_timeout_ms=2_000,
            ),
            **self.changes,
        )
        identity = IdentityStore(LocalDisk(), self.folder).load()
        assert identity is not None
        self.node = agent.Node(settings, identity, self.runtime, SystemClock(), Random(3))
        self.task = asyncio.create_task(self.node.run())

    async def off(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait((self.task,))
            if not self.task.cancelled():
                self.task.result()
            self.task = None
        self.runtime.running.clear()

    async def session(self, number: int = 1) -> NodeSession:
        await until(lambda: len(self.coordinator.sessions) >= number, f"session {number}")
        return self.coordinator.sessions[number - 1]

    async def running(self, *agents: AssignedAgent, generation: int = 1) -> NodeSession:
        session = await self.session()
        session.push(self.order(*agents, generation=generation))
        await self.reported(lambda: self.phases() == {spec.name: Phase.RUNNING for spec in agents}, "running")
        return session

    def phases(self) -> dict[str, Phase]:
        return {found.name: found.phase for found in self.coordinator.observed[-1].agents}

    async def reported(self, condition: Callable[[], bool], what: str) -> None:
        await until(lambda: bool(self.coordinator.observed) and condition(), what)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.coordinator.events]


@dataclass
class FaultyRuntime(ScriptedRuntime):
    """A runtime with bugs: each of `faults` is raised once, by whoever asks for an agent's counters."""

    faults: list[BaseException] = field(default_factory=list)
    call_faults: list[BaseException] = field(default_factory=list)

    def stats(self, agent: str) -> AgentStats:
        if self.faults:
            raise self.faults.pop(0)
        return super().stats(agent)

    async def call(self, agent: str, invocation: str, deadline_ms: int | None = None) -> CallResult:
        if self.call_faults:
            raise self.call_faults.pop(0)
        return await super().call(agent, invocation, deadline_ms)


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator(FleetWorld(publisher=Publisher(now=datetime.now(UTC))))
    await coordinator.open()
    yield coordinator
    await coordinator.close()


@pytest.fixture
async def node(coordinator: FakeCoordinator, tmp_path: Path) -> AsyncIterator[RunningNode]:
    node = RunningNode(tmp_path / "node", coordinator)
    await node.join()
    node.on()
    yield node
    await node.off()


async def test_hello_names_the_node_and_what_it_has(node: RunningNode) -> None:
    hello = (await node.session()).hello
    assert (hello.accepted_generation, hello.accepted_digest) == (0, "")
    assert hello.agent_version == agent.agent_version()
    assert hello.architecture
    assert len(hello.boot_id) == 32


async def test_a_pushed_order_is_fetched_run_reported_and_receipted(node: RunningNode) -> None:
    one, two = node.released("app/one"), node.released("app/two")
    await node.running(one, two)
    assert set(node.runtime.running) == {"app/one", "app/two"}
    observed = node.coordinator.observed[-1]
    assert observed.generation == 1
    await until(lambda: bool(node.coordinator.receipts), "a receipt")
    key = PublicKey(node.coordinator.bound_key)
    receipt = open_receipt(node.coordinator.receipts[-1], fleet="demo", node="node-1", epoch=1, key=key)
    assert (receipt.generation, receipt.digest) == (1, observed.digest)
    assert [entry.name for entry in receipt.agents] == ["app/one", "app/two"]
    assert "trust:release:adopted" in node.kinds()
    assert "assignment:desired:accepted" in node.kinds()


async def test_without_its_coordinator_a_node_starts_again_with_the_same(node: RunningNode) -> None:
    spec = node.released()
    await node.running(spec)
    before = node.runtime.running["app/one"]
    await node.off()
    await node.coordinator.close()
    node.on()
    await until(lambda: "app/one" in node.runtime.running, "the agent running again")
    assert node.runtime.running["app/one"] == before


async def test_after_a_restart_hello_tells_what_is_accepted(node: RunningNode) -> None:
    await node.running(node.released())
    digest = node.coordinator.observed[-1].digest
    await node.off()
    node.on()
    hello = (await node.session(2)).hello
    assert (hello.accepted_generation, hello.accepted_digest) == (1, digest)


async def test_a_newer_order_replaces_the_older_and_an_older_one_is_refused(node: RunningNode) -> None:
    one, two = node.released("app/one"), node.released("app/two")
    session = await node.running(one, generation=5)
    session.push(node.order(two, generation=6))
    await node.reported(lambda: node.phases() == {"app/two": Phase.RUNNING}, "the newer order")
    session.push(node.order(one, generation=4))
    await until(lambda: "assignment:desired:refused" in node.kinds(), "a refusal")
    assert set(node.runtime.running) == {"app/two"}


async def test_a_transfer_that_breaks_is_resumed_without_another_push(node: RunningNode) -> None:
    spec = node.released()
    node.coordinator.world.cut_after[spec.bundle.digest] = 10
    await node.running(spec)
    assert node.coordinator.world.fetched.count(spec.bundle.digest) == 2


async def test_a_lost_blob_is_fetched_again_by_itself(node: RunningNode) -> None:
    await node.running(node.released())
    await node.off()
    for path in (node.folder / "blobs" / "sha256").iterdir():
        path.write_bytes(b"rot")
    node.on()
    await until(lambda: "app/one" in node.runtime.running, "the agent running again")


async def test_what_a_coordinator_served_wrongly_is_fetched_again_when_it_is_right(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "RETRY_INITIAL_S", 0.02)
    monkeypatch.setattr(session_module, "RETRY_CAP_S", 0.1)
    spec = replace(node.released(), restart=RestartPolicy(HOUR_MS, HOUR_MS))
    await node.running(spec)
    await node.off()
    world = node.coordinator.world
    world.spoiled.add(spec.bundle.digest)
    (node.folder / "blobs" / "sha256" / spec.bundle.digest.removeprefix("sha256:")).write_bytes(b"rot")
    node.on()
    await until(lambda: node.kinds().count("blob:repair:failed") >= 3, "three failed repairs")
    assert node.runtime.running == {}
    world.spoiled.clear()
    await until(lambda: "app/one" in node.runtime.running, "the agent, though its own next attempt is far away")


async def test_an_order_whose_bytes_came_wrong_is_tried_again_without_another_push(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "RETRY_INITIAL_S", 0.02)
    session, spec = await node.session(), node.released()
    node.coordinator.world.spoiled.add(spec.bundle.digest)
    session.push(node.order(spec))
    await until(lambda: "assignment:desired:refused" in node.kinds(), "a refusal")
    node.coordinator.world.spoiled.clear()
    await until(lambda: "app/one" in node.runtime.running, "the agent running")


async def test_a_call_and_an_event_reach_the_agents(node: RunningNode) -> None:
    spec = node.released()
    session = await node.running(replace(spec, triggers=(EventTrigger("t", "handle"),)))
    session.command(pb.Command(id="1", deadline_ms=5_000, call=pb.Call(agent="app/one", invocation="f(1)")))
    session.command(pb.Command(id="2", deadline_ms=5_000, send=pb.Send(topic="t", payloads=["1", "2"])))
    session.command(pb.Command(id="3", deadline_ms=5_000, call=pb.Call(agent="app/none", invocation="f(1)")))
    session.command(pb.Command(id="4", deadline_ms=5_000))
    session.command(pb.Command(id="5", call=pb.Call(agent="app/one", invocation="x" * 70_000)))
    await until(lambda: len(node.coordinator.results) == 5, "five answers")
    results = node.coordinator.results
    assert results["1"].output == 'ok("f")'
    assert results["2"].delivered == 2
    assert results["3"].error_code == "AGENT_NOT_RUNNING"
    assert results["4"].error_code == "MESSAGE_INVALID"
    assert results["5"].error_code == "LIMIT_EXCEEDED"
    assert results["3"].error_remedy


async def test_a_command_has_a_deadline_and_holds_up_nothing(node: RunningNode) -> None:
    session = await node.running(node.released("app/one"), node.released("app/two"))
    node.runtime.slow_calls["app/one"] = asyncio.Event()
    for number in range(20):
        call = pb.Call(agent="app/one", invocation="f()")
        session.command(pb.Command(id=f"slow-{number}", deadline_ms=200, call=call))
    await until(lambda: len(node.coordinator.results) == 20, "twenty answers")
    codes = sorted(result.error_code for result in node.coordinator.results.values())
    assert codes == ["AGENT_BUSY"] * 4 + ["DEADLINE_EXCEEDED"] * 16
    session.command(pb.Command(id="quick", deadline_ms=5_000, call=pb.Call(agent="app/two", invocation="f()")))
    await until(lambda: "quick" in node.coordinator.results, "the quick answer")


async def test_a_trap_is_told_with_its_restart(node: RunningNode) -> None:
    session = await node.running(node.released())
    node.runtime.traps.add("crash()")
    session.command(pb.Command(id="1", deadline_ms=5_000, call=pb.Call(agent="app/one", invocation="crash()")))
    await until(lambda: "agent:trap:restarted" in node.kinds(), "the restart")
    assert node.coordinator.results["1"].error_code == "AGENT_TRAPPED"
    await node.reported(lambda: node.coordinator.observed[-1].agents[0].restarts == 1, "the restart in a report")


async def test_logs_are_sent_while_somebody_listens_beginning_with_the_kept_ones(node: RunningNode) -> None:
    session = await node.running(node.released())

    def log(text: str) -> None:
        node.runtime.events.put_nowait(AgentLogged(LogLine(datetime.now(UTC), "", "app/one", "info", "", text)))

    log("before")
    await until(lambda: bool(node.node.journal.lines("app/one")), "a kept line")
    assert node.coordinator.lines == []
    session.logs(enabled=True)
    log("after")
    await until(lambda: len(node.coordinator.lines) == 2, "two lines")
    assert [(line.node, line.message) for line in node.coordinator.lines] == [("node-1", "before"), ("node-1", "after")]


async def test_lines_that_come_one_by_one_are_sent_together(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "node", coordinator, changes={"coalesce_ms": 300})
    await node.join()
    node.on()
    session = await node.running(node.released())
    session.logs(enabled=True)
    count = 300
    for number in range(count):
        line = LogLine(datetime.now(UTC), "", "app/one", "info", "", str(number))
        node.runtime.events.put_nowait(AgentLogged(line))
        await until(lambda number=number: len(node.node.journal.lines("app/one")) > number, "a kept line")
    await until(lambda: len(coordinator.lines) == count, "all lines")
    assert [line.message for line in coordinator.lines] == [str(number) for number in range(count)]
    assert coordinator.line_messages < count / 10
    await node.off()


async def test_go_away_is_honoured(node: RunningNode) -> None:
    session = await node.session()
    loop = asyncio.get_running_loop()
    sent = loop.time()
    session.go_away(300)
    await node.session(2)
    assert loop.time() - sent >= 0.3


async def test_a_coordinator_that_fails_is_tried_again(node: RunningNode) -> None:
    session = await node.session()
    node.coordinator.refuse = FleetError(Code.UNAVAILABLE, "starting")
    session.end()
    await until(lambda: node.coordinator.refusals >= 3, "three tries")
    node.coordinator.refuse = None
    await node.session(2)


async def test_a_fault_that_nobody_foresaw_ends_the_session_and_no_agent(
    coordinator: FakeCoordinator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = FaultyRuntime()
    node = RunningNode(tmp_path / "node", coordinator, runtime)
    await node.join()
    node.on()
    session = await node.running(node.released())
    runtime.faults = [ZeroDivisionError("private"), asyncio.CancelledError("nobody asked"), KeyError("private")]
    session.end()
    again = await node.session(2)
    await until(lambda: node.kinds().count("node:link:failed") == 3, "three faults told")
    told = [event for event in node.coordinator.events if event.kind == "node:link:failed"]
    assert [event.message for event in told] == ["ZeroDivisionError", "CancelledError", "KeyError"]
    assert "private" not in str(told)
    assert [record.exc_info is not None for record in caplog.records if "the link failed" in record.message] == [
        True,
        True,
        True,
    ]
    runtime.faults = [ZeroDivisionError("in the middle of a session")]
    again.push(node.order(node.released(), generation=2))  # a change is reported, and the report fails
    await node.session(3)
    assert node.runtime.journal == ["start app/one"]  # through all of it the agent ran
    assert node.task is not None
    assert not node.task.done()
    await node.off()


async def test_a_command_that_fails_unforeseen_is_answered_and_the_session_goes_on(
    coordinator: FakeCoordinator, tmp_path: Path
) -> None:
    runtime = FaultyRuntime()
    node = RunningNode(tmp_path / "node", coordinator, runtime)
    await node.join()
    node.on()
    session = await node.running(node.released())
    runtime.call_faults = [ZeroDivisionError("private")]
    for number in ("1", "2"):
        call = pb.Call(agent="app/one", invocation="f()")
        session.command(pb.Command(id=number, deadline_ms=5_000, call=call))
        await until(lambda number=number: number in node.coordinator.results, "an answer")
    assert [node.coordinator.results[n].error_code for n in ("1", "2")] == ["INTERNAL", ""]
    assert "private" not in str(node.coordinator.results["1"])
    assert len(node.coordinator.sessions) == 1
    await node.off()


class RecordingClock(SystemClock):
    """Sleeps no time, but notes how long it should have been; the last sleep does not end."""

    def __init__(self, sleeps: int) -> None:
        self.left = sleeps
        self.slept: list[float] = []
        self.done = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self.left:
            self.done.set()
            await asyncio.Event().wait()


async def test_the_delays_are_jittered_in_full_below_a_bound_that_doubles_from_a_second(
    coordinator: FakeCoordinator, tmp_path: Path
) -> None:
    node = RunningNode(tmp_path / "node", coordinator)
    await node.join()
    assert node.identity is not None
    coordinator.refuse = FleetError(Code.UNAVAILABLE, "starting")
    clock, settings = RecordingClock(9), Settings(node.folder, allow_dev_profile=True)
    running = agent.Node(settings, node.identity, node.runtime, clock, Random(3))
    link = asyncio.create_task(running._link().run(node.identity))
    await asyncio.wait({asyncio.create_task(clock.done.wait())}, timeout=20)
    link.cancel()
    await asyncio.wait({link})
    bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(0 <= slept <= bound for slept, bound in zip(clock.slept, bounds, strict=True))
    assert len({round(slept / bound, 6) for slept, bound in zip(clock.slept, bounds, strict=True)}) == len(bounds)


async def test_events_that_could_not_be_sent_are_sent_later(node: RunningNode) -> None:
    await node.session()
    await node.off()
    node.coordinator.events.clear()
    node.on()
    node.node.journal.event(datetime.now(UTC), "", "test:event:first", "before any session")
    await until(lambda: "test:event:first" in node.kinds(), "the event")


async def test_a_certificate_is_renewed_over_a_new_channel(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    # Certificates begin five minutes in the past, so this one is past two thirds of its life at once.
    coordinator.certificate_life = timedelta(seconds=100)
    node = RunningNode(tmp_path / "node", coordinator)
    await node.join()
    coordinator.certificate_life = timedelta(hours=24)
    node.on()
    await node.session()
    assert coordinator.renewals == [(1, 1)]
    await until(lambda: "node:certificate:renewed" in node.kinds(), "the event")
    await node.off()


async def test_a_renewal_that_fails_does_not_end_a_valid_certificate(
    coordinator: FakeCoordinator, tmp_path: Path
) -> None:
    coordinator.certificate_life = timedelta(seconds=100)
    node = RunningNode(tmp_path / "node", coordinator)
    await node.join()
    coordinator.lose_replies = 1
    node.on()
    await node.session()
    assert coordinator.renewals == [(1, 1)]
    await until(lambda: "node:certificate:not-renewed" in node.kinds(), "the event")
    await node.off()


async def test_one_data_directory_belongs_to_one_process(node: RunningNode) -> None:
    with lock_data_dir(node.folder), pytest.raises(FleetError) as caught, lock_data_dir(node.folder):
        pass
    assert caught.value.code is Code.ALREADY_EXISTS


async def test_a_machine_that_has_not_joined_says_how(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        await agent.run(Settings(tmp_path))
    assert caught.value.code is Code.CONFIG_INVALID
    assert "edge-agent join" in caught.value.remedy
