"""A link that fails, is refused or ends, and what it says then; certificates over it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from edge_agent import agent
from edge_agent.clock import SystemClock
from edge_agent.config import Settings
from edge_agent.data_dir import lock_data_dir
from fleet.errors import Code, FleetError
from fleet.v1 import node_pb2 as pb
from tests.fakes.coordinator import FakeCoordinator
from tests.fakes.running_node import FaultyRuntime, RunningNode
from tests.fakes.wait import until


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
