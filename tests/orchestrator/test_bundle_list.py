"""What the list of bundles says: whose each is, which release, and why no node would run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.revocations import Kind
from fleet.v1 import control_pb2 as pb
from tests.fakes.fleet_fixture import FleetFixture, Operator
from tests.fakes.teams import team_keys
from tests.orchestrator.test_standing import add_bundle, revoke


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    return FleetFixture(tmp_path, role_keys=team_keys("vision"))


async def test_the_list_says_team_release_and_what_stands_against_a_bundle(
    fleet: FleetFixture, operator: Operator
) -> None:
    add_bundle(fleet, version="1.0.0", release=1)
    add_bundle(fleet, version="2.0.0", release=2, min_release=2)
    revoke(fleet, (Kind.BUNDLE, add_bundle(fleet, team="vision", version="1.0.0")))
    await operator.push()
    listed = (await operator.control.ListBundles(pb.ListBundlesRequest())).bundles
    found = {(bundle.team, bundle.version): bundle for bundle in listed}
    assert found.keys() == {("default", "1.0.0"), ("default", "2.0.0"), ("vision", "1.0.0")}
    assert [found["default", version].release for version in ("1.0.0", "2.0.0")] == [1, 2]
    assert found["vision", "1.0.0"].release == 0
    assert found["default", "2.0.0"].refused == ""
    assert "below 2" in found["default", "1.0.0"].refused
    assert "was revoked: leaked" in found["vision", "1.0.0"].refused
