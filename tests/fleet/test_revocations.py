"""The list of what may not run any more: one failing case per numbered check of `parse_revocations`, and growth."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import MAX_DOCUMENT, dump_json
from fleet.errors import Code, ExitCode, FleetError
from fleet.revocations import (
    MAX_REASON,
    MAX_REVOCATIONS,
    Kind,
    Revocation,
    Revocations,
    encode_revocations,
    parse_revocations,
)
from tests.fakes.publisher import NOW
from tests.fakes.refusals import code_of

DIGEST = "sha256:" + "a" * 64
KEY = "b" * 64


def subject_of(kind: Kind, digit: str = "a") -> str:
    return digit * 64 if kind in (Kind.DIRECTOR_KEY, Kind.LOG_KEY) else f"sha256:{digit * 64}"


def entry(kind: Kind = Kind.BUNDLE, digit: str = "a", reason: str = "leaked key") -> Revocation:
    return Revocation(kind, subject_of(kind, digit), reason, NOW)


def entries() -> st.SearchStrategy[Revocation]:
    return st.builds(
        entry,
        st.sampled_from(Kind),
        st.sampled_from("0123456789abcdef"),
        st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=MAX_REASON),
    )


lists = st.lists(entries(), max_size=12).map(Revocations().extended)


def document(**changes: object) -> bytes:
    item = {"kind": "bundle", "subject": DIGEST, "reason": "leaked key", "at_ms": 1}
    return dump_json({"schema": "fleet.revocations/v1", "revoked": [item], **changes})


def with_item(**changes: object) -> bytes:
    value: dict[str, Any] = json.loads(document())
    value["revoked"][0].update(changes)
    return dump_json(value)


@pytest.mark.parametrize("kind", Kind)
def test_what_is_revoked_is_refused_with_reason_time_and_remedy(kind: Kind) -> None:
    revocations = parse_revocations(encode_revocations(Revocations().extended([entry(kind)])))
    with pytest.raises(FleetError) as caught:
        revocations.check(kind, subject_of(kind), "app/one")
    error = caught.value
    assert (error.code, error.row.exit_code) == (Code.REVOKED, ExitCode.REFUSED)
    assert error.detail["place"] == "policy/revocations.json"
    assert (error.detail["reason"], error.detail["agent"]) == ("leaked key", "app/one")
    assert error.detail["since"] == NOW.isoformat()
    assert "not revoked" in error.remedy
    assert revocations.covers(kind, subject_of(kind))


@pytest.mark.parametrize("kind", Kind)
def test_only_what_is_listed_is_revoked(kind: Kind) -> None:
    revocations = Revocations().extended([entry(kind)])
    for other in Kind:
        revocations.check(other, subject_of(other, "0"))
        if other is not kind:
            revocations.check(other, subject_of(kind))


def test_without_an_agent_the_error_names_none() -> None:
    with pytest.raises(FleetError) as caught:
        Revocations().extended([entry()]).check(Kind.BUNDLE, DIGEST)
    assert "agent" not in caught.value.detail


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{}", Code.TRUST_INVALID),
        (b"{", Code.TRUST_INVALID),
        (document(schema="fleet.revocations/v2"), Code.TRUST_INVALID),
        (document(extra=1), Code.TRUST_INVALID),
        (dump_json({"schema": "fleet.revocations/v1"}), Code.TRUST_INVALID),
        (b" " * (MAX_DOCUMENT + 1), Code.LIMIT_EXCEEDED),
        (document().replace(b'"kind"', b'"kind":"grant","kind"'), Code.TRUST_INVALID),
    ],
)
def test_1_the_list_is_strict_json_of_its_schema(data: bytes, code: Code) -> None:
    assert code_of(parse_revocations, data) is code


@pytest.mark.parametrize(
    "data",
    [
        document(revoked={}),
        document(revoked=[1]),
        document(revoked=[{}] * (MAX_REVOCATIONS + 1)),
        with_item(kind="agent"),
        with_item(kind=1),
        with_item(at_ms=-1),
        with_item(at_ms="2026-01-01"),
        with_item(until_ms=1),
    ],
)
def test_2_entries_have_exactly_their_fields(data: bytes) -> None:
    assert code_of(parse_revocations, data) is Code.TRUST_INVALID


@pytest.mark.parametrize(
    "data",
    [
        with_item(subject=KEY),
        with_item(subject=""),
        with_item(subject=DIGEST.upper()),
        with_item(kind="director-key"),
        with_item(kind="log-key", subject=KEY[:-1]),
        with_item(reason=""),
        with_item(reason="x" * (MAX_REASON + 1)),
        with_item(reason="two\nlines"),
    ],
)
def test_3_the_subject_is_what_its_kind_says_and_the_reason_one_line(data: bytes) -> None:
    assert code_of(parse_revocations, data) is Code.TRUST_INVALID


def test_4_nothing_is_listed_twice() -> None:
    value = json.loads(document())
    value["revoked"].append({**value["revoked"][0], "reason": "another"})
    assert code_of(parse_revocations, dump_json(value)) is Code.TRUST_INVALID


@given(lists)
def test_what_is_written_is_read_again(revocations: Revocations) -> None:
    assert parse_revocations(encode_revocations(revocations)) == revocations


@given(lists, st.lists(entries(), max_size=6))
def test_a_list_that_was_extended_keeps_every_entry(revocations: Revocations, new: list[Revocation]) -> None:
    extended = revocations.extended(new)
    extended.check_kept(revocations)
    assert all(extended.covers(entry.kind, entry.subject) for entry in new)
    if extended.entries != revocations.entries:
        assert code_of(revocations.check_kept, extended) is Code.TRUST_ROLLBACK


def test_an_entry_that_is_missing_or_changed_is_a_rollback_that_names_it() -> None:
    before = Revocations().extended([entry(), entry(Kind.GRANT)])
    dropped = Revocations().extended([entry()])
    edited = Revocations().extended([entry(), entry(Kind.GRANT, reason="nothing to see here")])
    for after in (dropped, edited, Revocations()):
        with pytest.raises(FleetError) as caught:
            after.check_kept(before)
        assert caught.value.code is Code.TRUST_ROLLBACK
        assert "every entry" in caught.value.remedy


def test_what_is_revoked_already_keeps_its_first_reason_and_time() -> None:
    first = Revocations().extended([entry()])
    later = Revocation(Kind.BUNDLE, DIGEST, "again", NOW + timedelta(days=1))
    assert first.extended([later]) == first


def test_a_list_is_bounded_and_its_entries_are_checked_before_they_are_signed() -> None:
    many = [Revocation(Kind.BUNDLE, f"sha256:{number:064x}", "x" * MAX_REASON, NOW) for number in range(1_001)]
    full = Revocations().extended(many[:MAX_REVOCATIONS])
    assert len(encode_revocations(full)) <= MAX_DOCUMENT
    assert parse_revocations(encode_revocations(full)) == full
    assert code_of(full.extended, many) is Code.LIMIT_EXCEEDED
    assert code_of(full.extended, [Revocation(Kind.LOG_KEY, DIGEST, "x", NOW)]) is Code.TRUST_INVALID
