"""wasi:keyvalue behaves like a dictionary, whatever is done in whatever order; swaps among it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.keyvalue import (
    MAX_SWAPS,
    MAX_VALUE_BYTES,
)
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node
from tests.fakes.keyvalue_guest import DENIED, DRAFT, DRAFT2, STORE_OPS, Guest, refused_with


class TestSwap:
    """Compare-and-swap, which only the newer version has."""

    def test_swap_writes_when_nothing_changed(self, node: Node) -> None:
        guest = Guest(node, DRAFT2)
        bucket = guest.bucket()
        fresh = guest.cas_new(bucket, "k").value
        assert guest.cas_current(fresh) == Ok(None)
        assert guest.swap(fresh, b"1") == Ok(None)
        cas = guest.cas_new(bucket, "k").value
        assert guest.cas_current(cas) == Ok(b"1")
        assert guest.swap(cas, b"2") == Ok(None)
        assert guest.get(bucket, "k") == Ok(b"2")

    def test_swap_fails_after_any_write_and_hands_back_the_newer_value(self, node: Node) -> None:
        guest = Guest(node, DRAFT2)
        bucket = guest.bucket()
        guest.set(bucket, "k", b"1")
        cas = guest.cas_new(bucket, "k").value
        guest.delete(bucket, "k")
        guest.set(bucket, "k", b"1")
        failed = guest.swap(cas, b"mine")
        assert isinstance(failed, Err)
        assert failed.value.case == "cas-failed"
        assert guest.cas_current(failed.value.payload) == Ok(b"1")
        assert guest.swap(failed.value.payload, b"2") == Ok(None)
        assert guest.get(bucket, "k") == Ok(b"2")

    def test_swap_uses_its_handle_up_even_when_refused(self, node: Node) -> None:
        guest = Guest(node, DRAFT2)
        bucket = guest.bucket()
        for _ in range(2 * MAX_SWAPS):
            cas = guest.cas_new(bucket, "k").value
            answer = guest.swap(cas, bytes(MAX_VALUE_BYTES + 1))
            assert answer.value.case == "store-error"
            assert refused_with(Err(answer.value.payload), "value")

    def test_handles_are_bounded_in_number_and_bytes(self, node: Node) -> None:
        guest = Guest(node, DRAFT2)
        bucket = guest.bucket()
        for _ in range(MAX_SWAPS):
            guest.cas_new(bucket, "none")
        assert refused_with(guest.cas_new(bucket, "none"), "handles")
        other = Guest(node, DRAFT2)
        bucket = other.bucket()
        other.set(bucket, "big", bytes(MAX_VALUE_BYTES))
        handles = [other.cas_new(bucket, "big") for _ in range(6)]
        assert isinstance(handles[0], Ok)
        assert refused_with(handles[-1], "handles")
        other.resources["cas"](handles[0].value)
        assert isinstance(other.cas_new(bucket, "big"), Ok)

    def test_swap_needs_its_grant(self, node: Node) -> None:
        guest = Guest(node, DRAFT2, {"wasi:keyvalue/store": [{"buckets": ["b"], "ops": STORE_OPS}]})
        assert guest.cas_new(guest.bucket(), "k") == DENIED


KEYS = st.sampled_from(["", "a", "b", "ab", "é", "\0"])
VALUES = st.one_of(st.binary(max_size=20), st.integers(-50, 50).map(lambda n: str(n).encode()))


class KeyValueMachine(RuleBasedStateMachine):
    """Random calls answer like a dictionary; the file is reopened now and then."""

    version = DRAFT2
    new_node: Callable[[], Node]

    @initialize()
    def begin(self) -> None:
        self.node = self.new_node()
        self.model: dict[str, bytes] = {}
        self.swaps: list[tuple[int, str, int]] = []
        self.writes: dict[str, int] = {}
        self.connect()

    @rule()
    def connect(self) -> None:
        for context in self.node.contexts:
            context.close()
        self.guest = Guest(self.node, self.version)
        self.bucket = self.guest.bucket()
        self.swaps.clear()

    def wrote(self, key: str) -> None:
        self.writes[key] = self.writes.get(key, 0) + 1

    @rule(key=KEYS, value=VALUES)
    def set(self, key: str, value: bytes) -> None:
        assert self.guest.set(self.bucket, key, value) == Ok(None)
        self.model[key] = value
        self.wrote(key)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.guest.delete(self.bucket, key) == Ok(None)
        if self.model.pop(key, None) is not None:
            self.wrote(key)

    @rule(key=KEYS, delta=st.integers(0, 5))
    def increment(self, key: str, delta: int) -> None:
        answer = self.guest.increment(self.bucket, key, delta)
        text = self.model.get(key, b"0").decode("latin-1")
        low = -(1 << 63) if self.version == DRAFT2 else 0
        number = int(text) if text.lstrip("-").isdecimal() and text.isascii() and str(int(text)) == text else None
        if number is None or number + delta < low:
            assert isinstance(answer, Err)
            return
        assert answer == Ok(number + delta)
        self.model[key] = str(number + delta).encode()
        self.wrote(key)

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), max_size=4))
    def set_many(self, pairs: list[tuple[str, bytes]]) -> None:
        assert self.guest.set_many(self.bucket, pairs) == Ok(None)
        for key, value in pairs:
            self.model[key] = value
            self.wrote(key)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete_many(self, keys: list[str]) -> None:
        assert self.guest.delete_many(self.bucket, keys) == Ok(None)
        for key in keys:
            if self.model.pop(key, None) is not None:
                self.wrote(key)

    @rule(key=KEYS)
    def begin_swap(self, key: str) -> None:
        if self.guest.cas_new is not None:
            cas = self.guest.cas_new(self.bucket, key).value
            assert self.guest.cas_current(cas) == Ok(self.model.get(key))
            # Absent looks the same before and after a key came and went.
            self.swaps.append((cas, key, self.writes.get(key, 0) if key in self.model else -1))

    @rule(value=VALUES)
    def finish_swap(self, value: bytes) -> None:
        if not self.swaps:
            return
        cas, key, seen = self.swaps.pop(0)
        answer = self.guest.swap(cas, value)
        if seen == (self.writes.get(key, 0) if key in self.model else -1):
            assert answer == Ok(None)
            self.model[key] = value
            self.wrote(key)
        else:
            assert answer.value.case == "cas-failed"
            assert self.guest.cas_current(answer.value.payload) == Ok(self.model.get(key))

    @invariant()
    def same_as_the_dictionary(self) -> None:
        assert self.guest.all_keys(self.bucket) == sorted(self.model)
        keys = sorted({*self.model, "absent"})
        expected = [(key, self.model[key]) if key in self.model else None for key in keys]
        assert self.guest.get_many(self.bucket, keys) == Ok(expected)


MACHINE_SETTINGS = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("version", [DRAFT, DRAFT2])
def test_behaves_like_a_dictionary(version: str, new_node: Callable[[], Node]) -> None:
    def machine() -> KeyValueMachine:
        found = KeyValueMachine()
        found.version = version
        found.new_node = new_node
        return found

    run_state_machine_as_test(machine, settings=MACHINE_SETTINGS)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 40))
def test_a_clock_that_jumps_never_makes_a_write_older(new_node: Callable[[], Node], jump: int) -> None:
    node = new_node()
    guest = Guest(node, DRAFT2)
    bucket = guest.bucket()
    clocks = []
    for step in (0, jump, -2 * jump, 1):
        node.clock.wall_ns += step
        guest.set(bucket, "k", b"x")
        clocks.append(register_clock(node.state_dir))
    assert clocks == sorted(set(clocks))


def register_clock(state_dir: Path) -> int:
    database = sqlite3.connect(state_dir / keyvalue.FILE_NAME)
    (clock,) = database.execute("SELECT clock FROM register").fetchone()
    database.close()
    return clock


def test_closed_agent_opens_nothing_more(node: Node) -> None:
    guest = Guest(node, DRAFT2)
    bucket = guest.bucket()
    guest.context.close()
    answer = guest.get(bucket, "k")
    assert refused_with(answer, "cannot be used")
