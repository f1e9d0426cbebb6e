"""Carries deployments out: begins waves, rolls back, finishes, as `rollout` decides.

Owns: the transactions in which a decision becomes orders to nodes, each guarded by the state that it was made from, so
that a second process or a late timer can do no harm. Everything is in the store: after a restart `advance` goes on
where it stopped. Never decides what is healthy.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.model import Event, RolloutPolicy
from fleet.times import from_ms, to_ms
from orchestrator import rollout
from orchestrator.audit import event_leaf
from orchestrator.director import agents_of, decode_agents
from orchestrator.rollout import Finish, NodeTarget, RollBack, StartWave, Wait, Wave, WaveState
from orchestrator.store import deployments as rows
from orchestrator.store import nodes as node_rows
from orchestrator.store.deployments import DeploymentState, StoredDeployment, WaveRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from fleet.model import AssignedAgent
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.director import Director
    from orchestrator.inventory import Inventory
    from orchestrator.store.database import Store

_LOG = logging.getLogger(__name__)

_RETRY = timedelta(seconds=5)

RECONNECT = timedelta(seconds=75)
"""What a new coordinator allows for nodes to come back: their longest delay (60 s), the handshake and a report."""

_MAX_STEPS = 64
"""Decisions carried out at once for one deployment; a wave can be healthy the moment it begins."""


class Rollouts:
    """Deployments on their way.

    Args:
        signal: tells the sessions of these nodes that their desired state changed; called after the commit.
        changed: tells whoever watches deployments to look again.
        journal: takes an event for operators to see.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        store: Store,
        director: Director,
        log: AuditLog,
        inventory: Inventory,
        clock: Clock,
        signal: Callable[[Iterable[str]], None],
        changed: Callable[[], None],
        journal: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._director = director
        self._log = log
        self._inventory = inventory
        self._clock = clock
        self._signal = signal
        self._changed = changed
        self._journal = journal
        self._stuck: frozenset[str] = frozenset()
        self._since = clock()

    def advance(self) -> datetime | None:
        """Take every running deployment as far as it goes now; return when to look again if no report comes.

        An edge of the process: what goes wrong with one deployment, foreseen or not, is told once, tried again later,
        and never holds up the others.
        """
        with self._store.control.read() as connection:
            running = rows.list_running(connection)
        moments: list[datetime | None] = []
        stuck: set[str] = set()
        for stored in running:
            try:
                moments.append(self._advance(stored))
            except Exception as error:  # noqa: BLE001 - the edge of the process: see above
                stuck.add(stored.head.id)
                if stored.head.id not in self._stuck:
                    self._tell_stuck(stored, error)
                moments.append(self._clock() + _RETRY)
        self._stuck = frozenset(stuck)
        return min((moment for moment in moments if moment is not None), default=None)

    def begin_wave(self, connection: Connection, stored: StoredDeployment, number: int, now: datetime) -> list[str]:
        """Order the agents of one wave in the caller's transaction; return the nodes to signal after it."""
        nodes = stored.nodes_of(number)
        for node in nodes:
            generation = self._replace_agents(connection, stored, node.node, decode_agents(node.planned), now)
            rows.set_generation(connection, stored.head.id, node.node, generation)
        rows.set_wave(connection, stored.head.id, WaveRow(number, WaveState.RUNNING, to_ms(now)))
        return [node.node for node in nodes]

    def cancel(self, identifier: str, operator: str) -> StoredDeployment:
        """Stop a running deployment and give the nodes that it touched their previous agents again.

        Raises:
            FleetError: NOT_FOUND; PLAN_INVALID when it has ended already.
        """
        with self._store.control.read() as connection:
            stored = rows.get_deployment(connection, identifier)
        if stored.head.state is DeploymentState.RUNNING:
            self._roll_back(stored, None, DeploymentState.CANCELLED, f"cancelled by {operator}", operator)
        with self._store.control.read() as connection:
            after = rows.get_deployment(connection, identifier)
        if after.head.state is not DeploymentState.CANCELLED:
            raise FleetError(Code.PLAN_INVALID, f"{identifier} has ended: {after.head.state}", deployment=identifier)
        return after

    def _advance(self, stored: StoredDeployment) -> datetime | None:
        for _ in range(_MAX_STEPS):
            now = self._clock()
            waves = waves_of(stored, self._since)
            decision = rollout.advance(
                decode_policy(stored.head.policy), waves, targets_of(stored), self._inventory.observations(), now
            )
            match decision:
                case Wait():
                    return decision.until
                case StartWave():
                    self._start(stored, decision.number, now)
                case RollBack():
                    self._roll_back(stored, decision.wave, DeploymentState.ROLLED_BACK, decision.reason, "coordinator")
                case Finish():
                    self._finish(stored, decision)
                case _:
                    assert_never(decision)
            with self._store.control.read() as connection:
                stored = rows.get_deployment(connection, stored.head.id)
            if stored.head.state is not DeploymentState.RUNNING:
                return None
        return self._clock()

    def _start(self, stored: StoredDeployment, number: int, now: datetime) -> None:
        nodes: list[str] = []
        with self._store.control.write() as connection:
            if rows.get_deployment(connection, stored.head.id) == stored:
                self._heal(connection, stored)
                nodes = self.begin_wave(connection, stored, number, now)
        if nodes:
            self._announce(stored, "wave:started", f"wave {number} of {len(stored.waves)}: {', '.join(nodes[:8])}")
            self._signal(nodes)

    def _finish(self, stored: StoredDeployment, decision: Finish) -> None:
        names = ", ".join(decision.unreachable)
        reason = f"without a session, they follow later: {names}" if names else ""
        ended = False
        with self._store.control.write() as connection:
            if rows.get_deployment(connection, stored.head.id) == stored:
                self._heal(connection, stored)
                ended = self._end(connection, stored, DeploymentState.SUCCEEDED, reason, "coordinator")
        if ended:
            self._announce(stored, f"deployment:{DeploymentState.SUCCEEDED}", reason or "every wave is healthy")

    def _heal(self, connection: Connection, stored: StoredDeployment) -> None:
        """Mark the waves before the next step as healthy: the decision rests on that."""
        for wave in stored.waves:
            if wave.state == WaveState.RUNNING:
                rows.set_wave(connection, stored.head.id, WaveRow(wave.number, WaveState.HEALTHY))

    def _roll_back(
        self, stored: StoredDeployment, failed: int | None, state: DeploymentState, reason: str, actor: str
    ) -> None:
        now = self._clock()
        touched = [node for node in stored.nodes if node.generation is not None]
        with self._store.control.write() as connection:
            if rows.get_deployment(connection, stored.head.id) != stored:
                return
            for node in touched:
                self._replace_agents(connection, stored, node.node, decode_agents(node.previous), now)
            for wave in stored.waves:
                if wave.started_ms is not None:
                    ended = WaveState.FAILED if wave.number == failed else WaveState.ROLLED_BACK
                    rows.set_wave(connection, stored.head.id, WaveRow(wave.number, ended))
            self._end(connection, stored, state, reason, actor)
        self._announce(stored, f"deployment:{state}", reason)
        self._signal(node.node for node in touched)

    def _end(
        self, connection: Connection, stored: StoredDeployment, state: DeploymentState, reason: str, actor: str
    ) -> bool:
        now = self._clock()
        ended = rows.finish(connection, stored.head.id, state, reason, to_ms(now))
        if ended:
            by = actor if actor == "coordinator" else f"user/{actor}"
            leaf = event_leaf(
                f"rollout:deployment:{state}",
                now,
                by,
                deployment=stored.head.id,
                application=stored.head.application,
                reason=reason,
            )
            self._log.append(connection, [leaf])
        return ended

    def _replace_agents(
        self,
        connection: Connection,
        stored: StoredDeployment,
        name: str,
        agents: tuple[AssignedAgent, ...],
        now: datetime,
    ) -> int:
        node = node_rows.get_node(connection, name)
        if node is None:
            raise FleetError(Code.NOT_FOUND, f"node {name} is gone", node=name)
        current = agents_of(node_rows.get_desired(connection, name))
        others = tuple(agent for agent in current if agent.application != stored.head.application)
        return self._director.order(connection, node, others + agents, now).generation

    def _tell_stuck(self, stored: StoredDeployment, error: Exception) -> None:
        code = error.code if isinstance(error, FleetError) else Code.INTERNAL
        _LOG.error("deployment %s does not advance", stored.head.id, exc_info=error)
        self._announce(stored, "deployment:stuck", f"does not advance and is tried again: {code}")

    def _announce(self, stored: StoredDeployment, action: str, message: str) -> None:
        detail = {"deployment": stored.head.id, "application": stored.head.application}
        self._journal(Event(self._clock(), "", "", f"rollout:{action}", message, detail))
        self._changed()


def waves_of(stored: StoredDeployment, since: datetime) -> tuple[Wave, ...]:
    """Return the waves as `rollout` wants them.

    Args:
        stored: the deployment.
        since: when this process began. What nodes could not say while there was no coordinator is not held against
            them: to it, a wave that began earlier began when every node has had the time to come back.
    """
    return tuple(
        Wave(
            wave.number,
            tuple(node.node for node in stored.nodes_of(wave.number)),
            WaveState(wave.state),
            None if wave.started_ms is None else _begun(from_ms(wave.started_ms), since),
        )
        for wave in stored.waves
    )


def _begun(started: datetime, since: datetime) -> datetime:
    return started if started >= since else since + RECONNECT


def targets_of(stored: StoredDeployment) -> Mapping[str, NodeTarget]:
    """Return what each touched node shall report."""
    return {
        node.node: NodeTarget(node.generation, stored.head.application, decode_agents(node.planned))
        for node in stored.nodes
        if node.generation is not None
    }


def encode_policy(policy: RolloutPolicy) -> str:
    """Write a policy as a deployment stores it; sizes that are shares of the whole are written as text."""
    waves = [size if isinstance(size, int) else repr(size) for size in policy.waves]
    return dump_json(
        {
            "waves": waves,
            "healthy_for_ms": policy.healthy_for_ms,
            "deadline_ms": policy.deadline_ms,
            "max_failures": policy.max_failures,
        }
    ).decode()


def decode_policy(text: str) -> RolloutPolicy:
    """Read what `encode_policy` wrote."""
    limit = 2**53
    with Reader(load_json(text.encode(), Code.INTERNAL, "policy"), Code.INTERNAL, "policy") as top:
        sizes = [item for item, _ in top.items("waves", limit)]
        policy = RolloutPolicy(
            healthy_for_ms=top.integer("healthy_for_ms", 0, limit),
            deadline_ms=top.integer("deadline_ms", 0, limit),
            max_failures=top.integer("max_failures", 0, limit),
        )
    return replace(policy, waves=tuple(size if isinstance(size, int) else float(str(size)) for size in sizes))
