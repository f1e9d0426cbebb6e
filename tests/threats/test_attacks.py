"""Attacks of docs/threats.md against a node in process, from the wire to the start of an agent.

The thief is that of `tests.model`: each test says which keys are stolen and what is tried with them; the node's code is
the real one, in virtual time. What the victim sees is an error code, and what runs is what ran before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.assignment import ASSIGNMENT_TYPE, decode_assignment
from fleet.bundle import digest_of
from fleet.errors import Code
from fleet.metadata import MAX_METADATA
from fleet.model import AssignedAgent
from fleet.signing import verify_envelope
from fleet.targets import grant_path
from tests.fakes.publisher import key
from tests.model.fleet import ModelFleet
from tests.model.node import Mirror
from tests.model.repository import CODE, GRANTS
from tests.model.thief import Attack
from tests.model.world import AGENTS, DIRECTOR, LOG_KEY, Seals

ONE, TWO = AGENTS
PUBLISHER, COORDINATOR = ("snapshot-0", "timestamp-0"), (DIRECTOR, LOG_KEY)
NOTHING = frozenset[str]()
IN_THE_LOG = Attack(layers=NOTHING, forged=NOTHING, hidden=False)


@pytest.fixture
def fleet() -> Iterator[ModelFleet]:
    """Both agents are approved; the first runs on n1, which is in Oslo."""
    fleet = ModelFleet()
    for agent in AGENTS:
        fleet.develop(agent)
        fleet.approve(agent, frozenset("a"), "oslo", frozenset({0, 1}))
    fleet.publish()
    fleet.deploy("n1", frozenset({ONE}))
    fleet.settle()
    assert running(fleet) == {ONE}
    yield fleet
    fleet.close()


def running(fleet: ModelFleet, node: str = "n1") -> set[str]:
    return set(fleet.nodes[node].runtime.running)


def refusals(fleet: ModelFleet, node: str = "n1") -> set[str]:
    """Codes with which admission refused agents."""
    observed = fleet.nodes[node].supervisor.observed()
    return {agent.refusal.code for agent in observed.agents if agent.refusal is not None}


def capture(fleet: ModelFleet, *more: str) -> None:
    """The thief has the coordinator: its keys, its log and its place on the wire."""
    for name in (*COORDINATOR, *more):
        fleet.steal(name)


def order(fleet: ModelFleet, node: str, *specs: AssignedAgent) -> None:
    """The captured coordinator signs an order and delivers it with the published release."""
    entry = fleet.nodes[node].ledger.entry
    assignment = fleet.assignment(node, 1, 1 if entry is None else entry.generation + 1, specs)
    signed = fleet.seal(assignment, Seals(DIRECTOR, (LOG_KEY,), frozenset()), fleet.log, fleet.nodes[node])
    fleet.deliver(fleet.nodes[node], Mirror(fleet.published[-1].files, fleet.blobs), signed.desired)
    fleet.settle()


def published(fleet: ModelFleet, agent: str) -> AssignedAgent:
    spec = fleet.spec(fleet.published[-1], agent)
    assert spec is not None
    return spec


def test_01_code_that_no_developer_signed(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.attack("n1", replace(IN_THE_LOG, forged=frozenset({"bundle"})))
    fleet.settle()
    assert refusals(fleet) == {Code.TARGET_UNSIGNED}


def test_01_code_that_the_coordinator_lists_itself(fleet: ModelFleet) -> None:
    capture(fleet, *PUBLISHER)
    fleet.attack("n1", Attack(layers=frozenset({CODE, "snapshot", "timestamp"}), forged=frozenset({"bundle"})))
    fleet.settle()
    assert set(fleet.refused) == {Code.TRUST_INVALID}  # the release is refused, and then the order for what it lists
    assert len(fleet.runs) == 1


def test_02_a_grant_that_nobody_approved(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.attack("n1", replace(IN_THE_LOG, forged=frozenset({"grant"})))
    fleet.settle()
    assert refusals(fleet) == {Code.TARGET_UNSIGNED}


def test_02_a_grant_among_the_bundles(fleet: ModelFleet) -> None:
    capture(fleet, *PUBLISHER, "code-0")
    layers = frozenset({CODE, "snapshot", "timestamp"})
    fleet.attack("n1", Attack(layers=layers, forged=frozenset({"grant"}), crossed=True))
    fleet.settle()
    assert refusals(fleet) == {Code.TARGET_UNSIGNED}


def test_03_a_grant_on_another_node(fleet: ModelFleet) -> None:
    capture(fleet)
    order(fleet, "n2", published(fleet, ONE))
    assert refusals(fleet, "n2") == {Code.GRANT_NOT_APPLICABLE}
    assert not running(fleet, "n2")


def test_03_a_grant_for_another_agent(fleet: ModelFleet) -> None:
    capture(fleet)
    order(fleet, "n1", replace(published(fleet, TWO), grant=published(fleet, ONE).grant))
    assert refusals(fleet) == {Code.GRANT_NOT_APPLICABLE}


def test_04_other_software_than_was_approved_for_the_agent(fleet: ModelFleet) -> None:
    capture(fleet)
    order(fleet, "n1", replace(published(fleet, ONE), bundle=published(fleet, TWO).bundle))
    assert refusals(fleet) == {Code.GRANT_NOT_APPLICABLE}


def test_05_an_older_release_and_an_older_order(fleet: ModelFleet) -> None:
    fleet.deploy("n1", frozenset({ONE, TWO}))
    fleet.replay("n1", 0, 0)
    assert fleet.refused == {Code.TRUST_ROLLBACK: 1, Code.GENERATION_STALE: 1}
    fleet.settle()
    assert running(fleet) == {ONE, TWO}


def test_06_a_frozen_release_is_adopted_no_more_and_its_leases_end(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.wait(8)
    fleet.refresh("n1")
    assert fleet.refused == {Code.TRUST_EXPIRED: 1}
    fleet.settle()
    assert running(fleet) == {ONE}  # expiry gates adopting
    fleet.wait(23)
    fleet.settle()
    assert not running(fleet)  # the lease of 30 days gates running on
    assert refusals(fleet) == {Code.GRANT_EXPIRED}


def test_07_an_old_role_under_a_new_snapshot(fleet: ModelFleet) -> None:
    old = fleet.published[-1]
    fleet.develop(ONE)
    fleet.publish()
    new = fleet.published[-1]
    name, older = (f"{each.versions[CODE]}.{CODE}.json" for each in (new, old))
    mixed = Mirror({**new.files, name: old.files[older]}, fleet.blobs)
    fleet.deliver(fleet.nodes["n1"], mixed, None)
    assert fleet.refused == {Code.TRUST_INVALID: 1}


def test_08_metadata_without_end(fleet: ModelFleet) -> None:
    files = dict(fleet.published[-1].files)
    files["9.root.json"] = b" " * (MAX_METADATA + 1)
    fleet.deliver(fleet.nodes["n1"], Mirror(files, fleet.blobs), None)
    assert fleet.refused == {Code.LIMIT_EXCEEDED: 1}


def test_09_versions_far_ahead_end_with_the_keys_that_signed_them(fleet: ModelFleet) -> None:
    capture(fleet, *PUBLISHER)
    for role in ("snapshot", "timestamp"):
        fleet.repository.ledger.highest[role] += 1_000_000
    fleet.attack("n1", replace(IN_THE_LOG, layers=frozenset({"snapshot", "timestamp"})))
    for role in ("snapshot", "timestamp"):
        fleet.repository.ledger.highest[role] -= 1_000_000
    fleet.develop(ONE)
    fleet.publish()
    fleet.refresh("n1")
    assert fleet.refused == {Code.TRUST_ROLLBACK: 1}
    for role in ("snapshot", "timestamp"):
        fleet.rotate(role)
    fleet.publish()
    fleet.refresh("n1")
    assert fleet.refused == {Code.TRUST_ROLLBACK: 1}


def test_11_files_that_come_wrong_leave_the_old_order_in_force(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.develop(ONE)
    fleet.publish()
    fleet.attack("n1", replace(IN_THE_LOG, swapped=True))
    fleet.settle()
    assert fleet.refused == {Code.DIGEST_MISMATCH: 1}
    entry = fleet.nodes["n1"].ledger.entry
    assert entry is not None
    assert entry.generation == 1
    assert running(fleet) == {ONE}


def test_13_a_leaked_signing_key_signs_code_that_has_no_more_than_its_grant(fleet: ModelFleet) -> None:
    capture(fleet, *PUBLISHER, "code-0")
    layers = frozenset({CODE, "snapshot", "timestamp"})
    fleet.attack("n1", Attack(layers=layers, forged=frozenset({"bundle"}), hidden=False))
    fleet.settle()  # the laws of the model hold: the thief's code runs under the approved grant
    assert fleet.bundles[fleet.runs[-1][1]].evil
    assert any(fleet.bundles[fleet.runs[-1][1]].version in line for line in _log_of(fleet))


def test_13_and_none_where_the_grant_pins_what_was_reviewed(fleet: ModelFleet) -> None:
    spec = published(fleet, ONE)
    pinned = fleet.blobs[spec.grant.digest].replace(
        b'versions: ">=1.0.0"', f'versions: ">=1.0.0", sha256: ["{spec.bundle.digest}"]'.encode()
    )
    pinned = pinned.replace(b"revision: 1", b"revision: 90")
    fleet.blobs[digest_of(pinned)] = pinned
    fleet.grants[digest_of(pinned)] = fleet.grants[spec.grant.digest]
    fleet.repository.put(grant_path(ONE, 90), pinned)
    fleet.repository.write(GRANTS, fleet.repository.keys[GRANTS].names, fleet.now())
    fleet.publish()
    capture(fleet, *PUBLISHER, "code-0")
    layers = frozenset({CODE, "snapshot", "timestamp"})
    fleet.attack("n1", Attack(layers=layers, forged=frozenset({"bundle"}), hidden=False))
    fleet.settle()
    assert refusals(fleet) == {Code.GRANT_NOT_APPLICABLE}
    assert not any(fleet.bundles[bundle].evil for _, bundle, _ in fleet.runs)


def test_18_an_order_for_somebody_else(fleet: ModelFleet) -> None:
    fleet.replay("n2", -1, 0)
    assert fleet.refused == {Code.ASSIGNMENT_WRONG_NODE: 1}


def test_26_a_rewritten_log(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.deploy("n1", frozenset(AGENTS))
    fleet.attack("n1", Attack(layers=NOTHING, forged=NOTHING, rewritten=True))
    fleet.settle()
    assert fleet.refused == {Code.LOG_FORKED: 1}


def test_31_whatever_a_coordinator_sends_or_keeps_back_what_runs_goes_on(fleet: ModelFleet) -> None:
    started = fleet.nodes["n1"].runtime.starts.copy()
    for number in range(15):
        fleet.attack("n1", Attack(layers=NOTHING, ahead=number, elsewhere=number % 2 == 0))
        fleet.replay("n1", number, number)
        fleet.deliver(fleet.nodes["n1"], Mirror({}, {}), None)
    fleet.wait(20)
    fleet.settle()
    assert running(fleet) == {ONE}
    assert fleet.nodes["n1"].runtime.starts == started
    assert Code.SIGNATURE_INVALID in fleet.refused


def test_33_a_withheld_withdrawal_ends_with_the_signature_of_the_role(fleet: ModelFleet) -> None:
    capture(fleet, *PUBLISHER)
    old = len(fleet.published) - 1
    fleet.withdraw(published(fleet, ONE).bundle.path)
    fleet.publish()  # and no node ever hears of it
    for _ in range(13):  # the thief signs the old listing as the newest, again and again
        fleet.wait(6.5)
        kept = len(fleet.published) - 1 - old
        fleet.attack("n1", replace(IN_THE_LOG, base=kept, layers=frozenset({"snapshot", "timestamp"})))
        fleet.settle()
    # This is the residual risk: with the publisher's and the coordinator's keys together it goes on for 90 days.
    assert running(fleet) == {ONE}
    assert Code.TRUST_EXPIRED not in fleet.refused
    fleet.wait(6.5)
    fleet.attack("n1", replace(IN_THE_LOG, base=kept, layers=frozenset({"snapshot", "timestamp"})))
    assert fleet.refused[Code.TRUST_EXPIRED]
    fleet.wait(30)
    fleet.settle()
    assert not running(fleet)


def test_33_without_the_publishers_keys_it_is_over_within_days(fleet: ModelFleet) -> None:
    capture(fleet)
    fleet.withdraw(published(fleet, ONE).bundle.path)
    fleet.publish()
    fleet.wait(7)
    fleet.replay("n1", 1, 0)
    assert Code.TRUST_EXPIRED in fleet.refused
    fleet.publish()
    fleet.refresh("n1")
    fleet.settle()
    assert refusals(fleet) == {Code.TARGET_UNSIGNED}


def _log_of(fleet: ModelFleet) -> list[str]:
    """What whoever watches the log for unexpected bundles reads in its leaves."""
    payloads = [verify_envelope(leaf, ASSIGNMENT_TYPE, [key(DIRECTOR).public]) for leaf in fleet.log.leaves]
    return [agent.bundle.path for payload in payloads for agent in decode_assignment(payload).agents]
