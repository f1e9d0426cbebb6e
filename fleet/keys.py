"""Public keys of either kind that a node or an operator may hold.

Owns: P-256 keys as verifiers, and reading a stored key back. Fleet documents are signed with Ed25519
(`fleet.signing`); P-256 is what a security chip can hold and what the certificate of an operator is made for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.errors import Code, FleetError
from fleet.signing import KEY_BYTES, PublicKey

if TYPE_CHECKING:
    from fleet.signing import VerifyingKey

MAX_KEY = 128
"""Bytes of a stored public key; a P-256 SubjectPublicKeyInfo takes 91."""


@dataclass(frozen=True, slots=True)
class P256PublicKey:
    """An ECDSA key on the curve P-256, for SHA-256.

    Attributes:
        raw: DER SubjectPublicKeyInfo (RFC 5480) with an uncompressed point, the one form in which keys are compared.
    """

    raw: bytes

    def __post_init__(self) -> None:
        _load(self.raw)

    @property
    def key_id(self) -> str:
        """SHA-256 of `raw`, in hex (RFC 7469, section 2.4)."""
        return hashlib.sha256(self.raw).hexdigest()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check one signature, ASN.1 DER as in RFC 3279, section 2.2.3.

        Raises:
            FleetError: SIGNATURE_INVALID.
        """
        try:
            _load(self.raw).verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise FleetError(Code.SIGNATURE_INVALID, "a signature does not verify", key=self.key_id) from error


class P256SigningKey:
    """A P-256 private key from a file. Its text forms never show the secret."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        self.public = P256PublicKey(private.public_key().public_bytes(encoding, form))
        self.key_id = self.public.key_id

    def __repr__(self) -> str:
        return f"P256SigningKey({self.key_id})"

    @classmethod
    def from_pem(cls, data: bytes) -> P256SigningKey:
        """Read an unencrypted PKCS #8 file.

        Raises:
            FleetError: CONFIG_INVALID: key files are configuration of the program that reads them.
        """
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise FleetError(Code.CONFIG_INVALID, "not an unencrypted PEM private key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise FleetError(Code.CONFIG_INVALID, "not a P-256 private key")
        return cls(key)

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes: ECDSA over SHA-256, in DER. Sign documents with `sign_envelope`, which binds their type."""
        return self._private.sign(data, ec.ECDSA(hashes.SHA256()))


def read_public_key(raw: bytes) -> VerifyingKey:
    """Read a key as the coordinator stores it: 32 bytes are Ed25519, anything else is P-256 in DER.

    Raises:
        FleetError: SIGNATURE_INVALID for everything else.
    """
    return PublicKey(raw) if len(raw) == KEY_BYTES else P256PublicKey(raw)


def _load(raw: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(raw) if len(raw) <= MAX_KEY else None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FleetError(Code.SIGNATURE_INVALID, "not a public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FleetError(Code.SIGNATURE_INVALID, "neither an Ed25519 nor a P-256 public key")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_bytes(serialization.Encoding.DER, form) != raw:
        raise FleetError(Code.SIGNATURE_INVALID, "a public key is not in its canonical form")
    return key
