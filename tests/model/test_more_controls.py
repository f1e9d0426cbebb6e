"""The same for witnesses, successors of keys, revocations, emergencies, enrolments and clones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edge_agent import admission, orders
from edge_agent.adoption import Adoption
from edge_agent.witness import Witness
from fleet import assignment
from fleet.assignment import VerifiedAssignment, decode_assignment, open_assignment
from fleet.errors import Code, FleetError
from fleet.model import DesiredState
from fleet.revocations import Revocations
from fleet.signing import decode_base64
from fleet.trust import FleetTrust
from fleet.witnesses import WitnessPolicy
from tests.model.fleet import ModelFleet
from tests.model.repository import POLICY
from tests.model.test_controls import (
    APPROVERS,
    CODE_KEYS,
    COORDINATOR,
    LISTINGS,
    ONE,
    PUBLISHER,
    evil_runs,
    steal,
    unsigned_checkpoint,
    widened_runs,
)
from tests.model.thief import Attack
from tests.model.world import AGENTS, CLONE, EVERYTHING, WITNESSES

AGENT = AGENTS[0]
POLICY_KEYS = ("policy-0", "policy-1")
REPEATED = Attack(layers=frozenset(), forged=frozenset(), hidden=False)
"""An order for what is listed anyway, in the log for everybody to see: nothing but its signer may be wrong with it."""


@pytest.fixture
def fleet() -> Iterator[ModelFleet]:
    fleet = ModelFleet()
    fleet.develop(AGENT)
    fleet.approve(AGENT, frozenset("a"), "", frozenset({0, 1}))
    fleet.ask_for_witnesses(wanted=True)
    fleet.publish()
    fleet.deploy("n1", ONE)
    fleet.settle()
    yield fleet
    fleet.laws.verify_log()
    fleet.close()


def running(fleet: ModelFleet, machine: str = "n1") -> list[str]:
    return list(fleet.nodes[machine].runtime.running)


# Witnesses


@pytest.mark.parametrize(
    ("stolen", "attack", "succeeds"),
    [
        ((), Attack(layers=LISTINGS), False),
        (WITNESSES[:1], Attack(layers=LISTINGS), False),
        (WITNESSES[1:], Attack(layers=LISTINGS), True),
        (POLICY_KEYS[:1], Attack(layers=LISTINGS | {POLICY}, dropped=frozenset({"quorum"})), False),
        (POLICY_KEYS, Attack(layers=LISTINGS | {POLICY}, dropped=frozenset({"quorum"})), True),
        (POLICY_KEYS, Attack(layers=LISTINGS | {POLICY}, dropped=frozenset({"witnesses"})), True),
        ((), Attack(layers=LISTINGS, hidden=False), True),  # in the log for everybody to see
    ],
)
def test_without_a_quorum_nothing_runs_that_nobody_can_see(
    fleet: ModelFleet, stolen: tuple[str, ...], attack: Attack, succeeds: bool
) -> None:
    steal(fleet, *CODE_KEYS, *APPROVERS, *PUBLISHER, *COORDINATOR, *stolen)
    fleet.attack("n1", attack)
    fleet.settle()
    assert (evil_runs(fleet), widened_runs(fleet)) == (succeeds, succeeds)


def test_two_witnesses_of_three_are_enough_and_one_is_not(fleet: ModelFleet) -> None:
    fleet.deploy("n1", frozenset(), absent=2)
    assert fleet.refused == {Code.QUORUM_MISSING: 1}
    assert running(fleet) == [AGENT]
    fleet.deploy("n1", frozenset(), absent=1)
    fleet.settle()
    assert running(fleet) == []


def test_a_quorum_that_is_not_asked_for(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WitnessPolicy, "is_met", lambda *_: True)
    steal(fleet, *COORDINATOR)
    fleet.develop(AGENT)
    fleet.publish()
    fleet.attack("n1", replace(REPEATED, hidden=True))
    with pytest.raises(AssertionError, match="and no quorum of witnesses saw it"):
        fleet.settle()


# Successors of keys


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("pushed", [False, True])  # whether the node hears of the successor before, or by the order
def test_a_successor_ends_what_a_stolen_key_can_do(
    fleet: ModelFleet, log: bool, overlapping: bool, pushed: bool
) -> None:
    steal(fleet, *COORDINATOR, *WITNESSES)
    fleet.develop(AGENT)
    fleet.succeed(log=log, overlapping=overlapping)
    fleet.publish()
    fleet.attack("n1", replace(REPEATED, hidden=True, pushed=pushed))
    fleet.settle()
    assert len(fleet.runs) == 1 + overlapping
    assert bool(fleet.refused) != overlapping
    fleet.deploy("n2", ONE)
    fleet.settle()
    assert running(fleet, "n2") == [AGENT]


def test_orders_by_a_key_that_the_release_withdraws_with_which_they_come(
    fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listed(self: Adoption, agents: Any, _: DesiredState, remote: Any) -> Any:
        await self._refresh(remote)
        return agents

    monkeypatch.setattr(Adoption, "_listed", listed)
    steal(fleet, *COORDINATOR)
    fleet.develop(AGENT)
    fleet.succeed(log=False, overlapping=False)
    fleet.publish()
    fleet.attack("n1", replace(REPEATED, pushed=True))
    with pytest.raises(AssertionError, match="and no director ordered it there"):
        fleet.settle()


def test_checkpoints_by_no_key_of_the_log(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    steal(fleet, *COORDINATOR, *WITNESSES)
    fleet.develop(AGENT)
    fleet.succeed(log=True, overlapping=False)
    fleet.publish()
    monkeypatch.setattr(assignment, "open_witnessed", unsigned_checkpoint)
    monkeypatch.setattr(Witness, "place", _nothing)
    fleet.attack("n1", replace(REPEATED, hidden=True))
    with pytest.raises(AssertionError, match="by a checkpoint of no key of the log"):
        fleet.settle()


# Revocations


def test_what_is_revoked_stops_and_no_thief_of_one_role_brings_it_back(fleet: ModelFleet) -> None:
    fleet.revoke_document(0)
    fleet.publish()
    fleet.refresh("n1")
    fleet.settle()
    assert running(fleet) == []
    steal(fleet, *COORDINATOR, *PUBLISHER, *CODE_KEYS, *POLICY_KEYS)
    layers = LISTINGS - {"grants-default"} | {POLICY}
    fleet.attack("n1", Attack(layers=layers, forged=frozenset(), dropped=frozenset({"revocations"}), hidden=False))
    fleet.settle()
    assert fleet.refused == {Code.TRUST_ROLLBACK: 1}
    assert len(fleet.runs) == 1


@pytest.mark.parametrize("log", [False, True])
def test_nothing_goes_on_by_a_revoked_key(fleet: ModelFleet, log: bool) -> None:
    fleet.revoke_key(log=log)
    fleet.publish()
    fleet.refresh("n1")
    fleet.settle()
    assert running(fleet) == []
    fleet.deploy("n1", ONE)
    fleet.settle()
    assert running(fleet) == [AGENT]


def test_a_revocation_that_is_not_asked_for(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Revocations, "check", lambda *_: None)
    fleet.revoke_document(0)
    fleet.publish()
    fleet.refresh("n1")
    with pytest.raises(AssertionError, match="with a revoked bundle"):
        fleet.settle()


def test_a_revocation_that_is_taken_back(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.revoke_document(0)
    fleet.publish()
    fleet.refresh("n1")
    fleet.settle()
    monkeypatch.setattr(Revocations, "check_kept", lambda *_: None)
    steal(fleet, *COORDINATOR, *PUBLISHER, *POLICY_KEYS)
    layers = frozenset({POLICY, "snapshot", "timestamp"})
    fleet.attack("n1", Attack(layers=layers, forged=frozenset(), dropped=frozenset({"revocations"})))
    with pytest.raises(AssertionError, match=r"n1 believes no more that .* is revoked"):
        fleet.settle()


@pytest.mark.parametrize(
    ("log", "words"), [(False, "by order of a revoked key"), (True, "by a log with a revoked key")]
)
def test_an_order_that_is_not_recalled(
    fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch, log: bool, words: str
) -> None:
    monkeypatch.setattr(Adoption, "_recall", lambda *_: None)
    fleet.revoke_key(log=log)
    fleet.publish()
    fleet.refresh("n1")
    with pytest.raises(AssertionError, match=words):
        fleet.settle()


# Emergencies

EMERGENCY = Attack(layers=LISTINGS | {"grants-breakglass"}, forged=frozenset({"emergency"}), buckets=frozenset("b"))


@pytest.mark.parametrize(
    ("stolen", "allowed", "attack", "succeeds"),
    [
        (("emergency-0",), "b", EMERGENCY, True),
        ((), "b", EMERGENCY, False),
        (("emergency-0",), "", EMERGENCY, False),
        (("emergency-0",), "b", replace(EMERGENCY, buckets=EVERYTHING), False),
        (("emergency-0",), "b", replace(EMERGENCY, hours=24), False),
        (APPROVERS, "b", EMERGENCY, False),
    ],
)
def test_the_key_for_emergencies_gives_what_the_policy_allows(
    fleet: ModelFleet, stolen: tuple[str, ...], allowed: str, attack: Attack, succeeds: bool
) -> None:
    if allowed:
        fleet.allow_emergencies(frozenset(allowed), 4)
        fleet.publish()
    steal(fleet, *COORDINATOR, *PUBLISHER, *CODE_KEYS, *stolen)
    for layers in (attack.layers, attack.layers - {"grants-default"}):
        fleet.attack("n1", replace(attack, layers=layers, hidden=False))
        fleet.settle()
    assert widened_runs(fleet) == succeeds
    fleet.wait(0.25)
    fleet.settle()
    assert not (succeeds and running(fleet))  # what ran is over


def test_an_emergency_lasts_for_hours(fleet: ModelFleet) -> None:
    fleet.allow_emergencies(frozenset("b"), 4)
    fleet.break_glass(AGENT, frozenset("b"), 4)
    fleet.publish()
    fleet.deploy("n1", ONE, emergency=True)
    fleet.wait(0.16)
    fleet.settle()
    assert running(fleet) == [AGENT]
    fleet.wait(0.01)
    fleet.settle()
    assert running(fleet) == []


@pytest.mark.parametrize(("allowed", "words"), [("", "which no policy allows"), ("a", r"with \['b'\] in an emergency")])
def test_bounds_of_emergencies_that_are_not_asked_for(
    fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch, allowed: str, words: str
) -> None:
    monkeypatch.setattr(admission, "check_break_glass", lambda *_: None)
    if allowed:
        fleet.allow_emergencies(frozenset(allowed), 4)
    fleet.break_glass(AGENT, frozenset("b"), 4)
    fleet.publish()
    fleet.deploy("n1", ONE, emergency=True)
    with pytest.raises(AssertionError, match=words):
        fleet.settle()


# Enrolments and clones


@pytest.mark.parametrize("wiped", [False, True])
def test_nothing_of_an_earlier_enrolment_runs(fleet: ModelFleet, wiped: bool) -> None:
    fleet.join_again("n1", wiped=wiped)
    fleet.replay("n1", -1, 0)
    fleet.settle()
    assert fleet.refused == {Code.ASSIGNMENT_WRONG_NODE: 1}
    assert running(fleet) == []
    fleet.deploy("n1", ONE)
    fleet.settle()
    assert running(fleet) == [AGENT]


def test_a_clone_runs_what_its_original_may_until_that_joins_again(fleet: ModelFleet) -> None:
    fleet.clone("n1")
    fleet.settle()
    fleet.deploy(CLONE, ONE)
    fleet.settle()
    assert running(fleet, CLONE) == [AGENT]  # that two of one name are locked out is the coordinator's to see
    fleet.join_again("n1", wiped=False)
    fleet.settle()
    fleet.deploy(CLONE, frozenset())
    fleet.settle()
    assert fleet.refused == {Code.ASSIGNMENT_WRONG_NODE: 1}


def test_orders_for_another_enrolment(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def any_epoch(desired: DesiredState, trust: FleetTrust, *, epoch: int, **others: Any) -> VerifiedAssignment:
        signed = decode_base64(_payload(desired.envelope))
        return open_assignment(desired, trust, epoch=decode_assignment(signed).epoch or epoch, **others)

    monkeypatch.setattr(orders, "open_assignment", any_epoch)
    fleet.join_again("n1", wiped=True)
    fleet.replay("n1", -1, 0)
    with pytest.raises(AssertionError, match="and no director ordered it there"):
        fleet.settle()


# The log


def test_a_log_that_a_verifier_refuses(fleet: ModelFleet) -> None:
    kept = list(fleet.log.leaves)
    for changed in (kept[:-1], [*kept[:-1], kept[-1] + b" "], []):
        fleet.log.leaves[:] = changed
        with pytest.raises(FleetError):
            fleet.laws.verify_log()
    fleet.log.leaves[:] = kept
    fleet.runs.append(("n2", *fleet.runs[0][1:]))
    with pytest.raises(AssertionError, match="the verifier finds no order"):
        fleet.laws.verify_log()
    fleet.runs.pop()


async def _nothing(*_: object) -> None:
    """A check that was left out."""


def _payload(envelope: bytes) -> str:
    return envelope.decode().partition('"payload":"')[2].partition('"')[0]
