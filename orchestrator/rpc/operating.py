"""ControlService, the running fleet: join tokens, nodes, agents, commands, logs and events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.model import Phase, is_agent_name
from fleet.targets import bundle_of
from fleet.times import to_ms
from fleet.v1 import control_pb2
from fleet.wire import to_pb_ceiling, to_pb_desired, to_pb_event, to_pb_log_line, to_pb_observed_agent
from orchestrator.planner import matches
from orchestrator.releases import grant_of
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.content import write_grant
from orchestrator.rpc.services import Door, check_number
from orchestrator.rpc.teams import agents_named, check_team
from orchestrator.sessions import CallCommand, SendCommand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.v1 import model_pb2
    from orchestrator.nodes import NodeView
    from orchestrator.rpc.interceptor import Context
    from orchestrator.sessions import CommandAnswer
    from orchestrator.witnessing import Order

DEFAULT_DEADLINE_MS = 30_000
MAX_DEADLINE_MS = 600_000
MAX_PAYLOADS = 1_000
MAX_INVOCATION = 64 * 1024
"""Characters of one WAVE text, and of all payloads of one event together."""

DEFAULT_EVENTS = 100
MAX_EVENTS = 1_000
"""Events read at once; a follower reads on from there."""

MAX_TAIL = 1_000


class OperatingDoor(Door):
    """Methods about nodes and what runs on them."""

    async def CreateJoinToken(  # noqa: N802
        self, request: control_pb2.CreateJoinTokenRequest, _: Context
    ) -> control_pb2.CreateJoinTokenReply:
        """Make a join token for one node."""
        token, expires = await self._run(
            self._services.enrolment.create_token,
            request.node,
            dict(request.labels),
            request.ttl_s,
            principal_operator().name,
            request.key,
        )
        return control_pb2.CreateJoinTokenReply(
            token=token, enrolment_address=self._services.enrolment_address, expires_ms=to_ms(expires)
        )

    async def ListNodes(self, request: control_pb2.ListNodesRequest, _: Context) -> control_pb2.ListNodesReply:  # noqa: N802
        """List the nodes that have all of some labels."""
        views = await self._run(self._services.nodes.list)
        least = await self._run(self._services.releases.min_node_version)
        return control_pb2.ListNodesReply(
            nodes=[write_node(view, least) for view in views if matches(view.row.labels, request.labels)]
        )

    async def GetNode(self, request: control_pb2.GetNodeRequest, _: Context) -> control_pb2.Node:  # noqa: N802
        """Send one node."""
        view = await self._run(self._services.nodes.get, request.name)
        node = write_node(view, await self._run(self._services.releases.min_node_version))
        ceiling = self._services.inventory.ceiling(request.name)
        if ceiling is not None:
            node.ceiling.CopyFrom(to_pb_ceiling(ceiling))
        return node

    async def GetOrder(self, request: control_pb2.GetOrderRequest, _: Context) -> control_pb2.GetOrderReply:  # noqa: N802
        """Send the newest order of a node, proven from the largest log that it is known to have cosigned."""
        await self._run(self._services.nodes.get, request.node)
        order = await self._run(self._order, request.node)
        return control_pb2.GetOrderReply(order=None if order is None else to_pb_desired(order.state))

    def _order(self, node: str) -> Order | None:
        views = self._services.witnessing.standing().witnesses
        seen = max((view.newest.size for view in views if view.node == node and view.newest is not None), default=0)
        return self._services.witnessing.order(node, seen)

    async def ListAgents(self, request: control_pb2.ListAgentsRequest, _: Context) -> control_pb2.ListAgentsReply:  # noqa: N802
        """List agents, desired or observed, of an application or a node or all."""
        views = await self._run(self._services.nodes.list)
        found = [entry for view in views if request.node in {"", view.row.name} for entry in _agents(view)]
        return control_pb2.ListAgentsReply(
            agents=[e for e in found if request.application in {"", e.agent.name.partition("/")[0]}]
        )

    async def GetAgent(self, request: control_pb2.GetAgentRequest, _: Context) -> control_pb2.GetAgentReply:  # noqa: N802
        """Send one agent on every node that has it."""
        views = await self._run(self._services.nodes.list)
        found = [entry for view in views for entry in _agents(view) if entry.agent.name == request.name]
        if not found:
            raise FleetError(Code.NOT_FOUND, f"no agent {request.name!r}", agent=request.name[:128])
        reply = control_pb2.GetAgentReply(agents=found)
        wanted = next((entry for entry in found if entry.desired), None)
        if wanted is not None:
            reply.grant.CopyFrom(await self._run(self._grant_on, wanted.node, request.name))
        return reply

    async def CallAgent(self, request: control_pb2.CallAgentRequest, _: Context) -> control_pb2.CallAgentReply:  # noqa: N802
        """Call a function of an agent where it runs."""
        if not is_agent_name(request.agent):
            raise FleetError(Code.VALUE_INVALID, "expected application/agent", place="agent")
        _check_text([request.invocation])
        operator = principal_operator()
        if operator.team:
            check_team(operator, agents_named(await self._run(self._services.nodes.list), request.agent))
        node = request.node or self._find_running(request.agent)
        what = CallCommand(request.agent, request.invocation)
        answer = await self._services.sessions.call(node, what, _deadline(request.deadline_ms))
        raise_refusal(answer, node)
        return control_pb2.CallAgentReply(node=node, output=answer.output)

    async def SendEvent(self, request: control_pb2.SendEventRequest, _: Context) -> control_pb2.SendEventReply:  # noqa: N802
        """Deliver an event to the agents that listen to its topic, on one node or on all that are online."""
        if len(request.payloads) > MAX_PAYLOADS:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(request.payloads)} payloads", limit=MAX_PAYLOADS)
        _check_text([request.topic, *request.payloads])
        nodes = (request.node,) if request.node else self._services.sessions.names()
        what = SendCommand(request.topic, tuple(request.payloads))
        outcomes = await asyncio.gather(*(self._send(node, what) for node in nodes), return_exceptions=True)
        delivered = [outcome for outcome in outcomes if isinstance(outcome, int)]
        for outcome in outcomes:
            # One node's trouble does not keep the event from the others; if nobody took it, the trouble is the answer.
            if isinstance(outcome, BaseException) and (not delivered or not isinstance(outcome, FleetError)):
                raise outcome
        return control_pb2.SendEventReply(nodes=len(delivered), delivered=sum(delivered))

    async def StreamLogs(  # noqa: N802
        self, request: control_pb2.StreamLogsRequest, _: Context
    ) -> AsyncIterator[model_pb2.LogLine]:
        """Send the newest log lines, and those that follow."""
        logs, sessions = self._services.logs, self._services.sessions
        tail = min(request.tail, MAX_TAIL)
        if not request.follow:
            for line in logs.tail(request.node, request.agent, tail):
                yield to_pb_log_line(line)
            return
        follower = logs.follow(request.node, request.agent, tail)
        sessions.follow_logs()
        try:
            while True:
                for line in await follower.take():
                    yield to_pb_log_line(line)
        finally:
            sessions.unfollow_logs()
            logs.unfollow(follower)

    async def ListEvents(  # noqa: N802
        self, request: control_pb2.ListEventsRequest, _: Context
    ) -> AsyncIterator[model_pb2.Event]:
        """Send events after a sequence (the newest ones when it is 0), and those that follow."""
        journal, changes = self._services.journal, self._services.events_changed
        limit = min(request.limit or DEFAULT_EVENTS, MAX_EVENTS)
        seen = changes.count
        last = check_number(request.after_sequence, "after_sequence")
        if last:
            events = await self._run(journal.after, last, limit, node=request.node, agent=request.agent)
        else:
            events = await self._run(journal.newest, limit, node=request.node, agent=request.agent)
        while True:
            for event in events:
                last = event.sequence
                yield to_pb_event(event)
            if not request.follow:
                return
            if not events:
                seen = await changes.after(seen)
            events = await self._run(journal.after, last, MAX_EVENTS, node=request.node, agent=request.agent)

    async def _send(self, node: str, what: SendCommand) -> int:
        answer = await self._services.sessions.call(node, what, DEFAULT_DEADLINE_MS)
        raise_refusal(answer, node)
        return answer.delivered

    def _grant_on(self, node: str, agent: str) -> control_pb2.Grant:
        """Write the grant that an agent runs under on a node, if the newest release still has it."""
        releases = self._services.releases
        documents = releases.adopted().documents
        for wanted in self._services.nodes.get(node).desired_agents:
            if wanted.name == agent and wanted.grant.path in documents:
                return write_grant(releases, documents[wanted.grant.path])
        return control_pb2.Grant()

    def _find_running(self, agent: str) -> str:
        for node, observation in sorted(self._services.inventory.observations().items()):
            running = any(a.name == agent and a.phase is Phase.RUNNING for a in observation.state.agents)
            if observation.online and running:
                return node
        raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent} runs on no online node", agent=agent)


def write_node(view: NodeView, least: str) -> control_pb2.Node:
    """Write a node as operators see it."""
    observed = view.observed
    return control_pb2.Node(
        name=view.row.name,
        labels=dict(view.row.labels),
        state=view.state,
        epoch=view.row.epoch,
        desired_generation=view.desired_generation,
        observed_generation=0 if observed is None else observed.generation,
        last_seen_ms=view.last_seen_ms,
        agent_version=view.row.agent_version,
        architecture=view.row.architecture,
        agents=len(view.desired_agents),
        healthy=view.healthy,
        certificate_expires_ms=view.row.certificate_expires_ms,
        locked=view.row.locked,
        warnings=view.warnings(least),
        trust_digest="" if observed is None else observed.trust_digest,
        director_key=view.director_key,
        log_keys=sorted(view.log_keys),
        authority=view.row.authority,
    )


def _agents(view: NodeView) -> list[control_pb2.AgentOnNode]:
    wanted = {agent.name: agent for agent in view.desired_agents}
    observed = {agent.name: agent for agent in (() if view.observed is None else view.observed.agents)}
    result: list[control_pb2.AgentOnNode] = []
    for name in sorted(wanted.keys() | observed.keys()):
        entry = control_pb2.AgentOnNode(node=view.row.name, desired=name in wanted)
        if name in observed:
            entry.agent.CopyFrom(to_pb_observed_agent(observed[name]))
        else:
            entry.agent.name = name
        if name in wanted:
            entry.bundle = bundle_of(wanted[name].bundle.path)
            entry.grant_revision = grant_of(wanted[name].grant.path)[1]
            entry.grant_path = wanted[name].grant.path
            entry.bundle_path = wanted[name].bundle.path
            entry.narrow = wanted[name].narrow
        result.append(entry)
    return result


def _deadline(milliseconds: int) -> int:
    if milliseconds > MAX_DEADLINE_MS:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a deadline of {milliseconds} ms", limit=MAX_DEADLINE_MS)
    return milliseconds or DEFAULT_DEADLINE_MS


def _check_text(texts: Sequence[str]) -> None:
    size = sum(map(len, texts))
    if size > MAX_INVOCATION:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{size} characters", limit=MAX_INVOCATION)


def raise_refusal(answer: CommandAnswer, node: str) -> None:
    """Pass on what a node refused with; a code that is not in the catalog becomes INTERNAL."""
    if not answer.error_code:
        return
    known = answer.error_code in set(Code)
    detail = {"remedy": answer.error_remedy} if answer.error_remedy else {}
    code = Code(answer.error_code) if known else Code.INTERNAL
    raise FleetError(code, answer.error_message, node=node, reason=answer.error_message[:512], **detail)
