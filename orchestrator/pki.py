"""X.509 certificates of a fleet: authorities, the coordinator's server certificates, nodes and operators.

Owns: the profile of every certificate (P-256 only, since the TLS library of gRPC refuses Ed25519; one SPIFFE URI as the
identity; the shortest fitting key usage). How an identity is read back is in `principals`. Never opens a file or a
socket, and knows no code-signing or grant key. `fleetctl init` and the coordinator's enrolment are its callers.

Operators have two authorities: one whose key is offline signs the certificate of the other, whose key the coordinator
uses at each login.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.x509 import load_certificate, load_request, p256_key_of, reading
from orchestrator.principals import NodeIdentity, OperatorIdentity, Role

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

AUTHORITY_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=825)
NODE_LIFETIME = timedelta(hours=24)
LOGIN_LIFETIME = timedelta(hours=12)
CLOCK_SKEW = timedelta(minutes=5)
"""How far a certificate's validity begins in the past, for nodes whose clock is behind."""

MAX_CSR = 4096
"""Bytes of a certificate signing request."""

ENROLMENT_NAME = "enrolment.fleet.internal"
"""DNS name inside the enrolment port's certificate; clients pin the key and override the server name with this."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


def new_authority(common_name: str, now: datetime, *, path_length: int = 0) -> KeyPair:
    """Make a self-signed certificate authority (P-256).

    Args:
        common_name: its name.
        now: time of issue.
        path_length: how many authorities may stand between it and a leaf.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _authority(_builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME), key, path_length)
    return KeyPair(_pem_key(key), builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def issue_authority(authority: KeyPair, common_name: str, now: datetime) -> KeyPair:
    """Make an authority that may sign leaves only, vouched for by another one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer, issuer = _signing_key(authority), load_certificate(authority.certificate).subject
    builder = _authority(_builder(name, issuer, key.public_key(), now, AUTHORITY_LIFETIME), key, 0)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    return KeyPair(_pem_key(key), builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


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
    """Make an operator's key and certificate with the offline authority.

    Raises:
        FleetError: VALUE_INVALID for a name that is not a name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    identity = OperatorIdentity(_checked(name), frozenset(roles), now + lifetime)
    return KeyPair(_pem_key(key), _operator(authority, fleet, identity, key.public_key(), now))


def certify_operator(authority: KeyPair, fleet: str, identity: OperatorIdentity, csr: bytes, now: datetime) -> bytes:
    """Sign the key that an operator made; name, roles and epoch come from the caller, never from the request.

    Raises:
        FleetError: MESSAGE_INVALID for a malformed request or a key that is not P-256.
    """
    return _operator(authority, fleet, identity, requested_key(csr), now)


def _operator(
    authority: KeyPair, fleet: str, identity: OperatorIdentity, key: ec.EllipticCurvePublicKey, now: datetime
) -> bytes:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]
    names += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in sorted(identity.roles)]
    if identity.epoch:
        names.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, str(identity.epoch)))
    uri = x509.UniformResourceIdentifier(f"spiffe://{_checked(fleet)}/user/{identity.name}")
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    return _leaf(authority, _Leaf(x509.Name(names), key, [uri], usage, identity.expires - now), now)


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
    key = requested_key(csr)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, str(identity.epoch)),
        ]
    )
    uri = x509.UniformResourceIdentifier(f"spiffe://{fleet}/node/{identity.name}")
    return _leaf(authority, _Leaf(subject, key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, identity.expires - now), now)


def requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a DER request, after its proof of possession verified; the rest of it is ignored.

    Raises:
        FleetError: LIMIT_EXCEEDED; MESSAGE_INVALID for a malformed request or a key that is not P-256.
    """
    if len(csr) > MAX_CSR:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a request of {len(csr)} bytes", limit=MAX_CSR)
    request = load_request(csr)
    key = p256_key_of(request, Code.MESSAGE_INVALID)
    with reading(Code.MESSAGE_INVALID, "the request's signature is not readable"):
        possessed = request.is_signature_valid
    if not possessed:
        raise FleetError(Code.MESSAGE_INVALID, "the request must be signed by the key that it is for")
    return key


def stored_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a key as it is stored and compared: DER SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


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


@dataclass(frozen=True, slots=True)
class _Leaf:
    subject: x509.Name
    key: ec.EllipticCurvePublicKey
    alternatives: list[x509.GeneralName]
    usage: x509.ObjectIdentifier
    lifetime: timedelta


def _leaf(authority: KeyPair, leaf: _Leaf, now: datetime) -> bytes:
    issuer, key = load_certificate(authority.certificate), _signing_key(authority)
    certificate = (
        _builder(leaf.subject, issuer.subject, leaf.key, now, leaf.lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(leaf.alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _signing_key(authority: KeyPair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FleetError(Code.CERTIFICATE_INVALID, "the authority's key is not P-256")
    return key


def _authority(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, path_length: int
) -> x509.CertificateBuilder:
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
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


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
