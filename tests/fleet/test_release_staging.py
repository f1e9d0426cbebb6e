"""Changes that several people sign: what a staged file carries, and what is refused on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.release import (
    AddDocument,
    ChangeKeys,
    EnterProduction,
    NamedKey,
    Operation,
    RemoveDocument,
    RemoveRole,
    Renew,
    completed,
    differences,
    encode_staged,
    merge,
    parse_staged,
    publish,
    sign_staged,
    stage,
)
from fleet.release.operations import encode_operation, parse_operation
from fleet.signing import PublicKey
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile, Release, open_release
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of, refusal

BUNDLE = bundle_path("context-agent", "1.0.0")
GRANT = grant_path("climate/context", 1)
PUBLISHER = Publisher(Profile.PRODUCTION)


def current() -> Release:
    return open_release(PUBLISHER.files, root=PUBLISHER.root, now=NOW, allow_dev=False)


def staged_grant() -> bytes:
    """Return a grant that takes two of three approvers, signed by the first."""
    staged = stage(current(), (AddDocument(GRANT, b"grant"),), "more rights", NOW, {TRUST_PATH: PUBLISHER.document})
    return encode_staged(sign_staged(staged, [key("approver-0")]))


def test_two_people_sign_on_two_machines_and_the_third_need_not() -> None:
    first = parse_staged(staged_grant(), PUBLISHER.root, "grant.json")
    assert first.roles == {"grants-default"}
    assert [len(r.signed) for r in first.requirements] == [1]
    assert [(r.missing, r.authority, len(r.unsigned)) for r in first.requirements] == [(1, "targets 2", 2)]
    assert code_of(completed, first, current()) is Code.SIGNATURES_MISSING
    second = sign_staged(first, [key("approver-2"), key("stranger"), key("code-default")])
    assert second.complete
    carried = parse_staged(encode_staged(second), PUBLISHER.root, "grant.json")
    assert carried == second
    files = publish(completed(carried, current()), PUBLISHER.keys, NOW)
    release = open_release(files, root=PUBLISHER.root, now=NOW, previous=PUBLISHER.files, allow_dev=False)
    assert release.target(GRANT).approvers == tuple(sorted((key("approver-0").key_id, key("approver-2").key_id)))


def test_one_approver_counts_once() -> None:
    staged = parse_staged(staged_grant(), PUBLISHER.root, "grant.json")
    assert sign_staged(staged, [key("approver-0"), key("approver-0")]) == staged


def test_copies_that_were_signed_apart_are_merged() -> None:
    staged = parse_staged(staged_grant(), PUBLISHER.root, "a")
    one, other = (sign_staged(staged, [key(name)]) for name in ("approver-1", "approver-2"))
    assert len(merge(one, other).requirements[0].signed) == 3
    different = stage(current(), (Renew("targets"),), "", NOW, {})
    assert code_of(merge, one, different) is Code.STAGED_INVALID


def test_what_is_signed_is_made_from_the_operations_and_not_read() -> None:
    """An edited operation changes the bytes, and the signatures of before do not verify over them."""
    document = json.loads(staged_grant())
    document["operations"][0]["path"] = grant_path("climate/context", 2)
    assert code_of(parse_staged, dump_json(document), PUBLISHER.root, "x") is Code.SIGNATURE_INVALID
    document["signatures"] = {}
    unsigned = parse_staged(dump_json(document), PUBLISHER.root, "x")
    assert next(d.text.partition(" ")[0] for d in differences(unsigned)) == grant_path("climate/context", 2)


def edited(**changes: object) -> bytes:
    return dump_json({**json.loads(staged_grant()), **changes})


OF_STRANGER = {"2.grants-default.json": {key("stranger").key_id: "00"}}
REFUSED = {
    "1 schema": (edited(schema="fleet.staged/v2"), Code.STAGED_INVALID),
    "1 a title is short": (edited(title="x" * 201), Code.STAGED_INVALID),
    "1 unknown field": (edited(more=1), Code.STAGED_INVALID),
    "1 base64": (edited(base={"1.root.json": "?"}), Code.STAGED_INVALID),
    "1 hexadecimal": (edited(signatures={"2.grants-default.json": {"a": "xyz"}}), Code.STAGED_INVALID),
    "1 nonsense": (b"\xff", Code.STAGED_INVALID),
    "2 base of nothing": (edited(base={}), Code.TRUST_INVALID),
    "3 context that nobody lists": (edited(context={GRANT: ""}), Code.TARGET_UNSIGNED),
    "3 context that is something else": (edited(context={TRUST_PATH: ""}), Code.DIGEST_MISMATCH),
    "4 operations that do not apply": (
        edited(operations=[{"operation": "remove-document", "path": GRANT}]),
        Code.NOT_FOUND,
    ),
    "5 a file that is not changed": (edited(signatures={"9.targets.json": {}}), Code.STAGED_INVALID),
    "5 a key that does not count": (edited(signatures=OF_STRANGER), Code.SIGNATURE_INVALID),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
def test_a_staged_file_is_refused(data: bytes, code: Code) -> None:
    assert code_of(parse_staged, data, PUBLISHER.root, "grant.json") is code


def test_a_base_of_another_fleet_is_refused() -> None:
    """Check 2: the pinned root decides, not the file."""
    assert (
        code_of(parse_staged, staged_grant(), Publisher(keys=role_keys(timestamp=key("other"))).root, "x")
        is Code.TRUST_INVALID
    )
    foreign = edited(base={k: v for k, v in json.loads(staged_grant())["base"].items() if k != "timestamp.json"})
    assert code_of(parse_staged, foreign, PUBLISHER.root, "x") is Code.TRUST_INVALID


TEXT = st.sampled_from(["climate", "a-b"])
PUBLIC = st.binary(min_size=32, max_size=32).map(PublicKey)
KEYS = st.lists(st.builds(NamedKey, PUBLIC, TEXT), max_size=3).map(tuple)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(
        AddDocument,
        st.just(BUNDLE),
        st.binary(max_size=40),
        st.dictionaries(TEXT, st.integers()),
        st.sampled_from(["", "sha256:" + "a" * 64]),
    ),
    st.builds(RemoveDocument, st.just(GRANT)),
    st.builds(ChangeKeys, TEXT, KEYS, st.lists(PUBLIC, max_size=3).map(tuple), st.none() | st.integers(1, 16)),
    st.builds(Renew, TEXT),
    st.builds(RemoveRole, TEXT),
    st.just(EnterProduction()),
)


@given(OPERATIONS)
def test_operations_survive_a_file(operation: Operation) -> None:
    assert parse_operation(json.loads(dump_json(encode_operation(operation))), "x") == operation


ADD = encode_operation(AddDocument(BUNDLE, b"x"))
CHANGE = encode_operation(ChangeKeys("targets", add=(NamedKey(key("a").public, "ann"),)))


@pytest.mark.parametrize(
    "value",
    [
        {"operation": "explode"},
        {"operation": "renew"},
        {"operation": "enter-production", "really": True},
        {**ADD, "path": "elsewhere/x"},
        {**ADD, "replaces": "md5"},
        {**ADD, "custom": []},
        {**ADD, "data": "?"},
        {**CHANGE, "threshold": 99},
        {**CHANGE, "remove": ["00"]},
        {**CHANGE, "add": [{"key": "00", "name": "ann"}]},
        {**CHANGE, "add": [{"key": "00" * 32, "name": "Ann!"}]},
        {**CHANGE, "add": [{"key": "00" * 32, "name": "ann"}] * 17},
        [],
    ],
)
def test_other_operations_are_refused(value: Any) -> None:
    assert code_of(parse_operation, value, "x") is Code.STAGED_INVALID


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_or_means_the_same(data: st.DataObject) -> None:
    """Whatever byte is changed: either a `FleetError`, or nothing that counts has changed."""
    original = staged_grant()
    at = data.draw(st.integers(0, len(original) - 1))
    damaged = original[:at] + bytes([data.draw(st.integers(0, 255))]) + original[at + 1 :]
    if refusal(lambda: parse_staged(damaged, PUBLISHER.root, "x")) is None:
        read = parse_staged(damaged, PUBLISHER.root, "x")
        assert read.requirements == parse_staged(original, PUBLISHER.root, "x").requirements
