"""A node's word for its own witness key.

Owns: the payload `application/vnd.fleet.witness.v1+json` in a DSSE envelope. The bound key identifies the node, may lie
in a chip and signs receipts; the key that cosigns checkpoints is another one, used for nothing else (as
c2sp.org/tlog-cosignature asks), and this says whose it is. Whether a witness counts is said by the policy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.checkpoint import KeyKind, VerifierKey, parse_vkey
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.signing import sign_envelope, verify_envelope
from fleet.witnesses import witness_name

if TYPE_CHECKING:
    from fleet.signing import Signer, VerifyingKey

WITNESS_TYPE = "application/vnd.fleet.witness.v1+json"
SCHEMA = "fleet.witness/v1"

MAX_ENVELOPE = 4096
_MAX_EPOCH = 2**53 - 1


@dataclass(frozen=True, slots=True)
class WitnessCertificate:
    """The witness key of one enrolment of a node."""

    fleet: str
    node: str
    epoch: int
    key: VerifierKey


def sign_witness(certificate: WitnessCertificate, bound_key: Signer) -> bytes:
    """Make the envelope with the node's bound key."""
    payload = {
        "schema": SCHEMA,
        "fleet": certificate.fleet,
        "node": certificate.node,
        "epoch": certificate.epoch,
        "vkey": str(certificate.key),
    }
    return sign_envelope(WITNESS_TYPE, dump_json(payload), [bound_key])


def decode_witness(payload: bytes) -> WitnessCertificate:
    """Read a payload.

    Raises:
        FleetError: CERTIFICATE_INVALID with the place.
    """
    code = Code.CERTIFICATE_INVALID
    with Reader(load_json(payload, code, "witness"), code, "witness") as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        fleet, node, epoch = top.text("fleet"), top.text("node"), top.integer("epoch", 1, _MAX_EPOCH)
        if not is_name(fleet) or not is_name(node):
            top.fail("node", "not a name")
        try:
            key = parse_vkey(top.text("vkey"), KeyKind.COSIGNER)
        except FleetError as error:
            raise FleetError(code, error.private, place=top.at("vkey")) from error
        if key.name != witness_name(fleet, node):
            top.fail("vkey", "a key under another name")
    return WitnessCertificate(fleet, node, epoch, key)


def open_witness(envelope: bytes, *, fleet: str, node: str, epoch: int, key: VerifyingKey) -> WitnessCertificate:
    """Verify a node's word.

    Checks, in this order:
        1. The envelope is at most MAX_ENVELOPE bytes.
        2. The node's bound key signed it, and as a witness certificate (DSSE payload type).
        3. The payload is valid, and the key's name is the node's.
        4. It names the fleet, the node and the enrolment that the bound key belongs to.

    Raises:
        FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, CERTIFICATE_INVALID.
    """
    if len(envelope) > MAX_ENVELOPE:  # 1
        raise FleetError(Code.LIMIT_EXCEEDED, f"an envelope of {len(envelope)} bytes", limit=MAX_ENVELOPE)
    certificate = decode_witness(verify_envelope(envelope, WITNESS_TYPE, [key]))  # 2, 3
    if (certificate.fleet, certificate.node, certificate.epoch) != (fleet, node, epoch):  # 4
        raise FleetError(Code.CERTIFICATE_INVALID, f"the witness key of {certificate.node}, epoch {certificate.epoch}")
    return certificate
