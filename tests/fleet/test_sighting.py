"""What a witness has seen: it goes forward, places the past, and never lets two histories pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.checkpoint import format_vkey, open_checkpoint, sign_checkpoint
from fleet.errors import Code, FleetError
from fleet.logs import ClosedLog
from fleet.merkle import EMPTY_ROOT, consistency_proof, root
from fleet.sighting import MAX_KNOWN, Sighting, advance, decode_sighting, encode_sighting, follow, place
from tests.fakes.publisher import MemoryLog, key

ORIGIN = "demo/audit"
VKEYS = (format_vkey(ORIGIN, key("log").public),)


class Log(MemoryLog):
    """A log that signs any of its states and proves what lies between two."""

    def note(self, size: int) -> bytes:
        return sign_checkpoint(ORIGIN, size, root(self.read, size), key("log"))

    def between(self, old: int, new: int) -> tuple[bytes, ...]:
        return consistency_proof(self.read, old, new)


def log_of(size: int, mark: bytes = b"") -> Log:
    return Log(*(mark + b"%d" % number for number in range(size)))


def seen_of(log: Log, *sizes: int) -> Sighting:
    seen = Sighting()
    for size in sizes:
        seen = advance(seen, log.note(size), VKEYS, log.between(seen.size, size))
    return seen


def code_of(refusal: pytest.ExceptionInfo[FleetError]) -> Code:
    return refusal.value.code


def test_a_witness_goes_forward() -> None:
    log = log_of(9)
    seen = seen_of(log, 0, 1, 4, 4, 9)
    assert (seen.size, open_checkpoint(seen.note, VKEYS).size) == (9, 9)
    assert set(seen.known) == {1, 4, 9}
    assert seen.root == root(log.read, 9)
    assert Sighting().root == EMPTY_ROOT


def test_each_check_of_advancing() -> None:
    log, other = log_of(9), log_of(9, b"x")
    seen = seen_of(log, 5)
    with pytest.raises(FleetError) as refusal:
        advance(seen, sign_checkpoint(ORIGIN, 9, root(log.read, 9), key("thief")), VKEYS, log.between(5, 9))  # 1
    assert code_of(refusal) is Code.PROOF_INVALID
    with pytest.raises(FleetError) as refusal:
        advance(seen, log.note(4), VKEYS, ())  # 2
    assert code_of(refusal) is Code.LOG_FORKED
    assert (refusal.value.detail["seen"], refusal.value.detail["shown"]) == (5, 4)
    for note, proof in (
        (other.note(9), other.between(5, 9)),  # 3: a rewritten history with a proof of its own
        (other.note(5), ()),  # the same size, another root
        (log.note(9), ()),  # no proof at all
        (log.note(9), log.between(4, 9)),
    ):
        with pytest.raises(FleetError) as refusal:
            advance(seen, note, VKEYS, proof)
        assert code_of(refusal) is Code.LOG_FORKED
    with pytest.raises(FleetError) as refusal:
        advance(Sighting(), log.note(9), VKEYS, log.between(5, 9))  # from nothing, a proof proves nothing
    assert code_of(refusal) is Code.LOG_FORKED


def test_each_check_of_placing() -> None:
    log, other = log_of(9), log_of(9, b"x")
    seen = seen_of(log, 3, 7)
    forged = sign_checkpoint(ORIGIN, 3, root(log.read, 3), key("thief"))
    with pytest.raises(FleetError) as refusal:
        place(seen, forged, VKEYS, 7, ())  # 1
    assert code_of(refusal) is Code.PROOF_INVALID
    assert place(Sighting(), log.note(4), VKEYS, 0, ()).size == 4  # 2: the first that is ever seen
    assert place(seen, log.note(3), VKEYS, 0, ()) == seen
    assert place(seen, log.note(7), VKEYS, 0, ()) == seen
    with pytest.raises(FleetError) as refusal:
        place(seen, other.note(3), VKEYS, 7, other.between(3, 7))
    assert code_of(refusal) is Code.LOG_FORKED
    larger = place(seen, log.note(9), VKEYS, 7, log.between(7, 9))  # 3
    assert (larger.size, larger.note) == (9, log.note(9))
    with pytest.raises(FleetError) as refusal:
        place(seen, log.note(9), VKEYS, 3, log.between(3, 9))  # may begin with 3 and fork before 7
    assert code_of(refusal) is Code.PROOF_INVALID
    with pytest.raises(FleetError) as refusal:
        place(seen, other.note(9), VKEYS, 7, other.between(7, 9))
    assert code_of(refusal) is Code.LOG_FORKED
    smaller = place(seen, log.note(5), VKEYS, 7, log.between(5, 7))  # 4
    assert (smaller.size, smaller.note, set(smaller.known)) == (7, log.note(7), {3, 5, 7})
    for base in (6, 3, 0):  # not seen; smaller than the note
        with pytest.raises(FleetError) as refusal:
            place(seen, log.note(5), VKEYS, base, log.between(5, 7))
        assert code_of(refusal) is Code.PROOF_INVALID
    with pytest.raises(FleetError) as refusal:
        place(seen, other.note(5), VKEYS, 7, other.between(5, 7))
    assert code_of(refusal) is Code.LOG_FORKED


def test_what_was_seen_survives_the_disk_and_is_bounded() -> None:
    log = log_of(MAX_KNOWN + 20)
    seen = seen_of(log, *range(1, MAX_KNOWN + 11))
    assert (len(seen.known), min(seen.known)) == (MAX_KNOWN, 11)
    assert decode_sighting(encode_sighting(seen)) == seen
    assert decode_sighting(encode_sighting(Sighting())) == Sighting()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"schema":"x","size":0,"note":"","known":{}}',
        '{"schema":"fleet.sighting/v1","size":1,"note":"","known":{}}',
        '{"schema":"fleet.sighting/v1","size":0,"note":"","known":{"01":"' + "0" * 64 + '"}}',
        '{"schema":"fleet.sighting/v1","size":0,"note":"","known":{"\u0661":"' + "0" * 64 + '"}}',
        '{"schema":"fleet.sighting/v1","size":0,"note":"","known":{"1":"00"}}',
        '{"schema":"fleet.sighting/v1","size":0,"note":"","known":{"1":"zz"}}',
        '{"schema":"fleet.sighting/v1","size":0,"note":"' + "x" * 20_000 + '","known":{}}',
        '{"schema":"fleet.sighting/v1","size":-1,"note":"","known":{}}',
    ],
)
def test_a_spoiled_file_is_refused(text: str) -> None:
    with pytest.raises(FleetError) as refusal:
        decode_sighting(text.encode())
    assert code_of(refusal) is Code.STATE_CORRUPT


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 39))
def test_one_history_is_never_taken_for_two_and_two_never_for_one(sizes: list[int], cut: int) -> None:
    log = log_of(40)
    fork = Log(*(b"%d" % n for n in range(cut)), *(b"x%d" % n for n in range(40 - cut)))
    seen = Sighting()
    for size in sizes:
        if size >= seen.size:
            seen = advance(seen, log.note(size), VKEYS, log.between(seen.size, size))
        elif size:
            seen = place(seen, log.note(size), VKEYS, seen.size, log.between(size, seen.size))
    if seen.size > cut:
        with pytest.raises(FleetError) as refusal:
            advance(seen, fork.note(40), VKEYS, fork.between(seen.size, 40))
        assert code_of(refusal) is Code.LOG_FORKED


# A log that was closed; the numbers are those of follow.

NEXT = "demo/audit/2"


def ended(log: Log, size: int, origin: str = ORIGIN, *, root_of: Log | None = None) -> ClosedLog:
    whole = root((root_of or log).read, size)
    return ClosedLog((format_vkey(origin, key("log").public),), size, whole)


def test_a_witness_follows_a_signed_statement_to_the_next_log() -> None:
    log = log_of(12)
    seen = seen_of(log, 3, 5, 9)
    assert seen.origin == ORIGIN
    assert follow(Sighting(), NEXT, [ended(log, 7)]) == Sighting()  # 1
    assert follow(seen, ORIGIN, []) == follow(seen, NEXT, []) == seen
    later = follow(seen, NEXT, [ended(log, 7)])
    assert (later.size, set(later.known), later.note, later.origin) == (5, {3, 5}, b"", NEXT)  # 2
    assert follow(later, NEXT, [ended(log, 7)]) == later
    assert decode_sighting(encode_sighting(later)) == later
    nothing_lost = follow(seen, NEXT, [ended(log, 9)])
    assert (nothing_lost.size, nothing_lost.note) == (9, seen.note)
    begun = follow(seen, NEXT, [ended(log, 2)])
    assert (begun.size, begun.root) == (2, root(log.read, 2))  # 3
    assert follow(seen, NEXT, [ended(log, 0)]) == Sighting(origin=NEXT)


def test_who_missed_a_log_goes_through_all_that_ended_since() -> None:
    log = log_of(12)
    seen = seen_of(log, 3, 5, 9)
    third = follow(seen, "demo/audit/3", [ended(log, 8), ended(log, 4, NEXT)])
    assert (third.size, third.origin) == (3, "demo/audit/3")
    second = follow(seen_of(log, 3), NEXT, [ended(log, 8)])
    assert follow(second, "demo/audit/3", [ended(log, 8), ended(log, 4, NEXT)]).size == 3


def test_a_statement_makes_nobody_forget_what_came_before_the_end() -> None:
    log, other = log_of(12), log_of(12, b"x")
    later = follow(seen_of(log, 3, 5, 9), NEXT, [ended(log, 5, root_of=other)])
    assert later.known[5] == root(log.read, 5)  # what it saw itself, and not what the statement says
    vkeys = (format_vkey(NEXT, key("log-2").public),)
    with pytest.raises(FleetError) as refused:
        advance(later, sign_checkpoint(NEXT, 12, root(other.read, 12), key("log-2")), vkeys, other.between(5, 12))
    assert code_of(refused) is Code.LOG_FORKED
    grown = advance(later, sign_checkpoint(NEXT, 12, root(log.read, 12), key("log-2")), vkeys, log.between(5, 12))
    assert (grown.size, grown.origin) == (12, NEXT)


def test_what_earlier_releases_wrote_names_its_log_by_the_note() -> None:
    seen = seen_of(log_of(4), 4)
    written = json.loads(encode_sighting(seen))
    del written["origin"]
    assert decode_sighting(json.dumps(written).encode()) == seen
