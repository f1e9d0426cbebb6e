"""Which team's grants a command means: named, deployed, of the context, or the only one; never guessed."""

from __future__ import annotations

import pytest

from fleet.errors import Code, FleetError
from fleet.release import RoleKeys
from fleet.targets import BREAK_GLASS_ROLE, grant_path
from fleet.trust import Release, open_release
from orchestrator.cli.teams import find_team
from tests.fakes.publisher import NOW, Publisher, key
from tests.fakes.teams import team_keys


def release(*teams: str, grants: tuple[str, ...] = (), emergencies: bool = False) -> Release:
    keys = team_keys(*teams)
    if emergencies:
        keys = RoleKeys({**keys.keys, BREAK_GLASS_ROLE: (key("emergency"),)}, keys.thresholds)
    publisher = Publisher(keys=keys)
    for path in grants:
        publisher.add(path, b"x")
    publisher.publish()
    return open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)


TWO = release("vision", grants=(grant_path("a/one", 1, "vision"),), emergencies=True)


@pytest.mark.parametrize(
    ("agent", "given", "ordered", "context", "team"),
    [
        ("a/one", "default", ("grants/vision/a/one/1.yaml",), "vision", "default"),
        ("a/one", "breakglass", (), "", "breakglass"),
        ("a/one", "", ("grants/vision/a/one/1.yaml",), "default", "vision"),
        ("a/one", "", ("grants/breakglass/a/one/1.yaml", "grants/vision/a/one/1.yaml"), "default", "vision"),
        ("a/one", "", ("grants/breakglass/a/one/1.yaml",), "default", "default"),
        ("a/one", "", (), "default", "default"),
        ("a/one", "", (), "", "vision"),
    ],
)
def test_1_to_4_which_team_is_meant(agent: str, given: str, ordered: tuple[str, ...], context: str, team: str) -> None:
    assert find_team(TWO, agent, given, ordered, context) == team


def test_4_the_only_team_that_there_is() -> None:
    assert find_team(release(), "a/two", "", (), "") == "default"


@pytest.mark.parametrize(
    ("agent", "ordered"),
    [("a/two", ()), ("a/one", ("grants/vision/a/one/1.yaml", "grants/default/a/one/1.yaml"))],
)
def test_several_teams_are_never_guessed_among(agent: str, ordered: tuple[str, ...]) -> None:
    with pytest.raises(FleetError) as caught:
        find_team(TWO, agent, "", ordered, "")
    assert caught.value.code is Code.CONFIG_INVALID
    assert caught.value.remedy == "--team default or --team vision"


@pytest.mark.parametrize(("given", "context"), [("other", ""), ("", "other")])
def test_a_team_without_a_role_is_named(given: str, context: str) -> None:
    with pytest.raises(FleetError) as caught:
        find_team(TWO, "a/one", given, (), context)
    assert caught.value.code is Code.NOT_FOUND
    assert "default, vision, breakglass" in caught.value.private


def test_a_fleet_without_emergencies_has_no_team_of_that_name() -> None:
    with pytest.raises(FleetError) as caught:
        find_team(release(), "a/one", "breakglass", (), "")
    assert caught.value.code is Code.NOT_FOUND
