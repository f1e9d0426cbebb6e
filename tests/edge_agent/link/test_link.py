"""A whole node over a scripted runtime, against a coordinator in this process: real gRPC, real TLS, real files."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent import agent
from edge_agent.link import session as session_module
from edge_agent.runtime import AgentLogged
from fleet.assignment import open_receipt
from fleet.model import EventTrigger, LogLine, Phase, RestartPolicy
from fleet.signing import PublicKey
from fleet.v1 import node_pb2 as pb
from tests.fakes.coordinator import FakeCoordinator
from tests.fakes.running_node import HOUR_MS, RunningNode
from tests.fakes.wait import until


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
