"""The laws of the product, judged from outside: from disks, databases and what really runs, not from what is reported.

Laws about nodes are checked whenever nothing more happens without time passing; laws about the coordinator after every
action and every second. A law that is broken raises `AssertionError` with the law in words.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from edge_agent.ledger import Ledger
from fleet.assignment import decode_assignment, open_assignment
from fleet.grants import Authority, effective, parse_grant, subset
from fleet.model import AssignedAgent, ObservedAgent, Phase
from fleet.oci import digest_of
from fleet.signing import decode_base64
from orchestrator.director import decode_agents
from orchestrator.rollout import WaveState
from orchestrator.store import audit as audit_rows
from orchestrator.store import deployments as deployment_rows
from orchestrator.store import nodes as node_rows
from orchestrator.store.deployments import DeploymentState, StoredDeployment
from orchestrator.store.schema import audit_node
from tests.fakes.publisher import MemoryLog
from tests.simulation.node import CRASHING, DATA, UNSTARTABLE, SimulatedNode

if TYPE_CHECKING:
    from edge_agent.runtime import AgentStart
    from tests.simulation.fleet import SimulatedFleet

LEDGER = DATA / "ledger" / "desired.json"

PREPARING_S = 10.0
"""Virtual seconds that a node may take to prepare a newer version, or to hear that an older one is withdrawn."""


@dataclass
class _Bundle:
    version: str
    behaviour: str
    model: str


@dataclass
class _Memory:
    """What is remembered of one node.

    Attributes:
        highest: the highest (epoch, generation) that its disk ever held durably.
        accepted: digests of the durable assignments, in order, with their agents.
        judged: when the node was judged last, in virtual seconds.
        ran: bundle digest -> first and last moment of each time that an agent of it was seen to run.
        overdue: agent of which an older version has to go -> what is ordered, and since when.
    """

    highest: tuple[int, int] = (0, 0)
    raw: bytes | None = None
    accepted: dict[str, tuple[AssignedAgent, ...]] = field(default_factory=dict)
    judged: float = 0.0
    ran: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    overdue: dict[str, tuple[AssignedAgent, float]] = field(default_factory=dict)

    def note_run(self, bundle: str, now: float) -> None:
        """Remember that an agent of a bundle runs now."""
        runs = self.ran[bundle]
        if runs and runs[-1][1] >= self.judged:
            runs[-1] = (runs[-1][0], now)
        else:
            runs.append((now, now))

    def ran_within(self, bundle: str, first: float, last: float) -> bool:
        """Whether an agent of a bundle was seen to run in a span of time."""
        return any(begin <= last and end >= first for begin, end in self.ran[bundle])


class Laws:
    """Judge of one fleet."""

    def __init__(self, fleet: SimulatedFleet) -> None:
        self._fleet = fleet
        self._bundles: dict[str, _Bundle] = {}
        self._grants: dict[str, bytes] = {}
        self._nodes: dict[str, _Memory] = defaultdict(_Memory)
        self._contents: dict[tuple[str, int, int], str] = {}
        self._waves: dict[tuple[str, int], str] = {}
        self._started: dict[str, set[str]] = defaultdict(set)
        self._log = MemoryLog()
        self._engine = sa.create_engine(f"sqlite:///{fleet.coordinator.fleet.settings().files.database / 'control.db'}")

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def learn_bundle(self, digest: str, version: str, behaviour: str, model: bytes) -> None:
        """Remember what a bundle is, to recognise it when it runs."""
        self._bundles[digest] = _Bundle(version, behaviour, digest_of(model).removeprefix("sha256:"))

    def learn_grant(self, digest: str, document: bytes) -> None:
        """Remember what a grant allows."""
        self._grants[digest] = effective(parse_grant(document, "grant")).encode()

    def version(self, bundle_digest: str) -> str:
        """Number of a bundle's version."""
        return self._bundles[bundle_digest].version

    def deployments(self) -> tuple[StoredDeployment, ...]:
        """Every deployment in the database, the newest first."""
        with self._engine.connect() as connection:
            return deployment_rows.list_deployments(connection, "", 1_000)

    def release_paths(self, files: Mapping[str, bytes]) -> Iterable[str]:
        """Target paths that the newest metadata of each role lists."""
        newest: dict[str, int] = {}
        for name in files:
            number, _, role = name.removesuffix(".json").partition(".")
            if role and number.isdecimal():
                newest[role] = max(newest.get(role, 0), int(number))
        for role, number in newest.items():
            yield from json.loads(files[f"{number}.{role}.json"])["signed"].get("targets", {})

    # Nodes

    def check_start(self, node: SimulatedNode, agent: AgentStart) -> None:
        """Judge a start at the moment when it happens."""
        self.nothing_starts_without_verified_documents(node, agent)
        bundle = next(iter(agent.models.values())).path.name
        self._started[bundle].add(node.name)

    def check_nodes(self) -> None:
        """Judge every node."""
        for node in self._fleet.nodes.values():
            self.accepted_generation_never_decreases(node)
            if node.running:
                self.what_runs_is_what_the_ledger_says(node)
                self.restarts_are_counted_for_real_restarts(node)

    def accepted_generation_never_decreases(self, node: SimulatedNode) -> None:
        """A node's accepted generation never decreases, and its number never stands for other content."""
        memory, raw = self._nodes[node.name], node.disk.durable(LEDGER)
        if raw is None or raw is memory.raw:
            return
        memory.raw = raw
        entry = Ledger(node.disk, DATA / "ledger").load()
        assert entry is not None
        number = (entry.epoch, entry.generation)
        assert number >= memory.highest, f"{node.name} went back from {memory.highest} to {number}"
        memory.highest = number
        self._one_content(node.name, *number, entry.digest)
        payload = decode_base64(json.loads(entry.desired.envelope)["payload"])
        memory.accepted.setdefault(entry.digest, decode_assignment(payload).agents)

    def nothing_starts_without_verified_documents(self, node: SimulatedNode, agent: AgentStart) -> None:
        """What starts is in a verified assignment of the durable ledger, by a bundle and a grant of the release."""
        self.accepted_generation_never_decreases(node)
        entry, adopted = Ledger(node.disk, DATA / "ledger").load(), node.trust.adopted
        assert entry is not None, f"{agent.name} starts on {node.name} without a ledger"
        assert adopted is not None, f"{agent.name} starts on {node.name} without a release"
        identity = node.identity
        open_assignment(entry.desired, adopted.fleet, node=identity.node, epoch=identity.epoch, now=entry.accepted_at)
        # A start that was decided just before a newer order was accepted may still happen; it is stopped at once.
        recent = list(self._nodes[node.name].accepted.values())[-2:]
        specs = [spec for agents in recent for spec in agents if spec.name == agent.name and self._is(spec, agent)]
        specs = specs or [spec for spec in self._older(node, agent.name) if self._is(spec, agent)]
        assert specs, f"{agent.name} starts on {node.name} with what its ledger does not say"
        for ref in (specs[-1].bundle, specs[-1].grant):
            assert adopted.release.target(ref.path).digest == ref.digest

    def what_runs_is_what_the_ledger_says(self, node: SimulatedNode) -> None:
        """Whatever is reported to run does run, as the accepted order says; and nothing else runs.

        An older version may run instead while the ordered one is prepared, which takes a moment, or is told to be
        refused; with no authority beyond the ordered one's, and not past the moment when its documents are withdrawn.
        """
        observed, memory = node.supervisor.observed(), self._nodes[node.name]
        held = {"": (), **memory.accepted}
        assert observed.digest in held, f"{node.name} acts on an order that its ledger does not hold"
        ordered = {spec.name: spec for spec in held[observed.digest]}
        reported = {agent.name: agent for agent in observed.agents}
        for name, agent in reported.items():
            if agent.phase is not Phase.RUNNING:
                continue
            spec = ordered.get(name)
            assert spec is not None, f"{name} runs on {node.name} and is not ordered"
            runs = self._what_runs(node, spec, agent)
            real = node.runtime.running.get(name)
            assert real is not None, f"{name} is reported to run on {node.name} and does not"
            assert self._is(runs, real), f"{name} on {node.name} is another version than reported"
            memory.note_run(runs.bundle.digest, self._fleet.loop.time())
        memory.judged = self._fleet.loop.time()
        ending = {Phase.RUNNING, Phase.STARTING, Phase.STOPPING}
        for name in node.runtime.running:
            assert name in reported, f"{name} runs on {node.name} and nobody knows"
            assert reported[name].phase in ending, f"{name} runs on {node.name} and is {reported[name].phase}"

    def _what_runs(self, node: SimulatedNode, ordered: AssignedAgent, agent: ObservedAgent) -> AssignedAgent:
        """Return the version that a node tells to run; the ordered one, or an older one that may run instead of it."""
        name, now, overdue = ordered.name, self._fleet.loop.time(), self._nodes[node.name].overdue
        if _documents(ordered) == (agent.bundle_digest, agent.grant_digest):
            overdue.pop(name, None)
            return ordered
        found = [
            spec for spec in self._older(node, name) if _documents(spec) == (agent.bundle_digest, agent.grant_digest)
        ]
        assert found, f"{name} on {node.name} is a version that was never ordered, or may do more than the ordered one"
        adopted = node.trust.adopted
        assert adopted is not None
        listed = all(
            ref.path in adopted.release.documents and adopted.release.documents[ref.path].digest == ref.digest
            for ref in (found[-1].bundle, found[-1].grant)
        )
        if listed and agent.refusal is not None:
            overdue.pop(name, None)
            return found[-1]
        why = "and nothing refuses the ordered one" if listed else "and is withdrawn"
        order, since = overdue.get(name, (ordered, now))
        overdue[name] = (ordered, since if order == ordered else now)
        assert now - overdue[name][1] < PREPARING_S, f"{name} on {node.name} is an older version {why}"
        return found[-1]

    def _older(self, node: SimulatedNode, name: str) -> list[AssignedAgent]:
        """Return what a node was ordered to run as one agent and may run beside its newest order."""
        orders = list(self._nodes[node.name].accepted.values())
        newest = [spec for spec in orders[-1] if spec.name == name] if orders else []
        return [
            spec
            for agents in orders
            for spec in agents
            for ordered in newest
            if spec.name == name and subset(self._authority(spec), self._authority(ordered))
        ]

    def _authority(self, spec: AssignedAgent) -> Authority:
        return Authority.decode(self._grants[spec.grant.digest])

    def restarts_are_counted_for_real_restarts(self, node: SimulatedNode) -> None:
        """An agent was restarted at most as often as it was started after its first start."""
        for agent in node.supervisor.observed().agents:
            starts = node.runtime.starts[agent.name]
            assert agent.restarts <= max(starts, 1), f"{agent.name}: {agent.restarts} restarts, {starts} starts"

    # Coordinator

    def check_coordinator(self) -> None:
        """Judge the coordinator by its database, whether or not it runs."""
        with self._engine.connect() as connection:
            self.audit_log_only_grows(connection)
            for row in node_rows.list_desired(connection).values():
                order = decode_assignment(decode_base64(json.loads(row.envelope)["payload"]))
                self._one_content(row.node, order.epoch, order.generation, row.digest)
            deployments = deployment_rows.list_deployments(connection, "", 1_000)
            self.bad_versions_stay_in_the_first_wave(deployments)
            for stored in deployments:
                self.waves_begin_in_order(stored)
                self.later_waves_rest_on_what_really_ran(stored)
                for wave in stored.waves:
                    self._waves[stored.head.id, wave.number] = wave.state

    def audit_log_only_grows(self, connection: sa.Connection) -> None:
        """The log's tree is the tree of every leaf ever seen, in order, and of new ones after them."""
        size = audit_rows.log_size(connection)
        assert size >= self._log.size, f"the audit log shrank from {self._log.size} to {size}"
        for _, leaf in audit_rows.list_leaves(connection, self._log.size, size - self._log.size):
            self._log.append(leaf)
        rows = connection.execute(sa.select(audit_node.c.level, audit_node.c.position, audit_node.c.hash))
        stored = {(level, position): digest for level, position, digest in rows}
        assert stored == self._log.nodes, "the audit log changed a leaf"

    def waves_begin_in_order(self, stored: StoredDeployment) -> None:
        """While a deployment runs, one wave is running, those before it are healthy, those after it are untouched."""
        if stored.head.state is not DeploymentState.RUNNING:
            return
        order = {WaveState.HEALTHY: 0, WaveState.RUNNING: 1, WaveState.WAITING: 2}
        states = [order[WaveState(wave.state)] for wave in stored.waves]
        assert states == sorted(states), f"waves out of order: {stored.waves}"
        assert states.count(1) <= 1, f"two waves at once: {stored.waves}"
        touched = {node.node for node in stored.nodes if node.generation is not None}
        begun = {node.node for wave in stored.waves if wave.started_ms for node in stored.nodes_of(wave.number)}
        assert touched == begun

    def later_waves_rest_on_what_really_ran(self, stored: StoredDeployment) -> None:
        """A wave becomes healthy when its nodes ran what was planned, or could not be reached until the deadline."""
        for wave in stored.waves:
            before = self._waves.get((stored.head.id, wave.number))
            if wave.state != WaveState.HEALTHY or before == WaveState.HEALTHY or wave.started_ms is None:
                continue
            began = [other.started_ms for other in stored.waves if other.number == wave.number + 1 and other.started_ms]
            judged_ms = (*began, stored.head.finished_ms or 0)[0]
            if judged_ms - wave.started_ms >= self._fleet.deadline_s * 1000:
                continue  # past the deadline, unreachable nodes are left to catch up
            started, judged = (moment / 1000 - self._fleet.start_s for moment in (wave.started_ms, judged_ms))
            for node in stored.nodes_of(wave.number):
                for agent in decode_agents(node.planned):
                    ran = self._nodes[node.node].ran_within(agent.bundle.digest, started, judged)
                    assert ran, f"{node.node} counts as healthy and did not run {agent.name}"

    def bad_versions_stay_in_the_first_wave(self, deployments: Iterable[StoredDeployment]) -> None:
        """A version that always traps is never started outside of the first wave of a deployment."""
        started = {
            (node, bundle.model)
            for bundle in self._bundles.values()
            if bundle.behaviour in (CRASHING, UNSTARTABLE)
            for node in self._started[bundle.model]
        }
        if not started:
            return
        allowed: set[tuple[str, str]] = set()
        for stored in deployments:
            for node in stored.nodes_of(1):
                planned = decode_agents(node.planned)
                allowed |= {(node.node, self._bundles[agent.bundle.digest].model) for agent in planned}
        assert started <= allowed, f"a version that always traps left the first wave: {started - allowed}"

    # Everything together

    def converged(self) -> str:
        """Say what has not converged yet; "" when every node runs what it shall and no deployment runs."""
        with self._engine.connect() as connection:
            if deployment_rows.list_running(connection):
                return "a deployment still runs"
            desired = node_rows.list_desired(connection)
        for name, node in self._fleet.nodes.items():
            row = desired.get(name)
            if row is None:
                continue
            observed = node.supervisor.observed()
            if (observed.generation, observed.digest) != (row.generation, row.digest):
                return f"{name} has generation {observed.generation}, {row.generation} is ordered"
            reported = {agent.name: agent for agent in observed.agents}
            specs = self._nodes[name].accepted[observed.digest]
            if reported.keys() != {spec.name for spec in specs}:
                return f"{name} runs {sorted(reported)}"
            for spec in specs:
                settled = self._settled(spec)
                if reported[spec.name].phase not in settled:
                    return f"{spec.name} on {name} is {reported[spec.name].phase}, not {'/'.join(settled)}"
        return ""

    def ended_deployments_hold(self) -> None:
        """Once converged, a node has what the last ended deployment that touched it promised."""
        with self._engine.connect() as connection:
            desired = node_rows.list_desired(connection)
        judged: set[tuple[str, str]] = set()
        for stored in self.deployments():
            for node in stored.nodes:
                if node.generation is None or (node.node, stored.head.application) in judged:
                    continue
                judged.add((node.node, stored.head.application))
                succeeded = stored.head.state is DeploymentState.SUCCEEDED
                promised = decode_agents(node.planned if succeeded else node.previous)
                row = desired[node.node]
                payload = decode_base64(json.loads(row.envelope)["payload"])
                agents = decode_assignment(payload).agents
                mine = tuple(agent for agent in agents if agent.application == stored.head.application)
                assert mine == promised, f"{node.node} does not have what {stored.head.state} promised"

    def _settled(self, spec: AssignedAgent) -> tuple[Phase, ...]:
        if spec.grant.path not in self._fleet.listed():
            return (Phase.FAILED,)
        behaviour = self._bundles[spec.bundle.digest].behaviour
        return (Phase.BACKOFF, Phase.RUNNING) if behaviour in (CRASHING, UNSTARTABLE) else (Phase.RUNNING,)

    def _one_content(self, node: str, epoch: int, generation: int, digest: str) -> None:
        """Two different contents never share a generation."""
        known = self._contents.setdefault((node, epoch, generation), digest)
        assert known == digest, f"{node}: two contents of generation {generation}"

    def _is(self, spec: AssignedAgent, agent: AgentStart) -> bool:
        models = {model.path.name for model in agent.models.values()}
        return (
            models == {self._bundles[spec.bundle.digest].model} and agent.authority == self._grants[spec.grant.digest]
        )


def _documents(spec: AssignedAgent) -> tuple[str, str]:
    return spec.bundle.digest, spec.grant.digest
