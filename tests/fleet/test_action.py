"""Signed actions: what opens, and every way in which one does not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fleet.action import (
    ACTION_TYPE,
    MAX_ENVELOPE,
    WINDOW,
    Action,
    check_call,
    decode_action,
    digest_of_request,
    encode_action,
    open_action,
    sign_action,
)
from fleet.errors import Code, FleetError
from fleet.keys import P256SigningKey
from fleet.signing import sign_envelope
from tests.fakes.publisher import key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY, OTHER = (P256SigningKey(ec.derive_private_key(number, ec.SECP256R1())) for number in (7, 8))
METHOD, REQUEST = "/fleet.v1.ControlService/Deploy", b"request"
CERTIFICATE = "sha256:" + "ab" * 32
ACTION = Action("demo", "alice", METHOD, digest_of_request(REQUEST), NOW, b"n" * 16, CERTIFICATE)


def opened(envelope: bytes, fleet: str = "demo", operator: str = "alice", certificate: str = CERTIFICATE) -> Action:
    return open_action(envelope, fleet=fleet, operator=operator, certificate=certificate, key=KEY.public)


def refused(rule: int) -> pytest.RaisesExc[FleetError]:
    return pytest.RaisesExc(FleetError, match=f"rule {rule}", check=lambda error: error.code is Code.ACTION_INVALID)


def test_what_was_signed_opens() -> None:
    action = opened(sign_action(ACTION, KEY))
    check_call(action, method=METHOD, request=REQUEST, now=NOW)
    assert action == ACTION


def test_an_envelope_fits_into_the_metadata_of_a_call() -> None:
    longest = replace(ACTION, fleet="f" * 63, operator="o" * 63, method="/" + "p" * 100 + "/" + "m" * 100)
    assert len(sign_action(longest, KEY)) < MAX_ENVELOPE


def test_rule_1_a_large_envelope_is_not_parsed() -> None:
    with refused(1):
        opened(b" " * (MAX_ENVELOPE + 1))


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"{}",
        sign_action(ACTION, OTHER),
        sign_action(ACTION, key("ed25519")),
        sign_envelope("application/vnd.fleet.receipt.v1+json", encode_action(ACTION), [KEY]),
    ],
)
def test_rule_2_only_the_operators_key_signs_and_only_as_an_action(envelope: bytes) -> None:
    with refused(2):
        opened(envelope)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "fleet.action/v2"),
        ("fleet", "Demo"),
        ("operator", ""),
        ("method", "Deploy"),
        ("method", "/a/b/c"),
        ("request", "sha1:aa"),
        ("at_ms", -1),
        ("at_ms", True),
        ("nonce", "AB" * 16),
        ("nonce", "ab" * 15),
        ("certificate", "ab" * 32),
        ("extra", 1),
    ],
)
def test_rule_3_the_payload_is_strict(field: str, value: object) -> None:
    document = json.loads(encode_action(ACTION)) | {field: value}
    envelope = sign_envelope(ACTION_TYPE, json.dumps(document).encode(), [KEY])
    with pytest.raises(FleetError) as caught:
        opened(envelope)
    assert caught.value.code is Code.ACTION_INVALID
    assert field in str(caught.value.detail["place"])


@pytest.mark.parametrize("changed", [{"fleet": "other"}, {"operator": "bob"}, {"certificate": "sha256:" + "cd" * 32}])
def test_rule_4_it_belongs_to_one_fleet_operator_and_certificate(changed: dict[str, str]) -> None:
    with refused(4):
        opened(sign_action(ACTION, KEY), **changed)


@pytest.mark.parametrize(("method", "request_bytes"), [("/fleet.v1.ControlService/Publish", REQUEST), (METHOD, b"q")])
def test_rule_5_it_is_for_one_call(method: str, request_bytes: bytes) -> None:
    with refused(5):
        check_call(ACTION, method=method, request=request_bytes, now=NOW)


@pytest.mark.parametrize("sign", [-1, 1])
def test_rule_6_it_is_of_now(sign: int) -> None:
    check_call(ACTION, method=METHOD, request=REQUEST, now=NOW + sign * WINDOW)
    with refused(6):
        check_call(ACTION, method=METHOD, request=REQUEST, now=NOW + sign * (WINDOW + timedelta(seconds=1)))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_action_are_refused(data: bytes) -> None:
    with pytest.raises(FleetError):
        decode_action(data)


def test_a_key_file_is_read_and_shows_nothing() -> None:
    private = ec.derive_private_key(7, ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(encoding, form, serialization.NoEncryption())
    assert P256SigningKey.from_pem(pem).public == KEY.public
    assert repr(KEY) == f"P256SigningKey({KEY.public.key_id})"
    for bad in (b"", pem[:-40], key("a").to_pem()):
        with pytest.raises(FleetError) as caught:
            P256SigningKey.from_pem(bad)
        assert caught.value.code is Code.CONFIG_INVALID
