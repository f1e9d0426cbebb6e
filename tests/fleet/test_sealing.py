"""Sealed secrets and statements about sealing keys: one failing case per numbered check."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.sealing import (
    ESCROW,
    MAX_SEALED,
    MAX_SECRET,
    MAX_STATEMENT,
    SEALED_TYPE,
    SEALING_KEY_TYPE,
    Label,
    SealingKeyStatement,
    SecretKind,
    SecretValue,
    fingerprint,
    open_sealed,
    open_statement,
    peek,
    public_of,
    read_sealed,
    seal,
    sign_sealed,
    sign_statement,
    unseal,
)
from fleet.signing import decode_base64, encode_base64, sign_envelope
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of, refusal

PRIVATE, OTHER = hashlib.sha256(b"node").digest(), hashlib.sha256(b"other").digest()
LABEL = Label("demo", "n1", "climate/context", "api-token", 3)
VALUE = SecretValue(SecretKind.TEXT, b"hunter2")
SEALED = seal(VALUE, LABEL, public_of(PRIVATE))
SAID = SealingKeyStatement("demo", "n1", 2, public_of(PRIVATE))


def changed(envelope: bytes, kind: str, signer: str, **values: object) -> bytes:
    """The same document with other values, signed again."""
    payload = json.loads(decode_base64(json.loads(envelope)["payload"]))
    return sign_envelope(kind, dump_json(payload | values), [key(signer)])


@given(st.sampled_from(SecretKind), st.binary(min_size=1, max_size=700))
def test_a_secret_opens_for_its_recipient_alone(kind: SecretKind, data: bytes) -> None:
    if kind is SecretKind.TEXT:
        data = data.hex().encode()
    value = SecretValue(kind, data)
    sealed = seal(value, LABEL, public_of(PRIVATE))
    assert unseal(sealed, PRIVATE) == value
    assert data not in sealed.ciphertext or len(data) < 4
    assert code_of(lambda: unseal(sealed, OTHER)) is Code.SECRET_INVALID


@pytest.mark.parametrize(
    "other",
    [{"fleet": "other"}, {"node": "n2"}, {"agent": "climate/other"}, {"name": "other"}, {"version": 4}],
    ids=lambda other: next(iter(other)),
)
def test_a_ciphertext_opens_as_what_it_was_sealed_as(other: dict[str, str | int]) -> None:
    moved = dataclasses.replace(SEALED, label=dataclasses.replace(LABEL, **other))
    assert code_of(lambda: unseal(moved, PRIVATE)) is Code.SECRET_INVALID


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:10], lambda c: bytes([c[0] ^ 1]) + c[1:], lambda _: b""]
)
def test_a_changed_ciphertext_does_not_open(damage: object) -> None:
    damaged = dataclasses.replace(SEALED, ciphertext=damage(SEALED.ciphertext))  # type: ignore[operator]
    assert code_of(lambda: unseal(damaged, PRIVATE)) is Code.SECRET_INVALID


def test_lengths_tell_little_and_nothing_is_printed() -> None:
    sizes = {len(seal(SecretValue(SecretKind.BYTES, bytes(n)), LABEL, public_of(PRIVATE)).ciphertext) for n in (1, 200)}
    assert len(sizes) == 1
    assert "hunter2" not in repr(VALUE) + repr(SEALED)


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (SecretKind.BYTES, bytes(MAX_SECRET + 1), Code.LIMIT_EXCEEDED),
        (SecretKind.BYTES, b"", Code.SECRET_INVALID),
        (SecretKind.TEXT, b"\xff", Code.SECRET_INVALID),
    ],
)
def test_what_cannot_be_a_secret(kind: SecretKind, data: bytes, code: Code) -> None:
    assert code_of(lambda: SecretValue(kind, data)) is code


def test_the_largest_secret_fits_its_envelope() -> None:
    label = Label("f" * 63, "n" * 63, f"{'a' * 63}/{'b' * 63}", "s" * 63, 2**53)
    sealed = seal(SecretValue(SecretKind.BYTES, bytes(MAX_SECRET)), label, public_of(PRIVATE))
    assert len(sign_sealed(sealed, key("secrets"))) <= MAX_SEALED


@pytest.mark.parametrize("public", [bytes(32), b"short"])
def test_nothing_is_sealed_for_a_key_that_is_none(public: bytes) -> None:
    assert code_of(lambda: seal(VALUE, LABEL, public)) is Code.SECRET_INVALID


def test_a_kind_of_a_newer_release_is_refused() -> None:
    newer = SecretValue(SecretKind.TEXT, b"x")
    object.__setattr__(newer, "kind", "future")
    assert code_of(lambda: unseal(seal(newer, LABEL, public_of(PRIVATE)), PRIVATE)) is Code.SECRET_INVALID


def test_a_sealed_secret_is_taken_by_its_recipient() -> None:
    envelope = sign_sealed(SEALED, key("secrets"))
    assert open_sealed(envelope, [key("secrets").public], fleet="demo", node="n1") == SEALED
    mine = seal(VALUE, dataclasses.replace(LABEL, node=ESCROW), public_of(OTHER))
    assert open_sealed(sign_sealed(mine, key("secrets")), [key("secrets").public], fleet="demo", node=ESCROW) == mine
    assert SEALED.key == fingerprint(public_of(PRIVATE))


ENVELOPE = sign_sealed(SEALED, key("secrets"))


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        pytest.param(bytes(MAX_SEALED + 1), Code.LIMIT_EXCEEDED, id="1-size"),
        pytest.param(sign_sealed(SEALED, key("director")), Code.SIGNATURE_INVALID, id="2-signer"),
        pytest.param(changed(ENVELOPE, SEALING_KEY_TYPE, "secrets"), Code.SIGNATURE_INVALID, id="2-type"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", schema="x"), Code.SECRET_INVALID, id="3-schema"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", name="UPPER"), Code.SECRET_INVALID, id="3-name"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", node="UP"), Code.SECRET_INVALID, id="3-node"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", agent="a"), Code.SECRET_INVALID, id="3-agent"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", version=0), Code.SECRET_INVALID, id="3-version"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", ciphertext="?"), Code.SECRET_INVALID, id="3-base64"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", more=1), Code.SECRET_INVALID, id="3-unknown-field"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", node="n2"), Code.SECRET_INVALID, id="4-node"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", node=ESCROW), Code.SECRET_INVALID, id="4-escrow"),
        pytest.param(changed(ENVELOPE, SEALED_TYPE, "secrets", fleet="other"), Code.SECRET_INVALID, id="4-fleet"),
    ],
)
def test_sealed_secrets_that_are_refused(envelope: bytes, code: Code) -> None:
    assert code_of(lambda: open_sealed(envelope, [key("secrets").public], fleet="demo", node="n1")) is code


def test_without_a_trusted_key_nothing_is_taken() -> None:
    assert code_of(lambda: open_sealed(ENVELOPE, [], fleet="demo", node="n1")) is Code.SIGNATURE_INVALID


def test_an_envelope_is_sorted_without_a_word_about_who_signed_it() -> None:
    assert peek(sign_sealed(SEALED, key("director"))) == SEALED
    assert code_of(peek, bytes(MAX_SEALED + 1)) is Code.LIMIT_EXCEEDED
    for damaged in (b"{}", b"garbage", ENVELOPE[:-1], ENVELOPE.replace(b'"payload":"', b'"payload":"?')):
        assert code_of(peek, damaged) is Code.SECRET_INVALID


STATEMENT = sign_statement(SAID, key("n1"))


def test_a_statement_is_the_nodes_own() -> None:
    assert open_statement(STATEMENT, fleet="demo", node="n1", epoch=2, key=key("n1").public) == SAID


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        pytest.param(bytes(MAX_STATEMENT + 1), Code.LIMIT_EXCEEDED, id="1-size"),
        pytest.param(sign_statement(SAID, key("director")), Code.SIGNATURE_INVALID, id="2-signer"),
        pytest.param(changed(STATEMENT, SEALED_TYPE, "n1"), Code.SIGNATURE_INVALID, id="2-type"),
        pytest.param(changed(STATEMENT, SEALING_KEY_TYPE, "n1", key=encode_base64(b"k")), Code.SECRET_INVALID, id="3"),
        pytest.param(changed(STATEMENT, SEALING_KEY_TYPE, "n1", epoch=1), Code.SECRET_INVALID, id="4-epoch"),
        pytest.param(changed(STATEMENT, SEALING_KEY_TYPE, "n1", node="n2"), Code.SECRET_INVALID, id="4-node"),
        pytest.param(changed(STATEMENT, SEALING_KEY_TYPE, "n1", fleet="x"), Code.SECRET_INVALID, id="4-fleet"),
    ],
)
def test_statements_that_are_refused(envelope: bytes, code: Code) -> None:
    asked = key("n1").public
    assert code_of(lambda: open_statement(envelope, fleet="demo", node="n1", epoch=2, key=asked)) is code


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    outcome = refusal(lambda: read_sealed(payload))
    assert outcome is None or outcome.code in {Code.SECRET_INVALID, Code.LIMIT_EXCEEDED}
