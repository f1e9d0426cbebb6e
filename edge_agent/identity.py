"""Who the node is: its name in the fleet, its join state, its keys and certificates.

Owns `node.json` and `keys/`: the bound Ed25519 key that identifies the node for good, and the P-256 key and
certificate that identify it to TLS for a day (gRPC's TLS has no Ed25519 certificates). Everything is written before
it is used, the join state first: a node that stops between two files still holds a join state that renews. Never
talks to the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge_agent.disk import replace_file
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.signing import SigningKey
from fleet.x509 import is_issued_by, load_certificate, load_certificates, p256_key_of, uris_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from edge_agent.disk import Disk
    from fleet.signing import VerifyingKey

SCHEMA = "fleet.node/v1"
MAX_FILE = 64 * 1024
MAX_LABELS = 64
MAX_NUMBER = 2**53

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


def agent_version() -> str:
    """Release of this program."""
    return version("edge-fleet-orchestrator")


class BoundKey(Protocol):
    """The key that identifies a node for good; it signs renewals and receipts and never leaves the node.

    `SigningKey` (Ed25519 in a file) is the usual one. A key that a security chip holds implements the same three
    members: `public` is then a `fleet.keys.P256PublicKey`, and `sign` returns an ECDSA signature over SHA-256 of the
    data, in DER. The coordinator reads either kind with `fleet.keys.read_public_key(public.raw)`.
    """

    @property
    def public(self) -> VerifyingKey:
        """Public half; `public.raw` is what enrolment sends."""
        ...

    @property
    def key_id(self) -> str:
        """Id of the public half, in envelopes."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes; may take a chip some tenths of a second."""
        ...


class Chip(Protocol):
    """What holds a bound key that cannot leave it."""

    def bound_key(self) -> BoundKey:
        """Return the key; made at the first use. Raises FleetError KEY_UNAVAILABLE."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the node is and where its coordinator answers.

    Attributes:
        epoch: number of the enrolment; an operator's reset raises it.
        sequence: join-state counter; a clone or a restored disk shows an old one and is locked out.
        labels: given by the person who joined the node and known to the coordinator by its token; they never change.
        session_address: host:port of NodeService.
        enrolment_address: host:port of EnrolmentService, for renewals.
        enrolment_pin: SHA-256 of the enrolment certificate's public key (SPKI), hexadecimal.
    """

    node: str
    fleet: str
    epoch: int
    sequence: int
    session_address: str
    enrolment_address: str
    enrolment_pin: str
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What the session channel presents and what it checks against, as PEM.

    Attributes:
        private_key: P-256 key.
        certificate: certificate for it.
        ca_certificates: bundle that the coordinator's certificate is checked against.
        not_before: start of validity.
        not_after: end of validity.
    """

    private_key: bytes
    certificate: bytes
    ca_certificates: bytes
    not_before: datetime
    not_after: datetime

    @property
    def renew_at(self) -> datetime:
        """Two thirds of the certificate's life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


class IdentityStore:
    """Reads and writes the node's identity.

    Args:
        disk: the file operations.
        data_dir: the node's data directory.
        chip: holds the bound key in place of a file, where there is one.
    """

    def __init__(self, disk: Disk, data_dir: Path, chip: Chip | None = None) -> None:
        self._disk = disk
        self._chip = chip
        self._node = data_dir / "node.json"
        self._bound = data_dir / "keys" / "bound.pem"
        self._tls = data_dir / "keys" / "tls.pem"
        self._ca = data_dir / "keys" / "ca.pem"

    def load(self) -> Identity | None:
        """Return the identity, or None on a node that has not joined.

        Raises:
            FleetError: CONFIG_INVALID when the file is not readable.
        """
        data = self._read(self._node)
        return None if data is None else _decode(data)

    def joined(self) -> Identity:
        """Return the identity of a machine that has joined.

        Raises:
            FleetError: CONFIG_INVALID when it has not, or the file is not readable.
        """
        identity = self.load()
        if identity is None:
            raise FleetError(
                Code.CONFIG_INVALID,
                f"{self._node.parent} belongs to no node yet",
                place=str(self._node),
                remedy="Run `edge-agent join` with a token from `fleetctl node token`.",
            )
        return identity

    def bound_key(self) -> BoundKey:
        """Return the bound key; made and stored at the first use.

        Raises:
            FleetError: CERTIFICATE_INVALID when the file holds something else; KEY_UNAVAILABLE without its chip.
        """
        if self._chip is not None:
            return self._chip.bound_key()
        data = self._read(self._bound)
        if data is None:
            key = SigningKey(ed25519.Ed25519PrivateKey.generate())
            replace_file(self._disk, self._bound, key.to_pem())
            return key
        try:
            return SigningKey.from_pem(data)
        except FleetError as error:
            raise FleetError(
                Code.CERTIFICATE_INVALID, f"the bound key is not usable: {error.private}", place=str(self._bound)
            ) from error

    def tls(self) -> TlsIdentity | None:
        """Return the TLS identity, or None when there is none or it is spoiled: renewal makes a new one.

        Key, certificate and authorities must fit each other: with parts that do not, no handshake would ever succeed,
        and a node would stay away until its certificate expired.
        """
        pair, authorities = self._read(self._tls), self._read(self._ca)
        if pair is None or authorities is None:
            return None
        marker = b"-----BEGIN CERTIFICATE-----"
        key, found, certificate = pair.partition(marker)
        try:
            parsed = load_certificate(found + certificate)
            fits = serialization.load_pem_private_key(key, None).public_key() == p256_key_of(parsed)
            issued = any(is_issued_by(parsed, authority) for authority in load_certificates(authorities))
        except (FleetError, ValueError, TypeError, UnsupportedAlgorithm):
            return None
        if not (fits and issued):
            return None
        return TlsIdentity(
            key, found + certificate, authorities, parsed.not_valid_before_utc, parsed.not_valid_after_utc
        )

    def save(self, identity: Identity, key: ec.EllipticCurvePrivateKey, certificate: bytes, ca: bytes) -> None:
        """Store the outcome of a join or a renewal: join state, then authorities, then key with certificate.

        Raises:
            FleetError: CERTIFICATE_INVALID when the certificate is not this key's, not this node's, or not issued
                by `ca`; STORAGE_FULL.
        """
        _check_certificate(identity, key, certificate, ca)
        replace_file(self._disk, self._node, _encode(identity))
        replace_file(self._disk, self._ca, ca)
        replace_file(self._disk, self._tls, _pem(key) + certificate)

    def _read(self, path: Path) -> bytes | None:
        size = self._disk.size(path)
        if size is None:
            return None
        if size > MAX_FILE:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{size} bytes, the limit is {MAX_FILE}", place=str(path))
        return self._disk.read(path, 0, MAX_FILE)


def spiffe_id(fleet: str, node: str) -> str:
    """SPIFFE ID of a node (SPIFFE-ID specification, section 2)."""
    return f"spiffe://{fleet}/node/{node}"


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Certificate signing request (DER) for a key. Its subject is empty: the issuer decides who asks."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _check_certificate(identity: Identity, key: ec.EllipticCurvePrivateKey, pem: bytes, ca: bytes) -> None:
    certificate, authorities = load_certificate(pem), load_certificates(ca)
    uris = uris_of(certificate)
    if p256_key_of(certificate) != key.public_key():
        raise FleetError(Code.CERTIFICATE_INVALID, "the issued certificate is for another key")
    if uris != [spiffe_id(identity.fleet, identity.node)]:
        raise FleetError(Code.CERTIFICATE_INVALID, "the issued certificate names another node", names=" ".join(uris))
    if not any(is_issued_by(certificate, authority) for authority in authorities):
        raise FleetError(Code.CERTIFICATE_INVALID, "the certificate is not issued by the authorities that came with it")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _encode(identity: Identity) -> bytes:
    return dump_json(
        {
            "schema": SCHEMA,
            "node": identity.node,
            "fleet": identity.fleet,
            "epoch": identity.epoch,
            "sequence": identity.sequence,
            "session_address": identity.session_address,
            "enrolment_address": identity.enrolment_address,
            "enrolment_pin": identity.enrolment_pin,
            "labels": dict(identity.labels),
        }
    )


def _decode(data: bytes) -> Identity:
    place = "node.json"
    with Reader(load_json(data, Code.CONFIG_INVALID, place), Code.CONFIG_INVALID, place) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        node = top.text("node")
        if not is_name(node):
            top.fail("node", "not a name")
        return Identity(
            node=node,
            fleet=top.text("fleet"),
            epoch=top.integer("epoch", 0, MAX_NUMBER),
            sequence=top.integer("sequence", 0, MAX_NUMBER),
            session_address=top.text("session_address"),
            enrolment_address=top.text("enrolment_address"),
            enrolment_pin=top.text("enrolment_pin"),
            labels=top.mapping("labels", MAX_LABELS),
        )
