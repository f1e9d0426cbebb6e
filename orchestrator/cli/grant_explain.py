"""Command grant explain: whether a call is allowed, which document decides, and why.

Owns: gathering every document that bounds an agent, as far as it is known here, and saying what is not known. What a
document says of a call is `fleet.grants.explanation`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import VOCABULARY, Source, decode_narrowing, describe_rules, find_specs, meet, parse_ceiling
from fleet.grants import explain as ask
from fleet.grants.document import format_instant
from fleet.targets import BREAK_GLASS_PATH, CEILINGS_PATH, is_break_glass, revision_of_grant
from fleet.v1 import control_pb2 as pb
from fleet.wire import from_pb_ceiling
from orchestrator.cli.granted import Approved
from orchestrator.cli.render import Column, Row
from orchestrator.cli.session import AGENT_NAME, NODE_NAME, parse_labels
from orchestrator.cli.teams import TEAM, ordered_paths
from orchestrator.files import read_named
from orchestrator.policies import fleet_break_glass, fleet_ceilings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.grants import Authority, Verdict
    from orchestrator.cli.client import Client
    from orchestrator.cli.granted import Document
    from orchestrator.cli.session import Session

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

VERDICT_COLUMNS = (
    Column("DOCUMENT", "document"),
    Column("ALLOWS", "allowed"),
    Column("PLACE", "place", fold=True),
    Column("WHY", "why", fold=True),
)


@dataclass
class Bounds:
    """Every document that bounds an agent, the grant first, and what else may, and is not known here."""

    document: Document
    sources: list[Source] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def emergency(self) -> str:
        """What is to be said of an emergency grant; empty for an ordinary one."""
        grant = self.document.grant
        if not grant.break_glass:
            return ""
        return f"BREAK-GLASS: an emergency grant, until {format_instant(grant.not_after)}: {grant.reason}"

    @property
    def authority(self) -> Authority:
        """What all of them leave."""
        left = self.sources[0].authority
        for source in self.sources[1:]:
            left = meet(left, source.authority)
        return left


@click.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.argument("interface", required=False)
@click.argument("request", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--revision",
    default=0,
    type=click.IntRange(min=0),
    metavar="N",
    help="Revision of the grant; default the one in the node's order, or the newest.",
)
@click.option("--node", type=NODE_NAME, help="Ask for this node: its ceilings, its labels and its order.")
@click.option("--ceiling", type=FILE, help="The node's ceiling.yaml, in place of what the node says of it.")
@TEAM
@click.pass_obj
def explain(session: Session, /, agent: str, interface: str | None, request: tuple[str, ...], **how: object) -> int:
    """Say whether a call is allowed, by which document, and why.

    Without INTERFACE, list everything that is allowed. Without --node, what a node's ceiling, its labels and the order
    for it take away is left out.

    \b
    fleetctl grant explain climate/context wasi:keyvalue/store bucket=context op=set --node n1
    """  # noqa: D301 - \b is click's mark for keeping line breaks
    if interface is not None and find_specs(interface) is None:
        near = get_close_matches(interface, VOCABULARY, 1)
        hint = f"Did you mean {near[0]}?" if near else "docs/grants.md lists the interfaces that need a grant."
        raise FleetError(Code.CALL_DENIED, f"no grant can name {interface}", agent=agent, remedy=hint)
    wanted = parse_labels(request)
    with session.connect() as client:
        bounds = _gather(session, client, agent, how)
    for text in bounds.unknown:
        session.output.note(f"not known here: {text}")
    if interface is None:
        _list_everything(session, bounds)
        return ExitCode.OK
    try:
        verdicts = ask(bounds.sources, interface, wanted)
    except ValueError as error:
        keywords = {spec.request for spec in (find_specs(interface) or {}).values() if spec.request}
        raise click.UsageError(f"{error}; known: {', '.join(sorted(keywords)) or 'none'}") from error
    return _tell(session, bounds, verdicts)


def _gather(session: Session, client: Client, agent: str, how: Mapping[str, object]) -> Bounds:
    node, revision = how["node"], int(str(how["revision"]))
    approved = Approved.newest(session, client, str(how["team"]))
    order = _order(client, agent, str(node)) if node else None
    if order is not None and not revision and not approved.team:
        document = approved.at(order.grant_path)
    else:
        document = approved.document(agent, revision)
    grant = document.grant
    title = "BREAK-GLASS grant" if grant.break_glass else "grant"
    bounds = Bounds(document, [Source(title, document.place, grant.authority, document.data)])
    limits = fleet_break_glass(approved.release, approved.read) if grant.break_glass else None
    if limits is not None:
        data = approved.read(approved.release.target(BREAK_GLASS_PATH))
        bounds.sources.append(Source("break-glass ceiling", BREAK_GLASS_PATH, limits.authority, data))
    if node:
        described = client.call(client.stub.GetNode, pb.GetNodeRequest(name=str(node)))
        bounds.sources += _fleet_ceilings(approved, dict(described.labels))
        if how["ceiling"] is None:
            _add_own_ceiling(bounds, described)
    elif emergencies := [path for path in ordered_paths(client, agent) if is_break_glass(path)]:
        numbers = ", ".join(f"r{revision_of_grant(path)}" for path in emergencies)
        session.output.note(f"BREAK-GLASS: some nodes run {agent} under emergency grant {numbers}; ask with --node.")
    if isinstance(how["ceiling"], Path):
        file = how["ceiling"]
        data = read_named(file, MAX_DOCUMENT)
        bounds.sources.append(Source("node ceiling", str(file), parse_ceiling(data, file.name), data))
    if order is not None and order.narrow:
        left = decode_narrowing(order.narrow).apply(grant.authority)
        bounds.sources.append(Source("narrowing", f"order of {node}", left))
    return bounds


def _order(client: Client, agent: str, node: str) -> pb.AgentOnNode | None:
    """Return what the node is ordered to run of the agent."""
    application = agent.partition("/")[0]
    found = client.call(client.stub.ListAgents, pb.ListAgentsRequest(application=application, node=node)).agents
    return next((entry for entry in found if entry.agent.name == agent and entry.desired), None)


def _fleet_ceilings(approved: Approved, labels: Mapping[str, str]) -> list[Source]:
    ceilings = fleet_ceilings(approved.release, approved.read)
    if ceilings is None:
        return []
    data = approved.read(approved.release.target(CEILINGS_PATH))
    places = {ceiling.place: number for number, ceiling in enumerate(ceilings.ceilings)}
    return [
        Source("fleet ceiling", ceiling.place, ceiling.authority, data, ("ceilings", places[ceiling.place], "caps"))
        if ceiling.place in places
        else Source("fleet ceiling", ceiling.place, ceiling.authority)
        for ceiling in ceilings.on(labels)
    ]


def _add_own_ceiling(bounds: Bounds, node: pb.Node) -> None:
    """Add the node's own ceiling as the node told it, or say that it is not known."""
    if not node.HasField("ceiling"):
        bounds.unknown.append(
            f"the ceiling.yaml of {node.name}, which has not been connected since the coordinator started; "
            "give it with --ceiling FILE"
        )
        return
    own = from_pb_ceiling(node.ceiling)
    if own.document:
        place = f"ceiling.yaml of {node.name}"
        bounds.sources.append(Source("node ceiling", place, parse_ceiling(own.document, place), own.document))
    elif own.digest:
        bounds.unknown.append(
            f"the ceiling.yaml of {node.name}, {own.digest}, which is too large to be told; give it with --ceiling FILE"
        )


def _list_everything(session: Session, bounds: Bounds) -> None:
    authority = bounds.authority
    lines = [line for name, rules in sorted(authority.capabilities.items()) for line in describe_rules(name, rules)]
    documents = [{"document": source.title, "place": source.place} for source in bounds.sources]
    limits = authority.limits.describe()
    output, grant = session.output, bounds.document.grant
    if output.machine:
        output.value(
            {
                "agent": grant.agent,
                "document": bounds.document.place,
                "break_glass": grant.break_glass,
                "allows": lines,
                "limits": limits,
                "documents": documents,
                "unknown": bounds.unknown,
            }
        )
        return
    if bounds.emergency:
        output.line((bounds.emergency, "red"))
    output.text(f"{grant.agent} may, under all of:")
    for source in bounds.sources:
        output.text(f"  {source.title}: {source.place}")
    output.text("")
    output.text("\n".join(lines) or "nothing")
    output.text(f"limits: {', '.join(f'{key} {value}' for key, value in limits.items())}")


def _tell(session: Session, bounds: Bounds, verdicts: tuple[Verdict, ...]) -> int:
    decides = next((verdict for verdict in verdicts if not verdict.allowed), verdicts[0])
    rows = [
        {
            "document": verdict.title,
            "allowed": verdict.allowed,
            "place": verdict.place,
            "why": verdict.why,
            "rules": list(verdict.rules),
        }
        for verdict in verdicts
    ]
    output = session.output
    if output.machine:
        output.value(
            {
                "allowed": decides.allowed,
                "break_glass": bounds.document.grant.break_glass,
                "document": decides.place,
                "kind": decides.title,
                "why": decides.why,
                "rules": list(decides.rules),
                "asked": rows,
                "unknown": bounds.unknown,
            }
        )
    else:
        if bounds.emergency:
            output.line((bounds.emergency, "red"))
        allowed = "allowed, as far as is known," if bounds.unknown else "allowed"
        output.text(f"{allowed if decides.allowed else 'denied'} by {decides.place}: {decides.why}")
        output.rows(VERDICT_COLUMNS, [Row(row) for row in rows], "")
    return ExitCode.OK if decides.allowed else ExitCode.REFUSED
