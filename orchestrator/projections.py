"""Answers about authority at a moment: who could do what, where, and did the node confirm it.

Owns: the rows that assignments and receipts leave beside the log, in the same transaction, and the question over them.
The log is the truth: every answer names the leaf that anyone can check it against, and the rows can be made again from
the leaves. Valid time is the coordinator's clock when the leaf was appended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.grants.document import parse_grant
from fleet.grants.lattice import describe_rules
from fleet.times import to_ms
from orchestrator.store import audit as rows
from orchestrator.store.release import get_grants

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from fleet.assignment import Receipt
    from fleet.model import Assignment


@dataclass(frozen=True, slots=True)
class Answer:
    """One agent on one node that had an interface at the moment asked for.

    Attributes:
        constraints: one line per rule of the grant.
        approvers: key ids that had signed the grant.
        enforced: whether the node's newest receipt before the moment confirms it.
        leaf: index of the assignment in the log.
    """

    node: str
    agent: str
    interface: str
    constraints: tuple[str, ...]
    grant_revision: int
    grant_digest: str
    approvers: tuple[str, ...]
    bundle_path: str
    since_ms: int
    enforced: bool
    leaf: int


def record_assignment(connection: Connection, assignment: Assignment, leaf: int, now: datetime) -> None:
    """Note what a new assignment changes; an agent that stays as it was keeps its row and its leaf."""
    key = {
        row.agent: (row.bundle_path, row.bundle_digest, row.grant_path, row.grant_digest)
        for row in rows.list_open(connection, assignment.node)
    }
    wanted = {
        agent.name: (agent.bundle.path, agent.bundle.digest, agent.grant.path, agent.grant.digest)
        for whole in assignment.agents
        for agent in whole.parts
    }
    ended = [agent for agent, references in key.items() if wanted.get(agent) != references]
    rows.close_assigned(connection, assignment.node, ended, to_ms(now))
    begun = [
        rows.AssignedRow(assignment.node, agent, *references, leaf, assignment.generation, to_ms(now))
        for agent, references in wanted.items()
        if key.get(agent) != references
    ]
    rows.insert_assigned(connection, begun)


def record_receipt(connection: Connection, receipt: Receipt, leaf: int, now: datetime) -> None:
    """Note what a node confirmed; an agent that it refused to start is not confirmed."""
    rows.insert_enforced(
        connection,
        [
            rows.EnforcedRow(
                receipt.node,
                agent.name,
                agent.bundle_digest,
                agent.grant_digest,
                receipt.generation,
                leaf,
                to_ms(now),
            )
            for agent in receipt.agents
            if not agent.refusal
        ],
    )


def who(
    connection: Connection, at: datetime, *, agent: str = "", node: str = "", interface: str = ""
) -> tuple[Answer, ...]:
    """Return who had authority at a moment; an empty argument means any.

    Args:
        connection: a transaction.
        at: the moment.
        agent: `application/agent`.
        node: name of a node.
        interface: interface without version, for example `wasi:nn/graph`.
    """
    held = rows.assigned_at(connection, to_ms(at), agent=agent, node=node)
    documents = get_grants(connection, {row.grant_digest for row in held})
    grants = {digest: parse_grant(found.document, found.path) for digest, found in documents.items()}
    answers: list[Answer] = []
    for row in held:
        grant = grants.get(row.grant_digest)
        if grant is None:  # cannot be assigned without having been published; a database from elsewhere
            continue
        enforced = rows.is_enforced(connection, row, to_ms(at))
        for name, rules in sorted(grant.capabilities.items()):
            if interface in {"", name}:
                answers.append(
                    Answer(
                        node=row.node,
                        agent=row.agent,
                        interface=name,
                        constraints=tuple(line.removeprefix(f"{name}: ") for line in describe_rules(name, rules)),
                        grant_revision=grant.revision,
                        grant_digest=row.grant_digest,
                        approvers=documents[row.grant_digest].approvers,
                        bundle_path=row.bundle_path,
                        since_ms=row.from_ms,
                        enforced=enforced,
                        leaf=row.leaf,
                    )
                )
    return tuple(answers)
