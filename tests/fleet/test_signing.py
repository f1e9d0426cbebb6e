"""Keys and envelopes: RFC 8032 and DSSE, checked against securesystemslib as an independent implementation."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from fleet.errors import Code, FleetError
from fleet.signing import (
    MAX_SIGNATURES,
    PublicKey,
    SigningKey,
    decode_base64,
    encode_base64,
    pre_authentication_encoding,
    sign_envelope,
    verify_envelope,
)
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of
from tests.fakes.vectors import outside_vectors

KIND = "application/vnd.fleet.test+json"


def refused(code: Code, data: bytes, keys: list[PublicKey], threshold: int = 1, kind: str = KIND) -> FleetError:
    with pytest.raises(FleetError) as caught:
        verify_envelope(data, kind, keys, threshold)
    assert caught.value.code is code
    return caught.value


def test_an_envelope_gives_back_exactly_the_signed_bytes() -> None:
    payload = b'{"b":1, "a":2}\n'
    assert verify_envelope(sign_envelope(KIND, payload, [key("a")]), KIND, [key("a").public]) == payload


def test_equal_input_gives_equal_bytes() -> None:
    assert sign_envelope(KIND, b"x", [key("a")]) == sign_envelope(KIND, b"x", [key("a")])


def test_pae_is_the_example_of_the_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(payload=st.binary(max_size=200), kind=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_securesystemslib_verifies_ours_and_we_verify_theirs(payload: bytes, kind: str) -> None:
    signer = CryptoSigner(key("a").private, SSlibKey.from_crypto(key("a").private.public_key()))
    theirs = Envelope(payload, kind, {})
    theirs.sign(signer)
    ours = sign_envelope(kind, payload, [key("a")])
    Envelope.from_dict(json.loads(ours)).verify([signer.public_key], 1)
    assert verify_envelope(json.dumps(theirs.to_dict()).encode(), kind, [key("a").public]) == payload


def test_key_ids_are_those_of_tuf() -> None:
    assert key("a").key_id == SSlibKey.from_crypto(key("a").private.public_key()).keyid


# The numbers are those of verify_envelope.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload":"","payloadType":"t","signatures":[],"more":1}',
        b'{"payload":"","payload":"","payloadType":"t","signatures":[]}',
        b'{"payload":"e A=","payloadType":"t","signatures":[]}',
        b'{"payload":"eB==","payloadType":"t","signatures":[]}',
        b'{"payload":"eA","payloadType":"t","signatures":[]}',
        '{"payload":"é","payloadType":"t","signatures":[]}'.encode(),
        b'{"payload":"eA==","payloadType":"t","signatures":[{"sig":"*"}]}',
        b'{"payload":"eA==","payloadType":"t","signatures":[{"sig":"eA==","cert":""}]}',
        b'{"payload":"eA==","payloadType":"t","signatures":['
        + b",".join([b'{"sig":""}'] * (MAX_SIGNATURES + 1))
        + b"]}",
    ],
)
def test_1_only_a_strict_envelope_is_read(data: bytes) -> None:
    refused(Code.SIGNATURE_INVALID, data, [key("a").public])


def test_2_a_document_does_not_pass_for_another_type() -> None:
    refused(Code.SIGNATURE_INVALID, sign_envelope("another", b"x", [key("a")]), [key("a").public])


def test_2_the_type_is_signed() -> None:
    data = sign_envelope("another", b"x", [key("a")]).replace(b'"another"', f'"{KIND}"'.encode())
    refused(Code.SIGNATURE_INVALID, data, [key("a").public])


@pytest.mark.parametrize("keys", [[], ["b"], ["b", "c"]])
def test_3_an_untrusted_signer_does_not_count(keys: list[str]) -> None:
    refused(Code.SIGNATURE_INVALID, sign_envelope(KIND, b"x", [key("a")]), [key(name).public for name in keys])


def test_3_changed_payload_is_refused() -> None:
    data = json.loads(sign_envelope(KIND, b"x", [key("a")]))
    data["payload"] = encode_base64(b"y")
    refused(Code.SIGNATURE_INVALID, json.dumps(data).encode(), [key("a").public])


def test_3_one_key_never_meets_a_threshold_of_two() -> None:
    data = json.loads(sign_envelope(KIND, b"x", [key("a")]))
    data["signatures"] *= 2
    data["signatures"].append({"sig": data["signatures"][0]["sig"]})  # without key id
    refused(Code.SIGNATURE_INVALID, json.dumps(data).encode(), [key("a").public, key("b").public], threshold=2)


def test_3_two_keys_meet_a_threshold_of_two() -> None:
    data = sign_envelope(KIND, b"x", [key("a"), key("b")])
    assert verify_envelope(data, KIND, [key("b").public, key("a").public], 2) == b"x"


def test_a_signature_without_key_id_is_tried_with_every_key() -> None:
    data = json.loads(sign_envelope(KIND, b"x", [key("a")]))
    del data["signatures"][0]["keyid"]
    assert verify_envelope(json.dumps(data).encode(), KIND, [key("b").public, key("a").public]) == b"x"


def test_programmer_faults_are_value_errors() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        sign_envelope(KIND, b"x", [])
    with pytest.raises(ValueError, match="at least 1"):
        verify_envelope(b"", KIND, [], 0)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_input_raises_anything_but_a_fleet_error(data: bytes) -> None:
    refused(Code.SIGNATURE_INVALID, data, [key("a").public])


@given(st.data())
def test_no_flipped_bit_of_payload_or_signature_verifies(data: st.DataObject) -> None:
    envelope = bytearray(sign_envelope(KIND, b"payload", [key("a")]))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(verify_envelope, bytes(envelope), KIND, [key("a").public]) is Code.SIGNATURE_INVALID


def test_keys_travel_as_pem_and_hex() -> None:
    again = SigningKey.from_pem(key("a").to_pem())
    assert again.public == key("a").public
    assert PublicKey.from_hex(again.public.hex) == again.public
    assert again.sign(b"x") == key("a").sign(b"x")


def test_a_key_does_not_show_its_secret() -> None:
    assert repr(key("a")) == f"SigningKey({key('a').key_id})"


def test_only_unencrypted_ed25519_pem_is_read() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    locked = key("a").private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"p")
    )
    for data in (b"", b"nonsense", other, locked):
        with pytest.raises(FleetError) as caught:
            SigningKey.from_pem(data)
        assert caught.value.code is Code.CONFIG_INVALID


@pytest.mark.parametrize("text", ["", "zz", "AB" * 32, "ab" * 31, "ab " * 32])
def test_public_keys_have_one_spelling(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        PublicKey.from_hex(text)
    assert caught.value.code is Code.SIGNATURE_INVALID


@given(st.binary(max_size=100))
def test_base64_round_trip(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data


def test_wycheproof_ed25519() -> None:
    groups = json.loads(outside_vectors("ed25519_test.json").read_text())["testGroups"]
    count = 0
    for group in groups:
        public = PublicKey(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            count += 1
            failed = code_of(public.verify, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert (failed is None) == (case["result"] == "valid"), case["tcId"]
    assert count == 151


def test_an_encrypted_file_opens_with_its_passphrase_only() -> None:
    made = key("ann")
    pem = made.to_pem(b"correct horse")
    assert b"ENCRYPTED" in pem
    assert SigningKey.from_pem(pem, b"correct horse").public == made.public
    for passphrase in (None, b"wrong"):
        assert code_of(SigningKey.from_pem, pem, passphrase) is Code.CONFIG_INVALID
    assert code_of(SigningKey.from_pem, made.to_pem(), b"needless") is Code.CONFIG_INVALID
