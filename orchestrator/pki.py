"""X.509 certificates of a fleet: authorities, the coordinator's server certificates, nodes and operators.

Owns: the profile of every certificate (P-256 only, since the TLS library of gRPC refuses Ed25519; one SPIFFE URI as the
identity; the shortest fitting key usage) and how an identity is read back. Never opens a file or a socket, and knows
no code-signing or grant key. `fleetctl init` and the coordinator's enrolment are its callers.

Identity of a client certificate (SPIFFE X509-SVID, section 2: exactly one URI SAN):
`spiffe://FLEET/node/NAME` with the epoch as the subject's serial number, or `spiffe://FLEET/user/NAME` with the roles
as organizational units.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import Code, FleetError
from fleet.model import is_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

AUTHORITY_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=825)
NODE_LIFETIME = timedelta(hours=24)
CLOCK_SKEW = timedelta(minutes=5)
"""How far a certificate's validity begins in the past, for nodes whose clock is behind."""

MAX_CSR = 4096
"""Bytes of a certificate signing request."""

_EPOCH = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
_MALFORMED = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension)
"""What reading hostile X.509 raises; the library parses parts only when they are asked for."""

ENROLMENT_NAME = "enrolment.fleet.internal"
"""DNS name inside the enrolment port's certificate; clients pin the key and override the server name with this."""


class Role(StrEnum):
    """What an operator may do; stated in the certificate that the operator authority signed."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    APPROVER = "approver"
    NODE_ADMIN = "node-admin"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a node's certificate says it is."""

    name: str
    epoch: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """Who an operator's certificate says it is."""

    name: str
    roles: frozenset[Role]
    expires: datetime


def new_authority(common_name: str, now: datetime) -> KeyPair:
    """Make a self-signed certificate authority (P-256) that may sign leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_pem_key(key), certificate.public_bytes(serialization.Encoding.PEM))


def issue_server(authority: KeyPair, names: Sequence[str], now: datetime) -> KeyPair:
    """Make the coordinator's certificate for its session port.

    Args:
        authority: the node authority.
        names: host names and IP addresses by which nodes and operators reach the coordinator.
        now: time of issue.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
    alternatives = [_host(name) for name in names]
    server = ExtendedKeyUsageOID.SERVER_AUTH
    pem = _leaf(authority, _Leaf(subject, key.public_key(), alternatives, server, SERVER_LIFETIME), now)
    return KeyPair(_pem_key(key), pem)


def issue_operator(
    authority: KeyPair, fleet: str, name: str, roles: Collection[Role], now: datetime, lifetime: timedelta
) -> KeyPair:
    """Make an operator's client certificate; the operator authority stays with the operators.

    Raises:
        FleetError: VALUE_INVALID for a name that is not a name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in sorted(roles)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _checked(name)), *units])
    identity = x509.UniformResourceIdentifier(f"spiffe://{_checked(fleet)}/user/{name}")
    leaf = _Leaf(subject, key.public_key(), [identity], ExtendedKeyUsageOID.CLIENT_AUTH, lifetime)
    return KeyPair(_pem_key(key), _leaf(authority, leaf, now))


def issue_node(authority: KeyPair, fleet: str, identity: NodeIdentity, csr: bytes, now: datetime) -> bytes:
    """Sign a node's TLS key until `identity.expires`; name and epoch come from the caller, never from the request.

    Args:
        authority: the node authority.
        fleet: SPIFFE trust domain.
        identity: what the certificate shall say.
        csr: DER request; only its public key is used, after its proof of possession verified.
        now: time of issue.

    Raises:
        FleetError: MESSAGE_INVALID for a malformed request or a key that is not P-256.
    """
    if len(csr) > MAX_CSR:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a request of {len(csr)} bytes", limit=MAX_CSR)
    try:
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        possessed = request.is_signature_valid
    except _MALFORMED as error:
        raise FleetError(Code.MESSAGE_INVALID, "not a certificate signing request") from error
    if not possessed or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise FleetError(Code.MESSAGE_INVALID, "the request must be for a P-256 key and signed by it")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, str(identity.epoch)),
        ]
    )
    uri = x509.UniformResourceIdentifier(f"spiffe://{fleet}/node/{identity.name}")
    return _leaf(authority, _Leaf(subject, key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, identity.expires - now), now)


def new_enrolment_certificate(now: datetime) -> KeyPair:
    """Make the self-signed certificate of the enrolment port; join tokens pin its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ENROLMENT_NAME)])
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(ENROLMENT_NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_pem_key(key), certificate.public_bytes(serialization.Encoding.PEM))


def spki_pin(certificate: bytes) -> bytes:
    """SHA-256 of a PEM certificate's SubjectPublicKeyInfo, as in RFC 7469 section 2.4."""
    key = load_certificate(certificate).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def load_certificate(pem: bytes) -> x509.Certificate:
    """Parse one PEM certificate.

    Raises:
        FleetError: CERTIFICATE_INVALID.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FleetError(Code.CERTIFICATE_INVALID, "not a PEM certificate") from error


def read_identity(
    certificate: x509.Certificate, fleet: str, *, node_authority: x509.Certificate, operator_authority: x509.Certificate
) -> NodeIdentity | OperatorIdentity:
    """Read who a client certificate names; TLS has checked its validity, this checks who may vouch for what.

    1. Exactly one URI, of this fleet, of kind node or user, with a valid name.
    2. A node is vouched for by the node authority, an operator by the operator authority: the coordinator holds the
       key of the former and must not be able to make operators.
    3. A node has an epoch; an operator has roles, all of them known.

    Raises:
        FleetError: CERTIFICATE_INVALID naming the rule.
    """
    kind, name = _spiffe(certificate, fleet)
    try:
        certificate.verify_directly_issued_by(node_authority if kind == "node" else operator_authority)
    except _MALFORMED as error:
        raise FleetError(Code.CERTIFICATE_INVALID, f"rule 2: another authority vouches for the {kind}") from error
    expires = certificate.not_valid_after_utc
    try:
        if kind == "node":
            return NodeIdentity(name, _epoch(certificate.subject), expires)
        return OperatorIdentity(name, _roles(certificate.subject), expires)
    except ValueError as error:
        raise FleetError(
            Code.CERTIFICATE_INVALID, f"rule 3: no epoch, or no or an unknown role of the {kind}"
        ) from error


def _epoch(subject: x509.Name) -> int:
    (serial,) = subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if _EPOCH.fullmatch(str(serial.value)) is None:
        raise ValueError(serial.value)
    return int(serial.value)


def _roles(subject: x509.Name) -> frozenset[Role]:
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not units:
        raise ValueError("no organizational unit")
    return frozenset(Role(str(unit.value)) for unit in units)


def _spiffe(certificate: x509.Certificate, fleet: str) -> tuple[str, str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        scheme, _, domain, kind, name = uri.split("/")
    except (x509.ExtensionNotFound, *_MALFORMED) as error:
        raise FleetError(Code.CERTIFICATE_INVALID, "rule 1: not exactly one SPIFFE id") from error
    if scheme != "spiffe:" or domain != fleet or kind not in {"node", "user"} or not is_name(name):
        raise FleetError(Code.CERTIFICATE_INVALID, "rule 1: the SPIFFE id is not of this fleet")
    return kind, name


@dataclass(frozen=True, slots=True)
class _Leaf:
    subject: x509.Name
    key: ec.EllipticCurvePublicKey
    alternatives: list[x509.GeneralName]
    usage: x509.ObjectIdentifier
    lifetime: timedelta


def _leaf(authority: KeyPair, leaf: _Leaf, now: datetime) -> bytes:
    issuer = load_certificate(authority.certificate)
    key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FleetError(Code.CERTIFICATE_INVALID, "the authority's key is not P-256")
    certificate = (
        _builder(leaf.subject, issuer.subject, leaf.key, now, leaf.lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(leaf.alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _checked(name: str) -> str:
    if not is_name(name):
        raise FleetError(Code.VALUE_INVALID, f"{name!r} is not a name", place="name")
    return name


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
