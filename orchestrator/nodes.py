"""What nodes say, and what the coordinator knows about them.

Owns: who may open a session, the record of reports (every one in memory, transitions in the store), events, receipts
as leaves of the audit log. Silence is recorded as silence: a node
without a session is offline, and nothing is concluded about its agents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.assignment import MAX_COUNTER, open_receipt
from fleet.errors import Code, FleetError
from fleet.keys import read_public_key
from fleet.leaves import RECEIVED
from fleet.model import Event, Phase
from fleet.semver import is_at_least
from fleet.times import to_ms
from fleet.wire import decode_observed, encode_observed
from orchestrator.audit import event_leaf
from orchestrator.director import agents_of, signer_of
from orchestrator.emergencies import warnings_of
from orchestrator.inventory import Report
from orchestrator.projections import record_receipt
from orchestrator.regress import TWO_MACHINES, Boots, Reported, remember
from orchestrator.store import nodes as rows
from orchestrator.store import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet.grants.ceilings import OwnCeiling
    from fleet.model import AssignedAgent, ObservedState
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.director import Director
    from orchestrator.inventory import Inventory
    from orchestrator.journal import Journal
    from orchestrator.principals import NodeIdentity
    from orchestrator.store.database import Store

MAX_VERSION_TEXT = 64
"""Characters of a node's version and architecture."""


MAX_RECEIPTS = 64
"""Receipts of one node about one generation: an agent may be refused first and start later."""


@dataclass(frozen=True, slots=True)
class _LastReceipt:
    envelope: bytes
    generation: int
    count: int


class NodeState(StrEnum):
    """How a node stands to the coordinator."""

    JOINED = "joined"
    ONLINE = "online"
    OFFLINE = "offline"
    LOCKED = "locked"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a node says when it opens a session.

    Attributes:
        boot_id: another one for each start of the node's program.
        root_version: of the release that it has adopted; 0 when none is. `release_version` is its timestamp's.
        ceiling: the node's own; None: it does not say.
    """

    agent_version: str
    architecture: str
    accepted_generation: int
    accepted_digest: str
    observed: ObservedState | None
    boot_id: str = ""
    root_version: int = 0
    release_version: int = 0
    ceiling: OwnCeiling | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """Everything that is known about a node."""

    row: rows.NodeRow
    state: NodeState
    desired_generation: int
    director_key: str
    """Id of the key that signed the newest order; empty where there is none."""
    log_keys: frozenset[str]
    """Names of the log keys under which it was first proven; none: not yet."""
    desired_agents: tuple[AssignedAgent, ...]
    observed: ObservedState | None
    last_seen_ms: int

    def warnings(self, least: str) -> tuple[str, ...]:
        """What an operator should look at.

        Args:
            least: the smallest version of nodes that the fleet allows; empty for any.
        """
        version = self.row.agent_version
        old = bool(least) and not is_at_least(version, least)
        return (
            *warnings_of(self.desired_agents),
            *([self.row.warning] if self.row.warning else ()),
            *([f"takes in nothing new: its version {version or '?'} is below {least}"] if old else ()),
        )

    @property
    def healthy(self) -> int:
        """Agents that run."""
        agents = () if self.observed is None else self.observed.agents
        return sum(agent.phase is Phase.RUNNING for agent in agents)


class Nodes:
    """The node use cases.

    Args:
        changed: tells the rollouts to look at the reports again.
        suspect: locks a node whose identity seems to be in two places.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        fleet: str,
        store: Store,
        director: Director,
        log: AuditLog,
        inventory: Inventory,
        journal: Journal,
        clock: Clock,
        changed: Callable[[], None],
        suspect: Callable[[str, str], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._director = director
        self._log = log
        self._inventory = inventory
        self._journal = journal
        self._clock = clock
        self._changed = changed
        self._suspect = suspect
        self._boots = Boots()
        self._receipts: dict[str, _LastReceipt] = {}

    def restore(self) -> None:
        """Load the last stored report of every node, so that what was known before a restart can be shown."""
        with self._store.telemetry.read() as connection:
            for node, (state, received) in telemetry.list_observed(connection).items():
                self._inventory.put(node, Report(decode_observed(state), received))

    def admit(self, identity: NodeIdentity) -> None:
        """Check that a certificate still counts.

        Raises:
            FleetError: CERTIFICATE_INVALID for an unknown node or an earlier epoch; NODE_LOCKED.
        """
        with self._store.control.read() as connection:
            node = rows.get_node(connection, identity.name)
        if node is None or node.epoch != identity.epoch:
            raise FleetError(Code.CERTIFICATE_INVALID, f"{identity.name} was enrolled again since")
        if node.locked:
            raise FleetError(Code.NODE_LOCKED, node.locked, node=node.name)

    def open(self, identity: NodeIdentity, session: str, greeting: Greeting) -> None:
        """Note that a node opened a session, and order anew what it could not adopt (see `Director.renew`).

        Raises:
            FleetError: as `admit`; MESSAGE_INVALID for a generation beyond all reason.
        """
        self.admit(identity)
        if greeting.accepted_generation >= MAX_COUNTER:
            raise FleetError(Code.MESSAGE_INVALID, "a generation beyond the greatest", place="hello")
        if self._boots.is_back(identity.name, identity.epoch, greeting.boot_id):
            self._suspect(identity.name, TWO_MACHINES)
            raise FleetError(Code.NODE_LOCKED, TWO_MACHINES, node=identity.name)
        now = self._clock()
        with self._store.control.write() as connection:
            node = rows.get_node(connection, identity.name)
            if node is None:
                raise FleetError(Code.CERTIFICATE_INVALID, f"{identity.name} is gone")
            reported = Reported.by(greeting)
            lost = reported.behind(Reported.known(node, self._inventory.report(node.name)))
            node = replace(remember(node, reported, lost), authority=identity.authority)
            rows.put_node(connection, node)
            version, architecture = (
                text[:MAX_VERSION_TEXT] for text in (greeting.agent_version, greeting.architecture)
            )
            rows.set_seen(connection, node.name, to_ms(now), version, architecture)
            stored = rows.get_desired(connection, node.name)
            ahead = stored is not None and (
                greeting.accepted_generation > stored.generation
                or (greeting.accepted_generation == stored.generation and greeting.accepted_digest != stored.digest)
            )
            self._director.renew(connection, node, now, above=greeting.accepted_generation if ahead else 0)
        if greeting.ceiling is not None:
            self._inventory.put_ceiling(identity.name, greeting.ceiling)
        if lost:
            self._journal.append(Event(now, node.name, "", "node:state:regressed", node.warning))
        if self._inventory.open(identity.name, session):
            self._journal.append(Event(now, identity.name, "", "node:session:online", f"runs {version}"))
        if greeting.observed is not None:
            self.record(identity.name, greeting.observed)
        self._changed()

    def close(self, name: str, session: str, reason: str) -> None:
        """Note that a session ended."""
        now = self._clock()
        if self._inventory.close(name, session):
            with self._store.control.write() as connection:
                rows.set_last_seen(connection, name, to_ms(now))
            self._journal.append(Event(now, name, "", "node:session:offline", reason))
            self._changed()

    def record(self, name: str, observed: ObservedState) -> None:
        """Take a report; only transitions are written to disk."""
        now = self._clock()
        before = self._inventory.put(name, Report(observed, now))
        if before is None or _essence(before.state) != _essence(observed):
            with self._store.telemetry.write() as connection:
                telemetry.put_observed(connection, name, encode_observed(observed), now)
        self._changed()

    def record_events(self, name: str, events: Sequence[Event]) -> None:
        """Store what a node says happened; it speaks for itself only."""
        self._journal.append(*(replace(event, node=name) for event in events))

    def record_receipt(self, identity: NodeIdentity, envelope: bytes) -> None:
        """Append a node's receipt to the audit log; one that repeats the one before is passed over.

        Raises:
            FleetError: SIGNATURE_INVALID, ASSIGNMENT_INVALID, ASSIGNMENT_WRONG_NODE; GENERATION_STALE when it is not
                for an order of this coordinator; LIMIT_EXCEEDED for too many about one generation, since the log can
                never shrink.
        """
        now = self._clock()
        last = self._receipts.get(identity.name)
        if last is not None and last.envelope == envelope:
            return
        with self._store.control.write() as connection:
            node = rows.get_node(connection, identity.name)
            desired = rows.get_desired(connection, identity.name)
            if node is None or desired is None:
                raise FleetError(Code.GENERATION_STALE, "a receipt for nothing that was ordered")
            receipt = open_receipt(
                envelope, fleet=self._fleet, node=node.name, epoch=identity.epoch, key=read_public_key(node.bound_key)
            )
            if receipt.generation > desired.generation:
                raise FleetError(Code.GENERATION_STALE, "a receipt for an order that was never given")
            count = last.count + 1 if last is not None and last.generation == receipt.generation else 1
            if count > MAX_RECEIPTS:
                raise FleetError(Code.LIMIT_EXCEEDED, f"{count} receipts for one generation", limit=MAX_RECEIPTS)
            received = event_leaf(RECEIVED, now, f"node/{node.name}", envelope=envelope.decode())
            leaf = self._log.append(connection, [received])
            record_receipt(connection, receipt, leaf, now)
        self._receipts[node.name] = _LastReceipt(envelope, receipt.generation, count)

    def list(self) -> tuple[NodeView, ...]:
        """Return every node, by name."""
        online = self._inventory.online()
        with self._store.control.read() as connection:
            desired = rows.list_desired(connection)
            provers = self._log.provers(connection, [row.leaf for row in desired.values()])
            found = rows.list_nodes(connection)
            return tuple(self._view(row, desired.get(row.name), online, provers) for row in found)

    def get(self, name: str) -> NodeView:
        """Return one node.

        Raises:
            FleetError: NOT_FOUND.
        """
        with self._store.control.read() as connection:
            row = rows.get_node(connection, name)
            if row is None:
                raise FleetError(Code.NOT_FOUND, f"no node {name!r}", node=name)
            desired = rows.get_desired(connection, name)
            provers = {} if desired is None else self._log.provers(connection, [desired.leaf])
            return self._view(row, desired, self._inventory.online(), provers)

    def _view(
        self,
        row: rows.NodeRow,
        desired: rows.DesiredRow | None,
        online: frozenset[str],
        provers: Mapping[int, frozenset[str]],
    ) -> NodeView:
        report = self._inventory.report(row.name)
        if row.locked:
            state = NodeState.LOCKED if row.revoked_ms is None else NodeState.REVOKED
        elif row.name in online:
            state = NodeState.ONLINE
        else:
            state = NodeState.JOINED if row.last_seen_ms is None else NodeState.OFFLINE
        heard = 0 if report is None else to_ms(report.received)
        return NodeView(
            row=row,
            state=state,
            desired_generation=0 if desired is None else desired.generation,
            director_key="" if desired is None else signer_of(desired),
            log_keys=frozenset() if desired is None else provers.get(desired.leaf, frozenset()),
            desired_agents=agents_of(desired),
            observed=None if report is None else report.state,
            last_seen_ms=max(heard, row.last_seen_ms or 0),
        )


def _essence(state: ObservedState) -> tuple[object, ...]:
    """What makes two reports different enough to store: not the counters, not the time."""
    return (
        state.generation,
        state.digest,
        state.trust_digest,
        tuple(
            (
                *(a.name, a.phase, a.bundle_digest, a.grant_digest, a.restarts, a.last_exit, a.refusal),
                *(a.vitals.healthy, a.vitals.ready),
            )
            for a in state.agents
        ),
    )
