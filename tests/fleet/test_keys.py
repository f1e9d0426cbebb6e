"""Keys of either kind: what is read, what is verified, and that both sign envelopes."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleet.errors import Code, FleetError
from fleet.keys import MAX_KEY, P256PublicKey, read_public_key
from fleet.signing import PublicKey, sign_envelope, verify_envelope
from tests.fakes.publisher import key

DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
PRIVATE = ec.derive_private_key(7, ec.SECP256R1())
RAW = PRIVATE.public_key().public_bytes(DER, SPKI)
TYPE = "application/vnd.fleet.test"


class ChipKey:
    """A P-256 key as a chip offers it."""

    public = P256PublicKey(RAW)
    key_id = public.key_id

    def sign(self, data: bytes) -> bytes:
        return PRIVATE.sign(data, ec.ECDSA(hashes.SHA256()))


def compressed() -> bytes:
    """The same point in a form that would compare as another key."""
    point = PRIVATE.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    return head + point


def test_a_stored_key_is_read_by_its_kind() -> None:
    assert read_public_key(key("a").public.raw) == PublicKey(key("a").public.raw)
    assert read_public_key(RAW) == P256PublicKey(RAW)
    assert P256PublicKey(RAW).key_id == hashlib.sha256(RAW).hexdigest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x" * 31,
        b"x" * 33,
        b"x" * (MAX_KEY + 1),
        RAW[:-1],
        RAW + b"\0",
        RAW[:-1] + bytes([RAW[-1] ^ 1]),
        compressed(),
        ec.derive_private_key(7, ec.SECP384R1()).public_key().public_bytes(DER, SPKI),
        rsa.generate_private_key(65537, 1024).public_key().public_bytes(DER, SPKI)[:MAX_KEY],
        key("a").private.public_key().public_bytes(DER, SPKI),
    ],
)
def test_anything_else_is_no_key(raw: bytes) -> None:
    with pytest.raises(FleetError) as caught:
        read_public_key(raw)
    assert caught.value.code is Code.SIGNATURE_INVALID


def test_both_kinds_sign_one_envelope() -> None:
    envelope = sign_envelope(TYPE, b"payload", [ChipKey(), key("a")])
    keys = [P256PublicKey(RAW), key("a").public]
    assert verify_envelope(envelope, TYPE, keys, threshold=2) == b"payload"
    with pytest.raises(FleetError):
        verify_envelope(envelope, TYPE, [P256PublicKey(RAW)], threshold=2)


@pytest.mark.parametrize("signature", [b"", b"\x30\x06\x02\x01\x01\x02\x01\x01", b"x" * 64])
def test_a_wrong_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(FleetError) as caught:
        P256PublicKey(RAW).verify(signature, b"data")
    assert caught.value.code is Code.SIGNATURE_INVALID
