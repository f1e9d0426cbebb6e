"""Counters of releases and the floors that they leave on a node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import floors as module
from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.floors import (
    MAX_COUNTER,
    Counters,
    Floors,
    encode_floors,
    next_counters,
    parse_floors,
    read_counters,
    replaced,
)
from fleet.release import RoleKeys
from fleet.targets import bundle_path
from fleet.trust import Release, open_release
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of
from tests.fakes.teams import team_keys


def repository(*releases: tuple[str, dict[str, Any]], keys: RoleKeys | None = None) -> Release:
    """A release with versions of the bundle `one`, each with what is noted beside it."""
    publisher = Publisher(keys=keys)
    for version, custom in releases:
        publisher.add(bundle_path("one", version), version.encode(), custom)
    publisher.publish()
    return open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)


def test_the_first_release_is_number_one_and_every_next_one_counts_on() -> None:
    path = bundle_path("one", "2.0.0")
    assert next_counters(repository(), path) == {"release": 1}
    assert next_counters(repository(("1.0.0", {})), path) == {"release": 1}
    listed = repository(("1.0.0", {"release": 7, "min_release": 5}), ("9.9.9", {"release": 3}))
    assert next_counters(listed, path) == {"release": 8, "min_release": 5}
    assert next_counters(listed, path, 8) == {"release": 8, "min_release": 8}
    assert next_counters(listed, bundle_path("other", "1.0.0")) == {"release": 1}
    assert next_counters(listed, bundle_path("one", "1.0.0", "vision")) == {"release": 1}


def test_a_floor_above_the_release_itself_is_refused() -> None:
    assert code_of(next_counters, repository(), bundle_path("one", "1.0.0"), 2) is Code.CONFIG_INVALID


@pytest.mark.parametrize(
    "custom",
    [
        {"release": "7"},
        {"release": True},
        {"release": -1},
        {"release": MAX_COUNTER + 1},
        {"release": 1, "min_release": 2},
    ],
)
def test_counters_that_cannot_be_read_are_an_error_that_names_the_bundle(custom: dict[str, Any]) -> None:
    release = repository(("1.0.0", custom))
    with pytest.raises(FleetError) as caught:
        Floors().raised(release)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.TRUST_INVALID, bundle_path("one", "1.0.0"))


def test_what_else_is_noted_beside_a_bundle_is_not_looked_at() -> None:
    release = repository(("1.0.0", {"release": 2, "tier": "critical"}))
    assert read_counters(release.target(bundle_path("one", "1.0.0"))) == Counters(2, 0)


def test_a_release_below_the_floor_is_refused_with_both_numbers() -> None:
    old = repository(("1.0.0", {"release": 4})).target(bundle_path("one", "1.0.0"))
    floors = Floors({"default/one": 5})
    with pytest.raises(FleetError) as caught:
        floors.check(old)
    error = caught.value
    assert (error.code, error.detail["release"], error.detail["min_release"]) == (Code.RELEASE_TOO_OLD, 4, 5)
    assert "newer release" in error.remedy
    Floors({"default/one": 4, "vision/one": 9}).check(old)


def test_a_bundle_without_a_counter_is_below_every_floor() -> None:
    unnumbered = repository(("1.0.0", {})).target(bundle_path("one", "1.0.0"))
    Floors().check(unnumbered)
    assert code_of(Floors({"default/one": 1}).check, unnumbered) is Code.RELEASE_TOO_OLD


def test_a_floor_that_was_seen_once_stays_when_nobody_lists_it_any_more() -> None:
    raised = Floors().raised(repository(("2.0.0", {"release": 2, "min_release": 2})))
    again = raised.raised(repository(("1.0.0", {"release": 1})), repository())
    assert again == raised == Floors({"default/one": 2})


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4))
def test_floors_never_sink(steps: list[tuple[int, int]]) -> None:
    floors = Floors()
    for number, (one, other) in enumerate(steps):
        release = repository((f"1.0.{number}", {"release": max(one, other), "min_release": min(one, other)}))
        after = floors.raised(release)
        assert after.smallest.get("default/one", 0) >= floors.smallest.get("default/one", 0)
        assert after.smallest.get("default/one", 0) >= min(one, other)
        floors = after


def test_new_keys_of_a_team_end_what_the_thief_of_the_old_ones_locked_out() -> None:
    stolen = repository(("1.0.0", {"release": MAX_COUNTER, "min_release": MAX_COUNTER}))
    floors = Floors().raised(stolen)
    mended = repository(("1.0.1", {"release": 3}), keys=role_keys(code_default=key("code-2")))
    assert floors.raised(mended, stolen) == Floors()
    kept = RoleKeys({**role_keys().keys, "code-default": (key("code-default"), key("code-2"))})
    assert floors.raised(repository(("1.0.1", {"release": 3}), keys=kept), stolen) == floors


def test_a_role_that_is_gone_was_not_replaced() -> None:
    with_vision, without = repository(keys=team_keys("vision")), repository(keys=team_keys())
    assert not replaced("code-vision", without, with_vision)
    assert not replaced("code-vision", with_vision, without)
    assert not replaced("code-vision", with_vision, None)


def test_the_number_of_floors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FLOORS", 1)
    release = repository(("1.0.0", {"release": 1, "min_release": 1}))
    assert code_of(Floors({"vision/two": 1}).raised, release) is Code.LIMIT_EXCEEDED


@given(st.dictionaries(st.sampled_from(["default/one", "vision/one", "a/b"]), st.integers(1, MAX_COUNTER)))
def test_what_a_node_keeps_is_read_again(smallest: dict[str, int]) -> None:
    reader = Reader({"floors": encode_floors(Floors(smallest))}, Code.TRUST_INVALID, "metadata.json")
    assert parse_floors(reader, "floors") == Floors(smallest)


@pytest.mark.parametrize(
    "kept", [[], {"one": 1}, {"/one": 1}, {"default/": 1}, {"default/one": 0}, {"default/one": "1"}]
)
def test_floors_on_disk_are_checked(kept: Any) -> None:
    assert code_of(parse_floors, Reader({"floors": kept}, Code.TRUST_INVALID, "f"), "floors") is Code.TRUST_INVALID
