"""`fleetctl login`: a bootstrap token becomes a certificate for a key that is made here and never leaves.

Owns: both conversations with the enrolment port, and the files of a login. Beside the operator's certificate `NAME.crt`
and key `NAME.pem` lies `NAME.login`, which says where the next certificate comes from, and the counter that the next
renewal shows; it holds nothing secret. Renewals on one machine take turns, since a counter that is shown twice looks
like a copy of the key. The port's certificate is fetched and its key compared with the pin before anything is sent; a
token's secret is never sent.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import queue
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc
from fleet.x509 import load_certificate, load_der_certificate, p256_key_of, uris_of
from orchestrator.cli.client import to_fleet_error
from orchestrator.cli.trust import TrustDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

TOKEN_VERSION = "flo1"  # noqa: S105 - the format's name
LOGIN_CONTEXT = b"fleet-login-v1"
KEY_CONTEXT = b"fleet-login-key-v2"
ENROLMENT_NAME = "enrolment.fleet.internal"
SCHEMA = "fleet.login/v1"
TIMEOUT_S = 30.0
HASH_BYTES = 32
MAX_FILE = 64 * 1024
MAX_SEQUENCE = 2**53
_ENCODING, _PRIVATE = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """A parsed token `flo1.PIN.ID.SECRET`."""

    pin: bytes
    id: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class Login:
    """Where an operator's next certificate comes from.

    Attributes:
        coordinator: host:port of the enrolment port.
        pin: SHA-256 of its certificate's public key (SPKI), hexadecimal.
        sequence: login counter that the next renewal shows.
    """

    operator: str
    fleet: str
    coordinator: str
    pin: str
    sequence: int = 0


def parse_token(text: str) -> BootstrapToken:
    """Take a bootstrap token apart.

    Raises:
        FleetError: TOKEN_INVALID; the text itself is never repeated, since it holds a secret.
    """
    parts = text.strip().split(".")
    if len(parts) == 4 and parts[0] == TOKEN_VERSION and parts[2]:
        pin, secret = _base64url(parts[1]), _base64url(parts[3])
        if len(pin) == len(secret) == HASH_BYTES:
            return BootstrapToken(pin, parts[2], secret)
    raise FleetError(
        Code.TOKEN_INVALID,
        "not a bootstrap token",
        remedy="Ask an administrator for one: `fleetctl operator add NAME`.",
    )


def first_login(folder: Path, coordinator: str, token: BootstrapToken) -> tuple[Login, pb.LoggedIn]:
    """Bind a new key to the name that a token is for, and store key, certificate and authorities in a folder.

    The key is on disk before it is used: when the answer gets lost, the same token and the same folder try again.

    Raises:
        FleetError: CERTIFICATE_INVALID when the port is not the one that the token names, or its answer is not for
            this key; TOKEN_INVALID; UNAVAILABLE, DEADLINE_EXCEEDED.
    """
    files = TrustDirectory(folder)
    pending = folder / f"{token.id}.pending"
    if not pending.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        files.write(pending.name, made.private_bytes(_ENCODING, _PRIVATE, serialization.NoEncryption()), 0o600)
    key = _load_key(pending)

    def prove(nonce: bytes, csr: bytes) -> bytes:
        return hmac.digest(token.secret, LOGIN_CONTEXT + nonce + csr, "sha256")

    hello = pb.LoginHello(token_id=token.id)
    issued = _converse(coordinator, token.pin, hello, _Prover(key, 0, prove))
    login = Login(issued.operator, issued.fleet, coordinator, token.pin.hex(), issued.sequence)
    _check(login, issued, key)
    files.write(f"{login.operator}.pem", pending.read_bytes(), 0o600)
    _store(folder, login, issued)
    pending.unlink()
    return login, issued


def renew(certificate: Path, key: Path) -> Login:
    """Get the next certificate for the key that is bound already; the old one may have expired.

    Raises:
        FleetError: NOT_FOUND when there was no login here; CERTIFICATE_INVALID when the operator is revoked;
            UNAVAILABLE, DEADLINE_EXCEEDED.
    """
    if read_login(certificate) is None:
        raise FleetError(
            Code.NOT_FOUND,
            "this context did not come from a login",
            place=str(certificate),
            remedy="Log in with a token: `fleetctl login --coordinator HOST:PORT --token-file FILE --root root.json`.",
        )
    with _turn(certificate):
        return _renew(certificate, key)


def _renew(certificate: Path, key: Path) -> Login:
    login = read_login(certificate)
    if login is None:
        raise FleetError(Code.NOT_FOUND, "the login is gone", place=str(certificate))
    private = _load_key(key)
    hello = pb.LoginHello(operator=login.operator)
    prover = _Prover(private, login.sequence, lambda _, __: b"")
    issued = _converse(login.coordinator, bytes.fromhex(login.pin), hello, prover)
    _check(login, issued, private)
    _store(certificate.parent, login, issued)
    return login


def renew_when_due(certificate: Path, key: Path, now: datetime) -> None:
    """Renew a certificate of a login from two thirds of its life on; one that is still valid does without.

    Raises:
        FleetError: as `renew`, for a certificate that has expired.
    """
    if read_login(certificate) is None:
        return
    if not _is_due(certificate, now):
        return
    with _turn(certificate):
        if not _is_due(certificate, now):
            return  # another command was faster
        try:
            _renew(certificate, key)
        except FleetError:
            if now >= load_certificate(certificate.read_bytes()).not_valid_after_utc:
                raise


def _is_due(certificate: Path, now: datetime) -> bool:
    shown = load_certificate(certificate.read_bytes(), place=str(certificate))
    begin, end = shown.not_valid_before_utc, shown.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


@contextmanager
def _turn(certificate: Path) -> Iterator[None]:
    """Wait until no other command of this machine renews this login."""
    with certificate.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_login(certificate: Path) -> Login | None:
    """Return what lies beside an operator's certificate; None when it did not come from a login.

    Raises:
        FleetError: CONFIG_INVALID for a file that is something else.
    """
    file = certificate.with_suffix(".login")
    if not file.exists():
        return None
    place = str(file)
    with Reader(load_json(file.read_bytes(), Code.CONFIG_INVALID, place), Code.CONFIG_INVALID, place) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        sequence = top.integer("sequence", 0, MAX_SEQUENCE, 0)
        login = Login(top.text("operator"), top.text("fleet"), top.text("coordinator"), top.text("pin"), sequence)
        if len(login.pin) != 2 * HASH_BYTES or not all(digit in "0123456789abcdef" for digit in login.pin):
            top.fail("pin", "expected 64 hex digits")
        return login


def _store(folder: Path, login: Login, issued: pb.LoggedIn) -> None:
    files = TrustDirectory(folder)
    document = {
        "schema": SCHEMA,
        "operator": login.operator,
        "fleet": login.fleet,
        "coordinator": login.coordinator,
        "pin": login.pin,
        "sequence": issued.sequence,
    }
    files.write(f"{login.operator}.login", dump_json(document))
    files.write("node-ca.crt", issued.ca_certificates)
    files.write(f"{login.operator}.crt", issued.certificate)


def _check(login: Login, issued: pb.LoggedIn, key: ec.EllipticCurvePrivateKey) -> None:
    """Refuse an answer that is for another key or another name."""
    certificate = load_certificate(issued.certificate)
    uris, fits = uris_of(certificate), p256_key_of(certificate) == key.public_key()
    named = is_name(issued.operator) and is_name(issued.fleet)
    if not named or not fits or uris != [f"spiffe://{login.fleet}/user/{login.operator}"]:
        raise FleetError(Code.CERTIFICATE_INVALID, "the issued certificate is for another key or another name")


@dataclass(frozen=True, slots=True)
class _Prover:
    """What an answer to the challenge is made with; `mac` is of nonce and request."""

    key: ec.EllipticCurvePrivateKey
    sequence: int
    mac: Callable[[bytes, bytes], bytes]

    def prove(self, nonce: bytes, csr: bytes) -> pb.LoginProof:
        message = KEY_CONTEXT + nonce + self.sequence.to_bytes(8, "big") + csr
        signature = self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        return pb.LoginProof(csr=csr, mac=self.mac(nonce, csr), signature=signature, sequence=self.sequence)


def _converse(address: str, pin: bytes, hello: pb.LoginHello, prover: _Prover) -> pb.LoggedIn:
    """Hello, challenge, proof, issued."""
    certificate = _pinned_certificate(address, pin)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(prover.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    waiting: queue.Queue[pb.LoginRequest | None] = queue.Queue()
    waiting.put(pb.LoginRequest(hello=hello))
    credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
    options = (("grpc.ssl_target_name_override", ENROLMENT_NAME), ("grpc.use_local_subchannel_pool", 1))
    with grpc.secure_channel(address, credentials, options=options) as channel:
        replies = iter(enrolment_pb2_grpc.EnrolmentServiceStub(channel).Login(_until_none(waiting), timeout=TIMEOUT_S))
        try:
            nonce = next(replies).challenge.nonce
            if len(nonce) != HASH_BYTES:
                raise FleetError(Code.MESSAGE_INVALID, f"a nonce of {len(nonce)} bytes")
            waiting.put(pb.LoginRequest(proof=prover.prove(nonce, csr)))
            return next(replies).issued
        except grpc.RpcError as error:
            raise to_fleet_error(error, address) from error
        except StopIteration as error:
            raise FleetError(Code.UNAVAILABLE, "the enrolment port ended the conversation") from error
        finally:
            waiting.put(None)


def _until_none(waiting: queue.Queue[pb.LoginRequest | None]) -> Iterator[pb.LoginRequest]:
    while (request := waiting.get()) is not None:
        yield request


def _pinned_certificate(address: str, pin: bytes) -> bytes:
    """Fetch the port's certificate and compare the SHA-256 of its public key (SPKI, RFC 7469 section 2.4)."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise FleetError(Code.CONFIG_INVALID, "expected HOST:PORT", place=address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin is what is checked
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S) as plain,
            context.wrap_socket(plain) as shown,
        ):
            certificate = load_der_certificate(shown.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, f"no enrolment port at {address}", reason=str(error)) from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    found = hashlib.sha256(certificate.public_key().public_bytes(serialization.Encoding.DER, form)).digest()
    if not hmac.compare_digest(found, pin):
        raise FleetError(
            Code.CERTIFICATE_INVALID,
            "the enrolment port is not the one that the token names; nothing was sent",
            place=address,
            remedy="Check the address; if the coordinator's enrolment key changed, ask for a new token.",
        )
    return certificate.public_bytes(_ENCODING)


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise FleetError(Code.CONFIG_INVALID, "the operator's key cannot be read", place=str(file)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FleetError(Code.CONFIG_INVALID, "the operator's key is not P-256", place=str(file))
    return key


def _base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
