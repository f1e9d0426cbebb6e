"""Assignments and receipts: what the director orders a node to run, and what the node says it applied.

Owns: their signed payloads (strict JSON, times in milliseconds) and `open_assignment`, the node's ordered checks. A
`VerifiedAssignment` is made only there. Whether the generation is new is the ledger's question, and whether bundle and
grant are signed and apply here is asked at admission: an assignment chooses, it never adds authority.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.assigned import decode_agent, encode_agent
from fleet.checkpoint import parse_proof
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.health import MAX_INTERFACES
from fleet.links import check_assigned
from fleet.merkle import leaf_hash, verify_inclusion
from fleet.model import Assignment
from fleet.names import is_agent_name, is_digest, is_name
from fleet.signing import sign_envelope, verify_envelope
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.wit import is_interface
from fleet.witnesses import NO_WITNESSES, open_witnessed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fleet.documents import Value
    from fleet.model import DesiredState
    from fleet.signing import Signer, SigningKey, VerifyingKey
    from fleet.trust import FleetTrust
    from fleet.witnesses import WitnessPolicy

ASSIGNMENT_TYPE = "application/vnd.fleet.assignment.v1+json"
"""Payload type of assignments."""

RECEIPT_TYPE = "application/vnd.fleet.receipt.v1+json"
"""Payload type of receipts."""

ASSIGNMENT_SCHEMA = "fleet.assignment/v1"
RECEIPT_SCHEMA = "fleet.receipt/v1"

MAX_ENVELOPE = 256 * 1024
"""Bytes of a signed assignment or receipt: pushes stay small, and a thousand bytes are enough for most agents."""

MAX_AGENTS = 256
"""Agents on one node."""

MAX_COUNTER = 2**53 - 1
"""Greatest epoch or generation: whole numbers that every JSON library reads exactly."""

MAX_CODE = 64
"""Characters of an error code in a receipt."""


@dataclass(frozen=True, slots=True)
class VerifiedAssignment:
    """An assignment that passed every check of `open_assignment`.

    Attributes:
        assignment: what to run.
        digest: "sha256:" and hex of the payload; names this content in acknowledgements and receipts.
        leaf_index: place of the envelope in the audit log.
        checkpoint_size: leaves in the log whose checkpoint proves that place.
    """

    assignment: Assignment
    digest: str
    leaf_index: int
    checkpoint_size: int


@dataclass(frozen=True, slots=True)
class ReceiptAgent:
    """One agent of a receipt.

    Attributes:
        name: `application/agent`.
        bundle_digest: digest of its bundle.
        grant_digest: digest of its grant.
        refusal: the error code that kept it from starting, or empty.
        used: interfaces, unversioned and sorted, that the agent has called since it first started on the node: so
            that whoever reads the log can tell what a grant gives and nobody ever used.
    """

    name: str
    bundle_digest: str
    grant_digest: str
    refusal: str = ""
    used: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A node's statement of what it applied.

    Attributes:
        fleet: name of the fleet.
        node: name of the node.
        epoch: enrolment of the node.
        generation: generation of the assignment.
        digest: digest of the assignment's payload.
        at: when it was applied.
        agents: every agent of the assignment.
    """

    fleet: str
    node: str
    epoch: int
    generation: int
    digest: str
    at: datetime
    agents: tuple[ReceiptAgent, ...]


def encode_assignment(assignment: Assignment) -> bytes:
    """Write the payload of an assignment. Times are cut to whole milliseconds."""
    return dump_json(
        {
            "schema": ASSIGNMENT_SCHEMA,
            "fleet": assignment.fleet,
            "node": assignment.node,
            "epoch": assignment.epoch,
            "generation": assignment.generation,
            "issued_ms": to_ms(assignment.issued),
            "expires_ms": to_ms(assignment.expires),
            "agents": [encode_agent(agent) for agent in assignment.agents],
        }
    )


def decode_assignment(payload: bytes) -> Assignment:
    """Read the payload of an assignment.

    Raises:
        FleetError: ASSIGNMENT_INVALID with the place; LIMIT_EXCEEDED.
    """
    with _open(payload, "assignment", ASSIGNMENT_SCHEMA) as top:
        assignment = Assignment(
            fleet=top.matching("fleet", is_name),
            node=top.matching("node", is_name),
            epoch=top.integer("epoch", 1, MAX_COUNTER),
            generation=top.integer("generation", 1, MAX_COUNTER),
            issued=_moment(top, "issued_ms"),
            expires=_moment(top, "expires_ms"),
            agents=tuple(decode_agent(item, place) for item, place in top.items("agents", MAX_AGENTS)),
        )
        if assignment.issued >= assignment.expires:
            top.fail("expires_ms", "not after issued_ms")
        _distinct(top, [agent.name for agent in assignment.agents])
        check_assigned(assignment.agents)
    return assignment


def open_assignment(
    desired: DesiredState,
    trust: FleetTrust,
    *,
    node: str,
    epoch: int,
    now: datetime,
    witnesses: WitnessPolicy = NO_WITNESSES,
) -> VerifiedAssignment:
    """Verify a desired state as the node that shall run it.

    Checks, in this order:
        1. The envelope is at most MAX_ENVELOPE bytes.
        2. A director key signed it, and as an assignment (DSSE payload type).
        3. The payload is a valid assignment.
        4. It is for this fleet.
        5. It is for this node.
        6. It is for this enrolment of the node; older ones died with `fleetctl node reset`.
        7. It has not expired.
        8. The proof's checkpoint is signed by the fleet's audit log and cosigned by the quorum of `witnesses`.
        9. The envelope is a leaf of that log.

    To come back from local disk, pass the moment at which it was accepted as `now`: expiry gates accepting only.

    Args:
        desired: bytes as received or as stored.
        trust: keys of the director and the log.
        node: this node's name.
        epoch: this node's enrolment.
        now: reference time for check 7.
        witnesses: the release's witness policy; what was accepted under an earlier one goes on without.

    Raises:
        FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, ASSIGNMENT_INVALID, ASSIGNMENT_WRONG_NODE, ASSIGNMENT_EXPIRED,
            PROOF_INVALID, QUORUM_MISSING.
    """
    payload = _verified_payload(desired.envelope, ASSIGNMENT_TYPE, trust.director_keys)  # 1, 2
    assignment = decode_assignment(payload)  # 3
    if assignment.fleet != trust.fleet:  # 4
        raise _wrong_node(f"the assignment is for fleet {assignment.fleet}")
    if assignment.node != node:  # 5
        raise _wrong_node(f"the assignment is for node {assignment.node}")
    if assignment.epoch != epoch:  # 6
        raise _wrong_node(f"the assignment is for epoch {assignment.epoch}, this is epoch {epoch}")
    if assignment.expires <= now:  # 7
        raise FleetError(Code.ASSIGNMENT_EXPIRED, f"the assignment expired at {assignment.expires.isoformat()}")
    proof = parse_proof(desired.proof)
    checkpoint = open_witnessed(proof.note, trust.log_vkeys, witnesses)  # 8
    verify_inclusion(  # 9
        proof.index, checkpoint.size, leaf_hash(desired.envelope), proof.hashes, checkpoint.root
    )
    return VerifiedAssignment(assignment, _digest_of(payload), proof.index, checkpoint.size)


def sign_assignment(assignment: Assignment, key: SigningKey) -> bytes:
    """Make the envelope of an assignment; its bytes are the leaf of the audit log.

    Raises:
        FleetError: LIMIT_EXCEEDED, so that the director never orders what a node would refuse.
    """
    envelope = sign_envelope(ASSIGNMENT_TYPE, encode_assignment(assignment), [key])
    _check_size(envelope)
    return envelope


def encode_receipt(receipt: Receipt) -> bytes:
    """Write the payload of a receipt."""
    return dump_json(
        {
            "schema": RECEIPT_SCHEMA,
            "fleet": receipt.fleet,
            "node": receipt.node,
            "epoch": receipt.epoch,
            "generation": receipt.generation,
            "digest": receipt.digest,
            "at_ms": to_ms(receipt.at),
            "agents": [
                {
                    "name": agent.name,
                    "bundle": agent.bundle_digest,
                    "grant": agent.grant_digest,
                    "refusal": agent.refusal,
                    **({"used": list(agent.used)} if agent.used else {}),
                }
                for agent in receipt.agents
            ],
        }
    )


def decode_receipt(payload: bytes) -> Receipt:
    """Read the payload of a receipt.

    Raises:
        FleetError: ASSIGNMENT_INVALID with the place; LIMIT_EXCEEDED.
    """
    with _open(payload, "receipt", RECEIPT_SCHEMA) as top:
        receipt = Receipt(
            fleet=top.matching("fleet", is_name),
            node=top.matching("node", is_name),
            epoch=top.integer("epoch", 1, MAX_COUNTER),
            generation=top.integer("generation", 1, MAX_COUNTER),
            digest=top.matching("digest", is_digest),
            at=_moment(top, "at_ms"),
            agents=tuple(_receipt_agent(item, place) for item, place in top.items("agents", MAX_AGENTS)),
        )
        _distinct(top, [agent.name for agent in receipt.agents])
    return receipt


def open_receipt(envelope: bytes, *, fleet: str, node: str, epoch: int, key: VerifyingKey) -> Receipt:
    """Verify a receipt as the coordinator, or as anyone who reads the audit log.

    Checks, in this order:
        1. The envelope is at most MAX_ENVELOPE bytes.
        2. The node's bound key signed it, and as a receipt (DSSE payload type).
        3. The payload is a valid receipt.
        4. It names the fleet, the node and the enrolment that the key belongs to.

    Raises:
        FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, ASSIGNMENT_INVALID, ASSIGNMENT_WRONG_NODE.
    """
    receipt = decode_receipt(_verified_payload(envelope, RECEIPT_TYPE, [key]))  # 1, 2, 3
    if (receipt.fleet, receipt.node, receipt.epoch) != (fleet, node, epoch):  # 4
        raise _wrong_node(f"the receipt is from {receipt.node}, epoch {receipt.epoch}")
    return receipt


def sign_receipt(receipt: Receipt, key: Signer) -> bytes:
    """Make the envelope of a receipt with the node's bound key."""
    return sign_envelope(RECEIPT_TYPE, encode_receipt(receipt), [key])


def _verified_payload(envelope: bytes, payload_type: str, keys: Sequence[VerifyingKey]) -> bytes:
    _check_size(envelope)  # 1
    return verify_envelope(envelope, payload_type, keys)  # 2


def _check_size(envelope: bytes) -> None:
    if len(envelope) > MAX_ENVELOPE:
        raise FleetError(
            Code.LIMIT_EXCEEDED,
            f"an envelope of {len(envelope)} bytes, the limit is {MAX_ENVELOPE}",
            document="all agents of one node",
            bytes=len(envelope),
            limit=MAX_ENVELOPE,
        )


def _open(payload: bytes, name: str, schema: str) -> Reader:
    reader = Reader(load_json(payload, Code.ASSIGNMENT_INVALID, name), Code.ASSIGNMENT_INVALID, name)
    if reader.text("schema") != schema:
        reader.fail("schema", f"expected {schema!r}")
    return reader


def _receipt_agent(item: Value, place: str) -> ReceiptAgent:
    with Reader(item, Code.ASSIGNMENT_INVALID, place) as entry:
        refusal = entry.text("refusal")
        if len(refusal) > MAX_CODE:
            entry.fail("refusal", f"more than {MAX_CODE} characters")
        used = entry.texts("used", MAX_INTERFACES)
        if list(used) != sorted(set(used)) or not all(map(is_interface, used)):
            entry.fail("used", "expected interfaces, sorted, each once")
        return ReceiptAgent(
            name=entry.matching("name", is_agent_name),
            bundle_digest=entry.matching("bundle", is_digest),
            grant_digest=entry.matching("grant", is_digest),
            refusal=refusal,
            used=used,
        )


def _moment(reader: Reader, key: str) -> datetime:
    return from_ms(reader.integer(key, 0, MAX_MS))


def _distinct(reader: Reader, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        reader.fail("agents", "an agent occurs twice")


def _digest_of(payload: bytes) -> str:
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def _wrong_node(message: str) -> FleetError:
    return FleetError(Code.ASSIGNMENT_WRONG_NODE, message)
