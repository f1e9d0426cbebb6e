"""Signs what nodes shall run: the one authority that the coordinator has.

Owns: the director's key, the numbering of generations and the bytes of desired states. Every order is a leaf of the
audit log and a row of the projection in the caller's transaction: there is no way to order something silently. Never
decides what should run.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from fleet.assigned import decode_agent, encode_agent
from fleet.assignment import MAX_AGENTS, MAX_COUNTER, decode_assignment, encode_assignment, sign_assignment
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code
from fleet.model import Assignment
from fleet.signing import decode_base64
from fleet.times import to_ms
from orchestrator.projections import record_assignment
from orchestrator.store import nodes as rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from fleet.model import AssignedAgent
    from fleet.signing import SigningKey
    from orchestrator.audit import AuditLog


class Director:
    """Makes desired states.

    Args:
        fleet: name of the fleet.
        key: the director's key; `trust/fleet.json` names its public half.
        log: where every assignment becomes a leaf.
        lifetime: how long an assignment may be adopted.
    """

    def __init__(self, fleet: str, key: SigningKey, log: AuditLog, lifetime: timedelta) -> None:
        self.public_key = key.public
        self._fleet = fleet
        self._key = key
        self._log = log
        self._lifetime = lifetime

    def order(
        self,
        connection: Connection,
        node: rows.NodeRow,
        agents: Sequence[AssignedAgent],
        now: datetime,
        *,
        above: int = 0,
    ) -> rows.DesiredRow:
        """Give a node its next generation.

        Args:
            connection: a write transaction.
            node: whom the order is for; its present epoch is written into it.
            agents: everything that the node shall run, of all applications.
            now: moment of issue.
            above: a generation that the node has accepted already, if that is newer than what is stored.

        Raises:
            FleetError: LIMIT_EXCEEDED when the order is larger than a push may be.
        """
        before = rows.get_desired(connection, node.name)
        generation = max(above, 0 if before is None else before.generation) + 1
        assignment = self._compose(node, agents, now, generation)
        envelope = sign_assignment(assignment, self._key)
        leaf = self._log.append(connection, [envelope])
        row = rows.DesiredRow(
            node=node.name,
            epoch=node.epoch,
            generation=generation,
            digest=f"sha256:{hashlib.sha256(encode_assignment(assignment)).hexdigest()}",
            envelope=envelope,
            leaf=leaf,
            issued_ms=to_ms(now),
            expires_ms=to_ms(assignment.expires),
        )
        rows.put_desired(connection, row)
        record_assignment(connection, assignment, leaf)
        return row

    def renew(self, connection: Connection, node: rows.NodeRow, now: datetime, *, above: int = 0) -> bool:
        """Order the same agents again if the stored order cannot be adopted any more, or soon not.

        That is: it is for an earlier epoch, less than a third of its life is left, another key signed it or proved that
        it is in the log (the key was rotated, and the old one will be withdrawn), or the node has accepted a newer
        generation than is stored (the coordinator came back from a backup). Returns whether a new order was made.
        """
        before = rows.get_desired(connection, node.name)
        if before is None:
            return False
        life = before.expires_ms - before.issued_ms
        fresh = 3 * (before.expires_ms - to_ms(now)) > life
        ours = signer_of(before) == self._key.key_id and self._log.proves(connection, before.leaf)
        if fresh and ours and before.epoch == node.epoch and before.generation > above:
            return False
        self.order(connection, node, agents_of(before), now, above=above)
        return True

    def check_size(self, node: rows.NodeRow, agents: Sequence[AssignedAgent], now: datetime) -> None:
        """Refuse what could not be ordered, before anything is.

        Raises:
            FleetError: LIMIT_EXCEEDED.
        """
        sign_assignment(self._compose(node, agents, now, MAX_COUNTER), self._key)

    def _compose(
        self, node: rows.NodeRow, agents: Sequence[AssignedAgent], now: datetime, generation: int
    ) -> Assignment:
        return Assignment(
            fleet=self._fleet,
            node=node.name,
            epoch=node.epoch,
            generation=generation,
            issued=now,
            expires=now + self._lifetime,
            agents=tuple(sorted(agents, key=lambda agent: agent.name)),
        )


def agents_of(row: rows.DesiredRow | None) -> tuple[AssignedAgent, ...]:
    """Return the agents of a stored order; none for a node that has never had one."""
    if row is None:
        return ()
    return decode_assignment(decode_base64(json.loads(row.envelope)["payload"])).agents


def signer_of(row: rows.DesiredRow) -> str:
    """Return the id of the key that signed a stored order."""
    key_id: str = json.loads(row.envelope)["signatures"][0]["keyid"]
    return key_id


def encode_agents(agents: Sequence[AssignedAgent]) -> str:
    """Write agents as a deployment stores them."""
    return dump_json({"agents": [encode_agent(agent) for agent in agents]}).decode()


def decode_agents(text: str) -> tuple[AssignedAgent, ...]:
    """Read what `encode_agents` wrote."""
    with Reader(load_json(text.encode(), Code.INTERNAL, "deployment"), Code.INTERNAL, "deployment") as top:
        return tuple(decode_agent(item, place) for item, place in top.items("agents", MAX_AGENTS))
