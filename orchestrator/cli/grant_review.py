"""Commands that look at grants before they are signed: diff, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import ExitCode
from fleet.grants import diff_grants
from fleet.grants.document import format_instant
from orchestrator.cli.granted import REFUSAL_COLUMNS, Approved, refusal_rows
from orchestrator.cli.teams import TEAM

if TYPE_CHECKING:
    from orchestrator.cli.granted import Document
    from orchestrator.cli.session import Session

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def show_difference(session: Session, proposed: Document, old: Document | None) -> None:
    """Print what a grant widens and narrows, computed from exactly the bytes that would be signed."""
    output, grant = session.output, proposed.grant
    against = _name(old) if old else "no authority at all"
    output.text(f"{grant.agent}, {_name(proposed)}, compared with {against}:")
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
    output.line(("  risk    ", "dim"), (str(grant.risk), ""))
    output.line(("  by      ", "dim"), (grant.proposed_by or "nobody who is named", ""))
    output.line(("  reason  ", "dim"), (grant.reason or "none given", ""))
    if grant.break_glass:
        output.line(
            ("  BREAK-GLASS", "red"), (f"  one person approves it; it ends {format_instant(grant.not_after)}", "")
        )
    now = session.now()
    if not grant.not_before <= now < grant.not_after:
        output.note("warning: this grant is not valid now, so no agent runs under it")


def _name(document: Document) -> str:
    if document.grant.break_glass:
        return f"emergency revision {document.grant.revision}"
    return f"revision {document.grant.revision} of team {document.team}"


def describe_difference(proposed: Document, old: Document | None) -> dict[str, object]:
    """Return the same for a program."""
    change = diff_grants(None if old is None else old.grant, proposed.grant)
    return {
        "agent": proposed.grant.agent,
        "team": proposed.team,
        "break_glass": proposed.grant.break_glass,
        "old": None if old is None else {"place": old.place, "revision": old.grant.revision, "risk": old.grant.risk},
        "new": {"place": proposed.place, "revision": proposed.grant.revision, "risk": proposed.grant.risk},
        "widened": list(change.widened),
        "narrowed": list(change.narrowed),
    }


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", required=False)
@TEAM
@click.pass_obj
def diff(session: Session, old: str, new: str | None, team: str) -> None:
    """Show what one grant allows that another does not.

    Each is a file, an agent (its newest approved grant) or an agent@REVISION. One file alone is compared with the
    approved grant of its agent.

    Example: fleetctl grant diff climate/context@3 climate/context@4
    """
    if new is None and not Path(old).is_file():
        raise click.UsageError(f"compare {old} with another one: {old}@1 {old}; a file may stand alone")
    with session.connect() as client:
        approved = Approved.newest(session, client, team)
        first = approved.named(old)
        before, after = (first, approved.named(new)) if new is not None else (approved.before(first), first)
    if session.output.machine:
        session.output.value(describe_difference(after, before))
    else:
        show_difference(session, after, before)


@click.command()
@click.argument("file", type=FILE, metavar="GRANT.YAML")
@TEAM
@click.pass_obj
def check(session: Session, file: Path, team: str) -> int:
    """Ask the fleet's guardrails about a grant; signs nothing.

    Names every guardrail that would refuse it if it were signed with the keys on this machine and published now.
    """
    with session.connect() as client:
        approved = Approved.newest(session, client, team)
        document = approved.file(file)
        approved.check_bounds(document)
        found = approved.refusals(document)
    session.output.rows(REFUSAL_COLUMNS, refusal_rows(found), "No guardrail refuses it.")
    return ExitCode.REFUSED if found else ExitCode.OK
