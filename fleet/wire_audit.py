"""Protobuf messages to and from the rows of `fleet.history`.

Owns: both directions for what `fleetctl audit` asks of a coordinator. A row that comes over the wire is an answer, no
proof: `fleetctl audit verify` compares the rows with those that the leaves give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.history import ApprovedRow, AssignedRow, EnforcedRow, Rows
from fleet.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def to_pb_rows(rows: Rows, size: int) -> Iterator[pb.AuditRow]:
    """Write rows, after a message that says from how many leaves they are."""
    yield pb.AuditRow(size=size)
    for approved in rows.approved:
        yield pb.AuditRow(
            approved=pb.ApprovedRow(
                path=approved.path,
                digest=approved.digest,
                approvers=approved.approvers,
                document=approved.document,
                leaf=approved.leaf,
                from_ms=approved.from_ms,
                to_ms=approved.to_ms,
            )
        )
    for assigned in rows.assigned:
        yield pb.AuditRow(
            assigned=pb.AssignedRow(
                node=assigned.node,
                agent=assigned.agent,
                bundle_path=assigned.bundle_path,
                bundle_digest=assigned.bundle_digest,
                grant_path=assigned.grant_path,
                grant_digest=assigned.grant_digest,
                leaf=assigned.leaf,
                generation=assigned.generation,
                from_ms=assigned.from_ms,
                to_ms=assigned.to_ms,
            )
        )
    for enforced in rows.enforced:
        yield pb.AuditRow(
            enforced=pb.EnforcedRow(
                node=enforced.node,
                agent=enforced.agent,
                bundle_digest=enforced.bundle_digest,
                grant_digest=enforced.grant_digest,
                refusal=enforced.refusal,
                leaf=enforced.leaf,
                generation=enforced.generation,
                applied_ms=enforced.applied_ms,
                known_ms=enforced.known_ms,
                ended_ms=enforced.ended_ms,
                ended_known_ms=enforced.ended_known_ms,
            )
        )


def from_pb_rows(messages: Iterable[pb.AuditRow]) -> tuple[Rows, int]:
    """Read what `to_pb_rows` wrote: rows and size; a row of a kind that is not known is passed over."""
    approved: list[ApprovedRow] = []
    assigned: list[AssignedRow] = []
    enforced: list[EnforcedRow] = []
    size = 0
    for message in messages:
        match message.WhichOneof("row"):
            case "approved":
                row = message.approved
                until = row.to_ms if row.HasField("to_ms") else None
                approved.append(
                    ApprovedRow(row.path, row.digest, tuple(row.approvers), row.document, row.leaf, row.from_ms, until)
                )
            case "assigned":
                assigned.append(_assigned(message.assigned))
            case "enforced":
                enforced.append(_enforced(message.enforced))
            case _:
                size = max(size, message.size)
    return Rows(tuple(approved), tuple(assigned), tuple(enforced)), size


def _assigned(row: pb.AssignedRow) -> AssignedRow:
    return AssignedRow(
        row.node,
        row.agent,
        row.bundle_path,
        row.bundle_digest,
        row.grant_path,
        row.grant_digest,
        row.leaf,
        row.generation,
        row.from_ms,
        row.to_ms if row.HasField("to_ms") else None,
    )


def _enforced(row: pb.EnforcedRow) -> EnforcedRow:
    return EnforcedRow(
        row.node,
        row.agent,
        row.bundle_digest,
        row.grant_digest,
        row.refusal,
        row.generation,
        row.leaf,
        row.applied_ms,
        row.known_ms,
        row.ended_ms if row.HasField("ended_ms") else None,
        row.ended_known_ms if row.HasField("ended_known_ms") else None,
    )
