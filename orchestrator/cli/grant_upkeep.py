"""Commands that keep grants in order: unused, expiring, revoke."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.grants import EXPORTS, requested_interfaces
from fleet.history import receipt_of
from fleet.leaves import RECEIVED, EventLeaf, read_leaf
from fleet.quantities import format_duration, parse_duration
from fleet.release import BEFORE_EXPIRY, AddDocument, RemoveDocument
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations, parse_revocations
from fleet.targets import (
    BREAK_GLASS_TEAM,
    POLICY_ROLE,
    REVOCATIONS_PATH,
    agent_of_grant,
    grant_path,
    is_break_glass,
    revision_of_grant,
    team_of_grant,
)
from fleet.times import to_ms
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.granted import Approved
from orchestrator.cli.render import Column, Row, exact, when
from orchestrator.cli.session import AGENT_NAME
from orchestrator.cli.sources import open_target
from orchestrator.cli.teams import ONLY_TEAM, TEAM, choose_team
from orchestrator.cli.trust import TrustDirectory, fetch_document, synchronise
from orchestrator.cli.trust_change import OFFLINE, YES, local_release, perform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleet.assignment import Receipt
    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.granted import Document
    from orchestrator.cli.session import Session

AUDIT_TIMEOUT_S = 600.0

UNUSED_COLUMNS = (
    Column("AGENT", "agent"),
    Column("TEAM", "team"),
    Column("GRANT", "grant", right=True),
    Column("INTERFACE", "interface", fold=True),
    Column("WHY", "why"),
    Column("NODES", "nodes", fold=True),
    Column("SINCE", "since"),
    Column("LEAVES", "leaves", wide=True),
)

EXPIRING_COLUMNS = (
    Column("AGENT", "agent"),
    Column("TEAM", "team"),
    Column("GRANT", "grant", right=True),
    Column("WHAT", "what"),
    Column("AT", "at"),
    Column("LEFT", "left", right=True),
    Column("THEN", "then"),
    Column("RUNS ON", "nodes", fold=True),
)


@dataclass
class Use:
    """What receipts say of one agent under one grant."""

    nodes: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    since_ms: int = 0
    leaves: list[int] = field(default_factory=list)


def newest_receipts(leaves: Iterable[tuple[int, bytes]]) -> dict[str, tuple[int, Receipt]]:
    """Return node -> position and content of its newest receipt among the leaves of an audit log.

    Signatures are not checked here: `fleetctl audit verify` does, and the position says which leaf to look at.
    """
    newest: dict[str, tuple[int, Receipt]] = {}
    for index, data in leaves:
        leaf = read_leaf(data)
        if isinstance(leaf, EventLeaf) and leaf.kind == RECEIVED:
            receipt = receipt_of(leaf)
            newest[receipt.node] = (index, receipt)
    return newest


def uses(receipts: Mapping[str, tuple[int, Receipt]]) -> dict[tuple[str, str], Use]:
    """Return (agent, grant digest) -> what is used of it, by all nodes that run it."""
    result: dict[tuple[str, str], Use] = {}
    for node, (index, receipt) in sorted(receipts.items()):
        for agent in receipt.agents:
            if agent.refusal:
                continue
            use = result.setdefault((agent.name, agent.grant_digest), Use())
            at = to_ms(receipt.at)
            use.since_ms = min(use.since_ms or at, at)
            use.nodes.add(node)
            use.used.update(agent.used)
            use.leaves.append(index)
    return result


@click.command()
@click.argument("agent", required=False, default="", metavar="[APPLICATION/AGENT]")
@ONLY_TEAM
@click.pass_obj
def unused(session: Session, agent: str, team: str) -> None:
    """List what grants give and nobody uses.

    Two kinds: interfaces that the running component does not even import, and those that it imports and has never
    called on any node. The second is what nodes say in the receipts that they sign (`fleetctl audit verify` checks
    them); a receipt tells of a first use some minutes later, and more rarely the longer an order is in force.
    Interfaces that an agent exports are called by the node, and are only looked for in the component.
    """
    rows: list[Row] = []
    with session.connect() as client:
        approved = Approved.newest(session, client, team)
        entries = client.stream(client.stub.AuditEntries, pb.AuditEntriesRequest(), timeout_s=AUDIT_TIMEOUT_S)
        seen = uses(newest_receipts((entry.index, entry.leaf) for entry in entries))
        running = client.call(client.stub.ListAgents, pb.ListAgentsRequest()).agents
        bundles: dict[str, frozenset[str]] = {}
        for name, path, bundle in sorted({(a.agent.name, a.grant_path, a.bundle_path) for a in running if a.desired}):
            if agent not in {"", name} or team not in {"", team_of_grant(path)}:
                continue
            if path not in approved.release.documents:
                session.output.note(f"{name} is still ordered to run under {path}, which is not approved any more")
                continue
            document = approved.at(path)
            if bundle not in bundles:
                opened = open_target(approved.release, client, bundle).bundle
                bundles[bundle] = frozenset(requested_interfaces(opened.imports, opened.exports))
            use = seen.get((name, approved.release.target(path).digest), Use())
            about = {"agent": name, "team": document.team, "grant": document.grant.revision}
            rows += rows_of(document.grant.capabilities, bundles[bundle], use, about)
    session.output.rows(UNUSED_COLUMNS, rows, "Everything that is granted is used, as far as is known.")


def rows_of(granted: Iterable[str], asked: frozenset[str], use: Use, about: Mapping[str, object]) -> list[Row]:
    """Return one row for each granted interface that nobody uses."""
    rows = []
    for interface in sorted(granted):
        if interface not in asked:
            why = "not exported" if interface in EXPORTS else "not imported"
        elif interface in EXPORTS or interface in use.used or not use.nodes:
            continue
        else:
            why = "never called"
        rows.append(
            Row(
                {
                    **about,
                    "interface": interface,
                    "why": why,
                    "nodes": sorted(use.nodes),
                    "since": exact(use.since_ms) if use.since_ms else None,
                    "leaves": use.leaves,
                },
                {"grant": f"r{about['grant']}", "since": when(use.since_ms) if use.since_ms else ""},
            )
        )
    return rows


@click.command()
@click.option("--within", default="30d", metavar="DURATION", help="How far to look ahead, such as 30d; default 30d.")
@ONLY_TEAM
@click.pass_obj
def expiring(session: Session, within: str, team: str) -> None:
    """List grants that end soon, or have ended.

    Those that agents run under, and the newest of each agent and team. An agent stops when its grant ends; what a lease
    does before, on nodes that hear nothing, is under `on_lapse` of `-o json`.
    """
    ahead = timedelta(milliseconds=parse_duration(within, Code.CONFIG_INVALID, "--within"))
    with session.connect() as client:
        approved = Approved.newest(session, client, team)
        running = client.call(client.stub.ListAgents, pb.ListAgentsRequest()).agents
        nodes: dict[str, list[str]] = {}
        for entry in running:
            if entry.desired:
                nodes.setdefault(entry.grant_path, []).append(entry.node)
        documents = [
            approved.at(path)
            for path in sorted(_newest(approved.release) | nodes.keys())
            if path in approved.release.documents and team in {"", team_of_grant(path)}
        ]
    now = session.now()
    ending = [document for document in documents if document.grant.not_after - now <= ahead]
    ending.sort(key=lambda document: document.grant.not_after)
    rows = [_expiring_row(document, nodes.get(document.place, []), now) for document in ending]
    session.output.rows(EXPIRING_COLUMNS, rows, f"No grant ends within {within}.")


def _newest(release: Release) -> set[str]:
    """Return the path of the newest grant of each agent and team."""
    found: dict[str, int] = {}
    for target in release.targets("grants/"):
        folder, revision = target.path.rpartition("/")[0], revision_of_grant(target.path)
        found[folder] = max(revision, found.get(folder, 0))
    return {f"{folder}/{revision}.yaml" for folder, revision in found.items()}


def _rounded(left: timedelta) -> str:
    """Say a time for people: in days, below that in hours, below that exactly."""
    hours = left // timedelta(hours=1)
    if left.days:
        return f"{left.days}d"
    return f"{hours}h" if hours else format_duration(int(left.total_seconds()) * 1000)


def _expiring_row(document: Document, nodes: list[str], now: datetime) -> Row:
    grant = document.grant
    left = max(grant.not_after - now, timedelta())
    return Row(
        {
            "agent": grant.agent,
            "team": document.team,
            "grant": grant.revision,
            "what": "BREAK-GLASS" if grant.break_glass else "validity",
            "break_glass": grant.break_glass,
            "at": exact(to_ms(grant.not_after)),
            "left_ms": int(left.total_seconds() * 1000),
            "then": "stop",
            "on_lapse": str(grant.lease.on_lapse),
            "nodes": sorted(nodes),
        },
        {
            "grant": f"r{grant.revision}",
            "at": when(to_ms(grant.not_after)),
            "left": _rounded(left),
        },
    )


@click.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.option("--revision", default=0, metavar="N", help="Revoke this revision alone; default every published one.")
@click.option("--reason", required=True, help="One line for whoever is refused.")
@TEAM
@OFFLINE
@YES
@click.pass_obj
def revoke(session: Session, /, agent: str, revision: int, reason: str, team: str, **how: bool) -> None:
    """Take a grant back, now and for good.

    The grants role lists it no more, and where the fleet has a policy role, that signs an entry of
    policy/revocations.json, which nobody can take back. Connected nodes stop the agent within seconds; others at their
    next contact, or when the lease of the grant ends. Both are one change: it is published when both roles have signed.
    """
    directory = TrustDirectory(session.trust_folder())
    now = session.now()
    with nullcontext() if how["offline"] or team else session.connect() as client:
        known = local_release(directory) if client is None else synchronise(directory, client, BEFORE_EXPIRY)
        whose = choose_team(session, client, known, agent, team)

    def operations(release: Release) -> tuple[Operation, ...]:
        prefix = grant_path(agent, 1, whose).rpartition("/")[0] + "/"
        targets = [t for t in release.targets(prefix) if revision in {0, revision_of_grant(t.path)}]
        if not targets:
            raise FleetError(
                Code.GRANT_MISSING,
                f"{agent} has no such grant of team {whose}",
                agent=agent,
                team=whose,
                remedy="fleetctl grant list",
            )
        withdrawn = tuple(RemoveDocument(target.path) for target in targets)
        if POLICY_ROLE not in release.role_keys:
            return withdrawn
        listed = release.documents.get(REVOCATIONS_PATH)
        known = Revocations()
        if listed is not None:
            known = parse_revocations(fetch_document(directory, None, release, REVOCATIONS_PATH))
        data = encode_revocations(known.extended(Revocation(Kind.GRANT, t.digest, reason, now) for t in targets))
        return (*withdrawn, AddDocument(REVOCATIONS_PATH, data, replaces="" if listed is None else listed.digest))

    emergencies = {
        t.path for t in known.targets("grants/") if is_break_glass(t.path) and agent_of_grant(t.path) == agent
    }
    if emergencies and whose != BREAK_GLASS_TEAM:
        session.output.note(
            f"{agent} keeps {len(emergencies)} emergency grant(s): --team {BREAK_GLASS_TEAM} revokes them."
        )
    which = f"revision {revision}" if revision else "every grant"
    perform(session, operations, f"revoke {which} of {agent}, team {whose}", offline=how["offline"], yes=how["yes"])
