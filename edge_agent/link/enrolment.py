"""How this machine becomes a node, and how it keeps its certificate.

Owns both conversations with the enrolment port. The port's certificate is fetched and its public key compared with the
pin before anything is sent; the token's secret is never sent, only an HMAC over the server's nonce. With the token's
own key, which the coordinator never had, the node signs its bound key, for the operator who made the token. A reply
that gets lost costs nothing: the bound key is on disk before its first use, and the join state that was shown stays the
one to show until the reply that replaces it is on disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.identity import Identity, make_request
from edge_agent.link.channel import open_enrolment_channel, to_fleet_error
from fleet.errors import Code, FleetError
from fleet.joining import sign_join
from fleet.names import is_name
from fleet.signing import SigningKey
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc
from fleet.x509 import is_issued_by, load_certificates, load_der_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.identity import IdentityStore

Q = TypeVar("Q", pb.EnrollRequest, pb.RenewRequest)

TIMEOUT_S = 30.0
"""Limit of a whole conversation."""

TOKEN_VERSION = "flt1"  # noqa: S105 - a format's name, not a secret
MAX_TOKEN = 256
"""Characters of a join token."""

NONCE_BYTES = 32
PIN_BYTES = 32
SECRET_BYTES = 32
ENROLL_CONTEXT = b"fleet-enroll-v1"
RENEW_CONTEXT = b"fleet-renew-v1"
MAX_LABELS = 64


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A parsed token `flt1.PIN.ID.SECRET.KEY`; one that nobody's fleetctl has completed has no key."""

    pin: bytes
    id: str
    secret: bytes
    key: SigningKey | None = None


def parse_token(text: str) -> JoinToken:
    """Take a join token apart.

    Raises:
        FleetError: TOKEN_INVALID; the text itself is never repeated, since it holds a secret.
    """
    parts = text.strip().split(".")
    if len(text) > MAX_TOKEN or len(parts) not in {4, 5} or parts[0] != TOKEN_VERSION or not parts[2]:
        raise FleetError(Code.TOKEN_INVALID, "not a join token")
    pin, *secrets = (_base64url(part) for part in (parts[1], *parts[3:]))
    if len(pin) != PIN_BYTES or any(len(secret) != SECRET_BYTES for secret in secrets):
        raise FleetError(Code.TOKEN_INVALID, "not a join token")
    return JoinToken(pin, parts[2], secrets[0], SigningKey.from_seed(secrets[1]) if secrets[1:] else None)


async def join(
    store: IdentityStore, address: str, token: JoinToken, labels: Mapping[str, str], agent_version: str
) -> Identity:
    """Become a node: prove the token, store the identity, return it.

    Args:
        store: where the identity goes.
        address: host:port of the enrolment port.
        token: the join token.
        labels: what the person who sets up the node says it is. They decide which grants apply here, so they are
            never taken from the coordinator: it must know the node by the same labels, or the node does not join.
        agent_version: release of this program.

    Raises:
        FleetError: CERTIFICATE_INVALID when the port is not the one that the token names, or the labels differ;
            TOKEN_INVALID, NODE_LOCKED; MESSAGE_INVALID; UNAVAILABLE, DEADLINE_EXCEEDED.
    """
    certificate = await _pinned_certificate(address, token.pin)
    bound, key = store.bound_key(), ec.generate_private_key(ec.SECP256R1())
    public, request = bound.public.raw, make_request(key)

    def prove(nonce: bytes) -> pb.EnrollRequest:
        mac = hmac.digest(token.secret, ENROLL_CONTEXT + nonce + public + request, "sha256")
        said = b"" if token.key is None else sign_join(public, token.key)
        proof = pb.EnrollProof(mac=mac, bound_key=public, csr=request, agent_version=agent_version, statement=said)
        return pb.EnrollRequest(proof=proof)

    async with open_enrolment_channel(address, certificate) as channel:
        call = enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enroll(None, timeout=TIMEOUT_S)
        issued = await _converse(call, pb.EnrollRequest(hello=pb.EnrollHello(token_id=token.id)), prove)
    identity = _identity(issued, address, token.pin.hex())
    if dict(identity.labels) != dict(labels):
        raise FleetError(
            Code.CERTIFICATE_INVALID,
            f"the coordinator knows this node by other labels: {_words(identity.labels)}; here: {_words(labels)}",
            node=identity.node,
            remedy="Make a token with the right labels, or correct --label; then join again.",
        )
    store.save(identity, key, issued.certificate, issued.ca_certificates)
    return identity


async def renew(store: IdentityStore, identity: Identity) -> Identity:
    """Get the next certificate, whether or not the last one is still valid; store and return the new identity.

    Raises:
        FleetError: CERTIFICATE_INVALID, NODE_LOCKED, MESSAGE_INVALID, UNAVAILABLE, DEADLINE_EXCEEDED.
    """
    certificate = await _pinned_certificate(identity.enrolment_address, bytes.fromhex(identity.enrolment_pin))
    bound, key = store.bound_key(), ec.generate_private_key(ec.SECP256R1())
    request = make_request(key)
    state = identity.epoch.to_bytes(8, "big") + identity.sequence.to_bytes(8, "big")

    def prove(nonce: bytes) -> pb.RenewRequest:
        signature = bound.sign(RENEW_CONTEXT + nonce + state + request)
        proof = pb.RenewProof(epoch=identity.epoch, sequence=identity.sequence, signature=signature, csr=request)
        return pb.RenewRequest(proof=proof)

    async with open_enrolment_channel(identity.enrolment_address, certificate) as channel:
        call = enrolment_pb2_grpc.EnrolmentServiceStub(channel).Renew(None, timeout=TIMEOUT_S)
        issued = await _converse(call, pb.RenewRequest(hello=pb.RenewHello(node=identity.node)), prove)
    if (issued.node, issued.fleet, issued.epoch) != (identity.node, identity.fleet, identity.epoch):
        raise FleetError(Code.MESSAGE_INVALID, "the renewal is for another identity")
    renewed = _identity(issued, identity.enrolment_address, identity.enrolment_pin)
    # Labels decide which grants apply, so they change only with a new join.
    renewed = replace(renewed, labels=identity.labels)
    store.save(renewed, key, issued.certificate, issued.ca_certificates)
    return renewed


async def _converse(
    call: grpc.aio.StreamStreamCall[Q, pb.EnrollReply], hello: Q, prove: Callable[[bytes], Q]
) -> pb.Issued:
    """Hello, challenge, proof, issued."""
    try:
        await call.write(hello)
        nonce = (await _read(call, "challenge")).challenge.nonce
        if len(nonce) != NONCE_BYTES:
            raise FleetError(Code.MESSAGE_INVALID, f"a nonce of {len(nonce)} bytes")
        await call.write(prove(nonce))
        issued = (await _read(call, "issued")).issued
        await call.done_writing()
    except grpc.aio.AioRpcError as error:
        raise to_fleet_error(error) from error
    except asyncio.InvalidStateError as error:
        raise FleetError(Code.UNAVAILABLE, "the enrolment port ended the conversation") from error
    return issued


async def _read(call: grpc.aio.StreamStreamCall[Q, pb.EnrollReply], step: str) -> pb.EnrollReply:
    reply = await call.read()
    if not isinstance(reply, pb.EnrollReply) or reply.WhichOneof("step") != step:
        raise FleetError(Code.MESSAGE_INVALID, f"expected {step}")
    return reply


async def _pinned_certificate(address: str, pin: bytes) -> bytes:
    """Fetch the port's certificate and compare the SHA-256 of its public key (SPKI, RFC 7469 section 2.4)."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise FleetError(Code.CONFIG_INVALID, "expected HOST:PORT", place=address)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            certificate = load_der_certificate(await _shown_certificate(host.strip("[]"), int(port)))
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, f"no enrolment port at {address}: {error}") from error
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    found = hashlib.sha256(certificate.public_key().public_bytes(encoding, form)).digest()
    if not hmac.compare_digest(found, pin):
        raise FleetError(
            Code.CERTIFICATE_INVALID,
            "the enrolment port is not the one that the token names; nothing was sent",
            place=address,
            remedy="Check the address; if the coordinator's enrolment key changed, make a new token.",
        )
    return certificate.public_bytes(serialization.Encoding.PEM)


async def is_vouched_for(address: str, authorities: bytes) -> bool:
    """Tell whether one of the authorities (PEM) signed what a port shows; of a silent port nothing else is known."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            shown = load_der_certificate(await _shown_certificate(host.strip("[]"), int(port)))
        return any(is_issued_by(shown, authority) for authority in load_certificates(authorities))
    except (OSError, ValueError, FleetError):
        return True


async def _shown_certificate(host: str, port: int) -> bytes:
    """Return the certificate (DER) that a port shows. Not in a thread, whose wait no cancellation would end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin is what is checked
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return shown.getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()


def _identity(issued: pb.Issued, address: str, pin: str) -> Identity:
    if not is_name(issued.node) or not is_name(issued.fleet) or len(issued.labels) > MAX_LABELS:
        raise FleetError(Code.MESSAGE_INVALID, "the issued identity is malformed")
    return Identity(
        node=issued.node,
        fleet=issued.fleet,
        epoch=issued.epoch,
        sequence=issued.sequence,
        session_address=issued.session_address,
        enrolment_address=address,
        enrolment_pin=pin,
        labels=dict(issued.labels),
    )


def _base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise FleetError(Code.TOKEN_INVALID, "not a join token") from error


def _words(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"
