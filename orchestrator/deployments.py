"""What a deploy does, from the manifest to the first wave's orders.

Owns: the use cases plan, deploy, list and look up. `Deployments.deploy` reads top to bottom: look up and verify, plan,
check, one transaction, signal. The lookups choose among what the release repository lists; nothing here can add a
bundle or widen a grant. What follows after the first wave is `rollouts`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.grants.admission import check_applies, check_ceilings, check_exports, check_imports
from fleet.grants.break_glass import check_break_glass
from fleet.grants.comparison import diff_grants
from fleet.grants.document import parse_grant
from fleet.grants.narrowing import decode_narrowing
from fleet.grants.requests import check_request
from fleet.grants.subscriptions import check_triggers
from fleet.manifest import parse_application
from fleet.model import AssignedAgent, Event, TargetRef
from fleet.times import to_ms
from orchestrator import checks, composition, emergencies, planner
from orchestrator.audit import event_leaf
from orchestrator.director import agents_of, encode_agents
from orchestrator.rollout import WaveState
from orchestrator.rollouts import encode_policy
from orchestrator.store import deployments as rows
from orchestrator.store import nodes as node_rows
from orchestrator.store.deployments import DeploymentNodeRow, DeploymentRow, DeploymentState, StoredDeployment, WaveRow
from orchestrator.store.release import get_grants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from fleet.bundle import VerifiedBundle
    from fleet.grants.document import Grant
    from fleet.grants.lattice import AuthorityDiff
    from fleet.model import Application, ApplicationAgent, Placement
    from fleet.trust import Release
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.director import Director
    from orchestrator.inventory import Inventory
    from orchestrator.releases import Releases
    from orchestrator.rollouts import Rollouts
    from orchestrator.store.database import Store

Marks = dict[str, tuple[int, int, bool]]
"""Node name to (epoch, desired generation, locked): what must not change between planning and ordering."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One agent of the manifest with the documents that it will run under."""

    agent: AssignedAgent
    placement: Placement
    bundle: VerifiedBundle
    grant: Grant


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan and what it was made from.

    Attributes:
        base: fingerprint of the manifest's documents and of the application's state on every node.
        authority: agent to what its grant would gain and lose.
    """

    application: Application
    resolved: tuple[Resolved, ...]
    plan: planner.Plan
    base: str
    authority: Mapping[str, AuthorityDiff]
    marks: Marks


class Deployments:
    """The deploy use cases.

    Args:
        new_id: makes the id of a deployment.
        signal: tells the sessions of these nodes that their desired state changed; called after the commit.
        journal: takes an event for operators to see.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        store: Store,
        releases: Releases,
        director: Director,
        log: AuditLog,
        rollouts: Rollouts,
        inventory: Inventory,
        clock: Clock,
        new_id: Callable[[], str],
        signal: Callable[[Iterable[str]], None],
        journal: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._releases = releases
        self._director = director
        self._log = log
        self._rollouts = rollouts
        self._inventory = inventory
        self._clock = clock
        self._new_id = new_id
        self._signal = signal
        self._journal = journal

    def plan(self, manifest: bytes) -> Draft:
        """Work out what a deploy of the manifest would do; nothing is stored.

        Raises:
            FleetError: MANIFEST_INVALID; TARGET_UNSIGNED, GRANT_MISSING, GRANT_NOT_APPLICABLE, GRANT_EXPIRED,
                IMPORT_NOT_GRANTED with the command that would mend it; LINK_INVALID; NO_MATCHING_NODES; NOT_FOUND for
                the removal of what no node runs; PLAN_INVALID; LIMIT_EXCEEDED; TRUST_EXPIRED.
        """
        now = self._clock()
        application = parse_application(manifest)
        release = self._releases.current()
        resolved = tuple(self._resolve(release, application, agent) for agent in application.agents)
        with self._store.control.read() as connection:
            joined = node_rows.list_nodes(connection)
            nodes = [node for node in joined if not node.locked]
            desired = node_rows.list_desired(connection)
            marks = _marks(connection)
            online = self._inventory.online()
            inventory = [
                planner.NodeInfo(node.name, node.labels, node.name in online, agents_of(desired.get(node.name)))
                for node in nodes
            ]
            placements = {item.agent.name: item.placement for item in resolved}
            composed = composition.fuse(
                [composition.Component(item.agent, item.bundle.imports, item.bundle.exports) for item in resolved]
            )
            placed = [planner.PlacedAgent(agent, placements[agent.name]) for agent in composed.agents]
            plan = planner.plan(application.name, placed, application.rollout, inventory)
            if not application.agents and not plan.nodes:
                raise FleetError(Code.NOT_FOUND, f"no node runs {application.name}", application=application.name)
            checks.check(plan, inventory)
            composition.check_neighbours(plan)
            kept = (
                f"{node.name} is locked and keeps its agents"
                for node in joined
                if node.locked and any(a.application == application.name for a in agents_of(desired.get(node.name)))
            )
            broken = (emergencies.describe(item.grant) for item in resolved if item.grant.break_glass)
            plan = replace(plan, warnings=(*broken, *plan.warnings, *composed.warnings, *kept))
            authority = self._authority(connection, resolved, plan)
        self._check_nodes(release, resolved, plan, {node.name: node for node in nodes}, inventory, now)
        base = _fingerprint(application.name, resolved, inventory, {node.name: node.epoch for node in nodes})
        return Draft(application, resolved, plan, base, authority, marks)

    def deploy(self, manifest: bytes, base: str, operator: str) -> str:
        """Deploy a manifest: store the deployment and order its first wave.

        Args:
            manifest: fleet.yaml.
            base: `Draft.base` of the plan that the operator agreed to; empty to accept whatever is current.
            operator: name of the operator.

        Returns:
            The deployment's id.

        Raises:
            FleetError: as `plan`; GENERATION_CONFLICT when the state is not the one planned from, or changed while
                planning; ROLLOUT_RUNNING when another deployment of the application runs.
        """
        draft = self.plan(manifest)
        if base and base != draft.base:
            raise FleetError(Code.GENERATION_CONFLICT, "the fleet changed since the plan was made")
        now = self._clock()
        stored = _new_deployment(self._new_id(), draft, operator, now)
        with self._store.control.write() as connection:
            if _marks(connection) != draft.marks:
                raise FleetError(Code.GENERATION_CONFLICT, "a node changed while planning")
            rows.insert_deployment(connection, stored)
            leaf = event_leaf(
                "rollout:deployment:created",
                now,
                f"user/{operator}",
                deployment=stored.head.id,
                application=draft.application.name,
                manifest=f"sha256:{hashlib.sha256(manifest).hexdigest()}",
                nodes=[node.node for node in stored.nodes],
            )
            self._log.append(connection, [leaf])
            if draft.plan.changes:
                ordered = self._rollouts.begin_wave(connection, stored, 1, now)
            else:  # stored as running first: while another rollout runs, what is current is not settled
                rows.finish(connection, stored.head.id, DeploymentState.SUCCEEDED, "nothing to change", to_ms(now))
                ordered = []
        detail = {"deployment": stored.head.id, "application": draft.application.name}
        message = f"{len(stored.nodes)} nodes in {len(stored.waves)} waves, by {operator}"
        self._journal(Event(now, "", "", "rollout:deployment:created", message, detail))
        for item in draft.resolved:
            if item.grant.break_glass:
                self._journal(emergencies.tell(item.grant, emergencies.ORDERED, now, operator))
        self._signal(ordered)
        return stored.head.id

    def get(self, identifier: str) -> StoredDeployment:
        """Return one deployment.

        Raises:
            FleetError: NOT_FOUND.
        """
        with self._store.control.read() as connection:
            return rows.get_deployment(connection, identifier)

    def list(self, application: str, limit: int) -> tuple[StoredDeployment, ...]:
        """Return the newest deployments first; an empty application means all."""
        with self._store.control.read() as connection:
            return rows.list_deployments(connection, application, limit)

    def _resolve(self, release: Release, application: Application, wanted: ApplicationAgent) -> Resolved:
        name = f"{application.name}/{wanted.name}"
        target = self._releases.find_bundle(release, wanted.bundle)
        bundle = self._releases.open_bundle(target)
        approved = self._releases.find_grant(
            release, name, wanted.grant_revision, wanted.bundle, target.role, break_glass=wanted.break_glass
        )
        self._releases.standing(release).check(name, target, bundle, approved)
        grant, _ = self._releases.read_grant(approved)
        check_break_glass(grant, approved.role, self._releases.read_break_glass(release))
        links = tuple(replace(link, agent=f"{application.name}/{link.agent}") for link in wanted.links)
        check_request(grant.request, bundle.imports, bundle.exports, name, wanted.bundle)
        check_imports(bundle.imports, grant.authority, bundle.optional_imports, name, wanted.bundle, links)
        check_exports(bundle.exports, grant.authority, name, wanted.bundle)
        check_triggers(wanted.triggers, bundle.exports, grant.authority, name, wanted.bundle)
        agent = AssignedAgent(
            name=name,
            bundle=TargetRef(target.path, target.digest),
            grant=TargetRef(approved.path, approved.digest),
            config=wanted.config,
            triggers=wanted.triggers,
            restart=wanted.restart,
            on_full_queue=wanted.on_full_queue,
            health=wanted.health,
            swap=wanted.swap,
            links=links,
            narrow=wanted.narrow,
        )
        return Resolved(agent, wanted.placement, bundle, grant)

    def _check_nodes(
        self,
        release: Release,
        resolved: Iterable[Resolved],
        plan: planner.Plan,
        nodes: Mapping[str, node_rows.NodeRow],
        inventory: Iterable[planner.NodeInfo],
        now: datetime,
    ) -> None:
        """Check what depends on the node: that each grant applies there, and that the order is small enough."""
        documents = {item.agent.name: item for item in resolved}
        ceilings = self._releases.read_ceilings(release)
        others = {
            node.name: tuple(agent for agent in node.agents if agent.application != plan.application)
            for node in inventory
        }
        for change in plan.nodes:
            for agent in (part for whole in change.after for part in whole.parts):
                item = documents[agent.name]
                check_applies(
                    item.grant,
                    agent=agent.name,
                    bundle_name=item.bundle.name,
                    bundle_version=item.bundle.version,
                    bundle_digest=agent.bundle.digest,
                    labels=nodes[change.node].labels,
                    now=now,
                )
                check_ceilings(
                    (*item.bundle.imports, *item.bundle.exports),
                    item.grant,
                    () if ceilings is None else ceilings.on(nodes[change.node].labels),
                    item.bundle.optional_imports,
                    agent.name,
                )
            if change.wave:
                self._director.check_size(nodes[change.node], others[change.node] + change.after, now)

    def _authority(
        self, connection: Connection, resolved: Iterable[Resolved], plan: planner.Plan
    ) -> Mapping[str, AuthorityDiff]:
        """Compare each agent's grant, as fleet.yaml narrows it, with the one that it has now.

        That is the first by digest where nodes have several others.
        """
        result: dict[str, AuthorityDiff] = {}
        running: dict[str, set[tuple[str, str]]] = {}
        for change in plan.nodes:
            for agent in (part for whole in change.before for part in whole.parts):
                running.setdefault(agent.name, set()).add((agent.grant.digest, agent.narrow))
        known = get_grants(connection, {digest for pairs in running.values() for digest, _ in pairs})
        for item in resolved:
            pairs = running.get(item.agent.name, set())
            earlier = sorted(pairs - {(item.agent.grant.digest, item.agent.narrow)})
            if pairs and not earlier:
                continue
            found = known.get(earlier[0][0]) if earlier else None
            old = None if found is None else _narrowed(parse_grant(found.document, found.path), earlier[0][1])
            result[item.agent.name] = diff_grants(old, _narrowed(item.grant, item.agent.narrow))
        return result


def _narrowed(grant: Grant, narrow: str) -> Grant:
    """Return the grant with what is left of its authority."""
    left = decode_narrowing(narrow).apply(grant.authority)
    return replace(grant, capabilities=left.capabilities, limits=left.limits)


def _new_deployment(identifier: str, draft: Draft, operator: str, now: datetime) -> StoredDeployment:
    head = DeploymentRow(
        id=identifier,
        application=draft.application.name,
        state=DeploymentState.RUNNING,
        reason="",
        operator=operator,
        policy=encode_policy(draft.application.rollout),
        created_ms=to_ms(now),
    )
    nodes = tuple(
        DeploymentNodeRow(change.node, change.wave, encode_agents(change.after), encode_agents(change.before))
        for change in draft.plan.nodes
        if change.wave
    )
    waves = tuple(WaveRow(number, WaveState.WAITING) for number in range(1, len(draft.plan.waves) + 1))
    return StoredDeployment(head, waves, nodes)


def _marks(connection: Connection) -> Marks:
    desired = node_rows.list_desired(connection)
    return {
        node.name: (
            node.epoch,
            desired[node.name].generation if node.name in desired else 0,
            bool(node.locked),
        )
        for node in node_rows.list_nodes(connection)
    }


def _fingerprint(
    application: str,
    resolved: Iterable[Resolved],
    inventory: Iterable[planner.NodeInfo],
    epochs: Mapping[str, int],
) -> str:
    """Fingerprint what a plan was made from; who is online only changes the order of the waves and is left out."""
    state = {
        "agents": encode_agents([item.agent for item in resolved]),
        "nodes": {
            node.name: {
                "epoch": epochs[node.name],
                "labels": dict(node.labels),
                "agents": encode_agents([agent for agent in node.agents if agent.application == application]),
            }
            for node in inventory
        },
    }
    return hashlib.sha256(dump_json(state)).hexdigest()
