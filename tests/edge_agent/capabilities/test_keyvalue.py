"""wasi:keyvalue: one contract for both versions, then grants, limits and what survives."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.keyvalue import (
    MAX_BATCH_BYTES,
    MAX_BATCH_KEYS,
    MAX_BUCKETS,
    MAX_CURSORS,
    MAX_KEY_BYTES,
    MAX_SWAPS,
    MAX_VALUE_BYTES,
    PAGE_KEYS,
)
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions

DRAFT = "0.2.0-draft"
DRAFT2 = "0.2.0-draft2"
STORE_OPS = ["delete", "exists", "get", "list-keys", "set"]
DENIED = Err(Variant("access-denied"))


def full_grant(buckets: tuple[str, ...] = ("*",), **constraints: str) -> dict[str, list[dict[str, object]]]:
    return {
        f"wasi:keyvalue/{interface}": [{"buckets": list(buckets), "ops": ops, **constraints}]
        for interface, ops in {
            "store": STORE_OPS,
            "atomics": ["increment", "swap"],
            "batch": ["delete-many", "get-many", "set-many"],
        }.items()
    }


class Guest:
    """An agent's view of one version of the package: its functions by plain names."""

    def __init__(self, node: Node, version: str, capabilities: dict | None = None, **context: str) -> None:
        self.context = node.agent(full_grant() if capabilities is None else capabilities, **context)
        offered = keyvalue.interfaces(self.context)
        self.resources = {
            name: destructor
            for interface in offered
            if interface.name.endswith(f"@{version}")
            for name, destructor in interface.resources.items()
        }
        calls: dict[str, Callable] = {}
        for interface in ("store", "atomics", "batch"):
            calls |= functions(offered, f"wasi:keyvalue/{interface}@{version}")
        self.open = calls["open"]
        self.get = calls["[method]bucket.get"]
        self.set = calls["[method]bucket.set"]
        self.delete = calls["[method]bucket.delete"]
        self.exists = calls["[method]bucket.exists"]
        self.list_keys = calls["[method]bucket.list-keys"]
        self.increment = calls["increment"]
        self.get_many = calls["get-many"]
        self.set_many = calls["set-many"]
        self.delete_many = calls["delete-many"]
        self.cas_new = calls.get("[static]cas.new")
        self.cas_current = calls.get("[method]cas.current")
        self.swap = calls.get("swap")

    def bucket(self, name: str = "b") -> int:
        opened = self.open(name)
        assert isinstance(opened, Ok), opened
        return opened.value

    def all_keys(self, bucket: int) -> list[str]:
        keys: list[str] = []
        cursor = None
        while True:
            page = self.list_keys(bucket, cursor).value
            keys += page["keys"]
            cursor = page["cursor"]
            if cursor is None:
                return keys


def refused_with(answer: object, words: str) -> bool:
    return isinstance(answer, Err) and answer.value.case == "other" and words in answer.value.payload


@pytest.mark.parametrize("version", [DRAFT, DRAFT2])
class TestContract:
    """What both versions promise."""

    def test_set_get_exists_delete(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        assert guest.get(bucket, "k") == Ok(None)
        assert guest.exists(bucket, "k") == Ok(False)
        assert guest.set(bucket, "k", b"one") == Ok(None)
        assert guest.set(bucket, "k", b"") == Ok(None)
        assert guest.get(bucket, "k") == Ok(b"")
        assert guest.exists(bucket, "k") == Ok(True)
        assert guest.delete(bucket, "k") == Ok(None)
        assert guest.delete(bucket, "k") == Ok(None)
        assert guest.get(bucket, "k") == Ok(None)

    def test_buckets_are_separate(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        guest.set(guest.bucket("a"), "k", b"1")
        assert guest.get(guest.bucket("b"), "k") == Ok(None)

    def test_handles_of_one_bucket_see_the_same(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        guest.set(guest.bucket(), "k", b"1")
        assert guest.get(guest.bucket(), "k") == Ok(b"1")

    def test_keys_may_hold_any_text(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket("ключ")
        keys = ["", "\0", "a\0b", "é", "\U0001f600", "'; DROP TABLE register; --"]
        for key in keys:
            guest.set(bucket, key, key.encode())
        assert guest.all_keys(bucket) == sorted(keys)
        assert guest.get_many(bucket, keys) == Ok([(key, key.encode()) for key in keys])

    @pytest.mark.parametrize("count", [0, 1, PAGE_KEYS, PAGE_KEYS + 1, 2 * PAGE_KEYS + 7])
    def test_pages_show_every_key_once(self, node: Node, version: str, count: int) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        keys = [f"k{i:05}" for i in range(count)]
        guest.set_many(bucket, [(key, b"") for key in keys])
        assert guest.all_keys(bucket) == keys

    def test_keys_that_stay_are_listed_while_others_go(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        keys = [f"k{i:05}" for i in range(3 * PAGE_KEYS)]
        guest.set_many(bucket, [(key, b"") for key in keys])
        first = guest.list_keys(bucket, None).value
        guest.delete_many(bucket, first["keys"])
        second = guest.list_keys(bucket, first["cursor"]).value
        assert second["keys"] == keys[PAGE_KEYS : 2 * PAGE_KEYS]

    def test_batch(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        assert guest.set_many(bucket, [("a", b"1"), ("b", b"2"), ("a", b"3")]) == Ok(None)
        assert guest.get_many(bucket, ["b", "none", "a", "a"]) == Ok([("b", b"2"), None, ("a", b"3"), ("a", b"3")])
        assert guest.delete_many(bucket, ["a", "none"]) == Ok(None)
        assert guest.all_keys(bucket) == ["b"]

    def test_increment_counts_in_decimal_text(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        assert guest.increment(bucket, "n", 5) == Ok(5)
        assert guest.increment(bucket, "n", 0) == Ok(5)
        assert guest.get(bucket, "n") == Ok(b"5")
        guest.set(bucket, "n", b"41")
        assert guest.increment(bucket, "n", 1) == Ok(42)

    @pytest.mark.parametrize("value", [b"", b"abc", b"1.5", b"+1", b" 1", b"01", b"-0", "\u0661".encode(), b"9" * 30])
    def test_increment_refuses_what_is_no_number(self, node: Node, version: str, value: bytes) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        guest.set(bucket, "n", value)
        assert refused_with(guest.increment(bucket, "n", 1), "not a decimal number")
        assert guest.get(bucket, "n") == Ok(value)

    def test_state_is_there_after_the_agent_ends(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        guest.set(guest.bucket(), "k", b"kept")
        guest.context.close()
        again = Guest(node, version)
        assert again.get(again.bucket(), "k") == Ok(b"kept")

    def test_unknown_bucket(self, node: Node, version: str) -> None:
        guest = Guest(node, version, full_grant(("a", "cfg-*")))
        assert guest.open("b") == Err(Variant("no-such-store"))
        assert guest.open("cfg-" + "x" * 100_000) == Err(Variant("no-such-store"))
        assert isinstance(guest.open("cfg-1"), Ok)

    @pytest.mark.parametrize("capabilities", [{}, {"wasi:keyvalue/store": []}])
    def test_no_grant_at_all(self, node: Node, version: str, capabilities: dict) -> None:
        assert Guest(node, version, capabilities).open("a") == DENIED
        assert not node.state_dir.exists(), "nothing is made for an agent that may not use it"

    def test_operations_beyond_the_grant(self, node: Node, version: str) -> None:
        guest = Guest(node, version, {"wasi:keyvalue/store": [{"buckets": ["b"], "ops": ["get"]}]})
        bucket = guest.bucket()
        assert guest.get(bucket, "k") == Ok(None)
        denied = [
            guest.set(bucket, "k", b""),
            guest.delete(bucket, "k"),
            guest.exists(bucket, "k"),
            guest.list_keys(bucket, None),
            guest.increment(bucket, "k", 1),
            guest.get_many(bucket, ["k"]),
            guest.set_many(bucket, [("k", b"")]),
            guest.delete_many(bucket, ["k"]),
        ]
        assert denied == [DENIED] * len(denied)

    def test_long_keys_and_values(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        longest = "é" * (MAX_KEY_BYTES // 2)
        assert guest.set(bucket, longest, bytes(MAX_VALUE_BYTES)) == Ok(None)
        assert refused_with(guest.set(bucket, longest + "x", b""), "key")
        assert refused_with(guest.get(bucket, "x" * 10_000_000), "key")
        assert refused_with(guest.set(bucket, "k", bytes(MAX_VALUE_BYTES + 1)), "value")
        assert guest.all_keys(bucket) == [longest]

    def test_huge_batches(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        bucket = guest.bucket()
        assert refused_with(guest.get_many(bucket, ["k"] * (MAX_BATCH_KEYS + 1)), "batch")
        assert refused_with(guest.delete_many(bucket, ["k"] * (MAX_BATCH_KEYS + 1)), "batch")
        assert refused_with(guest.set_many(bucket, [("k", b"")] * (MAX_BATCH_KEYS + 1)), "batch")
        value = bytes(MAX_VALUE_BYTES)
        many = MAX_BATCH_BYTES // MAX_VALUE_BYTES + 1
        assert refused_with(guest.set_many(bucket, [("k", value)] * many), "batch")
        guest.set(bucket, "k", value)
        assert refused_with(guest.get_many(bucket, ["k"] * many), "batch"), "one big value, read many times"

    def test_a_bucket_keeps_its_quota(self, node: Node, version: str) -> None:
        guest = Guest(node, version, full_grant(max_bytes="1KiB"))
        bucket = guest.bucket()
        assert guest.set(bucket, "a", bytes(900)) == Ok(None)
        assert refused_with(guest.set(bucket, "b", bytes(100)), "quota")
        assert refused_with(guest.set_many(bucket, [("b", b""), ("c", bytes(100))]), "quota")
        assert refused_with(guest.increment(bucket, "a-counter-with-a-long-name", 1), "quota")
        assert guest.all_keys(bucket) == ["a"], "a batch that does not fit leaves nothing behind"
        assert guest.set(guest.bucket("other"), "b", bytes(900)) == Ok(None)
        assert guest.set(bucket, "a", bytes(10)) == Ok(None)
        assert guest.set(bucket, "b", bytes(100)) == Ok(None)

    def test_a_smaller_quota_still_lets_the_agent_shrink(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        guest.set(guest.bucket(), "a", bytes(900))
        narrowed = Guest(node, version, full_grant(max_bytes="100B"))
        bucket = narrowed.bucket()
        assert refused_with(narrowed.set(bucket, "a", bytes(901)), "quota")
        assert narrowed.set(bucket, "a", bytes(899)) == Ok(None)
        assert narrowed.delete(bucket, "a") == Ok(None)
        assert narrowed.set(bucket, "a", bytes(10)) == Ok(None)

    def test_an_agent_keeps_its_limit_over_all_buckets(self, node: Node, version: str) -> None:
        guest = Guest(node, version, keyvalue="1KiB")
        assert guest.set(guest.bucket("a"), "k", bytes(500)) == Ok(None)
        assert refused_with(guest.set(guest.bucket("b"), "k", bytes(500)), "quota")
        guest.delete(guest.bucket("a"), "k")
        assert guest.set(guest.bucket("b"), "k", bytes(500)) == Ok(None)

    def test_another_agent_pays_for_what_it_overwrites(self, node: Node, version: str) -> None:
        first = Guest(node, version, keyvalue="1KiB")
        second = Guest(node, version, keyvalue="1KiB", name="app/second")
        first.set(first.bucket(), "a", bytes(800))
        assert second.set(second.bucket(), "b", bytes(800)) == Ok(None), "its own limit, not shared"
        assert refused_with(first.set(first.bucket(), "c", bytes(200)), "quota")
        assert refused_with(second.set(second.bucket(), "a", bytes(800)), "quota"), "no larger, but now its own"
        second.set(second.bucket(), "a", b"")
        assert first.set(first.bucket(), "c", bytes(200)) == Ok(None)

    def test_tiny_keys_use_the_quota_up(self, node: Node, version: str) -> None:
        guest = Guest(node, version, full_grant(max_bytes="6400B"))
        assert refused_with(guest.set_many(guest.bucket(), [(str(i), b"") for i in range(100)]), "quota")

    def test_open_handles_are_bounded(self, node: Node, version: str) -> None:
        guest = Guest(node, version)
        handles = [guest.bucket() for _ in range(MAX_BUCKETS)]
        assert refused_with(guest.open("b"), "open buckets")
        guest.resources["bucket"](handles[0])
        assert isinstance(guest.open("b"), Ok)

    def test_a_file_that_is_no_database(self, node: Node, version: str) -> None:
        node.state_dir.mkdir()
        (node.state_dir / keyvalue.FILE_NAME).write_bytes(b"not a database, but long enough to look at" * 100)
        answer = Guest(node, version).open("b")
        assert refused_with(answer, "cannot be used")
        assert str(node.state_dir) not in answer.value.payload

    def test_files_are_private(self, node: Node, version: str) -> None:
        Guest(node, version).bucket()
        assert node.state_dir.stat().st_mode & 0o077 == 0
        assert (node.state_dir / keyvalue.FILE_NAME).stat().st_mode & 0o077 == 0

    def test_agents_in_threads_count_together(self, node: Node, version: str) -> None:
        guests = [Guest(node, version, name=f"app/agent-{i}") for i in range(3)]
        answers: list[object] = []

        def work(guest: Guest) -> None:
            bucket = guest.bucket()
            for i in range(20):
                answers.append(guest.increment(bucket, "shared", 1))
                guest.set(bucket, f"{guest.context.agent}-{i}", b"x")

        threads = [threading.Thread(target=work, args=(guest,)) for guest in guests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.value for answer in answers) == list(range(1, 61))
        assert len(guests[0].all_keys(guests[0].bucket())) == 61


def test_versions_share_their_buckets(node: Node) -> None:
    old, new = Guest(node, DRAFT), Guest(node, DRAFT2)
    old.set(old.bucket(), "k", b"1")
    assert new.increment(new.bucket(), "k", -3) == Ok(-2)
    assert refused_with(old.increment(old.bucket(), "k", 1), "u64"), "-1 is not in the older version's range"
    assert old.increment(old.bucket(), "k", 2) == Ok(0)


@pytest.mark.parametrize(("version", "highest"), [(DRAFT, (1 << 64) - 1), (DRAFT2, (1 << 63) - 1)])
def test_increment_stays_in_range(node: Node, version: str, highest: int) -> None:
    guest = Guest(node, version)
    bucket = guest.bucket()
    assert guest.increment(bucket, "n", highest) == Ok(highest)
    assert refused_with(guest.increment(bucket, "n", 1), "sum")
    assert guest.get(bucket, "n") == Ok(str(highest).encode())


def test_numeric_cursors_belong_to_their_handle_and_age(node: Node) -> None:
    guest = Guest(node, DRAFT)
    bucket = guest.bucket()
    guest.set_many(bucket, [(f"k{i:04}", b"") for i in range(PAGE_KEYS + 1)])
    cursor = guest.list_keys(bucket, None).value["cursor"]
    assert refused_with(guest.list_keys(guest.bucket(), cursor), "cursor")
    assert refused_with(guest.list_keys(bucket, 999), "cursor")
    for _ in range(MAX_CURSORS):
        guest.list_keys(bucket, None)
    assert refused_with(guest.list_keys(bucket, cursor), "cursor")


def test_text_cursor_may_be_any_key(node: Node) -> None:
    guest = Guest(node, DRAFT2)
    bucket = guest.bucket()
    guest.set_many(bucket, [("a", b""), ("c", b"")])
    assert guest.list_keys(bucket, "b") == Ok({"keys": ["c"], "cursor": None})
    assert refused_with(guest.list_keys(bucket, "x" * 5000), "key")


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
