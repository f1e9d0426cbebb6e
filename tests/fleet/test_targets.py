"""Target paths and their owners; milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import DelegatedRole

from fleet.targets import (
    BREAK_GLASS_PATH,
    BREAK_GLASS_ROLE,
    BREAK_GLASS_TEAM,
    MAX_REVISION,
    TRUST_PATH,
    agent_of_grant,
    bundle_of,
    bundle_path,
    code_role,
    grant_path,
    grants_role,
    is_break_glass,
    is_version,
    paths_of,
    revision_of_grant,
    role_of,
    team_of_grant,
)
from fleet.times import EPOCH, MAX_MS, from_ms, to_ms


@pytest.mark.parametrize(
    ("path", "role"),
    [
        (TRUST_PATH, "targets"),
        ("policy/ceilings.yaml", "policy"),
        (bundle_path("context-agent", "1.0.0-rc.1"), "code-default"),
        (bundle_path("a", "1.0.0", "vision"), "code-vision"),
        (grant_path("climate/context", 7, "vision"), "grants-vision"),
        (grant_path("climate/context", 7, BREAK_GLASS_TEAM), BREAK_GLASS_ROLE),
        (BREAK_GLASS_PATH, "policy"),
        (bundle_path("a", "1.0.0", BREAK_GLASS_TEAM), None),
        ("", None),
        ("trust", None),
        ("trust/", None),
        ("trust/a/b", None),
        ("bundles/Vision/a/1.json", None),
        ("bundles/vision/a", None),
        ("grants/vision/a/1.yaml", None),
        ("grants//a/b/1.yaml", None),
        ("elsewhere/a", None),
    ],
)
def test_a_path_names_its_role(path: str, role: str | None) -> None:
    assert role_of(path) == role


@pytest.mark.parametrize("path", [bundle_path("a", "1.0.0", "vision"), grant_path("a/b", 1, "vision"), "policy/x.yaml"])
def test_the_delegation_covers_the_path(path: str) -> None:
    role = role_of(path)
    assert role is not None
    delegation = DelegatedRole(role, [], 1, terminating=True, paths=list(paths_of(role) or ()))
    assert delegation.is_delegated_path(path)


@pytest.mark.parametrize("role", ["targets", "code-", "code-A", "grants", "other-vision", "code-breakglass", ""])
def test_other_roles_have_no_paths(role: str) -> None:
    assert paths_of(role) is None


def test_role_names() -> None:
    assert (code_role("vision"), grants_role("vision")) == ("code-vision", "grants-vision")


@pytest.mark.parametrize(
    ("text", "valid"),
    [("1.0.0", True), ("0.2.0-draft2", True), ("1.0", False), ("1.0.0+b", False), ("01.0.0", False), ("", False)],
)
def test_versions(text: str, valid: bool) -> None:
    assert is_version(text) is valid


def test_malformed_parts_of_paths_are_a_programmers_fault() -> None:
    for name, version, team in (("A", "1.0.0", "t"), ("a", "1", "t"), ("a", "1.0.0", "..")):
        with pytest.raises(ValueError, match="no target path"):
            bundle_path(name, version, team)
    for agent, revision, team in (("a", 1, "t"), ("a/b", 0, "t"), ("a/b", MAX_REVISION + 1, "t"), ("a/b", 1, "T")):
        with pytest.raises(ValueError, match="no target path"):
            grant_path(agent, revision, team)


@given(st.integers(0, MAX_MS))
def test_milliseconds_round_trip(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms


def test_moments_are_cut_to_whole_milliseconds() -> None:
    assert to_ms(EPOCH + timedelta(microseconds=1_999)) == 1
    assert from_ms(MAX_MS) == datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize(("team", "emergency"), [("vision", False), (BREAK_GLASS_TEAM, True)])
def test_a_grants_path_says_whose_it_is(team: str, *, emergency: bool) -> None:
    path = grant_path("climate/context", 7, team)
    assert (team_of_grant(path), agent_of_grant(path), revision_of_grant(path)) == (team, "climate/context", 7)
    assert is_break_glass(path) is emergency
    assert revision_of_grant("grants/vision/climate/context/x.yaml") == 0


@pytest.mark.parametrize("version", ["1.0.0", "1.0.0-rc.1"])
def test_a_bundles_path_is_read_back(version: str) -> None:
    assert bundle_of(bundle_path("context-agent", version, "vision")) == f"context-agent@{version}"
