"""Secrets sealed for one recipient: what an operator's machine writes and a node opens.

Owns: the form of a sealed secret, what it is bound to, and the statement with which a node names the key that it
unseals with. The coordinator stores and forwards both and can read neither value nor key.

A value is encrypted with HPKE in base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
Its `info` is the label in canonical JSON, so that a ciphertext opens as this secret of this agent on this node in this
version and as nothing else. HPKE's base mode says nothing about the sender, therefore the ciphertext travels in a DSSE
envelope of a key that `trust/fleet.json` lists: who can only pass secrets on cannot make one up.

Makes no long-lived key: callers do. The one random number is HPKE's own ephemeral key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_agent_name, is_name
from fleet.signing import encode_base64, read_base64, sign_envelope, verify_envelope

if TYPE_CHECKING:
    from collections.abc import Collection

    from fleet.documents import Value
    from fleet.signing import Signer, VerifyingKey

SEALED_TYPE: Final = "application/vnd.fleet.sealed-secret.v1+json"
SEALING_KEY_TYPE: Final = "application/vnd.fleet.sealing-key.v1+json"

SEALED_SCHEMA: Final = "fleet.sealed-secret/v1"
SEALING_KEY_SCHEMA: Final = "fleet.sealing-key/v1"

MAX_SECRET = 16 * 1024
"""Bytes of one value: a certificate chain with its key fits."""

MAX_SEALED = 40 * 1024
"""Bytes of one envelope with the largest value in it."""

MAX_STATEMENT = 4 * 1024
"""Bytes of one statement of a node about its sealing key."""

MAX_VERSION = 2**53
"""Largest version or epoch: what JSON numbers carry exactly (RFC 8259, section 6)."""

KEY_BYTES = 32
"""Size of an X25519 key (RFC 7748, section 5)."""

ESCROW: Final = ""
"""The recipient that is no node: the operator who seals, so that nodes which join later can be served."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_PAD = 256
"""A value is padded to a multiple of this, so that its length tells little about it."""

_LENGTH = 4


class SecretKind(StrEnum):
    """What a value is for the guest that is shown it."""

    TEXT = "text"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A value in clear; never printed.

    Raises:
        FleetError: LIMIT_EXCEEDED for one that is too large, SECRET_INVALID for an empty one or text that is not UTF-8.
    """

    kind: SecretKind
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.data) > MAX_SECRET:
            raise FleetError(Code.LIMIT_EXCEEDED, f"a secret of {len(self.data)} bytes", limit=MAX_SECRET)
        if not self.data:
            raise FleetError(Code.SECRET_INVALID, "the value is empty")
        if self.kind is SecretKind.TEXT:
            try:
                self.data.decode()
            except UnicodeDecodeError:
                raise FleetError(Code.SECRET_INVALID, "the value is no UTF-8 text; store it as bytes") from None


@dataclass(frozen=True, slots=True)
class Label:
    """What a sealed value is bound to.

    Attributes:
        node: who opens it; `ESCROW` for the operator.
        version: 1 for the first value of a name, one more for each that replaces it.
    """

    fleet: str
    node: str
    agent: str
    name: str
    version: int

    def encode(self) -> bytes:
        """Write it as HPKE's `info`."""
        return dump_json(self.values())

    def values(self) -> dict[str, Value]:
        """As JSON values."""
        return {
            "schema": SEALED_SCHEMA,
            "fleet": self.fleet,
            "node": self.node,
            "agent": self.agent,
            "name": self.name,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Sealed:
    """A value that its recipient can open.

    Attributes:
        key: fingerprint of the recipient's key.
        ciphertext: HPKE's encapsulated key and ciphertext.
    """

    label: Label
    key: str
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealingKeyStatement:
    """What a node says, signed by its bound key: seal for me with this key.

    Attributes:
        epoch: enrolment of the node.
        key: X25519 public key.
    """

    fleet: str
    node: str
    epoch: int
    key: bytes


def fingerprint(public: bytes) -> str:
    """Name of a sealing key: `sha256:` and the hash of its 32 bytes."""
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def public_of(private: bytes) -> bytes:
    """Public half of an X25519 key of 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal(value: SecretValue, label: Label, public: bytes) -> Sealed:
    """Encrypt a value for the holder of a key.

    Raises:
        FleetError: SECRET_INVALID for a key that is none, or one of small order (RFC 7748, section 6.1).
    """
    kind = value.kind.encode()
    clear = len(value.data).to_bytes(_LENGTH, "big") + len(kind).to_bytes(1, "big") + kind + value.data
    clear += bytes(-len(clear) % _PAD)
    try:
        ciphertext = _SUITE.encrypt(clear, X25519PublicKey.from_public_bytes(public), info=label.encode())
    except ValueError as error:
        raise FleetError(Code.SECRET_INVALID, "the recipient's key is no X25519 key") from error
    return Sealed(label, fingerprint(public), ciphertext)


def unseal(sealed: Sealed, private: bytes) -> SecretValue:
    """Decrypt a value with the recipient's key of 32 bytes.

    Raises:
        FleetError: SECRET_INVALID when it was sealed for another key or as another secret, or was changed.
    """
    try:
        key = X25519PrivateKey.from_private_bytes(private)
        clear = _SUITE.decrypt(sealed.ciphertext, key, info=sealed.label.encode())
    except (InvalidTag, ValueError):
        raise FleetError(
            Code.SECRET_INVALID, "the secret does not open with this key", secret=sealed.label.name
        ) from None
    size, start = int.from_bytes(clear[:_LENGTH], "big"), _LENGTH + 1 + clear[_LENGTH]
    kind = clear[_LENGTH + 1 : start].decode("ascii", "replace")
    if kind not in set(SecretKind) or start + size > len(clear):
        raise FleetError(Code.SECRET_INVALID, "the secret was sealed by a newer release", secret=sealed.label.name)
    return SecretValue(SecretKind(kind), clear[start : start + size])


def sign_sealed(sealed: Sealed, key: Signer) -> bytes:
    """Make the envelope of a sealed secret."""
    payload = dump_json(sealed.label.values() | {"key": sealed.key, "ciphertext": encode_base64(sealed.ciphertext)})
    return sign_envelope(SEALED_TYPE, payload, [key])


def open_sealed(envelope: bytes, keys: Collection[VerifyingKey], *, fleet: str, node: str) -> Sealed:
    """Verify a sealed secret as the node that it is for, or as the operator (`ESCROW`).

    Checks, in this order:
        1. The envelope is at most MAX_SEALED bytes.
        2. A key for secrets that the fleet trusts signed it, and as a sealed secret. No key: nothing is taken.
        3. The payload is a valid sealed secret.
        4. It is for this fleet and this recipient.

    Whether it opens is `unseal`'s to say.

    Raises:
        FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, SECRET_INVALID.
    """
    sealed = read_sealed(_payload(envelope, SEALED_TYPE, keys, MAX_SEALED))  # 1, 2, 3
    if (sealed.label.fleet, sealed.label.node) != (fleet, node):  # 4
        raise FleetError(Code.SECRET_INVALID, f"the secret is for {sealed.label.node or 'the operator'}")
    return sealed


def peek(envelope: bytes) -> Sealed:
    """Read an envelope without asking who signed it, to sort it; whoever uses it calls `open_sealed`.

    Raises:
        FleetError: SECRET_INVALID, LIMIT_EXCEEDED.
    """
    if len(envelope) > MAX_SEALED:
        raise FleetError(Code.LIMIT_EXCEEDED, f"an envelope of {len(envelope)} bytes", limit=MAX_SEALED)
    with Reader(load_json(envelope, Code.SECRET_INVALID, "envelope"), Code.SECRET_INVALID, "envelope") as top:
        payload = read_base64(top, "payload")
        top.text("payloadType")
        top.take("signatures")
    return read_sealed(payload)


def read_sealed(payload: bytes) -> Sealed:
    """Read the payload of an envelope, without a word about who signed it.

    Raises:
        FleetError: SECRET_INVALID with the place.
    """
    with _reader(payload, "secret", SEALED_SCHEMA) as top:
        node = top.text("node")
        if node != ESCROW and not is_name(node):
            top.fail("node", "malformed")
        label = Label(
            top.matching("fleet", is_name),
            node,
            top.matching("agent", is_agent_name),
            top.matching("name", is_name),
            top.integer("version", 1, MAX_VERSION),
        )
        return Sealed(label, top.text("key"), read_base64(top, "ciphertext"))


def sign_statement(statement: SealingKeyStatement, key: Signer) -> bytes:
    """Make the envelope of a node's statement with its bound key."""
    payload = dump_json(
        {
            "schema": SEALING_KEY_SCHEMA,
            "fleet": statement.fleet,
            "node": statement.node,
            "epoch": statement.epoch,
            "key": encode_base64(statement.key),
        }
    )
    return sign_envelope(SEALING_KEY_TYPE, payload, [key])


def open_statement(envelope: bytes, *, fleet: str, node: str, epoch: int, key: VerifyingKey) -> SealingKeyStatement:
    """Verify what a node says about its sealing key.

    Checks, in this order:
        1. The envelope is at most MAX_STATEMENT bytes.
        2. The node's bound key signed it, and as this statement (DSSE payload type).
        3. The payload is a valid statement with a key of 32 bytes.
        4. It names the fleet, the node and the enrolment that the bound key belongs to.

    Raises:
        FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, SECRET_INVALID.
    """
    with _reader(_payload(envelope, SEALING_KEY_TYPE, [key], MAX_STATEMENT), "statement", SEALING_KEY_SCHEMA) as top:
        said = SealingKeyStatement(
            top.matching("fleet", is_name),
            top.matching("node", is_name),
            top.integer("epoch", 1, MAX_VERSION),
            read_base64(top, "key"),
        )
        if len(said.key) != KEY_BYTES:
            top.fail("key", f"an X25519 key has {KEY_BYTES} bytes")
    if (said.fleet, said.node, said.epoch) != (fleet, node, epoch):  # 4
        raise FleetError(Code.SECRET_INVALID, f"the statement is from {said.node}, epoch {said.epoch}")
    return said


def _payload(envelope: bytes, payload_type: str, keys: Collection[VerifyingKey], limit: int) -> bytes:
    if len(envelope) > limit:  # 1
        raise FleetError(Code.LIMIT_EXCEEDED, f"an envelope of {len(envelope)} bytes", limit=limit)
    return verify_envelope(envelope, payload_type, keys)  # 2


def _reader(payload: bytes, name: str, schema: str) -> Reader:
    reader = Reader(load_json(payload, Code.SECRET_INVALID, name), Code.SECRET_INVALID, name)
    if reader.text("schema") != schema:
        reader.fail("schema", f"expected {schema!r}")
    return reader
