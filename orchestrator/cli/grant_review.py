"""Commands that look at grants before they are signed and after: diff, check, explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import Source, decode_narrowing, describe_rules, diff_grants, find_specs, parse_ceiling
from fleet.grants import explain as ask
from fleet.targets import CEILINGS_PATH
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.granted import (
    REFUSAL_COLUMNS,
    named,
    newest_revision,
    published,
    reader,
    refusal_rows,
    refusals,
)
from orchestrator.cli.render import Column, Row
from orchestrator.cli.session import AGENT_NAME, NODE_NAME, parse_labels
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.files import read_named
from orchestrator.policies import fleet_ceilings

if TYPE_CHECKING:
    from fleet.grants import Verdict
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.granted import Document
    from orchestrator.cli.session import Session
    from orchestrator.policies import Read

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

VERDICT_COLUMNS = (
    Column("DOCUMENT", "document"),
    Column("ALLOWS", "allowed"),
    Column("PLACE", "place", fold=True),
    Column("RULES", "rules", fold=True),
)


def show_difference(session: Session, proposed: Document, old: Document | None) -> None:
    """Print what a grant widens and narrows, computed from exactly the bytes that would be signed."""
    output, grant = session.output, proposed.grant
    against = f"revision {old.grant.revision}" if old else "no authority at all"
    output.text(f"{grant.agent}, revision {grant.revision}, compared with {against}:")
    change = diff_grants(None if old is None else old.grant, grant)
    for text in change.widened:
        output.line(("  + ", "green"), (text, ""))
    for text in change.narrowed:
        output.line(("  - ", "red"), (text, ""))
    if not change.widened and not change.narrowed:
        output.line(("  no change", "dim"))
    labels = ", ".join(f"{k}={v}" for k, v in sorted(grant.node_labels.items())) or "every node"
    output.line(("  bundle  ", "dim"), (f"{grant.bundle.name} {grant.bundle.versions.text}", ""))
    output.line(("  nodes   ", "dim"), (labels, ""))
    output.line(("  valid   ", "dim"), (f"{grant.not_before:%Y-%m-%d} to {grant.not_after:%Y-%m-%d}", ""))
    output.line(("  risk    ", "dim"), (f"{grant.risk}{', break glass' if grant.break_glass else ''}", ""))
    now = session.now()
    if not grant.not_before <= now < grant.not_after:
        output.note("warning: this grant is not valid now, so no agent runs under it")


def describe_difference(proposed: Document, old: Document | None) -> dict[str, object]:
    """Return the same for a program."""
    change = diff_grants(None if old is None else old.grant, proposed.grant)
    return {
        "agent": proposed.grant.agent,
        "old": None if old is None else {"place": old.place, "revision": old.grant.revision, "risk": old.grant.risk},
        "new": {"place": proposed.place, "revision": proposed.grant.revision, "risk": proposed.grant.risk},
        "widened": list(change.widened),
        "narrowed": list(change.narrowed),
    }


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", required=False)
@click.pass_obj
def diff(session: Session, old: str, new: str | None) -> None:
    """Show what one grant allows that another does not.

    Each is a file, an agent (its newest approved grant) or an agent@REVISION. With one argument, a file, it is compared
    with the approved grant of its agent.

    Example: fleetctl grant diff climate/context@3 climate/context@4
    """
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        read = reader(directory, client, release)
        first = named(old, read, release)
        before: Document | None
        if new is not None:
            before, after = first, named(new, read, release)
        else:
            before = (
                published(read, release, first.grant.agent) if newest_revision(release, first.grant.agent) else None
            )
            after = first
    if session.output.machine:
        session.output.value(describe_difference(after, before))
    else:
        show_difference(session, after, before)


@click.command()
@click.argument("file", type=FILE, metavar="GRANT.YAML")
@click.pass_obj
def check(session: Session, file: Path) -> int:
    """Ask the fleet's guardrails about a grant; signs nothing.

    Names every guardrail that would refuse it if it were signed with the keys on this machine and published now.
    """
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        read = reader(directory, client, release)
        grant = named(str(file), read, release).grant
        found = refusals(session, directory, release, grant, read, publishing=True)
    session.output.rows(REFUSAL_COLUMNS, refusal_rows(found), "No guardrail refuses it.")
    return ExitCode.REFUSED if found else ExitCode.OK


@click.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.argument("interface", required=False)
@click.argument("request", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--revision", default=0, help="Revision of the grant; default the one in the node's order, or the newest."
)
@click.option("--node", type=NODE_NAME, help="Ask for this node: the fleet's ceilings for its labels, and its order.")
@click.option("--ceiling", type=FILE, help="The ceiling.yaml of the node, where you have it.")
@click.pass_obj
def explain(session: Session, /, agent: str, interface: str | None, request: tuple[str, ...], **how: object) -> int:
    """Say whether a call is allowed, and which document says so.

    Without INTERFACE, list everything that is allowed.

    Example: fleetctl grant explain climate/context wasi:keyvalue/store bucket=context op=set --node n1
    """
    node, ceiling = how["node"], how["ceiling"]
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        read = reader(directory, client, release)
        order = _order(client, agent, str(node)) if node else None
        revision = int(str(how["revision"])) or (order.grant_revision if order else 0)
        document = published(read, release, agent, revision)
        sources = [Source("grant", document.place, document.grant.authority, document.data)]
        sources += _ceilings(client, release, read, str(node)) if node else []
    if isinstance(ceiling, Path):
        data = read_named(ceiling, MAX_DOCUMENT)
        sources.append(Source("node ceiling", str(ceiling), parse_ceiling(data, ceiling.name), data))
    if order is not None and order.narrow:
        left = decode_narrowing(order.narrow).apply(document.grant.authority)
        sources.append(Source("narrowing", f"order of {node}", left))
    if interface is None:
        _list_everything(session, document)
        return ExitCode.OK
    if find_specs(interface) is None:
        raise FleetError(Code.CALL_DENIED, f"no grant can name {interface}", agent=agent)
    try:
        verdicts = ask(sources, interface, parse_labels(request))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return _tell(session, interface, verdicts)


def _order(client: Client, agent: str, node: str) -> pb.AgentOnNode | None:
    """Return what the node is ordered to run of the agent."""
    application = agent.partition("/")[0]
    found = client.call(client.stub.ListAgents, pb.ListAgentsRequest(application=application, node=node)).agents
    return next((entry for entry in found if entry.agent.name == agent and entry.desired), None)


def _ceilings(client: Client, release: Release, read: Read, node: str) -> list[Source]:
    ceilings = fleet_ceilings(release, read)
    if ceilings is None:
        return []
    labels = dict(client.call(client.stub.GetNode, pb.GetNodeRequest(name=node)).labels)
    data = read(release.target(CEILINGS_PATH))
    places = {ceiling.place: number for number, ceiling in enumerate(ceilings.ceilings)}
    return [
        Source("fleet ceiling", ceiling.place, ceiling.authority, data, ("ceilings", places[ceiling.place], "caps"))
        if ceiling.place in places
        else Source("fleet ceiling", ceiling.place, ceiling.authority)
        for ceiling in ceilings.on(labels)
    ]


def _list_everything(session: Session, document: Document) -> None:
    grant = document.grant
    lines = [line for name, rules in sorted(grant.capabilities.items()) for line in describe_rules(name, rules)]
    if session.output.machine:
        session.output.value({"document": document.place, "allows": lines, "limits": grant.limits.describe()})
        return
    session.output.text("\n".join([f"{document.place} allows:", *(f"  {line}" for line in lines)]))
    limits = ", ".join(f"{key} {value}" for key, value in grant.limits.describe().items())
    session.output.text(f"limits: {limits}")


def _tell(session: Session, interface: str, verdicts: tuple[Verdict, ...]) -> int:
    decides = next((verdict for verdict in verdicts if not verdict.allowed), verdicts[0])
    allowed = decides.allowed
    rows = [
        {
            "document": verdict.title,
            "allowed": verdict.allowed,
            "place": verdict.place,
            "rules": list(verdict.rules) or [f"{interface} is not in it"],
        }
        for verdict in verdicts
    ]
    if session.output.machine:
        session.output.value(
            {
                "allowed": allowed,
                "document": decides.place,
                "rules": rows[verdicts.index(decides)]["rules"],
                "asked": rows,
            }
        )
    else:
        session.output.text(f"{'allowed' if allowed else 'denied'} by {decides.place}:")
        session.output.rows(VERDICT_COLUMNS, [Row(row) for row in rows], "")
    return ExitCode.OK if allowed else ExitCode.REFUSED
