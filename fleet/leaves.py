"""What a leaf of the audit log says.

Owns: the two forms of a leaf, both JSON in bytes. A DSSE envelope stands there as its signer made it (an assignment, an
operator's action, a witness's certificate); an event says what the coordinator saw and when, and carries the envelope
of a receipt, which by itself says only when it was made. Never verifies a signature: `fleet.audit` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.signing import decode_base64
from fleet.times import MAX_MS, to_ms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleet.documents import Value

EVENT_SCHEMA = "fleet.audit/v1"

MAX_LEAF = 16 * 1024 * 1024
"""Bytes of a leaf: a publication carries the grants that it adds, and is no larger than a call may be."""

RECEIVED = "node:receipt:received"
PUBLISHED = "release:metadata:published"
ENROLLED = "node:identity:enrolled"
CONTINUED = "audit:log:continued"


@dataclass(frozen=True, slots=True)
class EventLeaf:
    """What the coordinator saw: `at_ms` is its clock, `actor` is `user/NAME`, `node/NAME` or `coordinator`."""

    kind: str
    at_ms: int
    actor: str
    facts: Mapping[str, Value]

    def text(self, key: str) -> str:
        """Return a fact that is text; "" when there is none."""
        value = self.facts.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """Return a fact that is a number; 0 when there is none."""
        value = self.facts.get(key)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class SignedLeaf:
    """A DSSE envelope; nothing is verified."""

    payload_type: str
    payload: bytes
    envelope: bytes


def event_leaf(kind: str, at: datetime, actor: str, **facts: object) -> bytes:
    """Write an event as a leaf.

    Args:
        kind: `source:subject:action`, for example `node:certificate:issued`.
        at: when it happened, by the coordinator's clock.
        actor: `user/NAME`, `node/NAME` or `coordinator`.
        facts: JSON values; never a secret.
    """
    return dump_json({"schema": EVENT_SCHEMA, "kind": kind, "at_ms": to_ms(at), "actor": actor, "facts": facts})


def read_leaf(data: bytes) -> EventLeaf | SignedLeaf:
    """Read a leaf.

    Raises:
        FleetError: AUDIT_INVALID for bytes of neither form; LIMIT_EXCEEDED.
    """
    code = Code.AUDIT_INVALID
    value = load_json(data, code, "leaf", MAX_LEAF)
    with Reader(value, code, "leaf") as top:
        if top.has("payloadType"):
            try:
                payload = decode_base64(top.text("payload"))
            except ValueError as error:
                raise FleetError(code, str(error), place="leaf: payload") from error
            top.take("signatures")
            return SignedLeaf(top.text("payloadType"), payload, data)
        if top.text("schema") != EVENT_SCHEMA:
            top.fail("schema", f"expected {EVENT_SCHEMA}")
        facts = top.take("facts")
        if not isinstance(facts, dict):
            top.fail("facts", "expected a mapping")
        return EventLeaf(top.text("kind"), top.integer("at_ms", 0, MAX_MS), top.text("actor"), facts)
