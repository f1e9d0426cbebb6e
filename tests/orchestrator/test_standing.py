"""What a plan refuses of what is published: revoked, too old, another team's. And that no publish takes it back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fleet.errors import CATALOG, Code, ExitCode
from fleet.oci import digest_of
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.targets import REVOCATIONS_PATH, bundle_path, grant_path
from tests.fakes.fleet import bundle
from tests.fakes.fleet_fixture import MANIFEST, FleetFixture, NodeClient, Operator, error_of, grant_text
from tests.fakes.publisher import NOW
from tests.fakes.teams import team_keys

TEAM_MANIFEST = MANIFEST.replace("bundle: context@", "bundle: vision/context@")


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    return FleetFixture(tmp_path, role_keys=team_keys("vision"))


@pytest.fixture
async def node(fleet: FleetFixture, coordinator: Any, operator: Operator) -> AsyncIterator[NodeClient]:
    await operator.push()
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1", {}))
    await node.connect()
    yield node
    await node.close()


async def refusal(operator: Operator, manifest: str = MANIFEST) -> Any:
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.deploy(manifest)
    return error_of(caught.value)


async def refused_push(operator: Operator) -> str:
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.push()
    return error_of(caught.value).code


def add_bundle(fleet: FleetFixture, team: str = "default", version: str = "1.0.0", **custom: int) -> str:
    built = bundle("context", version, models={"anomaly": team.encode()})
    fleet.blobs.update(built.blobs)
    fleet.add(bundle_path("context", version, team), built.index, custom)
    return built.digest


def add_grant(fleet: FleetFixture, team: str = "default", revision: int = 1, role: str = "") -> str:
    document = grant_text("climate/context", "context", revision, today=fleet.clock())
    if role:
        document = document.replace(b"bundle: {name: context,", b"bundle: {name: context, role: %b," % role.encode())
    fleet.add(grant_path("climate/context", revision, team), document)
    return digest_of(document)


def revoke(fleet: FleetFixture, *entries: tuple[Kind, str]) -> None:
    listed = Revocations().extended(Revocation(kind, subject, "leaked", NOW) for kind, subject in entries)
    fleet.add(REVOCATIONS_PATH, encode_revocations(listed))


@pytest.mark.parametrize("kind", [Kind.BUNDLE, Kind.GRANT, Kind.MODEL])
async def test_what_is_revoked_is_refused_at_the_plan(
    fleet: FleetFixture, operator: Operator, node: NodeClient, kind: Kind
) -> None:
    subjects = {Kind.BUNDLE: add_bundle(fleet), Kind.GRANT: add_grant(fleet), Kind.MODEL: digest_of(b"default")}
    revoke(fleet, (kind, subjects[kind]))
    await operator.push()
    detail = await refusal(operator)
    assert detail.code == Code.REVOKED
    assert CATALOG[Code.REVOKED].exit_code is ExitCode.REFUSED
    assert "not revoked" in detail.remedy


async def test_a_release_below_the_floor_is_refused_at_the_plan(
    fleet: FleetFixture, operator: Operator, node: NodeClient
) -> None:
    add_grant(fleet)
    add_bundle(fleet, version="1.0.0", release=1)
    add_bundle(fleet, version="2.0.0", release=2, min_release=2)
    await operator.push()
    assert (await refusal(operator)).code == Code.RELEASE_TOO_OLD
    await operator.deploy(MANIFEST.replace("@1.0.0", "@2.0.0"))


async def test_no_publish_takes_a_revocation_back(fleet: FleetFixture, operator: Operator) -> None:
    digest, other = add_bundle(fleet), "sha256:" + "0" * 64
    revoke(fleet, (Kind.BUNDLE, digest))
    await operator.push()
    before = dict(fleet.files)
    revoke(fleet, (Kind.BUNDLE, other))
    assert await refused_push(operator) == Code.TRUST_ROLLBACK
    fleet.files = before
    fleet.remove(REVOCATIONS_PATH)
    assert await refused_push(operator) == Code.TRUST_ROLLBACK
    fleet.files = before
    revoke(fleet, (Kind.BUNDLE, digest), (Kind.BUNDLE, other))
    await operator.push()


@pytest.mark.parametrize("spoil", ["list", "counters"])
async def test_what_no_node_could_adopt_is_not_published(fleet: FleetFixture, operator: Operator, spoil: str) -> None:
    if spoil == "list":
        fleet.add(REVOCATIONS_PATH, b"{}")
    else:
        add_bundle(fleet, release=-1)
    assert await refused_push(operator) == Code.TRUST_INVALID


async def test_of_two_teams_with_a_bundle_of_one_name_the_manifest_names_one(
    fleet: FleetFixture, operator: Operator, node: NodeClient
) -> None:
    add_bundle(fleet)
    theirs = add_bundle(fleet, "vision")
    add_grant(fleet, revision=1)
    add_grant(fleet, "vision", revision=2)
    add_grant(fleet, revision=3)  # newer, and for the other team's bundle
    await operator.push()
    detail = await refusal(operator)
    assert detail.code == Code.PLAN_INVALID
    assert "default/context@1.0.0" in detail.remedy
    await operator.deploy(TEAM_MANIFEST)
    (agent,) = (await node.accept()).assignment.agents
    assert (agent.bundle.digest, agent.grant.path) == (theirs, grant_path("climate/context", 2, "vision"))


async def test_a_team_without_a_grant_for_its_bundle_gets_none_of_another(
    fleet: FleetFixture, operator: Operator, node: NodeClient
) -> None:
    add_bundle(fleet, "vision")
    add_grant(fleet)
    await operator.push()
    assert (await refusal(operator, TEAM_MANIFEST)).code == Code.GRANT_NOT_APPLICABLE
    add_grant(fleet, revision=2, role="code-vision")
    await operator.push()
    await operator.deploy(TEAM_MANIFEST)


@pytest.mark.parametrize("wrong", ["Vision/context@1.0.0", "/context@1.0.0", "a/b/context@1.0.0", "vision/@1.0.0"])
async def test_a_team_is_named_by_its_name(operator: Operator, wrong: str) -> None:
    assert (await refusal(operator, MANIFEST.replace("context@1.0.0", wrong))).code == Code.MANIFEST_INVALID


async def test_connected_nodes_hear_of_every_publish(fleet: FleetFixture, operator: Operator, node: NodeClient) -> None:
    add_bundle(fleet)
    await operator.push()
    add_grant(fleet)
    await operator.push()
    await operator.deploy()
    await node.accept()
    assert node.news >= 1
