"""Volumes: which names a grant may have, and what they allow."""

import pytest

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.grants import Authority, check_imports
from fleet.grants.lattice import meet
from fleet.grants.volumes import Volumes, is_volume, is_volume_name, named_volumes
from tests.fakes.refusals import refusal

PREOPENS = "wasi:filesystem/preopens"


def authority(*rules):
    limits = Authority({}).limits.describe()
    return Authority.decode(
        dump_json({"schema": "fleet.authority/v1", "capabilities": {PREOPENS: list(rules)}, "limits": limits})
    )


@pytest.mark.parametrize("pattern", ["*", "scratch/*", "node/*", "scratch/a", "node/maps-2", "scratch/ab*", "node/9"])
def test_patterns_of_volumes(pattern):
    assert Volumes.check(pattern)
    assert is_volume(pattern) is ("*" not in pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "/etc",
        "scratch",
        "scratch/",
        "scratch/..",
        "scratch/a/b",
        "node/.",
        "node/A",
        "node/-a",
        "node/a_b",
        "other/a",
        "*a",
        "scr*",
        "scratch/../a",
        "scratch/a\n",
        "scratch/a\x00",
        "node/" + "a" * 64,
        "node/é",
        "node/-*",
    ],
)
def test_a_volume_is_never_a_path(pattern):
    assert not Volumes.check(pattern)
    assert not is_volume(pattern)
    error = refusal(lambda: authority({"volumes": [pattern], "mode": ["read"]}))
    assert error.code is Code.GRANT_INVALID
    assert error.detail["place"] == f"authority: capabilities.{PREOPENS}[0].volumes[0]"


def test_names_that_an_operator_may_declare():
    assert [name for name in ("maps", "a-1", "", "A", "a/b", "..", "a" * 64) if is_volume_name(name)] == ["maps", "a-1"]


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ({"mode": ["read"]}, "volumes"),
        ({"volumes": ["scratch/a"]}, "mode"),
        ({"volumes": ["scratch/a"], "mode": ["write"]}, "max_bytes"),
        ({"volumes": ["scratch/a"], "mode": ["read", "write"], "max_files": 5}, "max_bytes"),
        ({"volumes": ["scratch/a"], "mode": ["execute"]}, "mode[0]"),
    ],
)
def test_what_would_be_an_accident_without_it_is_required(rule, place):
    error = refusal(lambda: authority(rule))
    assert error.detail["place"] == f"authority: capabilities.{PREOPENS}[0].{place}"


def test_reading_needs_no_bound():
    assert authority({"volumes": ["node/a"], "mode": ["read"]}).allows(PREOPENS, volume="node/a", mode="read")


def test_a_ceiling_takes_writing_away():
    grant = authority({"volumes": ["scratch/a", "node/a"], "mode": ["read", "write"], "max_bytes": "2MiB"})
    both = meet(grant, authority({"volumes": ["*"], "mode": ["read"]}))
    assert both.allows(PREOPENS, volume="scratch/a", mode="read")
    assert not both.allows(PREOPENS, volume="scratch/a", mode="write")
    lower = authority({"volumes": ["scratch/*"], "mode": ["read", "write"], "max_bytes": "1MiB"})
    assert meet(grant, lower).maximum(PREOPENS, "max_bytes", volume="scratch/a", mode="write") == 1 << 20
    assert not meet(grant, lower).allows(PREOPENS, volume="node/a", mode="read")


def test_volumes_that_are_named_in_full():
    rules = (
        {"volumes": ["scratch/a", "node/*"], "mode": ["read"]},
        {"volumes": ["node/b", "*"], "mode": ["write"], "max_bytes": "1B"},
    )
    assert named_volumes(authority(*rules)) == {"scratch/a"}
    assert named_volumes(Authority({})) == frozenset()


def test_the_import_is_granted_with_a_rule_and_baseline_without():
    name = f"{PREOPENS}@0.2.12"
    assert check_imports([name], Authority({}), [], "app/a", "a@1.0.0").baseline == (name,)
    granted = authority({"volumes": ["scratch/a"], "mode": ["read"]})
    assert check_imports([name], granted, [], "app/a", "a@1.0.0").granted == (name,)
