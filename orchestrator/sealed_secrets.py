"""Secrets that the coordinator keeps and passes on without being able to read them.

Owns: the keys that nodes want secrets sealed for, each in the audit log as its node signed it, and the envelopes that
operators made with them. Values are never here: not in clear, and with no key that opens them. What is checked here
spares operators mistakes; nodes believe nothing of it and check everything again (`edge_agent.secret_store`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.keys import read_public_key
from fleet.model import Event
from fleet.names import is_agent_name, is_name
from fleet.sealing import ESCROW, MAX_SEALED, MAX_VERSION, fingerprint, open_statement, peek
from fleet.times import to_ms
from orchestrator.audit import event_leaf
from orchestrator.director import agents_of
from orchestrator.store import nodes as node_rows
from orchestrator.store import secrets as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from fleet.sealing import Sealed
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.store.database import Store

MAX_SECRETS = 64
"""Secrets of one node; nodes take no more."""

MAX_RECIPIENTS = 500
"""Nodes in one reply."""

MAX_NODE_BYTES = 1 << 20
"""Bytes of all envelopes of one node: they travel in one message."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A node that secrets can be sealed for, with what there is to check its key by.

    Attributes:
        bound_key: as `fleet.keys.read_public_key` takes it.
        statement: what the node signed; empty when it has never said anything in this enrolment.
        proof: that the statement is in the audit log at `leaf`.
        agents: that the node is ordered to run.
        join_proof: that the node's enrolment is in the audit log; empty where it is older than such proofs.
    """

    node: str
    epoch: int
    bound_key: bytes
    statement: bytes
    leaf: int
    proof: bytes
    agents: tuple[str, ...]
    join_proof: bytes = b""


@dataclass(frozen=True, slots=True)
class SecretView:
    """A secret, and which nodes have which version of it."""

    row: rows.SecretRow
    versions: Mapping[str, int]


class SealedSecrets:
    """The use cases of secrets; one transaction each.

    Args:
        signal: tells the sessions of nodes that their secrets changed.
        journal: takes an event for operators to see.
    """

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        log: AuditLog,
        clock: Clock,
        signal: Callable[[Iterable[str]], None],
        journal: Callable[[Event], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._log = log
        self._clock = clock
        self._signal = signal
        self._journal = journal

    def declare(self, name: str, epoch: int, statement: bytes) -> None:
        """Take what a node says about its key; the same again is passed over.

        What was sealed for another key of the node is of no use to it any more and is forgotten.

        Raises:
            FleetError: CERTIFICATE_INVALID for an unknown node; SIGNATURE_INVALID, SECRET_INVALID, LIMIT_EXCEEDED.
        """
        with self._store.control.read() as connection:
            before = rows.list_keys(connection).get(name)
            node = node_rows.get_node(connection, name)
        if node is None:
            raise FleetError(Code.CERTIFICATE_INVALID, f"{name} is gone")
        if before is not None and before.statement == statement:
            return
        bound_key = read_public_key(node.bound_key)
        said = open_statement(statement, fleet=self._fleet, node=name, epoch=epoch, key=bound_key)
        key, now = fingerprint(said.key), self._clock()
        with self._store.control.write() as connection:
            leaf = event_leaf(
                "node:sealing-key:declared",
                now,
                f"node/{name}",
                node=name,
                epoch=epoch,
                key=key,
                envelope=statement.decode(),
            )
            position = self._log.append(connection, [leaf])
            if before is not None and before.key != key:
                rows.remove_node(connection, name)
            rows.put_key(connection, rows.SealingKeyRow(name, epoch, key, statement, position))
        self._journal(Event(now, name, "", "node:sealing-key:declared", key))

    def recipients(self, after: str = "", limit: int = MAX_RECIPIENTS) -> tuple[SealingKey, ...]:
        """Return the nodes that may run agents, by name and from a name on, with the proof of what each said."""
        with self._store.control.read() as connection:
            said = rows.list_keys(connection)
            nodes = [node for node in node_rows.list_nodes(connection) if not node.locked and node.name > after][:limit]
            desired = node_rows.list_desired(connection, {node.name for node in nodes})
            return tuple(self._key(connection, node, said.get(node.name), desired.get(node.name)) for node in nodes)

    def put(self, agent: str, name: str, version: int, envelopes: Sequence[bytes], operator: str) -> tuple[str, ...]:
        """Keep a secret for its recipients and send it to them; returns the nodes that have this version.

        1. The version is the one after the newest, or the newest, for nodes that lack it.
        2. Every envelope is one of this fleet, agent, name and version, and each recipient is named once; a new version
           has one for the operator.
        3. Each node is known and not locked, and the envelope is sealed for the key that it has now.
        4. No node gets more than it takes.

        Raises:
            FleetError: VALUE_INVALID, SECRET_INVALID, LIMIT_EXCEEDED; GENERATION_CONFLICT for 1; NOT_FOUND,
                NODE_LOCKED for 3. Nothing has changed then.
        """
        if not is_agent_name(agent) or not is_name(name) or not 1 <= version <= MAX_VERSION:
            raise FleetError(Code.VALUE_INVALID, "expected an agent, a name and a version", place="secret")
        opened = self._opened(agent, name, version, envelopes)
        now = self._clock()
        with self._store.control.write() as connection:
            before = rows.get_secret(connection, agent, name)
            newest = 0 if before is None else before.version
            again = before is not None and version == newest and not before.removed
            if not again and version != newest + 1:  # 1
                raise FleetError(
                    Code.GENERATION_CONFLICT, f"version {version} of {name} after {newest}", agent=agent, newest=newest
                )
            escrow = opened.pop(ESCROW, b"") or (before.escrow if again and before is not None else b"")
            if not escrow:
                raise FleetError(Code.SECRET_INVALID, "nothing is sealed for the operator", place="envelopes")
            for node, envelope in opened.items():
                self._check_node(connection, node, peek(envelope))
                rows.put_sealed(connection, rows.SealedRow(agent, name, node, version, envelope))
                self._check_room(connection, node)
            row = rows.SecretRow(agent, name, version, to_ms(now), operator, removed=False, escrow=escrow)
            if again and before is not None:
                row = replace(row, set_ms=before.set_ms, operator=before.operator)
            rows.put_secret(connection, row)
            self._note(connection, "secret:value:set", operator, row, sorted(opened))
            have = rows.sealed_versions(connection, agent, name)
        self._signal(opened)
        self._journal(Event(now, "", agent, "secret:value:set", f"{name} version {version} for {len(opened)} nodes"))
        return tuple(node for node, known in have.items() if known == version)

    def remove(self, agent: str, name: str, operator: str) -> tuple[str, ...]:
        """Take a secret from every node; returns those that had it. Its next version goes on counting.

        Raises:
            FleetError: NOT_FOUND.
        """
        now = self._clock()
        with self._store.control.write() as connection:
            before = rows.get_secret(connection, agent, name)
            if before is None or before.removed:
                raise FleetError(Code.NOT_FOUND, f"{agent} has no secret {name}", agent=agent, secret=name)
            nodes = tuple(rows.sealed_versions(connection, agent, name))
            rows.remove_sealed(connection, agent, name)
            rows.put_secret(connection, replace(before, removed=True, escrow=b""))
            self._note(connection, "secret:value:removed", operator, before, nodes)
        self._signal(nodes)
        self._journal(Event(now, "", agent, "secret:value:removed", f"{name} from {len(nodes)} nodes"))
        return nodes

    def list(self, agent: str) -> tuple[SecretView, ...]:
        """Return the secrets of one agent, or ("") of all; a removed one has no escrow and no nodes."""
        with self._store.control.read() as connection:
            return tuple(
                SecretView(row, rows.sealed_versions(connection, row.agent, row.name))
                for row in rows.list_secrets(connection, agent)
            )

    def of_node(self, node: str) -> tuple[bytes, ...]:
        """Return every envelope that a node gets."""
        with self._store.control.read() as connection:
            return tuple(row.envelope for row in rows.sealed_for_node(connection, node))

    def _opened(self, agent: str, name: str, version: int, envelopes: Sequence[bytes]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for number, envelope in enumerate(envelopes):
            if len(envelope) > MAX_SEALED:
                raise FleetError(Code.LIMIT_EXCEEDED, f"an envelope of {len(envelope)} bytes", limit=MAX_SEALED)
            label = peek(envelope).label
            if (label.fleet, label.agent, label.name, label.version) != (self._fleet, agent, name, version):  # 2
                raise FleetError(Code.SECRET_INVALID, "sealed as another secret", place=f"envelopes[{number}]")
            if label.node in found:
                raise FleetError(Code.SECRET_INVALID, f"{label.node!r} twice", place=f"envelopes[{number}]")
            found[label.node] = envelope
        return found

    def _check_node(self, connection: Connection, name: str, sealed: Sealed) -> None:
        node = node_rows.get_node(connection, name)
        if node is None:  # 3
            raise FleetError(Code.NOT_FOUND, f"no node {name!r}", node=name)
        if node.locked:
            raise FleetError(Code.NODE_LOCKED, node.locked, node=name)
        said = rows.list_keys(connection).get(name)
        if said is None or said.epoch != node.epoch or said.key != sealed.key:
            raise FleetError(
                Code.SECRET_INVALID,
                f"{name} has another sealing key by now",
                node=name,
                remedy="Run the command again; it seals for the key that the node has now.",
            )

    @staticmethod
    def _check_room(connection: Connection, node: str) -> None:
        held = rows.sealed_for_node(connection, node)
        if len(held) > MAX_SECRETS or sum(len(row.envelope) for row in held) > MAX_NODE_BYTES:  # 4
            raise FleetError(
                Code.LIMIT_EXCEEDED,
                f"{node} has {len(held)} secrets; the limits are {MAX_SECRETS} and {MAX_NODE_BYTES} bytes sealed",
                node=node,
            )

    def _note(
        self, connection: Connection, kind: str, operator: str, row: rows.SecretRow, nodes: Sequence[str]
    ) -> None:
        facts = {"agent": row.agent, "secret": row.name, "version": row.version, "nodes": [*nodes]}
        self._log.append(connection, [event_leaf(kind, self._clock(), f"user/{operator}", **facts)])

    def _key(
        self,
        connection: Connection,
        node: node_rows.NodeRow,
        said: rows.SealingKeyRow | None,
        desired: node_rows.DesiredRow | None,
    ) -> SealingKey:
        agents = tuple(part.name for agent in agents_of(desired) for part in agent.parts)
        if said is None or said.epoch != node.epoch:
            return SealingKey(node.name, node.epoch, node.bound_key, b"", 0, b"", agents)
        proof = self._log.proof(connection, said.leaf)
        joined = b"" if node.join_leaf is None else self._log.proof(connection, node.join_leaf)
        return SealingKey(node.name, node.epoch, node.bound_key, said.statement, said.leaf, proof, agents, joined)
