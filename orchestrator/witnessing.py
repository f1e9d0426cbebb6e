"""Checkpoints of the audit log and the witnesses that cosign them.

Owns: rounds. All witnesses are asked about one checkpoint at a time, the newest in the table, or no quorum would ever
form on a log that grows with every receipt. A round begins when an order lies beyond the last one, and once in a while
when the log has grown. An order is handed out with a checkpoint that the quorum of `policy/witness.policy` has
cosigned; until there is one it waits, and who is absent is told. Nothing here can stand in for a witness: nodes check
the quorum themselves, against the policy that they have from the release repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet import merkle
from fleet.certificates import open_witness
from fleet.checkpoint import KeyKind, claimed, format_proof, parse_line, parse_vkey
from fleet.errors import Code, FleetError
from fleet.keys import read_public_key
from fleet.leaves import CONTINUED, event_leaf
from fleet.model import DesiredState, Event
from fleet.times import to_ms
from fleet.witnesses import NO_WITNESSES, add_lines, open_cosignature, parse_policy
from orchestrator.store import audit
from orchestrator.store import nodes as node_rows
from orchestrator.store import witnesses as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from fleet.checkpoint import VerifierKey
    from fleet.witnesses import WitnessPolicy
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.principals import NodeIdentity
    from orchestrator.releases import Releases
    from orchestrator.store.database import Store

INTERVAL = timedelta(hours=1)
"""How often every node is asked to cosign, when the log has grown and no order asked for it."""

PATIENCE = timedelta(seconds=30)
"""How long an order waits for its quorum before it is told; the rollout's own deadline decides what follows."""

RECENT = 32
"""Newest checkpoints that are looked through for one that has its quorum."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A checkpoint for a witness that has seen `old_size` leaves."""

    size: int
    note: bytes
    old_size: int
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The newest desired state of a node, ready to push; `offer` is what the node must see first, if anything."""

    generation: int
    digest: str
    state: DesiredState
    offer: Offer | None


@dataclass(frozen=True, slots=True)
class WitnessView:
    """What is known about one witness; `node` is empty for one outside of the fleet."""

    key: VerifierKey
    node: str
    policy_name: str
    newest: rows.CosignatureRow | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the log is witnessed."""

    witnesses: tuple[WitnessView, ...]
    size: int
    witnessed_size: int
    policy: bytes
    waiting: tuple[str, ...]


@dataclass(slots=True)
class _Wait:
    since: datetime
    generation: int
    told: bool = False


class Witnessing:
    """The witness use cases.

    Args:
        ask: makes the sessions of some nodes, or of all for None, offer the newest checkpoint.
        resend: makes the sessions of some nodes look for their order again.
        journal: takes events.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        fleet: str,
        store: Store,
        log: AuditLog,
        releases: Releases,
        clock: Clock,
        journal: Callable[[Event], None],
        ask: Callable[[Iterable[str] | None], None],
        resend: Callable[[Iterable[str]], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._log = log
        self._releases = releases
        self._clock = clock
        self._journal = journal
        self._ask = ask
        self._resend = resend
        self._policy: tuple[bytes, bytes, WitnessPolicy] = (b"", b"", NO_WITNESSES)
        self._waiting: dict[str, _Wait] = {}

    def policy(self) -> WitnessPolicy:
        """Return the policy of the adopted release."""
        return self._read_policy()[2]

    def begin(self) -> None:
        """Note in the log that it continues one of another name, if it does.

        So its first checkpoint is of a size that no checkpoint of the other log has.
        """
        with self._store.control.write() as connection:
            before = rows.largest(connection)
            name = "" if before is None else claimed(before.note).origin
            if name not in {"", self._log.origin}:
                facts = {"log": self._log.origin, "before": name, "size": audit.log_size(connection)}
                self._log.append(connection, [event_leaf(CONTINUED, self._clock(), "coordinator", **facts)])

    def order(self, node: str, seen: int) -> Order | None:
        """Return a node's newest order with a checkpoint that is good enough, or None: there is none, or not yet.

        Args:
            node: whose.
            seen: size of the largest log that the node has verified.
        """
        policy = self.policy()
        with self._store.control.read() as connection:
            desired = node_rows.get_desired(connection, node)
            if desired is None:
                return None
            found = self._witnessed(connection, desired.leaf, policy)
            if found is not None:
                self._waiting.pop(node, None)
                return self._order(connection, desired, found, seen)
        with self._store.control.write() as connection:
            offered = self._round(connection, desired.leaf)
            if policy is NO_WITNESSES or policy.is_met(()):
                return self._order(connection, desired, offered, seen)
            witnesses = rows.nodes_of(connection, [str(key) for key in policy.witnesses.values()])
        wait = self._waiting.get(node)
        if wait is None or wait.generation != desired.generation:
            self._waiting[node] = _Wait(self._clock(), desired.generation)
            self._ask({node, *witnesses})
        return None

    def offer(self, seen: int) -> Offer | None:
        """Return the newest checkpoint for a witness that has seen so many leaves; None before the first.

        A witness that has seen more than the log has is shown the log as it is: it must refuse, and tell.
        """
        with self._store.control.read() as connection:
            newest = rows.newest(connection, self._log.origin)
            return None if newest is None else self._offer(connection, self._present(newest), seen)

    def begin_round(self) -> None:
        """Make sure that there is a checkpoint to cosign."""
        with self._store.control.read() as connection:
            begun = rows.newest(connection, self._log.origin) is not None
        if not begun:
            with self._store.control.write() as connection:
                self._round(connection, 0)

    def register(self, identity: NodeIdentity, certificate: bytes) -> None:
        """Take a node's word for its witness key; the log shows it before its first cosignature.

        Raises:
            FleetError: LIMIT_EXCEEDED, SIGNATURE_INVALID, CERTIFICATE_INVALID (`fleet.certificates.open_witness`).
        """
        with self._store.control.read() as connection:
            node = node_rows.get_node(connection, identity.name)
        if node is None:
            raise FleetError(Code.CERTIFICATE_INVALID, f"{identity.name} is gone")
        opened = open_witness(
            certificate,
            fleet=self._fleet,
            node=node.name,
            epoch=identity.epoch,
            key=read_public_key(node.bound_key),
        )
        vkey = str(opened.key)
        with self._store.control.read() as connection:
            known = rows.get_witness(connection, node.name, identity.epoch)
        if known is not None and known.vkey == vkey:
            return
        with self._store.control.write() as connection:
            leaf = self._log.append(connection, [certificate])
            rows.put_witness(connection, rows.WitnessRow(vkey, node.name, identity.epoch, leaf))

    def take(self, identity: NodeIdentity, size: int, line: str) -> None:
        """Store the cosignature of a node.

        Raises:
            FleetError: PROOF_INVALID when it is not the node's, or not about a checkpoint that was offered.
        """
        with self._store.control.read() as connection:
            known = rows.get_witness(connection, identity.name, identity.epoch)
        if known is None:
            raise FleetError(Code.PROOF_INVALID, "a cosignature before the witness key", node=identity.name)
        self._take(size, line, parse_vkey(known.vkey, KeyKind.COSIGNER))

    def take_outside(self, size: int, line: str) -> bool:
        """Store the cosignature of a witness that the policy names; returns whether its checkpoint has its quorum.

        Raises:
            FleetError: PERMISSION_DENIED for a stranger; PROOF_INVALID.
        """
        parsed = parse_line(line)
        for key in self.policy().witnesses.values():
            if (key.name, key.key_hash) == (parsed.name, parsed.key_hash):
                return self._take(size, line, key)
        raise FleetError(
            Code.PERMISSION_DENIED,
            f"the policy names no witness {parsed.name}",
            remedy="Put its verifier key into policy/witness.policy, sign that, and publish it.",
        )

    def alarm(self, node: str, size: int, seen: int) -> None:
        """Note that a node saw two histories; the node itself keeps the evidence."""
        text = f"{node} has seen {seen} leaves and refuses the checkpoint of {size}"
        self._journal(Event(self._clock(), node, "", "audit:log:forked", text))

    def tend(self) -> None:
        """Begin a round when one is due, and tell of orders that wait too long."""
        now = self._clock()
        with self._store.control.read() as connection:
            newest, size = rows.newest(connection, self._log.origin), audit.log_size(connection)
        grown = size > (0 if newest is None else newest.size)
        if grown and (newest is None or to_ms(now) - newest.created_ms >= INTERVAL // timedelta(milliseconds=1)):
            with self._store.control.write() as connection:
                self._round(connection, size - 1)
            self._ask(None)
        policy = self.policy()
        for node, wait in list(self._waiting.items()):
            if not wait.told and now - wait.since >= PATIENCE:
                wait.told = True
                with self._store.control.read() as connection:
                    absent = " ".join(self._absent(connection, policy))
                text = f"generation {wait.generation} waits for witnesses: {absent}"
                self._journal(Event(now, node, "", "audit:quorum:missing", text, {"absent": absent}))

    def standing(self) -> Standing:
        """Return how far the log is witnessed, and by whom."""
        _, document, policy = self._read_policy()
        names = {key: name for name, key in policy.witnesses.items()}
        with self._store.control.read() as connection:
            newest = rows.newest_cosignatures(connection)
            views = {}
            for row in rows.list_witnesses(connection):
                key = parse_vkey(row.vkey, KeyKind.COSIGNER)
                views[key] = WitnessView(key, row.node, names.get(key, ""), newest.get(row.vkey))
            for key, name in names.items():
                views.setdefault(key, WitnessView(key, "", name, newest.get(str(key))))
            size = audit.log_size(connection)
            found = None if policy.is_met(()) else self._witnessed(connection, -1, policy)
        witnessed = 0 if found is None else found.size
        return Standing(tuple(views.values()), size, witnessed, document, tuple(sorted(self._waiting)))

    def notes(self, above: int, limit: int) -> tuple[rows.CheckpointRow, ...]:
        """Return checkpoints with every cosignature on them, the smallest first."""
        with self._store.control.read() as connection:
            found = rows.list_checkpoints(connection, above=above, limit=limit)
            return tuple(self._with_lines(connection, row, None) for row in found)

    def _take(self, size: int, line: str, key: VerifierKey) -> bool:
        with self._store.control.read() as connection:
            offered = rows.get_checkpoint(connection, size)
        if offered is None:
            raise FleetError(Code.PROOF_INVALID, f"no checkpoint of {size} leaves was offered")
        cosignature = open_cosignature(offered.note, line, key)
        policy = self.policy()
        with self._store.control.write() as connection:
            rows.put_cosignature(connection, rows.CosignatureRow(size, str(key), line, cosignature.at_s))
            met = policy.is_met(self._cosigned(connection, size, policy))
        if met and self._waiting:
            self._resend(tuple(self._waiting))
        return met

    def _read_policy(self) -> tuple[bytes, bytes, WitnessPolicy]:
        with self._store.control.read() as connection:
            stamp = rows.release_stamp(connection)
        if stamp != self._policy[0]:
            document = self._releases.witness_policy()
            self._policy = (stamp, document, parse_policy(document) if document else NO_WITNESSES)
        return self._policy

    def _round(self, connection: Connection, leaf: int) -> rows.CheckpointRow:
        """Return the newest checkpoint that covers a leaf; a new one when there is none."""
        newest = rows.newest(connection, self._log.origin)
        if newest is not None and newest.size > leaf:
            return self._present(newest)
        note = self._log.checkpoint(connection)
        row = rows.CheckpointRow(claimed(note).size, note, to_ms(self._clock()))
        rows.put_checkpoint(connection, row)
        return row

    def _witnessed(self, connection: Connection, leaf: int, policy: WitnessPolicy) -> rows.CheckpointRow | None:
        """Return the newest checkpoint over a leaf that has its quorum, with the lines of the policy's witnesses."""
        for row in rows.list_newest(connection, self._log.origin, above=leaf, limit=RECENT):
            if policy.is_met(self._cosigned(connection, row.size, policy)):
                return self._with_lines(connection, row, policy)
        return None

    def _cosigned(self, connection: Connection, size: int, policy: WitnessPolicy) -> set[VerifierKey]:
        mine = {row.witness for row in rows.list_cosignatures(connection, size)}
        return {key for key in policy.witnesses.values() if str(key) in mine}

    def _absent(self, connection: Connection, policy: WitnessPolicy) -> tuple[str, ...]:
        newest = rows.newest(connection, self._log.origin)
        return policy.absent(set() if newest is None else self._cosigned(connection, newest.size, policy))

    def _with_lines(
        self, connection: Connection, row: rows.CheckpointRow, policy: WitnessPolicy | None
    ) -> rows.CheckpointRow:
        wanted = None if policy is None else {str(key) for key in policy.witnesses.values()}
        cosigned = rows.list_cosignatures(connection, row.size)
        lines = [item.line for item in cosigned if wanted is None or item.witness in wanted]
        return rows.CheckpointRow(row.size, add_lines(self._log.signed(row.note), lines), row.created_ms)

    def _present(self, row: rows.CheckpointRow) -> rows.CheckpointRow:
        """Return a checkpoint as the log signs it today: its key may have changed since."""
        return rows.CheckpointRow(row.size, self._log.signed(row.note), row.created_ms)

    def _order(
        self, connection: Connection, desired: node_rows.DesiredRow, offered: rows.CheckpointRow, seen: int
    ) -> Order:
        path = merkle.inclusion_proof(self._reader(connection), desired.leaf, offered.size)
        state = DesiredState(
            desired.envelope,
            format_proof(desired.leaf, path, offered.note),
            seen,
            self._between(connection, offered.size, seen),
        )
        ahead = self._offer(connection, offered, seen) if offered.size > seen else None
        return Order(desired.generation, desired.digest, state, ahead)

    def _offer(self, connection: Connection, row: rows.CheckpointRow, seen: int) -> Offer:
        return Offer(row.size, row.note, seen, self._between(connection, row.size, seen))

    def _between(self, connection: Connection, one: int, other: int) -> tuple[bytes, ...]:
        """Proof between two sizes; empty when the log does not reach the larger: there is nothing to prove then."""
        smaller, larger = sorted((one, other))
        if larger > audit.log_size(connection):
            return ()
        return merkle.consistency_proof(self._reader(connection), smaller, larger)

    def _reader(self, connection: Connection) -> merkle.NodeReader:
        return lambda level, index: audit.read_hash(connection, level, index)
