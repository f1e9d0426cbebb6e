"""wasi:keyvalue: one contract for both versions, then what differs between them."""

from __future__ import annotations

import threading

import pytest

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.keyvalue import (
    MAX_BATCH_BYTES,
    MAX_BATCH_KEYS,
    MAX_BUCKETS,
    MAX_CURSORS,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    PAGE_KEYS,
)
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.keyvalue_guest import DENIED, DRAFT, DRAFT2, Guest, full_grant, refused_with


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
