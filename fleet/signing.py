"""Ed25519 keys and DSSE envelopes.

Owns: `SigningKey` and `PublicKey`, their PEM and raw forms and their key ids, and envelopes after the DSSE protocol
(secure-systems-lab/dsse, protocol.md and envelope.md): sign bytes, keep bytes. What is verified is exactly the payload
that is returned; callers parse that and nothing else. Never decides who may sign what: that is `fleet.trust`. Makes no
key material: callers pass 32 random bytes to `SigningKey.from_seed`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MAX_SIGNATURES = 16
"""Signatures on one envelope."""

KEY_BYTES = 32
"""Size of an Ed25519 seed and of an Ed25519 public key (RFC 8032, 5.1.5)."""

SIGNATURE_BYTES = 64
"""Size of an Ed25519 signature (RFC 8032, 5.1.6)."""


class VerifyingKey(Protocol):
    """A public key; two keys are equal when `raw` is."""

    @property
    def raw(self) -> bytes:
        """The key in its one stored form."""
        ...

    @property
    def key_id(self) -> str:
        """Id of the key in envelopes and in the audit log."""
        ...

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check one signature. Raises FleetError SIGNATURE_INVALID."""
        ...


class Signer(Protocol):
    """Whatever can sign: a key in a file, or one that a chip keeps to itself."""

    @property
    def key_id(self) -> str:
        """Id of the public half."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes."""
        ...


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; two keys are equal when their 32 raw bytes are."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise FleetError(
                Code.SIGNATURE_INVALID, f"an Ed25519 public key has {KEY_BYTES} bytes, not {len(self.raw)}"
            )

    @classmethod
    def from_hex(cls, text: str) -> PublicKey:
        """Read the form that TUF metadata and `trust/fleet.json` use: 64 lower-case hex digits.

        Raises:
            FleetError: SIGNATURE_INVALID.
        """
        try:
            raw = bytes.fromhex(text)
        except ValueError as error:
            raise FleetError(Code.SIGNATURE_INVALID, "a public key is not hexadecimal") from error
        if raw.hex() != text:
            raise FleetError(Code.SIGNATURE_INVALID, "a public key is not written as 64 lower-case hex digits")
        return cls(raw)

    @property
    def hex(self) -> str:
        """The key as 64 lower-case hex digits."""
        return self.raw.hex()

    @property
    def key_id(self) -> str:
        """Key id as TUF computes it: SHA-256 over the canonical JSON of the key, in hex.

        One key thus has one id in TUF metadata, in envelopes and in audit answers.
        """
        canonical = b'{"keytype":"ed25519","keyval":{"public":"%b"},"scheme":"ed25519"}' % self.hex.encode()
        return hashlib.sha256(canonical).hexdigest()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check one raw signature.

        Raises:
            FleetError: SIGNATURE_INVALID.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature as error:
            raise FleetError(Code.SIGNATURE_INVALID, "a signature does not verify", key=self.key_id) from error


class SigningKey:
    """An Ed25519 private key. Its text forms never show the secret."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Make the key of 32 secret random bytes (RFC 8032, 5.1.5). Anything else is a programmer's ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, data: bytes, passphrase: bytes | None = None) -> SigningKey:
        """Read a PKCS #8 file, encrypted if and only if there is a passphrase.

        Raises:
            FleetError: CONFIG_INVALID: key files are configuration of the program that reads them.
        """
        try:
            key = serialization.load_pem_private_key(data, password=passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            kind = "not an unencrypted PEM private key" if passphrase is None else "the passphrase does not open it"
            raise FleetError(Code.CONFIG_INVALID, kind) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise FleetError(Code.CONFIG_INVALID, "not an Ed25519 private key")
        return cls(key)

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """Write the key as a PKCS #8 file, encrypted where there is a passphrase; the caller sets its mode to 0600."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase)
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    @property
    def key_id(self) -> str:
        """Key id of the public half."""
        return self.public.key_id

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes. Sign documents with `sign_envelope`, which binds their type."""
        return self.private.sign(data)


def decode_base64(text: str) -> bytes:
    """Decode standard base64 in its one canonical form: padded, no line breaks, no stray bits.

    A programmer's interface: it raises ValueError, and the parser that calls it names its own code.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if encode_base64(data) != text:
        raise ValueError("not canonical base64")
    return data


def encode_base64(data: bytes) -> str:
    """Encode as standard padded base64."""
    return base64.b64encode(data).decode("ascii")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: DSSE PAE(type, body) (dsse, protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, keys: Sequence[Signer]) -> bytes:
    """Make a DSSE envelope.

    Args:
        payload_type: media type of the payload; verifiers ask for exactly this one.
        payload: the bytes to sign, kept as they are.
        keys: who signs; at least one.

    Returns:
        The envelope as compact JSON with sorted keys. Ed25519 is deterministic, so equal input gives equal bytes.
    """
    if not keys:
        raise ValueError("an envelope needs a key")
    message = pre_authentication_encoding(payload_type, payload)
    signatures = [{"keyid": key.key_id, "sig": encode_base64(key.sign(message))} for key in keys]
    return dump_json({"payload": encode_base64(payload), "payloadType": payload_type, "signatures": signatures})


def verify_envelope(data: bytes, payload_type: str, keys: Collection[VerifyingKey], threshold: int = 1) -> bytes:
    """Check an envelope and return its payload.

    Checks, in this order:
        1. The bytes are one strict JSON object with exactly the fields of a DSSE envelope, in canonical base64.
        2. The payload type is the expected one, so that no document passes for one of another type.
        3. At least `threshold` different keys of `keys` signed type and payload. Keys count by their material, never
           by their id: one private key under two ids is one signer. A key id only selects which key to try.

    Raises:
        FleetError: SIGNATURE_INVALID; LIMIT_EXCEEDED for a document that is too large.
    """
    if threshold < 1:
        raise ValueError("a threshold is at least 1")
    with Reader(load_json(data, Code.SIGNATURE_INVALID, "envelope"), Code.SIGNATURE_INVALID, "envelope") as top:  # 1
        payload = read_base64(top, "payload")
        actual_type = top.text("payloadType")
        signatures = [_signature(item, place) for item, place in top.items("signatures", MAX_SIGNATURES)]
    if actual_type != payload_type:  # 2
        raise FleetError(Code.SIGNATURE_INVALID, f"the envelope holds {actual_type!r}, expected {payload_type!r}")
    message = pre_authentication_encoding(payload_type, payload)
    signers = {  # 3
        key.raw
        for key in keys
        for key_id, signature in signatures
        if key_id in {"", key.key_id} and _verifies(key, signature, message)
    }
    if len(signers) < threshold:
        raise FleetError(Code.SIGNATURE_INVALID, f"{len(signers)} trusted keys signed, {threshold} are needed")
    return payload


def _verifies(key: VerifyingKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except FleetError:
        return False
    return True


def read_base64(reader: Reader, key: str) -> bytes:
    """Take a value in base64 out of a document.

    Raises:
        FleetError: the code of the document, with the place.
    """
    try:
        return decode_base64(reader.text(key))
    except ValueError as error:
        raise FleetError(reader.code, str(error), place=reader.at(key)) from error


def _signature(item: object, place: str) -> tuple[str, bytes]:
    with Reader(item, Code.SIGNATURE_INVALID, place) as entry:  # type: ignore[arg-type]
        return entry.text("keyid", ""), read_base64(entry, "sig")
