"""Who was approved, ordered and confirmed to have which authority, and when: projections of the audit log.

Owns: the rows, the pure steps from one leaf to the next, and `History`, which rebuilds all rows from leaves alone. The
coordinator takes the same steps beside the log in its database, so both must come to the same rows; who checks the log
compares them. Two times are kept apart: when something was so (an order's issue, a receipt's time by the node's clock)
and when it was known (the coordinator's clock when the leaf was appended). Never verifies a signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fleet.assignment import ASSIGNMENT_TYPE, RECEIPT_TYPE, decode_assignment, decode_receipt
from fleet.errors import Code, FleetError
from fleet.leaves import PUBLISHED, RECEIVED, EventLeaf, SignedLeaf, read_leaf
from fleet.signing import decode_base64
from fleet.times import to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.assignment import Receipt
    from fleet.model import Assignment


@dataclass(frozen=True, slots=True)
class ApprovedRow:
    """A grant while the release repository listed it with these approvers; `to_ms` None: it still does."""

    path: str
    digest: str
    approvers: tuple[str, ...]
    document: bytes
    leaf: int
    from_ms: int
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AssignedRow:
    """An agent that a node was ordered to run from one moment to another (None: still)."""

    node: str
    agent: str
    bundle_path: str
    bundle_digest: str
    grant_path: str
    grant_digest: str
    leaf: int
    generation: int
    from_ms: int
    to_ms: int | None = None

    @property
    def what(self) -> tuple[str, str, str]:
        """The agent, its bundle and its grant."""
        return self.agent, self.bundle_digest, self.grant_digest


@dataclass(frozen=True, slots=True)
class EnforcedRow:
    """What a node confirmed under its own key.

    Attributes:
        refusal: error code that kept the agent from starting; empty when it was applied.
        leaf: the receipt that first said so.
        applied_ms: when, by the node's clock.
        known_ms: when the receipt arrived.
        ended_ms: when a later receipt said otherwise, by the node's clock; None: the newest still says so.
        ended_known_ms: when that receipt arrived.
    """

    node: str
    agent: str
    bundle_digest: str
    grant_digest: str
    refusal: str
    generation: int
    leaf: int
    applied_ms: int
    known_ms: int
    ended_ms: int | None = None
    ended_known_ms: int | None = None

    @property
    def what(self) -> tuple[str, str, str]:
        """The agent, its bundle and its grant."""
        return self.agent, self.bundle_digest, self.grant_digest


@dataclass(frozen=True, slots=True)
class Rows:
    """All projections: grants, orders and confirmations, those that ended and those that hold."""

    approved: tuple[ApprovedRow, ...] = ()
    assigned: tuple[AssignedRow, ...] = ()
    enforced: tuple[EnforcedRow, ...] = ()


def approve(
    listed: Iterable[ApprovedRow], added: Iterable[ApprovedRow], removed: Iterable[str]
) -> tuple[tuple[ApprovedRow, ...], tuple[ApprovedRow, ...]]:
    """Take a publication in; returns the rows of `listed` that end, and those that begin.

    Args:
        listed: open rows.
        added: rows of the grants that the publication lists anew or with other approvers.
        removed: paths that it lists no more.
    """
    new = {row.path: row for row in added}
    gone = set(removed)
    same = {row.path for row in listed if row.path in new and _approval(new[row.path]) == _approval(row)}
    ended = tuple(row for row in listed if row.path in gone or (row.path in new and row.path not in same))
    return ended, tuple(row for path, row in new.items() if path not in same)


def assign(
    ordered: Iterable[AssignedRow], assignment: Assignment, leaf: int
) -> tuple[tuple[AssignedRow, ...], tuple[AssignedRow, ...]]:
    """Take an assignment in; an agent that stays as it was keeps its row and its leaf.

    Args:
        ordered: open rows of the node.
        assignment: its newest.
        leaf: where the log has it.

    Returns:
        The rows of `ordered` that end, and those that begin.
    """
    wanted = {
        part.name: AssignedRow(
            assignment.node,
            part.name,
            part.bundle.path,
            part.bundle.digest,
            part.grant.path,
            part.grant.digest,
            leaf,
            assignment.generation,
            to_ms(assignment.issued),
        )
        for whole in assignment.agents
        for part in whole.parts
    }
    kept = {row.agent for row in ordered if row.agent in wanted and _order(wanted[row.agent]) == _order(row)}
    ended = tuple(row for row in ordered if row.agent not in kept)
    return ended, tuple(row for agent, row in wanted.items() if agent not in kept)


def enforce(
    confirmed: Iterable[EnforcedRow], receipt: Receipt, leaf: int, known_ms: int
) -> tuple[tuple[EnforcedRow, ...], tuple[EnforcedRow, ...]]:
    """Take a receipt in: it names everything that the node applied, so what it leaves out has ended.

    Args:
        confirmed: open rows of the node.
        receipt: its newest.
        leaf: where the log has it.
        known_ms: when it arrived.

    Returns:
        The rows of `confirmed` that end, and those that begin.
    """
    said = {
        agent.name: EnforcedRow(
            receipt.node,
            agent.name,
            agent.bundle_digest,
            agent.grant_digest,
            agent.refusal,
            receipt.generation,
            leaf,
            to_ms(receipt.at),
            known_ms,
        )
        for agent in receipt.agents
    }
    kept = {row.agent for row in confirmed if row.agent in said and _state(said[row.agent]) == _state(row)}
    ended = tuple(row for row in confirmed if row.agent not in kept)
    return ended, tuple(row for agent, row in said.items() if agent not in kept)


def approvals_of(leaf: EventLeaf, index: int) -> tuple[tuple[ApprovedRow, ...], tuple[str, ...]]:
    """Read a publication: the grants that it added, and the paths that it removed.

    Raises:
        FleetError: AUDIT_INVALID.
    """
    grants, removed = leaf.facts.get("grants", {}), leaf.facts.get("removed", [])
    if not isinstance(grants, dict) or not isinstance(removed, list):
        raise _invalid("a publication lists no grants", index)
    rows = []
    for path, value in grants.items():
        if not isinstance(value, dict):
            raise _invalid("a grant is malformed", index)
        digest, approvers, document = value.get("digest"), value.get("approvers"), value.get("document")
        if not (isinstance(digest, str) and isinstance(approvers, list) and isinstance(document, str)):
            raise _invalid("a grant is malformed", index)
        try:
            data = decode_base64(document)
        except ValueError as error:
            raise _invalid("a grant is not base64", index) from error
        rows.append(ApprovedRow(path, digest, tuple(map(str, approvers)), data, index, leaf.at_ms))
    return tuple(rows), tuple(map(str, removed))


@dataclass(slots=True)
class History:
    """Rebuilds every row from the leaves, fed in their order.

    Attributes:
        known_ms: the coordinator's clock at the newest leaf that shows it.
    """

    known_ms: int = 0
    _approved: list[ApprovedRow] = field(default_factory=list)
    _assigned: list[AssignedRow] = field(default_factory=list)
    _enforced: list[EnforcedRow] = field(default_factory=list)
    _listed: dict[str, ApprovedRow] = field(default_factory=dict)
    _ordered: dict[str, dict[str, AssignedRow]] = field(default_factory=dict)
    _confirmed: dict[str, dict[str, EnforcedRow]] = field(default_factory=dict)

    def apply(self, index: int, data: bytes) -> EventLeaf | SignedLeaf:
        """Take the next leaf in and return it as read.

        Raises:
            FleetError: AUDIT_INVALID, ASSIGNMENT_INVALID, LIMIT_EXCEEDED.
        """
        leaf = read_leaf(data)
        if isinstance(leaf, EventLeaf):
            self.known_ms = leaf.at_ms
            if leaf.kind == PUBLISHED:
                self._publish(*approvals_of(leaf, index), leaf.at_ms)
            elif leaf.kind == RECEIVED:
                self._receive(receipt_of(leaf), index)
        elif leaf.payload_type == ASSIGNMENT_TYPE:
            self._order(decode_assignment(leaf.payload), index)
        elif leaf.payload_type == RECEIPT_TYPE:  # as logs of the first releases have them
            self._receive(decode_receipt(leaf.payload), index)
        return leaf

    def rows(self) -> Rows:
        """Return every row as of now, those that ended and those that are open."""
        return Rows(
            (*self._approved, *self._listed.values()),
            (*self._assigned, *(row for rows in self._ordered.values() for row in rows.values())),
            (*self._enforced, *(row for rows in self._confirmed.values() for row in rows.values())),
        )

    def _publish(self, added: Sequence[ApprovedRow], removed: Sequence[str], at_ms: int) -> None:
        ended, begun = approve(self._listed.values(), added, removed)
        for row in ended:
            del self._listed[row.path]
            self._approved.append(replace(row, to_ms=at_ms))
        self._listed.update((row.path, row) for row in begun)

    def _order(self, assignment: Assignment, index: int) -> None:
        at_ms = self.known_ms = to_ms(assignment.issued)
        rows = self._ordered.setdefault(assignment.node, {})
        ended, begun = assign(tuple(rows.values()), assignment, index)
        for row in ended:
            del rows[row.agent]
            self._assigned.append(replace(row, to_ms=at_ms))
        rows.update((row.agent, row) for row in begun)

    def _receive(self, receipt: Receipt, index: int) -> None:
        rows = self._confirmed.setdefault(receipt.node, {})
        ended, begun = enforce(tuple(rows.values()), receipt, index, self.known_ms)
        for row in ended:
            del rows[row.agent]
            self._enforced.append(replace(row, ended_ms=to_ms(receipt.at), ended_known_ms=self.known_ms))
        rows.update((row.agent, row) for row in begun)


def receipt_of(leaf: EventLeaf) -> Receipt:
    """Return the receipt inside its leaf, not verified.

    Raises:
        FleetError: AUDIT_INVALID, ASSIGNMENT_INVALID.
    """
    inner = read_leaf(leaf.text("envelope").encode())
    if not isinstance(inner, SignedLeaf) or inner.payload_type != RECEIPT_TYPE:
        raise FleetError(Code.AUDIT_INVALID, "no receipt in the leaf of one")
    return decode_receipt(inner.payload)


def differences(here: Rows, there: Rows) -> Mapping[str, int]:
    """Count the rows of each projection that only one of two has; empty when they are the same."""
    counts = {
        "approved": len(set(here.approved) ^ set(there.approved)),
        "assigned": len(set(here.assigned) ^ set(there.assigned)),
        "enforced": len(set(here.enforced) ^ set(there.enforced)),
    }
    return {name: count for name, count in counts.items() if count}


def _approval(row: ApprovedRow) -> tuple[str, tuple[str, ...]]:
    return row.digest, row.approvers


def _order(row: AssignedRow) -> tuple[str, ...]:
    return row.bundle_path, row.bundle_digest, row.grant_path, row.grant_digest


def _state(row: EnforcedRow) -> tuple[str, ...]:
    return row.bundle_digest, row.grant_digest, row.refusal


def _invalid(message: str, index: int) -> FleetError:
    return FleetError(Code.AUDIT_INVALID, message, leaf=index)
