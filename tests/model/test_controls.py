"""The model can fail: a thief with all the keys succeeds, and each law notices the defence that it is there for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from edge_agent import admission
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet import assignment, trust
from fleet.checkpoint import Checkpoint
from fleet.errors import Code
from tests.model.fleet import ModelFleet
from tests.model.thief import Attack
from tests.model.world import AGENTS, EVERYTHING, STEALABLE, WRITING_ORDER

CODE_KEYS, APPROVERS = ("code-0",), ("approver-0", "approver-1")
PUBLISHER, COORDINATOR = ("snapshot-0", "timestamp-0"), ("director-0", "log-0")
ONE = frozenset({AGENTS[0]})
LISTINGS = frozenset(WRITING_ORDER[4:])


@pytest.fixture
def fleet() -> Iterator[ModelFleet]:
    fleet = ModelFleet()
    fleet.develop(AGENTS[0])
    fleet.approve(AGENTS[0], frozenset("a"), "", frozenset({0, 1}))
    fleet.publish()
    fleet.deploy("n1", ONE)
    fleet.settle()
    yield fleet
    fleet.close()


def evil_runs(fleet: ModelFleet) -> int:
    """Starts of a bundle that the thief made."""
    return sum(fleet.bundles[bundle].evil for _, bundle, _ in fleet.runs)


def widened_runs(fleet: ModelFleet) -> int:
    """Starts under a grant that the thief made."""
    return sum(fleet.grants[grant].evil for *_, grant in fleet.runs)


def steal(fleet: ModelFleet, *names: str) -> None:
    for name in names:
        fleet.steal(name)


def test_what_was_approved_runs(fleet: ModelFleet) -> None:
    assert len(fleet.runs) == 1
    assert not fleet.refused
    assert list(fleet.nodes["n1"].runtime.running) == [AGENTS[0]]


def test_a_thief_of_all_the_required_keys_succeeds(fleet: ModelFleet) -> None:
    steal(fleet, *CODE_KEYS, *APPROVERS, *PUBLISHER, *COORDINATOR)
    fleet.attack("n1", Attack(layers=LISTINGS))
    fleet.settle()
    assert (evil_runs(fleet), widened_runs(fleet)) == (1, 1)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_so_does_a_thief_of_the_keys_that_name_them(fleet: ModelFleet, role: str) -> None:
    steal(fleet, f"{role}-0", f"{role}-1", *PUBLISHER, *COORDINATOR)
    fleet.attack("n1", Attack(layers=frozenset(WRITING_ORDER[WRITING_ORDER.index(role) :])))
    fleet.settle()
    assert (evil_runs(fleet), widened_runs(fleet)) == (1, 1)


@pytest.mark.parametrize(
    ("stolen", "bundle", "grant"),
    [
        ((*PUBLISHER, *COORDINATOR), 0, 0),  # a captured coordinator that is also the publisher
        ((*CODE_KEYS, *PUBLISHER, *COORDINATOR), 1, 0),
        ((*CODE_KEYS, "approver-0", *PUBLISHER, *COORDINATOR), 1, 0),
        ((*APPROVERS, *PUBLISHER, *COORDINATOR), 0, 1),
        ((*CODE_KEYS, *APPROVERS, *COORDINATOR), 0, 0),  # what nobody publishes is not adopted
        ((*CODE_KEYS, *APPROVERS, *PUBLISHER, "log-0"), 0, 0),  # nobody orders it
        ((*CODE_KEYS, *APPROVERS, *PUBLISHER, "director-0"), 0, 0),  # ordered, and not in the log
        (("root-0", "targets-0", *CODE_KEYS, "approver-2", *PUBLISHER, *COORDINATOR), 1, 0),
    ],
)
def test_each_missing_key_keeps_its_part_safe(
    fleet: ModelFleet, stolen: tuple[str, ...], bundle: int, grant: int
) -> None:
    steal(fleet, *stolen)
    for forged in (frozenset({"bundle", "grant"}), frozenset({"bundle"}), frozenset({"grant"})):
        for first in (0, 4, 6):
            for skipped in (frozenset[str](), frozenset({"code-default"}), frozenset({"grants-default"})):
                layers = frozenset(WRITING_ORDER[first:]) - skipped
                # Whoever has the log's key writes into the log itself: two logs of the thief's would not agree.
                fleet.attack("n1", Attack(layers=layers, forged=forged, hidden="log-0" not in stolen))
                fleet.settle()
    assert (bool(evil_runs(fleet)), bool(widened_runs(fleet))) == (bool(bundle), bool(grant))


def test_a_rotation_ends_what_a_stolen_key_can_do(fleet: ModelFleet) -> None:
    steal(fleet, *CODE_KEYS, *APPROVERS, *COORDINATOR, *PUBLISHER)
    for role in ("code-default", "grants-default"):
        fleet.rotate(role)
    fleet.publish()
    fleet.refresh("n1")
    fleet.attack("n1", Attack(layers=LISTINGS))
    fleet.settle()
    assert (evil_runs(fleet), widened_runs(fleet)) == (0, 0)


def test_a_rewritten_log_is_refused_though_it_is_rightly_signed(fleet: ModelFleet) -> None:
    steal(fleet, *CODE_KEYS, *APPROVERS, *PUBLISHER, *COORDINATOR)
    fleet.deploy("n1", frozenset())
    fleet.attack("n1", Attack(layers=LISTINGS, rewritten=True))
    fleet.settle()
    assert fleet.refused == {"LOG_FORKED": 1}
    assert (evil_runs(fleet), widened_runs(fleet)) == (0, 0)


# Broken defences: the law that is there for each notices


def test_metadata_with_too_few_signatures(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Root, Targets):
        monkeypatch.setattr(kind, "verify_delegate", lambda *_: None)
    steal(fleet, *COORDINATOR)
    with pytest.raises(AssertionError, match=r"n1 believes timestamp \d+, signed by"):
        fleet.attack("n1", Attack(layers=LISTINGS))


def test_expired_metadata(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.wait(8)
    for kind in (Snapshot, Targets, Timestamp):
        monkeypatch.setattr(kind, "is_expired", lambda *_: False)
    fleet.refresh("n1")
    with pytest.raises(AssertionError, match=r"n1 adopted timestamp \d+ after its expiry"):
        fleet.settle()


def test_a_release_that_goes_back(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: TrustStore, files: dict[str, bytes], now: object) -> trust.Release:
        return trust.open_release(files, root=self._root(), now=now, allow_dev=False)  # type: ignore[arg-type]

    monkeypatch.setattr(TrustStore, "check", check)
    fleet.replay("n1", 0, 0)
    with pytest.raises(AssertionError, match="n1 went back from"):
        fleet.settle()


def test_orders_that_anybody_signed(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "verify_envelope", _unverified)
    fleet.attack("n1", Attack(layers=frozenset(), forged=frozenset(), hidden=False))
    fleet.develop(AGENTS[0])
    fleet.publish()
    fleet.attack("n1", Attack(layers=frozenset(), forged=frozenset(), hidden=False))
    with pytest.raises(AssertionError, match="and no director ordered it there"):
        fleet.settle()


def test_orders_in_no_log(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.steal("director-0")
    fleet.develop(AGENTS[0])
    fleet.publish()
    monkeypatch.setattr(assignment, "open_witnessed", unsigned_checkpoint)
    monkeypatch.setattr(Witness, "place", _nothing)
    fleet.attack("n1", Attack(layers=frozenset(), forged=frozenset()))
    with pytest.raises(AssertionError, match="by an order that the fleet's log does not hold"):
        fleet.settle()


def test_documents_that_no_role_lists(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = (SimpleNamespace(role="code-default"), SimpleNamespace(role="grants-default"))
    monkeypatch.setattr(admission, "check_part", lambda *_: roles)
    fleet.withdraw("bundles/default/one/1.0.0.json")
    fleet.publish()
    fleet.refresh("n1")
    with pytest.raises(AssertionError, match=r"which its role does not list so"):
        fleet.settle()


def test_grants_for_other_nodes(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.approve(AGENTS[0], frozenset("a"), "oslo", frozenset({1, 2}))
    fleet.publish()
    monkeypatch.setattr(admission, "check_applies", lambda *_, **__: None)
    fleet.deploy("n2", ONE)
    with pytest.raises(AssertionError, match="under a grant for other nodes"):
        fleet.settle()


def test_a_ceiling_that_is_not_asked(fleet: ModelFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.approve(AGENTS[0], EVERYTHING, "", frozenset({1, 2}))
    fleet.publish()
    monkeypatch.setattr(admission, "effective", lambda grant, *_: grant.authority)
    fleet.deploy("n1", ONE)
    with pytest.raises(AssertionError, match=r"granted \['a', 'b'\]"):
        fleet.settle()


def test_every_key_can_be_stolen() -> None:
    fleet = ModelFleet()
    assert not any(fleet.thief_may(role) for role in (*WRITING_ORDER, "log"))
    steal(fleet, *STEALABLE)
    assert all(fleet.thief_may(role) for role in (*WRITING_ORDER, "log"))
    fleet.close()


def test_refusals_have_the_codes_of_the_catalog(fleet: ModelFleet) -> None:
    fleet.attack("n1", Attack(layers=frozenset(), elsewhere=True))
    fleet.replay("n1", 0, 0)
    assert set(fleet.refused) <= {str(code) for code in Code}


async def _nothing(*_: object) -> None:
    """A check that was left out."""


def unsigned_checkpoint(note: bytes, *_: object) -> Checkpoint:
    origin, size, root_hash = note.decode().split("\n")[:3]
    return Checkpoint(origin, int(size), base64.b64decode(root_hash))


def _unverified(data: bytes, *_: object) -> bytes:
    return base64.b64decode(json.loads(data)["payload"])
