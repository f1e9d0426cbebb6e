"""Which changes to buckets are told, in both versions: those that are on disk, key by key, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.base import AgentContext
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node

ALL = {
    "wasi:keyvalue/store": [{"buckets": ["b"], "ops": ["get", "set", "delete", "exists", "list-keys"]}],
    "wasi:keyvalue/atomics": [{"buckets": ["b"], "ops": ["increment", "swap"]}],
    "wasi:keyvalue/batch": [{"buckets": ["b"], "ops": ["get-many", "set-many", "delete-many"]}],
}


class Changes:
    """An exchange that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, bytes | None]] = []

    def changed(self, bucket: str, key: str, value: bytes | None) -> None:
        self.told.append((bucket, key, value))

    def take(self) -> list[tuple[str, str, bytes | None]]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def context(node: Node, changes: Changes) -> AgentContext:
    return replace(node.agent(ALL, keyvalue="100KiB"), exchange=changes)


@pytest.fixture(params=keyvalue.VERSIONS)
def guest(context: AgentContext, request: pytest.FixtureRequest):
    calls = {
        name: function.call
        for interface in keyvalue.interfaces(context)
        if interface.name.endswith(f"@{request.param}")
        for name, function in interface.functions.items()
    }
    handle = calls["open"]("b").value
    return lambda name, *arguments: calls[name](handle, *arguments)


def test_each_change_is_told_with_its_value(guest, changes: Changes) -> None:
    guest("[method]bucket.set", "a", b"1")
    guest("increment", "n", 5)
    guest("increment", "n", 2)
    guest("set-many", [("c", b"2"), ("d", b"3")])
    assert changes.take() == [("b", "a", b"1"), ("b", "n", b"5"), ("b", "n", b"7"), ("b", "c", b"2"), ("b", "d", b"3")]
    guest("[method]bucket.delete", "a")
    guest("delete-many", ["c", "absent", "d"])
    assert changes.take() == [("b", "a", None), ("b", "c", None), ("b", "d", None)]


def test_what_changes_nothing_is_not_told(guest, changes: Changes) -> None:
    guest("[method]bucket.delete", "absent")
    guest("[method]bucket.get", "a")
    guest("[method]bucket.exists", "a")
    guest("get-many", ["a"])
    assert isinstance(guest("[method]bucket.set", "a", bytes(200_000)), Err)
    assert isinstance(guest("set-many", [("a", b"1"), ("b", bytes(200_000))]), Err)
    assert isinstance(guest("[method]bucket.set", "k" * 2000, b""), Err)
    guest("[method]bucket.set", "word", b"x")
    changes.take()
    assert isinstance(guest("increment", "word", 1), Err)
    assert changes.told == []


def test_a_swap_is_told_when_it_happens(context: AgentContext, changes: Changes) -> None:
    calls = {
        name: function.call
        for interface in keyvalue.interfaces(context)
        if interface.name.endswith("@0.2.0-draft2")
        for name, function in interface.functions.items()
    }
    bucket = calls["open"]("b").value
    first, second = (calls["[static]cas.new"](bucket, "a").value for _ in range(2))
    assert calls["swap"](first, b"1") == Ok(None)
    assert isinstance(calls["swap"](second, b"2"), Err)
    assert changes.told == [("b", "a", b"1")]


@pytest.mark.parametrize("version", keyvalue.VERSIONS)
def test_a_watcher_may_do_with_its_bucket_what_its_grant_says(node: Node, context: AgentContext, version: str) -> None:
    reader = node.agent({"wasi:keyvalue/store": [{"buckets": ["b"], "ops": ["get"]}]}, name="app/reader")
    calls = {
        name: function.call
        for interface in keyvalue.interfaces(reader)
        if interface.name.endswith(f"/store@{version}")
        for name, function in interface.functions.items()
    }
    granted, other = keyvalue.bucket_for(reader, version, "b"), keyvalue.bucket_for(reader, version, "other")
    assert calls["[method]bucket.get"](granted, "a") == Ok(None)
    assert calls["[method]bucket.set"](granted, "a", b"").value.case == "access-denied"
    assert calls["[method]bucket.get"](other, "a").value.case == "access-denied"
