"""Each law notices the fault that it is there for: a law that cannot be broken proves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from edge_agent import ledger
from edge_agent.lifecycle import AgentState
from edge_agent.supervisor import Supervisor
from orchestrator import rollout
from orchestrator.director import Director
from orchestrator.rollout import Assessment, Health
from tests.simulation.fleet import SimulatedFleet
from tests.simulation.node import SimulatedRuntime


@pytest.fixture
def fleet() -> Iterator[SimulatedFleet]:
    fleet = SimulatedFleet(1)
    for name in ("n1", "n2"):
        fleet.add_node(name, {})
    fleet.release("climate", "1")
    fleet.release("climate", "2")
    fleet.tick(3)
    yield fleet
    fleet.close()


def test_a_ledger_that_accepts_old_orders(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.Ledger, "is_new", lambda *_: True)
    for number in ("1", "2"):
        fleet.deploy("climate", number, "100%")
        fleet.tick(10)
    for _ in range(16):
        fleet.line("n1", "replay")
    with pytest.raises(AssertionError, match=r"went back from \(1, 2\) to \(1, 1\)"):
        fleet.tick(5)


def test_a_ledger_that_is_not_written(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "replace_file", lambda *_: None)
    fleet.deploy("climate", "1")
    with pytest.raises(AssertionError, match="n1 acts on an order that its ledger does not hold"):
        fleet.tick(10)


def test_an_agent_that_is_not_stopped(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop(*_: object) -> None:
        return

    monkeypatch.setattr(SimulatedRuntime, "stop", stop)
    fleet.deploy("climate", "1")
    fleet.tick(30)
    fleet.deploy("climate", "")
    with pytest.raises(AssertionError, match="runs on n1 and nobody knows"):
        fleet.tick(10)


def test_an_agent_that_is_said_to_run(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_lose", lambda *_: None)
    fleet.deploy("climate", "1")
    fleet.tick(30)
    fleet.trap("n2")
    with pytest.raises(AssertionError, match="is reported to run on n2 and does not"):
        fleet.tick(10)


def test_restarts_that_never_were(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentState, "restarts", property(lambda _: 9, lambda *_: None), raising=False)
    fleet.deploy("climate", "1")
    with pytest.raises(AssertionError, match="9 restarts"):
        fleet.tick(10)


def test_a_rollout_that_believes_everything(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "assess", lambda *_: Assessment(Health.HEALTHY, "surely"))
    fleet.deploy("climate", "1")
    with pytest.raises(AssertionError, match="n1 counts as healthy and did not run climate/climate-context"):
        fleet.tick(10)


def test_a_bad_version_that_spreads(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "assess", lambda *_: Assessment(Health.HEALTHY, "surely"))
    monkeypatch.setattr(fleet.laws, "later_waves_rest_on_what_really_ran", lambda _: None)
    fleet.release("climate", "3", "crashing")
    fleet.deploy("climate", "3")
    with pytest.raises(AssertionError, match="left the first wave"):
        fleet.tick(10)


def test_two_orders_under_one_number(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    compose = Director._compose
    monkeypatch.setattr(Director, "_compose", lambda self, node, agents, now, _: compose(self, node, agents, now, 7))
    fleet.deploy("climate", "1", "100%")
    with pytest.raises(AssertionError, match="two contents of generation"):
        fleet.tick(10)


def test_an_audit_log_that_was_edited(fleet: SimulatedFleet) -> None:
    fleet.check()
    database = fleet.publisher.settings().files.database / "control.db"
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
        for trigger in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        connection.exec_driver_sql("UPDATE audit_node SET hash = x'00' WHERE level = 0 AND position = 0")
    engine.dispose()
    with pytest.raises(AssertionError, match="changed a leaf"):
        fleet.check()
