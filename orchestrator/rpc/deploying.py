"""ControlService, deployments: plan, deploy, watch, list, cancel."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.targets import bundle_of
from fleet.v1 import control_pb2
from orchestrator import rollout
from orchestrator.director import decode_agents
from orchestrator.releases import grant_of
from orchestrator.rollouts import decode_policy
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.services import Door
from orchestrator.rpc.teams import check_team
from orchestrator.store.deployments import DeploymentState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.deployments import Draft
    from orchestrator.rpc.interceptor import Context
    from orchestrator.store.deployments import DeploymentNodeRow, StoredDeployment

MAX_LISTED = 1_000
DEFAULT_LISTED = 20


class DeployingDoor(Door):
    """Methods about deployments."""

    async def Plan(self, request: control_pb2.PlanRequest, _: Context) -> control_pb2.PlanReply:  # noqa: N802
        """Show what a deploy of the manifest would do."""
        return _write_plan(await self._run(self._services.deployments.plan, request.manifest))

    async def Deploy(self, request: control_pb2.DeployRequest, _: Context) -> control_pb2.DeployReply:  # noqa: N802
        """Deploy a manifest."""
        operator, base = principal_operator(), request.base
        if operator.team:
            draft = await self._run(self._services.deployments.plan, request.manifest)
            check_team(operator, [agent for change in draft.plan.nodes for agent in (*change.before, *change.after)])
            base = base or draft.base  # what was looked at is what is deployed
        identifier = await self._run(self._services.deployments.deploy, request.manifest, base, operator.name)
        return control_pb2.DeployReply(deployment=identifier)

    async def WatchDeployment(  # noqa: N802
        self, request: control_pb2.WatchDeploymentRequest, _: Context
    ) -> AsyncIterator[control_pb2.Deployment]:
        """Send a deployment whenever it changes, until it has ended."""
        changes = self._services.rollouts_changed
        before: control_pb2.Deployment | None = None
        while True:
            seen = changes.count
            stored = await self._run(self._services.deployments.get, request.id)
            message = self._write(stored)
            if message != before:
                before = message
                yield message
            if stored.head.state is not DeploymentState.RUNNING:
                return
            await changes.after(seen)

    async def ListDeployments(  # noqa: N802
        self, request: control_pb2.ListDeploymentsRequest, _: Context
    ) -> control_pb2.ListDeploymentsReply:
        """List deployments, the newest first."""
        limit = min(request.limit or DEFAULT_LISTED, MAX_LISTED)
        found = await self._run(self._services.deployments.list, request.application, limit)
        return control_pb2.ListDeploymentsReply(deployments=[self._write(stored) for stored in found])

    async def GetDeployment(self, request: control_pb2.GetDeploymentRequest, _: Context) -> control_pb2.Deployment:  # noqa: N802
        """Send one deployment."""
        return self._write(await self._run(self._services.deployments.get, request.id))

    async def CancelDeployment(  # noqa: N802
        self, request: control_pb2.CancelDeploymentRequest, _: Context
    ) -> control_pb2.Deployment:
        """Stop a deployment and give the nodes that it touched their previous agents again."""
        operator = principal_operator()
        if operator.team:
            stored = await self._run(self._services.deployments.get, request.id)
            touched = (decode_agents(text) for node in stored.nodes for text in (node.planned, node.previous))
            check_team(operator, [agent for agents in touched for agent in agents])
        return self._write(await self._run(self._services.rollouts.cancel, request.id, operator.name))

    def _write(self, stored: StoredDeployment) -> control_pb2.Deployment:
        return control_pb2.Deployment(
            id=stored.head.id,
            application=stored.head.application,
            state=stored.head.state,
            waves=[
                control_pb2.Wave(
                    number=wave.number, nodes=[node.node for node in stored.nodes_of(wave.number)], state=wave.state
                )
                for wave in stored.waves
            ],
            reason=stored.head.reason,
            created_ms=stored.head.created_ms,
            finished_ms=stored.head.finished_ms or 0,
            operator=stored.head.operator,
            nodes=self._progress(stored),
        )

    def _progress(self, stored: StoredDeployment) -> list[control_pb2.NodeProgress]:
        observations = self._services.inventory.observations()
        healthy_for = timedelta(milliseconds=decode_policy(stored.head.policy).healthy_for_ms)

        def progress(node: DeploymentNodeRow) -> control_pb2.NodeProgress:
            observation = observations.get(node.node)
            agents = decode_agents(node.planned)
            if node.generation is None:
                assessment = rollout.Assessment(rollout.Health.PENDING, "waits for its wave")
            else:
                target = rollout.NodeTarget(node.generation, stored.head.application, agents)
                assessment = rollout.assess(target, observation, healthy_for)
            return control_pb2.NodeProgress(
                node=node.node,
                generation=node.generation or 0,
                observed_generation=0 if observation is None else observation.state.generation,
                healthy=assessment.healthy_agents,
                agents=len(agents),
                message=assessment.message,
            )

        return [progress(node) for node in stored.nodes]


def _write_plan(draft: Draft) -> control_pb2.PlanReply:
    plan = draft.plan
    reply = control_pb2.PlanReply(
        application=plan.application, base=draft.base, changes=plan.changes, warnings=plan.warnings
    )
    for change in plan.nodes:
        for agent, action in change.actions():
            reply.agents.add(
                node=change.node,
                agent=agent.name,
                action=action,
                bundle=bundle_of(agent.bundle.path),
                bundle_digest=agent.bundle.digest,
                grant_digest=agent.grant.digest,
                grant_revision=grant_of(agent.grant.path)[1],
                grant_path=agent.grant.path,
                wave=change.wave,
            )
    for number, nodes in enumerate(plan.waves, 1):
        reply.waves.add(number=number, nodes=nodes, state=rollout.WaveState.WAITING)
    for name, diff in sorted(draft.authority.items()):
        reply.authority.add(agent=name, widened=diff.widened, narrowed=diff.narrowed)
    return reply
