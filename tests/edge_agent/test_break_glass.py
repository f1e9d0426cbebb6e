"""Emergency grants on a node: what one stolen key for them is worth, and that nobody uses one unseen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from edge_agent.supervisor import EMERGENCY
from fleet.errors import Code
from fleet.grants.document import format_instant
from fleet.model import AssignedAgent, TargetRef
from fleet.release import RoleKeys
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, bundle_path, grant_path
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, Publisher, key
from tests.fakes.teams import team_keys
from tests.fakes.whole_node import WholeNode

STORE = "wasi:keyvalue/store"
CAPS = "{'wasi:keyvalue/store': [{buckets: [one], ops: [get]}]}"
POLICY = f"schema: fleet.break-glass/v1\nmax_validity: 4h\ncaps: {CAPS}\n".encode()
AGENT, REASON = "app/one", "pump 3 floods"


def world_with(policy: bytes | None = POLICY) -> FleetWorld:
    keys = team_keys("vision")
    emergency = RoleKeys({**keys.keys, BREAK_GLASS_ROLE: (key("emergency"),)}, keys.thresholds)
    world = FleetWorld(Publisher(keys=emergency))
    if policy is not None:
        world.publisher.add(BREAK_GLASS_PATH, policy)
        world.put(policy)
    return world


@pytest.fixture
def node() -> Iterator[WholeNode]:
    node = WholeNode(world_with())
    yield node
    node.close()


def released(
    world: FleetWorld,
    *,
    caps: str = CAPS,
    hours: int = 4,
    begin: datetime = NOW,
    team: str = BREAK_GLASS_TEAM,
    marked: bool = True,
) -> AssignedAgent:
    """Publish an agent of the team vision with a grant that the holder of the emergency key alone signed."""
    built = bundle("one", "1.0.0", f"{STORE}@0.2.0-draft2")
    until = begin + timedelta(hours=hours)
    validity = f"{{not_before: {format_instant(begin)}, not_after: {format_instant(until)}}}"
    text = grant(AGENT, "one", caps=caps, validity=validity).replace(b"{name: one,", b"{name: one, role: code-vision,")
    document = text + (f"break_glass: true\nreason: {REASON}\n".encode() if marked else b"")
    path, permit = bundle_path("one", "1.0.0", "vision"), grant_path(AGENT, 1, team)
    world.blobs.update(built.blobs)
    world.publisher.add(path, built.index)
    world.publisher.add(permit, document)
    world.publisher.publish()
    return AssignedAgent(AGENT, TargetRef(path, world.put(built.index)), TargetRef(permit, world.put(document)))


def told(node: WholeNode) -> list[str]:
    return [event.message for event in node.events() if event.kind == EMERGENCY]


def refusal(node: WholeNode, spec: AssignedAgent) -> Code | str | None:
    """Order it; return the code with which admission refuses it."""
    assert node.accept(node.world.assign(spec)) is None
    refused = node.agent(AGENT).refusal
    assert not node.running()
    return None if refused is None else refused.code


def test_within_its_bounds_it_runs_and_every_start_is_told(node: WholeNode) -> None:
    assert node.accept(node.world.assign(released(node.world))) is None
    assert node.running() == {AGENT}
    assert told(node) == [f"BREAK-GLASS: it runs under an emergency grant: {REASON}"]
    node.restart()
    assert node.running() == {AGENT}
    assert len(told(node)) == 1


def test_it_ends_by_the_nodes_own_time_whatever_the_coordinator_does(node: WholeNode) -> None:
    assert node.accept(node.world.assign(released(node.world))) is None
    node.live(timedelta(hours=4))
    assert not node.running()
    refused = node.agent(AGENT).refusal
    assert refused is not None
    assert refused.code == Code.GRANT_EXPIRED
    node.set_clock(NOW)  # setting the clock back brings nothing back
    node.restart()
    assert not node.running()


def test_an_expired_one_is_refused(node: WholeNode) -> None:
    assert refusal(node, released(node.world, begin=NOW - timedelta(hours=5))) == Code.GRANT_EXPIRED


def test_1_an_ordinary_grant_by_the_emergency_key(node: WholeNode) -> None:
    assert refusal(node, released(node.world, marked=False)) == Code.GRANT_NOT_APPLICABLE


def test_1_an_emergency_by_an_ordinary_role(node: WholeNode) -> None:
    assert refusal(node, released(node.world, team="vision")) == Code.GRANT_NOT_APPLICABLE


def test_2_a_fleet_without_a_policy_has_no_emergencies() -> None:
    node = WholeNode(world_with(None))
    assert refusal(node, released(node.world)) == Code.GRANT_NOT_APPLICABLE
    node.close()


def test_2_withdrawing_the_policy_ends_what_runs(node: WholeNode) -> None:
    assert node.accept(node.world.assign(released(node.world))) is None
    node.world.publisher.remove(BREAK_GLASS_PATH)
    node.world.publisher.publish()
    assert node.refresh() is None
    assert not node.running()


def test_3_a_longer_validity_than_the_policy_allows(node: WholeNode) -> None:
    assert refusal(node, released(node.world, hours=5)) == Code.GRANT_NOT_APPLICABLE


def test_3_a_longer_validity_than_any_policy_may_allow(node: WholeNode) -> None:
    assert refusal(node, released(node.world, hours=25)) == Code.GRANT_INVALID


@pytest.mark.parametrize("wider", [CAPS.replace("get", "get, set"), CAPS.replace("[one]", "['*']")])
def test_4_a_grant_wider_than_its_ceiling(node: WholeNode, wider: str) -> None:
    assert refusal(node, released(node.world, caps=wider)) == Code.GRANT_NOT_APPLICABLE


def test_a_policy_that_cannot_be_read_is_not_adopted() -> None:
    node = WholeNode(world_with(POLICY.replace(b"4h", b"40h")))
    assert node.accept(node.world.assign(released(node.world))) is Code.GRANT_INVALID
    node.close()


def test_a_key_for_emergencies_that_signs_code_too_is_refused_with_the_whole_release() -> None:
    keys = team_keys("vision", code_vision=key("emergency"))
    shared = RoleKeys({**keys.keys, BREAK_GLASS_ROLE: (key("emergency"),)}, keys.thresholds)
    node = WholeNode(FleetWorld(Publisher(keys=shared)))
    assert node.accept(node.world.assign(released(node.world))) is Code.TRUST_INVALID
    node.close()
