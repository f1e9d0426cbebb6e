"""What is revoked, too old, or withdrawn: it stops at once, stays stopped over a power cut, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from edge_agent import lifecycle_events as events
from edge_agent.lifecycle import STOP_GRACE_MS, STOP_MARGIN_MS, step
from edge_agent.lifecycle_state import AgentState, Moment
from fleet.bundle import BuiltBundle
from fleet.checkpoint import format_vkey
from fleet.errors import Code
from fleet.logs import ClosedLog
from fleet.merkle import root
from fleet.model import AssignedAgent, Phase, TargetRef
from fleet.oci import digest_of
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.signing import SigningKey
from fleet.targets import REVOCATIONS_PATH, TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile, encode_fleet_trust
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import LOG, NOW, Publisher, fleet_trust, key
from tests.fakes.teams import replace_keys, team_keys
from tests.fakes.whole_node import WholeNode

SECOND = timedelta(seconds=1)
ANOTHER = Revocation(Kind.BUNDLE, "sha256:" + "0" * 64, "something else", NOW)


@pytest.fixture
def node() -> Iterator[WholeNode]:
    node = WholeNode(FleetWorld(Publisher(keys=team_keys("vision"))))
    yield node
    node.close()


def entry(kind: Kind, subject: str) -> Revocation:
    return Revocation(kind, subject, "the signing key leaked", NOW)


def revoke(world: FleetWorld, *entries: Revocation) -> None:
    """Publish a list of exactly these."""
    data = encode_revocations(Revocations().extended(entries))
    world.publisher.add(REVOCATIONS_PATH, data)
    world.put(data)
    world.publisher.publish()


def with_model(world: FleetWorld, agent: str = "app/one", weights: bytes = b"weights") -> AssignedAgent:
    name = agent.partition("/")[2]
    built: BuiltBundle = bundle(name, "1.0.0", models={"anomaly": weights})
    return world.release(built, name, grant(agent, name), agent)


def run_two(node: WholeNode) -> tuple[AssignedAgent, AssignedAgent]:
    one, two = with_model(node.world), node.world.agent("app/two")
    assert node.accept(node.world.assign(one, two)) is None
    assert node.running() == {"app/one", "app/two"}
    return one, two


def subject(kind: Kind, agent: AssignedAgent) -> str:
    return {Kind.BUNDLE: agent.bundle.digest, Kind.GRANT: agent.grant.digest, Kind.MODEL: digest_of(b"weights")}[kind]


REVOCABLE = [Kind.BUNDLE, Kind.GRANT, Kind.MODEL]


@pytest.mark.parametrize("kind", REVOCABLE)
def test_what_is_revoked_stops_at_once_and_status_says_why_and_what_to_do(node: WholeNode, kind: Kind) -> None:
    one, _ = run_two(node)
    revoke(node.world, entry(kind, subject(kind, one)))
    assert node.refresh() is None
    assert node.running() == {"app/two"}
    observed = node.agent()
    assert (observed.phase, observed.refusal and observed.refusal.code) == (Phase.FAILED, Code.REVOKED)
    assert observed.refusal is not None
    assert "the signing key leaked" in observed.refusal.message
    assert "not revoked" in observed.refusal.remedy


@pytest.mark.parametrize("kind", REVOCABLE)
def test_what_is_revoked_stays_stopped_over_a_power_cut_without_any_network(node: WholeNode, kind: Kind) -> None:
    one, _ = run_two(node)
    revoke(node.world, entry(kind, subject(kind, one)))
    node.refresh()
    node.restart()
    assert node.running() == {"app/two"}
    refusal = node.agent().refusal
    assert refusal is not None
    assert refusal.code == Code.REVOKED


@pytest.mark.parametrize("kind", REVOCABLE)
def test_what_is_revoked_is_not_started_by_a_new_order(node: WholeNode, kind: Kind) -> None:
    one, two = with_model(node.world), node.world.agent("app/two")
    revoke(node.world, entry(kind, subject(kind, one)))
    assert node.accept(node.world.assign(one, two)) is None
    assert node.running() == {"app/two"}
    assert node.agent().phase is Phase.FAILED


def test_a_revoked_agent_gets_no_grace_and_a_lapsed_one_has_it() -> None:
    state = AgentState("app/one", Phase.RUNNING, 3, FleetWorld().agent())
    moment = Moment(NOW, 0.5)
    for at_once, grace in ((True, 0), (False, STOP_GRACE_MS)):
        _, actions = step(state, events.Lapsed(3, at_once=at_once), moment)
        assert actions == (events.Interrupt(3, grace, grace + STOP_MARGIN_MS),)


def test_a_revoked_agent_stops_before_admission_has_a_turn_for_it(node: WholeNode) -> None:
    one, two = run_two(node)
    revoke(node.world, entry(Kind.GRANT, one.grant.digest))
    for digest in (one.bundle.digest, two.bundle.digest):  # admission of either would find its files gone
        node.disk.remove(node.blobs.path(digest))
    node.do(node.adoption.refresh(node.world))
    node.live(timedelta(milliseconds=1))
    assert node.runtime.journal[-1] == "stop app/one"


def test_a_release_that_drops_a_revocation_is_refused_and_what_is_revoked_stays_so(node: WholeNode) -> None:
    one, _ = run_two(node)
    revoke(node.world, entry(Kind.BUNDLE, one.bundle.digest))
    node.refresh()
    revoke(node.world, ANOTHER)
    assert node.refresh() is Code.TRUST_ROLLBACK
    node.restart()
    assert node.running() == {"app/two"}
    node.world.publisher.remove(REVOCATIONS_PATH)
    node.world.publisher.publish()
    assert node.refresh() is Code.TRUST_ROLLBACK
    revoke(node.world, entry(Kind.BUNDLE, one.bundle.digest), ANOTHER)
    assert node.refresh() is None


def test_a_malformed_list_is_not_adopted_and_the_node_goes_on(node: WholeNode) -> None:
    run_two(node)
    node.world.publisher.add(REVOCATIONS_PATH, b"{}")
    node.world.put(b"{}")
    node.world.publisher.publish()
    assert node.refresh() is Code.TRUST_INVALID
    assert node.running() == {"app/one", "app/two"}


def test_a_list_that_the_coordinator_withholds_is_missed(node: WholeNode) -> None:
    one, _ = run_two(node)
    data = encode_revocations(Revocations().extended([entry(Kind.BUNDLE, one.bundle.digest)]))
    node.world.publisher.add(REVOCATIONS_PATH, data)
    node.world.publisher.publish()
    assert node.refresh() is Code.BLOB_MISSING


# Directors and logs


def new_director(world: FleetWorld, *keys: SigningKey, revoked: tuple[Revocation, ...] = ()) -> None:
    """Publish other director keys."""
    trust = replace(fleet_trust(), director_keys=tuple(director.public for director in keys))
    world.publisher.document = encode_fleet_trust(trust)
    world.publisher.add(TRUST_PATH, world.publisher.document)
    world.put(world.publisher.document)
    revoke(world, *revoked) if revoked else world.publisher.publish()


def test_orders_of_a_revoked_director_are_recalled_at_once_and_refused(node: WholeNode) -> None:
    one, two = run_two(node)
    stolen = node.world.director
    new_director(node.world, stolen, key("director-2"), revoked=(entry(Kind.DIRECTOR_KEY, stolen.public.hex),))
    node.refresh()
    assert node.running() == set()
    assert "assignment:desired:recalled" in [event.kind for event in node.events()]
    seen = node.world.shown
    assert node.accept(node.world.assign(one, generation=9)) is Code.REVOKED
    node.world.shown = seen  # the node looked at nothing that a revoked director sent
    node.restart()
    assert node.running() == set()
    node.world.director = key("director-2")
    assert node.accept(node.world.assign(one, generation=1)) is Code.GENERATION_CONFLICT
    assert node.accept(node.world.assign(one, two, generation=2)) is None
    assert node.running() == {"app/one", "app/two"}
    node.restart()
    assert node.running() == {"app/one", "app/two"}


def test_a_director_key_that_is_revoked_and_listed_no_more_is_refused_by_name(node: WholeNode) -> None:
    stolen = node.world.director
    new_director(node.world, key("director-2"), revoked=(entry(Kind.DIRECTOR_KEY, stolen.public.hex),))
    assert node.accept(node.world.assign(node.world.agent())) is Code.REVOKED


def test_an_order_of_a_stranger_is_no_order_of_a_revoked_director(node: WholeNode) -> None:
    new_director(node.world, key("director-2"), revoked=(entry(Kind.DIRECTOR_KEY, key("director").public.hex),))
    node.world.director = key("stranger")
    assert node.accept(node.world.assign(node.world.agent())) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize("revoked", [True, False])
def test_an_order_is_verified_by_the_release_that_it_makes_a_node_fetch(node: WholeNode, revoked: bool) -> None:
    run_two(node)
    stolen = node.world.director
    entries = (entry(Kind.DIRECTOR_KEY, stolen.public.hex),) if revoked else ()
    new_director(node.world, key("director-2"), revoked=entries)
    newer = node.world.agent("app/three")  # of which the adopted release knows nothing
    code = node.accept(node.world.assign(newer, generation=2))
    assert code is (Code.REVOKED if revoked else Code.SIGNATURE_INVALID)
    assert "app/three" not in node.running()
    assert node.ledger.entry is not None
    assert node.ledger.entry.generation == 1


def test_a_revoked_log_proves_nothing(node: WholeNode) -> None:
    run_two(node)
    revoke(node.world, entry(Kind.LOG_KEY, key("log").public.hex))
    node.refresh()
    assert node.running() == set()
    assert node.accept(node.world.assign(node.world.agent(), generation=2)) is Code.REVOKED


def new_log(world: FleetWorld, *names: str, revoked: str = "") -> None:
    """Publish other keys of the log, and revoke one."""
    vkeys = tuple(format_vkey(LOG, key(name).public) for name in names)
    world.publisher.document = encode_fleet_trust(replace(fleet_trust(), log_vkeys=vkeys))
    world.publisher.add(TRUST_PATH, world.publisher.document)
    world.put(world.publisher.document)
    revoke(world, entry(Kind.LOG_KEY, key(revoked).public.hex)) if revoked else world.publisher.publish()


@pytest.mark.parametrize("listed", [("log", "log-2"), ("log-2",)])
def test_a_revoked_key_of_the_log_recalls_what_it_alone_proved(node: WholeNode, listed: tuple[str, ...]) -> None:
    """Beside a successor, and also where it is listed no more; the successor proves what is ordered next."""
    one, two = run_two(node)
    new_log(node.world, *listed, revoked="log")
    node.refresh()
    assert node.running() == set()
    assert "assignment:desired:recalled" in [event.kind for event in node.events()]
    seen = node.world.shown
    assert node.accept(node.world.assign(one, generation=2)) is Code.REVOKED
    node.world.shown, node.world.log_key = seen, key("log-2")
    assert node.accept(node.world.assign(one, two, generation=2)) is None
    assert node.running() == {"app/one", "app/two"}


def test_a_key_of_the_log_that_is_listed_no_more_proves_nothing_new(node: WholeNode) -> None:
    one, _ = run_two(node)
    new_log(node.world, "log-2")
    node.refresh()
    assert node.running() == {"app/one", "app/two"}  # what it proved runs on
    assert node.accept(node.world.assign(one, generation=2)) is Code.PROOF_INVALID
    assert node.running() == {"app/one", "app/two"}


def test_what_a_closed_log_proved_runs_on_and_nothing_new_does(node: WholeNode) -> None:
    """The log goes on under another name: over a power cut, too, before an order of the new one has come."""
    one, _ = run_two(node)
    old = node.world.assign(one, generation=2)
    whole = root(node.world.log.read, node.world.log.size)
    ended = ClosedLog(fleet_trust().log_vkeys, node.world.log.size, whole)
    vkeys = (format_vkey(f"{LOG}/2", key("log-2").public),)
    trust = replace(fleet_trust(), log_vkeys=vkeys, closed_logs=(ended,))
    node.world.publisher.document = encode_fleet_trust(trust)
    node.world.publisher.add(TRUST_PATH, node.world.publisher.document)
    node.world.put(node.world.publisher.document)
    node.world.publisher.publish()
    node.refresh()
    node.restart()
    assert node.running() == {"app/one", "app/two"}
    assert node.accept(old) is Code.PROOF_INVALID
    revoke(node.world, entry(Kind.LOG_KEY, key("log").public.hex))
    node.refresh()  # it was stolen as well
    assert node.running() == set()
    assert "assignment:desired:recalled" in [event.kind for event in node.events()]


# Floors of releases


def publish(world: FleetWorld, version: str, release: int, min_release: int = 0) -> AssignedAgent:
    """Publish a version of the bundle `one` with its counters, and return the agent that runs it."""
    built = bundle("one", version)
    agent = world.release(built, "one", grant("app/one", "one"), "app/one", version)
    custom = {"release": release, **({"min_release": min_release} if min_release else {})}
    world.publisher.add(bundle_path("one", version), built.index, custom)
    world.publisher.publish()
    return agent


def test_a_release_below_the_floor_is_refused_though_its_bundle_is_listed(node: WholeNode) -> None:
    old, new = publish(node.world, "1.0.0", 1), publish(node.world, "2.0.0", 2, 2)
    assert node.accept(node.world.assign(new)) is None
    assert node.accept(node.world.assign(old, generation=2)) is None
    observed = node.agent()
    assert observed.refusal is not None
    assert observed.refusal.code == Code.RELEASE_TOO_OLD
    assert "release=1" in observed.refusal.message


def test_a_floor_that_was_seen_once_holds_when_the_release_that_set_it_is_listed_no_more(node: WholeNode) -> None:
    old, new = publish(node.world, "1.0.0", 1), publish(node.world, "2.0.0", 2, 2)
    node.accept(node.world.assign(new))
    node.world.publisher.remove(new.bundle.path)
    node.world.publisher.publish()
    node.refresh()
    node.restart()
    assert node.accept(node.world.assign(old, generation=2)) is None
    refusal = node.agent().refusal
    assert refusal is not None
    assert refusal.code == Code.RELEASE_TOO_OLD


def test_a_raised_floor_stops_what_is_below_it(node: WholeNode) -> None:
    old = publish(node.world, "1.0.0", 1)
    node.accept(node.world.assign(old))
    publish(node.world, "2.0.0", 2, 2)
    node.refresh()
    node.live(timedelta(seconds=10))
    assert node.running() == set()


# Old nodes


def test_a_node_that_is_too_old_takes_nothing_new_and_keeps_what_runs(node: WholeNode) -> None:
    one, two = run_two(node)
    node.world.publisher.document = encode_fleet_trust(replace(fleet_trust(), min_node_version="9.0.0"))
    node.world.publisher.add(TRUST_PATH, node.world.publisher.document)
    node.world.put(node.world.publisher.document)
    node.world.publisher.publish()
    assert node.refresh() is None
    assert node.accept(node.world.assign(one, generation=2)) is Code.NODE_TOO_OLD
    assert node.running() == {"app/one", "app/two"}
    node.restart()
    assert node.running() == {"app/one", "app/two"}
    revoke(node.world, entry(Kind.BUNDLE, one.bundle.digest))  # what takes away is taken in
    assert node.refresh() is None
    assert node.running() == {"app/two"}
    node.adoption.node_version = "9.0.0"
    assert node.accept(node.world.assign(two, generation=2)) is None


@pytest.mark.parametrize(
    ("version", "least", "taken"),
    [
        ("1.2.0", "1.2.0", True),
        ("1.10.0", "1.9.0", True),
        ("1.2.0-rc.1", "1.2.0", False),
        ("a fork", "0.1.0", False),
    ],
)
def test_versions_of_nodes_are_compared_as_versions(node: WholeNode, version: str, least: str, *, taken: bool) -> None:
    node.world.publisher.document = encode_fleet_trust(replace(fleet_trust(), min_node_version=least))
    node.world.publisher.add(TRUST_PATH, node.world.publisher.document)
    node.world.put(node.world.publisher.document)
    agent = node.world.agent()
    node.adoption.node_version = version
    assert node.accept(node.world.assign(agent)) is (None if taken else Code.NODE_TOO_OLD)


# Development roots


def test_a_production_node_refuses_a_development_root_from_the_network_and_from_its_own_disk() -> None:
    world = FleetWorld(Publisher(Profile.DEV))
    node = WholeNode(world)
    agent = world.agent()
    node.accept(world.assign(agent))
    assert node.running() == {"app/one"}
    node.allow_dev = False  # the operator turned it off; the disk still has what was adopted before
    node.restart()
    assert node.running() == set()
    assert node.trust.adopted is None
    assert any(event.detail.get("code") == Code.DEV_PROFILE_REFUSED for event in node.events())
    assert node.refresh() is Code.DEV_PROFILE_REFUSED
    assert node.accept(world.assign(agent, generation=2)) is Code.DEV_PROFILE_REFUSED
    node.close()


# Teams


def test_a_list_by_an_entirely_new_key_set_takes_the_place_of_one_by_a_thief(node: WholeNode) -> None:
    one, _ = run_two(node)
    revoke(node.world, entry(Kind.BUNDLE, one.bundle.digest))
    node.refresh()
    revoke(node.world, ANOTHER)
    assert node.refresh() is Code.TRUST_ROLLBACK
    replace_keys(node.world.publisher, "policy", key("policy-2"))
    revoke(node.world, ANOTHER)
    assert node.refresh() is None
    assert node.running() == {"app/one", "app/two"}


def of_team(world: FleetWorld, team: str, document: bytes, grants_team: str) -> AssignedAgent:
    """Publish the bundle `one` by one team and a grant by another; return the agent that has both."""
    built = bundle("one", "1.0.0", models={"anomaly": team.encode()})
    code, permit = bundle_path("one", "1.0.0", team), grant_path("app/one", 1, grants_team)
    world.blobs.update(built.blobs)
    world.publisher.add(code, built.index)
    world.publisher.add(permit, document)
    world.publisher.publish()
    return AssignedAgent("app/one", TargetRef(code, world.put(built.index)), TargetRef(permit, world.put(document)))


OWN = grant("app/one", "one")
FOREIGN = OWN.replace(b"bundle: {name: one,", b"bundle: {name: one, role: code-vision,")


@pytest.mark.parametrize(
    ("team", "document", "grants_team", "runs"),
    [
        ("default", OWN, "default", True),
        ("vision", OWN, "vision", True),
        ("vision", OWN, "default", False),
        ("default", OWN, "vision", False),
        ("vision", FOREIGN, "default", True),
        ("default", FOREIGN, "default", False),
    ],
)
def test_a_coordinator_cannot_move_a_grant_to_another_teams_bundle_of_the_same_name(
    node: WholeNode, team: str, document: bytes, grants_team: str, *, runs: bool
) -> None:
    agent = of_team(node.world, team, document, grants_team)
    assert node.accept(node.world.assign(agent)) is None
    assert node.running() == ({"app/one"} if runs else set())
    if not runs:
        refusal = node.agent().refusal
        assert refusal is not None
        assert refusal.code == Code.GRANT_NOT_APPLICABLE
        assert "bundle.role" in refusal.message


# Models


def test_weights_that_were_poisoned_on_the_disk_are_found_before_the_agent_starts(node: WholeNode) -> None:
    agent = with_model(node.world)
    node.accept(node.world.assign(agent))
    node.switch_off()
    node.disk.write(node.blobs.path(digest_of(b"weights")), b"poisons", 0)
    node.switch_on()
    refusal = node.agent().refusal
    assert refusal is not None
    assert refusal.code in {Code.BLOB_CORRUPT, Code.BLOB_MISSING}  # found, removed, and then missing
    assert not node.blobs.has(digest_of(b"weights"))
    assert node.running() == set()


def test_weights_that_were_poisoned_on_the_way_are_not_taken(node: WholeNode) -> None:
    node.world.spoiled.add(digest_of(b"weights"))
    agent = with_model(node.world)
    assert node.accept(node.world.assign(agent)) is Code.DIGEST_MISMATCH
    assert node.running() == set()


def test_an_agent_is_handed_the_digests_of_the_signed_index(node: WholeNode) -> None:
    node.accept(node.world.assign(with_model(node.world)))
    assert node.runtime.running["app/one"].models["anomaly"].digest == digest_of(b"weights")
