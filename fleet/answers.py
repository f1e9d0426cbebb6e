"""Questions about authority, answered from the rows of `fleet.history`.

Owns: who could do what at a moment, what changed between two, the history of an agent, what is ordered but not
confirmed, and who approved what. The same functions answer for a coordinator that is asked and for an export that is
read without one. A moment is a pair: `at_ms`, when it was so, and `known_ms`, what was known by then; a receipt that
came late changes the first answer and not the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from fleet.grants.document import parse_grant
from fleet.grants.lattice import describe_rules
from fleet.targets import agent_of_grant, bundle_of, is_break_glass, revision_of_grant
from fleet.times import MAX_MS, to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.grants.document import Grant
    from fleet.history import ApprovedRow, AssignedRow, EnforcedRow, Rows

UNCONFIRMED = ""
"""State of an order that no receipt speaks of."""

CONFIRMED = "applied"
"""State of an order that the node confirmed; any other text is the code with which the node refused it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was so, and what was known by when."""

    at_ms: int
    known_ms: int = MAX_MS


@dataclass(frozen=True, slots=True)
class Held:
    """An interface that an agent on a node was ordered to have at a moment.

    Attributes:
        constraints: one line per rule of the grant.
        approvers: key ids that had signed the grant.
        approved: whether the release repository listed the grant then and it was within its validity.
        state: CONFIRMED, UNCONFIRMED, or the code with which the node refused.
        since_ms: when the order began.
        leaf: index of the order in the log.
    """

    node: str
    agent: str
    interface: str
    constraints: tuple[str, ...]
    grant_path: str
    grant_digest: str
    revision: int
    approvers: tuple[str, ...]
    approved: bool
    bundle_path: str
    bundle_digest: str
    state: str
    since_ms: int
    leaf: int

    @property
    def break_glass(self) -> bool:
        """Whether it is by an emergency grant."""
        return is_break_glass(self.grant_path)


@dataclass(frozen=True, slots=True)
class Change:
    """An authority that one moment has and another has not, or has otherwise."""

    before: Held | None
    after: Held | None


@dataclass(frozen=True, slots=True)
class Incident:
    """One line of an agent's history; `known_ms` differs from `at_ms` where the news came later."""

    at_ms: int
    known_ms: int
    what: str
    node: str
    detail: str
    leaf: int


class DriftKind(StrEnum):
    """How what a node runs differs from what it should."""

    UNCONFIRMED = "not confirmed"
    REFUSED = "refused"
    STILL_RUNS = "still runs"
    REVOKED = "runs revoked"


@dataclass(frozen=True, slots=True)
class Drift:
    """An order and what a node confirmed that do not agree, since when, and why."""

    node: str
    agent: str
    kind: DriftKind
    since_ms: int
    detail: str
    leaf: int


@dataclass(frozen=True, slots=True)
class Approval:
    """A grant, who signed it, while it was listed (None: still), and the reason that it gives."""

    agent: str
    revision: int
    path: str
    digest: str
    approvers: tuple[str, ...]
    from_ms: int
    to_ms: int | None
    valid_until_ms: int
    leaf: int
    reason: str = ""

    @property
    def break_glass(self) -> bool:
        """Whether it is an emergency grant."""
        return is_break_glass(self.path)


def who(rows: Rows, when: Moment, *, agent: str = "", node: str = "", interface: str = "") -> tuple[Held, ...]:
    """Return who had authority at a moment, by node, agent and interface; an empty argument means any."""
    approvals = {(row.path, row.digest): row for row in rows.approved if row.from_ms <= when.known_ms}
    listed = {(row.path, row.digest) for row in rows.approved if _holds(row.from_ms, row.to_ms, when)}
    confirmed = _confirmed(rows.enforced, when)
    found: list[Held] = []
    for order in rows.assigned:
        key = (order.grant_path, order.grant_digest)
        wanted = agent in {"", order.agent} and node in {"", order.node}
        if not wanted or key not in approvals or not _holds(order.from_ms, order.to_ms, when):
            continue
        approval = approvals[key]
        grant = _grant(approval.document, approval.path)
        valid = to_ms(grant.not_before) <= when.at_ms < to_ms(grant.not_after)
        found += [
            Held(
                node=order.node,
                agent=order.agent,
                interface=name,
                constraints=tuple(line.removeprefix(f"{name}: ") for line in describe_rules(name, rules)),
                grant_path=order.grant_path,
                grant_digest=order.grant_digest,
                revision=grant.revision,
                approvers=approval.approvers,
                approved=valid and key in listed,
                bundle_path=order.bundle_path,
                bundle_digest=order.bundle_digest,
                state=_state(order, confirmed.get((order.node, order.agent))),
                since_ms=order.from_ms,
                leaf=order.leaf,
            )
            for name, rules in grant.capabilities.items()
            if interface in {"", name}
        ]
    return tuple(sorted(found, key=_place))


def diff(rows: Rows, old: Moment, new: Moment, *, agent: str = "", node: str = "") -> tuple[Change, ...]:
    """Return what authority came, went, got other constraints, or became or ceased to be an emergency's."""
    before = {_place(found): found for found in who(rows, old, agent=agent, node=node)}
    after = {_place(found): found for found in who(rows, new, agent=agent, node=node)}
    return tuple(
        Change(before.get(place), after.get(place))
        for place in sorted(before.keys() | after.keys())
        if place not in before or place not in after or _matter(before[place]) != _matter(after[place])
    )


def history(rows: Rows, agent: str) -> tuple[Incident, ...]:
    """Return everything about an agent: approvals, orders and confirmations, the oldest first."""
    found: list[Incident] = []
    for row in rows.approved:
        if agent_of_grant(row.path) == agent:
            grant = _name_of(row.path)
            keys = ", ".join(key[:12] for key in row.approvers)
            found.append(Incident(row.from_ms, row.from_ms, "approved", "", f"{grant} by {keys}", row.leaf))
            if row.to_ms is not None:
                found.append(Incident(row.to_ms, row.to_ms, "approval ended", "", grant, row.leaf))
    for order in rows.assigned:
        if order.agent == agent:
            detail = f"{bundle_of(order.bundle_path)} under {_name_of(order.grant_path)}"
            found.append(Incident(order.from_ms, order.from_ms, "ordered", order.node, detail, order.leaf))
            if order.to_ms is not None:
                found.append(Incident(order.to_ms, order.to_ms, "order ended", order.node, detail, order.leaf))
    for said in rows.enforced:
        if said.agent == agent:
            what, detail = ("refused", said.refusal) if said.refusal else ("applied", f"generation {said.generation}")
            found.append(Incident(said.applied_ms, said.known_ms, what, said.node, detail, said.leaf))
            if said.ended_ms is not None and said.ended_known_ms is not None:
                over = f"{what}, ended"
                found.append(Incident(said.ended_ms, said.ended_known_ms, over, said.node, detail, said.leaf))
    return tuple(sorted(found, key=lambda item: (item.at_ms, item.leaf, item.what)))


def drift(rows: Rows, when: Moment, *, agent: str = "", node: str = "") -> tuple[Drift, ...]:
    """Return where nodes, as far as they have said, differ from what is ordered and approved.

    An order that its node has not confirmed or has refused; an agent that a node confirmed and that is ordered no more;
    an agent that a node confirmed under a grant that is not listed any more, or not valid any more.
    """
    confirmed = _confirmed(rows.enforced, when)
    orders = {(row.node, row.agent): row for row in rows.assigned if _holds(row.from_ms, row.to_ms, when)}
    ended = {(row.node, *row.what): row.to_ms for row in rows.assigned if row.to_ms is not None}
    found: list[Drift] = []
    for place, order in orders.items():
        state = _state(order, confirmed.get(place))
        if state != CONFIRMED:
            kind = DriftKind.REFUSED if state else DriftKind.UNCONFIRMED
            detail = state or f"{bundle_of(order.bundle_path)} under {_name_of(order.grant_path)}"
            found.append(Drift(order.node, order.agent, kind, order.from_ms, detail, order.leaf))
    for place, row in confirmed.items():
        if row.refusal:
            continue
        ordered = orders.get(place)
        if ordered is None or ordered.what != row.what:
            since = ended.get((row.node, *row.what)) or row.applied_ms
            found.append(Drift(row.node, row.agent, DriftKind.STILL_RUNS, since, "ordered no more", row.leaf))
        revoked = _revoked(rows.approved, row.grant_digest, when)
        if revoked is not None:
            found.append(Drift(row.node, row.agent, DriftKind.REVOKED, revoked[0], revoked[1], row.leaf))
    kept = (item for item in found if agent in {"", item.agent} and node in {"", item.node})
    return tuple(sorted(kept, key=lambda item: (item.node, item.agent, item.kind)))


def approvers(rows: Rows, *, agent: str = "", key: str = "") -> tuple[Approval, ...]:
    """Return every grant that was ever listed with who had signed it; `key` is the beginning of a key id."""
    found = []
    for row in rows.approved:
        name = agent_of_grant(row.path)
        if agent in {"", name} and any(approver.startswith(key) for approver in row.approvers):
            grant = _grant(row.document, row.path)
            approval = Approval(
                name,
                revision_of_grant(row.path),
                row.path,
                row.digest,
                row.approvers,
                row.from_ms,
                row.to_ms,
                to_ms(grant.not_after),
                row.leaf,
                grant.reason,
            )
            found.append(approval)
    return tuple(sorted(found, key=lambda item: (item.from_ms, item.path)))


def _holds(from_ms: int, until_ms: int | None, when: Moment) -> bool:
    """Whether something that the coordinator itself made was so at a moment, as known by then."""
    return from_ms <= min(when.at_ms, when.known_ms) and (
        until_ms is None or until_ms > when.at_ms or until_ms > when.known_ms
    )


def _confirmed(rows: Iterable[EnforcedRow], when: Moment) -> dict[tuple[str, str], EnforcedRow]:
    """What each node's newest receipt of the moment says, as known by then."""
    found: dict[tuple[str, str], EnforcedRow] = {}
    for row in rows:
        begun = row.applied_ms <= when.at_ms and row.known_ms <= when.known_ms
        over = (
            row.ended_ms is not None
            and row.ended_known_ms is not None
            and row.ended_ms <= when.at_ms
            and row.ended_known_ms <= when.known_ms
        )
        if begun and not over:
            found[row.node, row.agent] = row  # rows of one agent on one node come in the order of their leaves
    return found


def _state(order: AssignedRow, row: EnforcedRow | None) -> str:
    if row is None or row.what != order.what:
        return UNCONFIRMED
    return row.refusal or CONFIRMED


def _revoked(rows: Sequence[ApprovedRow], digest: str, when: Moment) -> tuple[int, str] | None:
    mine = [row for row in rows if row.digest == digest and row.from_ms <= min(when.at_ms, when.known_ms)]
    if not mine:
        return None  # approved before the log carried grants
    newest = max(mine, key=lambda row: row.from_ms)
    if newest.to_ms is not None and not _holds(newest.from_ms, newest.to_ms, when):
        return newest.to_ms, f"{_name_of(newest.path)} is not approved any more"
    until = to_ms(_grant(newest.document, newest.path).not_after)
    return (until, f"{_name_of(newest.path)} has expired") if until <= when.at_ms else None


def _place(found: Held) -> tuple[str, str, str]:
    return found.node, found.agent, found.interface


@lru_cache(maxsize=1024)
def _grant(document: bytes, path: str) -> Grant:
    return parse_grant(document, path)


def _name_of(path: str) -> str:
    """Name of a grant by its target path, for people."""
    return f"{'BREAK-GLASS ' if is_break_glass(path) else ''}grant r{revision_of_grant(path)}"


def _matter(held: Held) -> tuple[object, ...]:
    """What makes an authority another one."""
    return held.constraints, held.break_glass
