"""Commands that show what is there: status, nodes, agents, deployments, events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.v1 import control_pb2 as pb
from orchestrator.cli.records import (
    AGENT_COLUMNS,
    DEPLOYMENT_COLUMNS,
    EVENT_COLUMNS,
    NODE_COLUMNS,
    agent_row,
    deployment_row,
    event_row,
    node_row,
)
from orchestrator.cli.render import exact, when
from orchestrator.cli.session import AGENT_NAME, AGENTS, NODE_NAME, parse_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.v1 import model_pb2
    from orchestrator.cli.client import Client
    from orchestrator.cli.render import Row
    from orchestrator.cli.session import Session

NO_NODE = "No node has joined. Try `fleetctl node join NAME`."
NO_AGENT = "No agent is assigned. Try `fleetctl deploy FLEET.YAML`."
NO_DEPLOYMENT = "Nothing was deployed yet."

MAX_EVENTS = 1000
"""Events that the coordinator sends at once."""


def _agents(session: Session, client: Client, application: str, node: str) -> list[Row]:
    found = client.call(client.stub.ListAgents, pb.ListAgentsRequest(application=application, node=node)).agents
    return [agent_row(item, session.now_ms()) for item in found]


def _agent_table(session: Session, rows: Sequence[Row], empty: str) -> None:
    """Print agents, and below the table what mends each refusal: the reason why one looks."""
    output = session.output
    output.rows(AGENT_COLUMNS, rows, empty)
    if output.machine:
        return
    for row in rows:
        if isinstance(refusal := row.record["refusal"], dict):
            output.note(f"\n{row.record['agent']} is refused on {row.record['node']}: {refusal['message']}")
            output.note(f"  remedy  {refusal['remedy']}")


@click.command()
@click.argument("name", required=False, type=NODE_NAME)
@click.option("--label", "-l", "label", multiple=True, metavar="KEY=VALUE", help="Only nodes with this label.")
@click.pass_obj
def nodes(session: Session, name: str | None, label: tuple[str, ...]) -> None:
    """List the nodes, or describe one and what it runs."""
    with session.connect() as client:
        if name:
            found = client.call(client.stub.GetNode, pb.GetNodeRequest(name=name))
            running = [row.record for row in _agents(session, client, "", name)]
            session.output.value({**node_row(found, session.now_ms()).record, "running": running})
            return
        listed = client.call(client.stub.ListNodes, pb.ListNodesRequest(labels=parse_labels(label))).nodes
    empty = "No node has these labels." if label else NO_NODE
    session.output.rows(NODE_COLUMNS, [node_row(node, session.now_ms()) for node in listed], empty)


def _describe(session: Session, client: Client, name: str, node: str) -> None:
    """Print all that is known of one agent: its grant, and how it stands on each node."""
    reply = client.call(client.stub.GetAgent, pb.GetAgentRequest(name=name))
    grant = reply.grant
    session.output.value(
        {
            "agent": name,
            "grant": {
                "revision": grant.revision,
                "path": grant.path,
                "digest": grant.digest,
                "capabilities": list(grant.interfaces),
                "not_before": exact(grant.not_before_ms),
                "not_after": exact(grant.not_after_ms),
                "approvers": list(grant.approvers),
            }
            if grant.revision
            else None,
            "nodes": [agent_row(a, session.now_ms()).record for a in reply.agents if node in {"", a.node}],
        }
    )


@click.command()
@click.argument("name", required=False, default="", type=AGENTS, metavar="[APPLICATION[/AGENT]]")
@click.option("--node", default="", type=NODE_NAME, help="Only agents on this node.")
@click.pass_obj
def agents(session: Session, name: str, node: str) -> None:
    """List the agents and what they do, per node.

    APPLICATION/AGENT describes one: its grant, its digests, how it last ended or why it is refused.
    """
    with session.connect() as client:
        if "/" in name:
            _describe(session, client, name, node)
            return
        rows = _agents(session, client, name, node)
    _agent_table(session, rows, "No such agent is assigned." if name or node else NO_AGENT)


@click.command()
@click.argument("application", required=False, default="")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.pass_obj
def deployments(session: Session, application: str, limit: int) -> None:
    """List the deployments, newest first."""
    request = pb.ListDeploymentsRequest(application=application, limit=limit)
    with session.connect() as client:
        found = client.call(client.stub.ListDeployments, request).deployments
    empty = f"Nothing of {application} was deployed yet." if application else NO_DEPLOYMENT
    session.output.rows(DEPLOYMENT_COLUMNS, [deployment_row(d, session.now_ms()) for d in found], empty)


@click.command()
@click.pass_obj
def status(session: Session) -> None:
    """Show the fleet at a glance.

    Nodes, agents, and the newest deployment of each application.
    """
    with session.connect() as client:
        found_nodes = client.call(client.stub.ListNodes, pb.ListNodesRequest()).nodes
        agent_rows = _agents(session, client, "", "")
        found_deployments = client.call(client.stub.ListDeployments, pb.ListDeploymentsRequest(limit=100)).deployments
    newest: dict[str, pb.Deployment] = {}
    for deployment in found_deployments:
        newest.setdefault(deployment.application, deployment)
    now_ms = session.now_ms()
    node_rows = [node_row(node, now_ms) for node in found_nodes]
    deployment_rows = [deployment_row(d, now_ms) for d in newest.values()]
    output = session.output
    if output.machine:
        sections = {"nodes": node_rows, "agents": agent_rows, "deployments": deployment_rows}
        output.value({name: [row.record for row in rows] for name, rows in sections.items()})
        return
    output.rows(NODE_COLUMNS, node_rows, NO_NODE)
    output.text("")
    _agent_table(session, agent_rows, NO_AGENT)
    output.text("")
    output.rows(DEPLOYMENT_COLUMNS, deployment_rows, NO_DEPLOYMENT)


def _tell(session: Session, event: model_pb2.Event) -> None:
    """Print one event of a stream."""
    if session.output.machine:
        session.output.item(event_row(event, session.now_ms()).record)
        return
    session.output.line(
        (f"{when(event.at_ms)}  ", "dim"),
        (f"{event.node or '-':<8} {event.agent or '-':<20} {event.kind}  ", ""),
        (event.message, ""),
    )


@click.command()
@click.option("--node", default="", type=NODE_NAME, help="Only events of this node.")
@click.option("--agent", default="", type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Only events of this agent.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, MAX_EVENTS), help="Newest events shown.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new events as they come.")
@click.pass_obj
def events(session: Session, node: str, agent: str, limit: int, follow: bool) -> None:  # noqa: FBT001 - click's own convention
    """Show what happened last, in the order in which it happened."""
    request = pb.ListEventsRequest(node=node, agent=agent, limit=limit, follow=follow)
    with session.connect() as client:
        stream = client.stream(client.stub.ListEvents, request, timeout_s=None if follow else 30.0)
        if follow:
            for event in stream:
                _tell(session, event)
        else:
            now_ms = session.now_ms()
            session.output.rows(EVENT_COLUMNS, [event_row(e, now_ms) for e in stream], "Nothing happened yet.")
