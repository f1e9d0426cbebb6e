"""Commands that show what is there: status, nodes, agents, deployments, events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.v1 import control_pb2 as pb
from fleet.v1 import model_pb2
from orchestrator.cli.render import Column, ago, labels, short_digest, size, when
from orchestrator.cli.session import parse_labels

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

NODE_COLUMNS = (
    Column("NODE", "node"),
    Column("STATE", "state"),
    Column("AGENTS", "agents", right=True),
    Column("GENERATION", "generation", right=True),
    Column("SEEN", "seen", right=True),
    Column("LABELS", "labels"),
    Column("EPOCH", "epoch", wide=True, right=True),
    Column("ARCHITECTURE", "architecture", wide=True),
    Column("RELEASE", "release", wide=True),
    Column("CERTIFICATE UNTIL", "certificate_expires", wide=True),
)

AGENT_COLUMNS = (
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("PHASE", "phase"),
    Column("RESTARTS", "restarts", right=True),
    Column("CALLS", "calls", right=True),
    Column("LAST EXIT", "last_exit"),
    Column("NEXT ATTEMPT", "next_attempt"),
    Column("BUNDLE", "bundle", wide=True),
    Column("GRANT", "grant", wide=True),
    Column("MEMORY", "memory", wide=True, right=True),
    Column("ERRORS", "errors", wide=True, right=True),
    Column("LAST OUTPUT", "last_output", wide=True),
)

DEPLOYMENT_COLUMNS = (
    Column("DEPLOYMENT", "id"),
    Column("APPLICATION", "application"),
    Column("STATE", "state"),
    Column("WAVES", "waves"),
    Column("CREATED", "created"),
    Column("BY", "operator"),
    Column("REASON", "reason"),
)

EVENT_COLUMNS = (
    Column("TIME", "time"),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("EVENT", "kind"),
    Column("MESSAGE", "message"),
    Column("NUMBER", "sequence", wide=True, right=True),
)


def node_row(node: pb.Node, now_ms: int) -> dict[str, object]:
    """One node as a table row; JSON and YAML show the same keys."""
    behind = node.observed_generation != node.desired_generation
    generation = f"{node.observed_generation}/{node.desired_generation}" if behind else str(node.desired_generation)
    return {
        "node": node.name,
        "state": node.state,
        "agents": f"{node.healthy}/{node.agents}",
        "generation": generation,
        "seen": ago(node.last_seen_ms, now_ms),
        "labels": labels(node.labels.items()),
        "epoch": node.epoch,
        "architecture": node.architecture,
        "release": node.agent_version,
        "certificate_expires": when(node.certificate_expires_ms),
    }


def agent_row(item: pb.AgentOnNode, now_ms: int) -> dict[str, object]:
    """One agent on one node as a table row."""
    agent = item.agent
    last_exit = ""
    if agent.refusal.code:
        last_exit = f"refused: {agent.refusal.code}"
    elif agent.last_exit.cause:
        last_exit = f"{agent.last_exit.cause}, {ago(agent.last_exit.at_ms, now_ms)} ago"
    wait_s = max(0, agent.next_attempt_at_ms - now_ms) / 1000
    return {
        "node": item.node,
        "agent": agent.name,
        "phase": model_pb2.Phase.Name(agent.phase).removeprefix("PHASE_").lower(),
        "restarts": agent.restarts,
        "calls": agent.calls,
        "last_exit": last_exit,
        "next_attempt": f"in {wait_s:.0f}s" if agent.next_attempt_at_ms else "",
        "bundle": item.bundle or short_digest(agent.bundle_digest),
        "grant": f"r{item.grant_revision}" if item.grant_revision else short_digest(agent.grant_digest),
        "memory": size(agent.memory_bytes),
        "errors": agent.errors,
        "last_output": agent.last_output,
    }


def deployment_row(deployment: pb.Deployment) -> dict[str, object]:
    """One deployment as a table row."""
    return {
        "id": deployment.id,
        "application": deployment.application,
        "state": deployment.state,
        "waves": " ".join(f"{wave.number}:{wave.state}" for wave in deployment.waves),
        "created": when(deployment.created_ms),
        "operator": deployment.operator,
        "reason": deployment.reason,
    }


def event_row(event: model_pb2.Event) -> dict[str, object]:
    """One event as a table row."""
    return {
        "time": when(event.at_ms),
        "node": event.node,
        "agent": event.agent,
        "kind": event.kind,
        "message": event.message,
        "sequence": event.sequence,
    }


@click.command()
@click.argument("name", required=False)
@click.option("--label", "-l", "label", multiple=True, metavar="KEY=VALUE", help="Only nodes with this label.")
@click.pass_obj
def nodes(session: Session, name: str | None, label: tuple[str, ...]) -> None:
    """List the nodes, or describe one."""
    with session.connect() as client:
        if name:
            found = [client.call(client.stub.GetNode, pb.GetNodeRequest(name=name))]
        else:
            found = list(client.call(client.stub.ListNodes, pb.ListNodesRequest(labels=parse_labels(label))).nodes)
    rows = [node_row(node, session.now_ms()) for node in found]
    session.output.rows(NODE_COLUMNS, rows, "No node has joined. Try `fleetctl node join NAME`.")


@click.command()
@click.argument("name", required=False, metavar="[APPLICATION[/AGENT]]")
@click.option("--node", default="", help="Only agents on this node.")
@click.pass_obj
def agents(session: Session, name: str | None, node: str) -> None:
    """List the agents and what they do, per node."""
    application, _, _ = (name or "").partition("/")
    request = pb.ListAgentsRequest(application=application, node=node)
    with session.connect() as client:
        found = client.call(client.stub.ListAgents, request).agents
    rows = [
        agent_row(item, session.now_ms()) for item in found if not (name and "/" in name) or item.agent.name == name
    ]
    session.output.rows(AGENT_COLUMNS, rows, "No agent is assigned. Try `fleetctl deploy fleet.yaml`.")


@click.command()
@click.argument("application", required=False, default="")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.pass_obj
def deployments(session: Session, application: str, limit: int) -> None:
    """List the deployments, newest first."""
    request = pb.ListDeploymentsRequest(application=application, limit=limit)
    with session.connect() as client:
        found = client.call(client.stub.ListDeployments, request).deployments
    session.output.rows(DEPLOYMENT_COLUMNS, [deployment_row(d) for d in found], "Nothing was deployed yet.")


@click.command()
@click.pass_obj
def status(session: Session) -> None:
    """Show the fleet at a glance: nodes, agents, and the newest deployment of each application."""
    with session.connect() as client:
        found_nodes = client.call(client.stub.ListNodes, pb.ListNodesRequest()).nodes
        found_agents = client.call(client.stub.ListAgents, pb.ListAgentsRequest()).agents
        found_deployments = client.call(client.stub.ListDeployments, pb.ListDeploymentsRequest(limit=100)).deployments
    newest: dict[str, pb.Deployment] = {}
    for deployment in found_deployments:
        newest.setdefault(deployment.application, deployment)
    now_ms = session.now_ms()
    node_rows = [node_row(node, now_ms) for node in found_nodes]
    agent_rows = [agent_row(item, now_ms) for item in found_agents]
    deployment_rows = [deployment_row(d) for d in newest.values()]
    output = session.output
    if output.machine:
        output.value({"nodes": node_rows, "agents": agent_rows, "deployments": deployment_rows})
        return
    output.rows(NODE_COLUMNS, node_rows, "No node has joined. Try `fleetctl node join NAME`.")
    output.text("")
    output.rows(AGENT_COLUMNS, agent_rows, "No agent is assigned. Try `fleetctl deploy fleet.yaml`.")
    output.text("")
    output.rows(DEPLOYMENT_COLUMNS, deployment_rows, "Nothing was deployed yet.")


@click.command()
@click.option("--node", default="", help="Only events of this node.")
@click.option("--agent", default="", help="Only events of this agent.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--follow", "-f", is_flag=True, help="Go on with new events as they come.")
@click.pass_obj
def events(session: Session, node: str, agent: str, limit: int, follow: bool) -> None:  # noqa: FBT001 - click's own convention
    """Show what happened, oldest first."""
    request = pb.ListEventsRequest(node=node, agent=agent, limit=limit, follow=follow)
    with session.connect() as client:
        stream = client.stream(client.stub.ListEvents, request, timeout_s=None if follow else 30.0)
        if not follow:
            session.output.rows(EVENT_COLUMNS, [event_row(e) for e in stream], "Nothing happened yet.")
            return
        for event in stream:
            if session.output.machine:
                session.output.value(event_row(event))
            else:
                session.output.line(
                    (f"{when(event.at_ms)}  ", "dim"),
                    (f"{event.node:<12} {event.agent:<24} {event.kind:<28} ", ""),
                    (event.message, ""),
                )
