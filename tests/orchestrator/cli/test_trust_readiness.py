"""A key of the fleet is withdrawn only when no node needs it any more; the numbers are those of `nodes_behind`."""

from __future__ import annotations

import pytest

from fleet.v1 import control_pb2 as pb
from orchestrator.cli.trust_readiness import Needed, nodes_behind

NEW, OLD = "sha256:" + "b" * 64, "sha256:" + "a" * 64
KEPT, GONE = "c" * 64, "d" * 64


def node(name: str = "n1", **fields: object) -> pb.Node:
    """Return a node that has followed completely, but for the fields that are given."""
    ready: dict[str, object] = {
        "state": "online",
        "trust_digest": NEW,
        "director_key": KEPT,
        "desired_generation": 7,
        "observed_generation": 7,
    }
    return pb.Node(name=name, **{**ready, **fields})  # type: ignore[arg-type]  # fields of a message, by name


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({}, ""),
        ({"trust_digest": OLD}, "trust/fleet.json"),  # 1
        ({"trust_digest": ""}, "trust/fleet.json"),  # 1: a node that does not tell is believed nothing
        ({"director_key": GONE}, f"the key {GONE[:8]}"),  # 2
        ({"observed_generation": 6}, "order 7"),  # 3
        ({"director_key": "", "desired_generation": 0, "observed_generation": 0}, ""),  # nothing was ever ordered
        ({"state": "revoked", "trust_digest": OLD}, ""),
        ({"state": "locked", "trust_digest": OLD}, "trust/fleet.json"),
    ],
)
def test_a_node_is_ready_when_it_knows_the_successor_and_runs_by_it(fields: dict[str, object], lacks: str) -> None:
    found = nodes_behind([node(**fields)], Needed(NEW, frozenset({KEPT})))
    assert [one.node for one in found] == (["n1"] if lacks else [])
    assert all(lacks in one.lacks for one in found)


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({"log_keys": ["demo/audit+old", "demo/audit+new"]}, ""),
        ({"log_keys": ["demo/audit+old"]}, "demo/audit+old proved"),  # 2
        ({"log_keys": []}, "nothing yet proved"),
        ({"log_keys": ["demo/audit+new"], "observed_generation": 6}, "order 7"),  # 3
        ({"director_key": "", "desired_generation": 0, "observed_generation": 0}, ""),
        ({"log_keys": ["demo/audit+new"], "director_key": GONE}, ""),
    ],
)
def test_an_order_is_proven_by_a_key_of_the_log_that_stays(fields: dict[str, object], lacks: str) -> None:
    found = nodes_behind([node(**fields)], Needed(NEW, log_keys=frozenset({"demo/audit+new"})))
    assert [one.node for one in found] == (["n1"] if lacks else [])
    assert all(lacks in one.lacks for one in found)


def test_orders_count_only_where_the_key_signs_them() -> None:
    assert nodes_behind([node(director_key=GONE, observed_generation=1)], Needed(NEW)) == ()


def test_nodes_are_named_in_order_and_absent_ones_are_told_apart() -> None:
    listed = [node("n3", trust_digest=OLD), node("n1"), node("n2", state="offline", trust_digest=OLD)]
    assert [(one.node, one.online) for one in nodes_behind(listed, Needed(NEW))] == [("n2", False), ("n3", True)]
