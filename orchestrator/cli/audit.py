"""Questions of the audit: who may do what, what changed, what differs from it, and who approved it.

Owns: how answers look: a table that fits a printed page of 120 columns under a header that says of which log it is, or
records for a machine. Answers come from a coordinator's projections, or, with --offline, from an export that is checked
whole first; the functions that answer are the same (`fleet.answers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet import answers
from fleet.answers import CONFIRMED, Moment
from fleet.checkpoint import open_checkpoint
from fleet.targets import bundle_of
from fleet.times import MAX_MS
from fleet.v1 import control_pb2 as pb
from orchestrator.audit_export import open_export
from orchestrator.cli.audit_check import believed_export, check, from_export, rows_of
from orchestrator.cli.audit_log import export, trust_directory, verify
from orchestrator.cli.audit_witness import policy, witness, witnesses
from orchestrator.cli.render import Column, Row, exact, grant_name, short_digest, when
from orchestrator.cli.session import AGENT_NAME, NODE_NAME
from orchestrator.cli.times import TIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.answers import Held
    from fleet.history import Rows
    from orchestrator.cli.session import Session

PAGE_WIDTH = 120
"""Columns of a printed answer."""

WHO_COLUMNS = (
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("CAPABILITY", "interface"),
    Column("CONSTRAINTS", "constraints", fold=True),
    Column("GRANT", "grant_revision"),
    Column("APPROVED", "approved"),
    Column("NODE SAYS", "state"),
    Column("APPROVED BY", "approvers", wide=True),
    Column("SINCE", "since", wide=True),
    Column("BUNDLE", "bundle", wide=True),
    Column("GRANT DIGEST", "grant_digest", wide=True),
    Column("LEAF", "leaf", wide=True, right=True),
)
DIFF_COLUMNS = (
    Column("CHANGE", "change"),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("CAPABILITY", "interface"),
    Column("BEFORE", "before", fold=True),
    Column("AFTER", "after", fold=True),
    Column("GRANT", "grant"),
)
HISTORY_COLUMNS = (
    Column("TIME", "at"),
    Column("KNOWN", "known"),
    Column("WHAT", "what"),
    Column("NODE", "node"),
    Column("DETAIL", "detail", fold=True),
    Column("LEAF", "leaf", right=True),
)
DRIFT_COLUMNS = (
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("DRIFT", "kind"),
    Column("SINCE", "since"),
    Column("DETAIL", "detail", fold=True),
    Column("LEAF", "leaf", right=True),
)
APPROVER_COLUMNS = (
    Column("AGENT", "agent"),
    Column("GRANT", "grant"),
    Column("KEYS", "approvers", fold=True),
    Column("REASON", "reason", wide=True, fold=True),
    Column("LISTED", "from"),
    Column("UNTIL", "to"),
    Column("EXPIRES", "expires"),
    Column("LEAF", "leaf", right=True),
)


_OFFLINE = click.option(
    "--offline",
    type=click.Path(path_type=Path, exists=True),
    metavar="EXPORT",
    help="Ask an export of the log instead of the coordinator; it is verified first.",
)
_KNOWN = click.option("--known-at", "known_ms", type=TIME, default=MAX_MS, metavar="TIME", help="As known by then.")
_AGENT = click.option("--agent", default="", type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Only this agent.")
_NODE = click.option("--node", default="", type=NODE_NAME, help="Only on this node.")


@dataclass(frozen=True, slots=True)
class _Log:
    """The rows that an answer is made from, and of which log they are."""

    rows: Rows
    fleet: str
    size: int
    root: bytes
    verified: bool


def _open(session: Session, offline: Path | None, agent: str = "", node: str = "") -> _Log:
    directory, now = trust_directory(session), session.now()
    if offline is not None:
        with open_export(offline) as found:
            report = check(from_export(found), believed_export(directory, found, now))
        return _Log(report.rows, report.fleet, report.checkpoint.size, report.checkpoint.root, verified=True)
    trust = directory.fleet_trust(now)
    with session.connect() as client:
        rows, _ = rows_of(client, agent, node)
        note = client.call(client.stub.AuditCheckpoint, pb.AuditCheckpointRequest()).checkpoint
    checkpoint = open_checkpoint(note, trust.log_vkeys)
    return _Log(rows, trust.fleet, checkpoint.size, checkpoint.root, verified=False)


def _head(session: Session, log: _Log, *about: str) -> None:
    """Say on the page what was asked, of which log, and whether the log was checked."""
    if session.output.machine:
        return
    source = "verified export" if log.verified else "coordinator's projections; `fleetctl audit verify` checks them"
    session.output.text(f"Fleet {log.fleet} · {' · '.join(about)}")
    session.output.text(f"Log of {log.size} leaves, root {log.root.hex()}")
    session.output.text(f"Asked at {when(session.now_ms())} · {source}")
    session.output.text("")


def _moments(at_ms: int, known_ms: int) -> str:
    known = "" if known_ms == MAX_MS else f", as known at {when(known_ms)}"
    return f"as true at {when(at_ms)}{known}"


@click.group()
def audit() -> None:
    """Ask who could do what, where and when, and check the answer."""


@audit.command()
@_AGENT
@_NODE
@click.option("--capability", default="", metavar="INTERFACE", help="For example wasi:keyvalue/store.")
@click.option("--at", "at_ms", type=TIME, metavar="TIME", help="At this moment; default now.")
@_KNOWN
@_OFFLINE
@click.pass_obj
def who(session: Session, /, at_ms: int | None, known_ms: int, offline: Path | None, **names: str) -> None:
    """Show which agent has which capability on which node.

    APPROVED says whether the grant was listed and valid at that moment, NODE SAYS what the node's own signed receipt
    says of it: applied, an error code when it refused, or nothing. BREAK-GLASS marks a grant for an emergency.

    -o wide adds who approved it, since when it holds, and where the log says so.
    """
    agent, node, capability = names["agent"], names["node"], names["capability"]
    asked = session.now_ms() if at_ms is None else at_ms
    log = _open(session, offline, agent, node)
    found = answers.who(log.rows, Moment(asked, known_ms), agent=agent, node=node, interface=capability)
    _head(session, log, "who may do what", _moments(asked, known_ms))
    rows = [_held_row(item) for item in found]
    session.output.rows(WHO_COLUMNS, rows, "No agent had that capability there and then.", width=PAGE_WIDTH)


def _held_row(item: Held) -> Row:
    return Row(
        {
            "node": item.node,
            "agent": item.agent,
            "interface": item.interface,
            "constraints": list(item.constraints),
            "grant_revision": item.revision,
            "break_glass": item.break_glass,
            "grant_digest": item.grant_digest,
            "approvers": list(item.approvers),
            "approved": item.approved,
            "since": exact(item.since_ms),
            "enforced": item.state == CONFIRMED,
            "state": item.state,
            "bundle": bundle_of(item.bundle_path),
            "leaf": item.leaf,
        },
        {
            "constraints": " | ".join(item.constraints),
            "grant_revision": grant_name(item.revision, emergency=item.break_glass),
            "grant_digest": short_digest(item.grant_digest),
            "approvers": [short_digest(key) for key in item.approvers],
            "since": when(item.since_ms),
            "state": item.state or "nothing",
        },
    )


@audit.command()
@click.argument("old", type=TIME, metavar="T1")
@click.argument("new", type=TIME, metavar="T2")
@_AGENT
@_NODE
@_OFFLINE
@click.pass_obj
def diff(session: Session, /, old: int, new: int, offline: Path | None, **names: str) -> None:
    """Show what authority came, went or changed between two moments."""
    agent, node = names["agent"], names["node"]
    log = _open(session, offline, agent, node)
    found = answers.diff(log.rows, Moment(old), Moment(new), agent=agent, node=node)
    _head(session, log, "what changed", f"from {when(old)} to {when(new)}")
    rows = []
    for change in found:
        before, after = change.before, change.after
        some = after or before
        if some is None:
            continue
        kind = "added" if before is None else "removed" if after is None else "changed"
        texts = [None if side is None else list(side.constraints) for side in (before, after)]
        revisions = [None if side is None else side.revision for side in (before, after)]
        emergencies = [side is not None and side.break_glass for side in (before, after)]
        pairs = zip(revisions, emergencies, strict=True)
        shown = [grant_name(revision, emergency=emergency) for revision, emergency in pairs if revision is not None]
        rows.append(
            Row(
                {
                    "change": kind,
                    "node": some.node,
                    "agent": some.agent,
                    "interface": some.interface,
                    "before": texts[0],
                    "after": texts[1],
                    "grant_before": revisions[0],
                    "grant_after": revisions[1],
                    "break_glass_before": emergencies[0],
                    "break_glass_after": emergencies[1],
                    "leaf": some.leaf,
                },
                {
                    "before": " | ".join(texts[0] or ()),
                    "after": " | ".join(texts[1] or ()),
                    "grant": " -> ".join(shown),
                },
            )
        )
    session.output.rows(DIFF_COLUMNS, rows, "Nothing changed.", width=PAGE_WIDTH)


@audit.command()
@click.argument("agent", type=AGENT_NAME, metavar="AGENT")
@_OFFLINE
@click.pass_obj
def history(session: Session, agent: str, offline: Path | None) -> None:
    """Show what happened to an agent's authority, the oldest first.

    TIME is when it was so; KNOWN, when it differs, is when the coordinator learnt of it.
    """
    log = _open(session, offline, agent)
    _head(session, log, f"history of {agent}")
    rows = [
        Row(
            {
                "at": exact(item.at_ms),
                "known": exact(item.known_ms),
                "what": item.what,
                "node": item.node,
                "detail": item.detail,
                "leaf": item.leaf,
            },
            {
                "at": when(item.at_ms),
                "known": "" if when(item.known_ms) == when(item.at_ms) else when(item.known_ms),
            },
        )
        for item in answers.history(log.rows, agent)
    ]
    session.output.rows(HISTORY_COLUMNS, rows, "The log says nothing about this agent.", width=PAGE_WIDTH)


@audit.command()
@_AGENT
@_NODE
@click.option("--at", "at_ms", type=TIME, metavar="TIME", help="At this moment; default now.")
@_KNOWN
@_OFFLINE
@click.pass_obj
def drift(session: Session, /, at_ms: int | None, known_ms: int, offline: Path | None, **names: str) -> None:
    """Show where nodes differ from their orders, and since when.

    \b
    not confirmed   ordered, and no receipt of the node says that it was applied
    refused         ordered, and the node's receipt says why it was not
    still runs      the node's newest receipt has it, and it is ordered no more
    runs revoked    the node's newest receipt has it, and its grant is not approved any more
    """  # noqa: D301 - \b is click's mark for keeping line breaks
    asked = session.now_ms() if at_ms is None else at_ms
    log = _open(session, offline, names["agent"], names["node"])
    found = answers.drift(log.rows, Moment(asked, known_ms), agent=names["agent"], node=names["node"])
    _head(session, log, "drift", _moments(asked, known_ms))
    rows = [
        Row(
            {
                "node": item.node,
                "agent": item.agent,
                "kind": str(item.kind),
                "since": exact(item.since_ms),
                "detail": item.detail,
                "leaf": item.leaf,
            },
            {"since": when(item.since_ms)},
        )
        for item in found
    ]
    session.output.rows(DRIFT_COLUMNS, rows, "Every node confirmed what it was ordered.", width=PAGE_WIDTH)


@audit.command()
@_AGENT
@click.option("--key", default="", metavar="KEY", help="Only what this key approved; the beginning of its id.")
@_OFFLINE
@click.pass_obj
def approvers(session: Session, agent: str, key: str, offline: Path | None) -> None:
    """Show who approved which grant, when, and with which keys.

    BREAK-GLASS marks a grant for an emergency, which one person approved. -o wide and -o json show its reason, and the
    key ids in full.
    """
    log = _open(session, offline, agent)
    _head(session, log, "approvals")
    shown: Callable[[str], str] = str if session.output.wide else short_digest
    rows = [
        Row(
            {
                "agent": item.agent,
                "revision": item.revision,
                "break_glass": item.break_glass,
                "reason": item.reason,
                "digest": item.digest,
                "approvers": list(item.approvers),
                "from": exact(item.from_ms),
                "to": None if item.to_ms is None else exact(item.to_ms),
                "expires": exact(item.valid_until_ms),
                "leaf": item.leaf,
            },
            {
                "grant": grant_name(item.revision, emergency=item.break_glass),
                "approvers": [shown(name) for name in item.approvers],
                "from": when(item.from_ms),
                "to": "" if item.to_ms is None else when(item.to_ms),
                "expires": when(item.valid_until_ms),
            },
        )
        for item in answers.approvers(log.rows, agent=agent, key=key)
    ]
    session.output.rows(APPROVER_COLUMNS, rows, "Nothing was approved.", width=PAGE_WIDTH)


for _command in (verify, export, policy, witnesses, witness):
    audit.add_command(_command)
