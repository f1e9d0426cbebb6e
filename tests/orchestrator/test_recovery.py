"""Coordinators that die or err at the worst moment: what was committed is carried out, and nothing is ordered twice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection

from fleet.errors import Code, FleetError
from fleet.model import AssignedAgent, ObservedAgent, ObservedState, Phase
from orchestrator.conductor import conduct
from orchestrator.deployments import Deployments
from orchestrator.director import Director, agents_of
from orchestrator.rollouts import Rollouts
from orchestrator.rpc.live import LiveCalls
from orchestrator.rpc.services import Services
from orchestrator.server import build
from orchestrator.store import nodes as node_rows
from orchestrator.store.deployments import DeploymentState
from tests.fakes.fleet_fixture import MANIFEST, FleetFixture, ShiftedClock
from tests.fakes.publisher import key
from tests.fakes.wait import until

NODES = ("n1", "n2", "n3")
WAVES = MANIFEST.replace("[1, 100%]", "[1, 2, 3]")


class PowerCutError(BaseException):
    """The process ends here: nothing that follows is done, not even handlers of errors."""


def joined(services: Services, names: Iterable[str], **labels: str) -> None:
    """Put nodes into the store as enrolment leaves them."""
    with services.store.control.write() as connection:
        for name in names:
            row = node_rows.NodeRow(
                name, labels, "", 1, 1, 0, key(f"bound-{name}").public.raw, 2**40, "1", "x", 0, None
            )
            node_rows.put_node(connection, row)


def publish(fleet: FleetFixture, services: Services, *agents: str) -> None:
    for agent in agents:
        fleet.release(agent=agent)
    for data in fleet.blobs.values():
        services.blobs.put(data)
    services.releases.publish(*fleet.publish(), "alice")


def order_of(services: Services, node: str) -> tuple[int, tuple[AssignedAgent, ...]]:
    with services.store.control.read() as connection:
        row = node_rows.get_desired(connection, node)
    return (0, ()) if row is None else (row.generation, agents_of(row))


def report(services: Services, nodes: Iterable[str]) -> None:
    """Let nodes do at once what they are ordered, and say so."""
    now = datetime.now(UTC)
    for name in nodes:
        generation, agents = order_of(services, name)
        running = tuple(
            ObservedAgent(a.name, Phase.RUNNING, a.bundle.digest, a.grant.digest, running_since=now - timedelta(1))
            for a in agents
        )
        services.inventory.open(name, "session")
        services.nodes.record(name, ObservedState(generation, "", now, running))


def close(services: Services) -> None:
    services.workers.close()
    services.store.close()


class ErringDirector(Director):
    """Signs orders, but errs when the order is written and not yet committed.

    Attributes:
        faults: node -> what is raised for each of its orders.
        cut_next: whether the power is cut in the next order.
    """

    faults: dict[str, Exception]
    cut_next: bool

    @classmethod
    def over(cls, services: Services) -> ErringDirector:
        director = cls("demo", key("director"), services.log, timedelta(days=30))
        director.faults, director.cut_next = {}, False
        return director

    def order(
        self,
        connection: Connection,
        node: node_rows.NodeRow,
        agents: Sequence[AssignedAgent],
        now: datetime,
        *,
        above: int = 0,
    ) -> node_rows.DesiredRow:
        row = super().order(connection, node, agents, now, above=above)
        if self.cut_next:
            raise PowerCutError
        if node.name in self.faults:
            raise self.faults[node.name]
        return row


class Life:
    """One life of the coordinator over the fleet's files, from its start to a power cut."""

    def __init__(self, fleet: FleetFixture) -> None:
        self.services = build(fleet.settings(), ShiftedClock(), asyncio.get_running_loop(), LiveCalls())
        self.director = ErringDirector.over(self.services)
        self.cut_after_commit = False
        self.shared: dict[str, Any] = {
            "store": self.services.store,
            "director": self.director,
            "log": self.services.log,
            "inventory": self.services.inventory,
            "clock": self.services.clock,
            "signal": self._signal,
            "journal": self.services.journal.append,
        }
        self.rollouts = Rollouts(changed=self.services.rollouts_changed.notify, **self.shared)
        self.deployments = Deployments(
            releases=self.services.releases, rollouts=self.rollouts, new_id=lambda: secrets.token_hex(4), **self.shared
        )

    def _signal(self, _: Iterable[str]) -> None:
        if self.cut_after_commit:
            raise PowerCutError

    def events(self) -> list[str]:
        return [event.kind for event in self.services.journal.newest(100)]


def assignments(services: Services) -> int:
    """How many orders the audit log holds."""
    with services.store.control.read() as connection:
        leaves = services.log.entries(connection, 0, 1000)
    return sum(b"assignment.v1" in leaf for _, leaf in leaves)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
async def test_a_coordinator_that_dies_at_every_step_still_finishes(fleet: FleetFixture, moment: str) -> None:
    first = Life(fleet)
    publish(fleet, first.services, "climate/context")
    joined(first.services, NODES)
    close(first.services)
    identifier, lives = "", 0
    while True:
        life = Life(fleet)
        lives += 1
        assert lives < 20
        # Dying before the commit undoes the step, so every other life gets to do it.
        if moment == "after the commit":
            life.cut_after_commit = True
        else:
            life.director.cut_next = lives % 2 == 1
        try:
            running = life.deployments.list("", 10)
            if not running:
                identifier = life.deployments.deploy(WAVES.encode(), "", "alice")
            else:
                (stored,) = running
                identifier = stored.head.id
                # What was committed is what a node's session is told first, whether or not it was ever signalled.
                ordered = [node for node in NODES if order_of(life.services, node)[0]]
                for node in ordered:
                    pushed = life.services.witnessing.order(node, 0)
                    assert pushed is not None
                    assert pushed.generation == 1
                report(life.services, ordered)
                life.rollouts.advance()
        except PowerCutError:
            pass
        done = [d for d in life.deployments.list("", 10) if d.head.state is not DeploymentState.RUNNING]
        orders = assignments(life.services)
        close(life.services)
        if done:
            break
    assert [(d.head.id, d.head.state) for d in done] == [(identifier, DeploymentState.SUCCEEDED)]
    assert lives >= len(NODES)
    assert orders == len(NODES)  # each node was given one order, through all of it


async def test_a_deployment_that_cannot_advance_holds_up_no_other(
    fleet: FleetFixture, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(fleet)
    services = life.services
    publish(fleet, services, "climate/context", "other/agent")
    joined(services, ["a1", "a2"], side="a")
    joined(services, ["b1", "b2"], side="b")
    climate = MANIFEST.replace("1.0.0", "1.0.0\n    placement: {labels: {side: a}}")
    other = climate.replace("climate", "other").replace("context", "agent").replace("side: a", "side: b")
    bad = life.deployments.deploy(climate.encode(), "", "alice")
    good = life.deployments.deploy(other.encode(), "", "alice")
    life.director.faults["a2"] = ZeroDivisionError("a bug")

    def ended(identifier: str) -> bool:
        report(services, [node for node in ("a1", "a2", "b1", "b2") if order_of(services, node)[0]])
        return life.deployments.get(identifier).head.state is DeploymentState.SUCCEEDED

    conductor = asyncio.create_task(conduct(life.rollouts, services.rollouts_changed, services.workers, services.clock))
    await until(lambda: ended(good), "the good one ends")
    assert not ended(bad)
    assert order_of(services, "a2") == (0, ())  # what erred was undone whole
    assert life.events().count("rollout:deployment:stuck") == 1
    assert [r.exc_info is not None for r in caplog.records if "does not advance" in r.message] == [True]
    life.director.faults.clear()
    await until(lambda: ended(bad), "the bad one ends, once the fault is gone")
    conductor.cancel()
    await asyncio.wait({conductor})
    close(services)


class ErringRollouts(Rollouts):
    """Rollouts that cannot even be listed, a few times."""

    faults: ClassVar[list[Exception]] = []

    def advance(self) -> datetime | None:
        if self.faults:
            raise self.faults.pop()
        return super().advance()


async def test_the_conductor_outlives_what_nobody_foresaw(
    fleet: FleetFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("orchestrator.conductor.RETRY_S", 0.01)
    life = Life(fleet)
    services = life.services
    publish(fleet, services, "climate/context")
    joined(services, ["n1"])
    identifier = life.deployments.deploy(MANIFEST.encode(), "", "alice")
    rollouts = ErringRollouts(changed=services.rollouts_changed.notify, **life.shared)
    rollouts.faults[:] = [KeyError("a bug"), FleetError(Code.UNAVAILABLE, "another process holds the database")]
    conductor = asyncio.create_task(conduct(rollouts, services.rollouts_changed, services.workers, services.clock))
    report(services, ["n1"])
    await until(
        lambda: life.deployments.get(identifier).head.state is DeploymentState.SUCCEEDED, "the deployment's end"
    )
    assert [r.exc_info is not None for r in caplog.records if "do not advance" in r.message] == [True, True]
    conductor.cancel()
    await asyncio.wait({conductor})
    close(services)
