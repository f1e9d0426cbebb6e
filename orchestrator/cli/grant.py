"""Commands for grants: propose, approve, list; and the group of all others."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import name_proposer
from fleet.grants.draft import Known, known_from
from fleet.manifest import parse_application
from fleet.oci import digest_of
from fleet.release import AddDocument
from fleet.targets import is_break_glass, team_of_grant
from fleet.v1 import control_pb2 as pb
from orchestrator.cli import grant_explain, grant_policy, grant_review, grant_upkeep
from orchestrator.cli.grant_draft import Wanted, draft_emergency, draft_grant, open_bundle_of
from orchestrator.cli.grant_review import FILE, describe_difference, show_difference
from orchestrator.cli.granted import Approved, operator_name
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.repeated import words
from orchestrator.cli.session import AGENT_NAME
from orchestrator.cli.teams import TEAM
from orchestrator.cli.trust import TrustDirectory, read_staged, sign_document, synchronise
from orchestrator.cli.trust_change import OFFLINE, local_release, tell_staged
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

GRANT_COLUMNS = (
    Column("AGENT", "agent"),
    Column("TEAM", "team"),
    Column("REVISION", "revision", right=True),
    Column("CAPABILITIES", "capabilities", fold=True),
    Column("VALID UNTIL", "not_after"),
    Column("APPROVED BY", "approvers"),
    Column("DIGEST", "digest", wide=True),
    Column("VALID FROM", "not_before", wide=True),
)


@click.group()
def grant() -> None:
    """Propose, approve and explain what agents may do."""


@grant.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.option("--bundle", "reference", required=True, metavar="NAME@VERSION|FOLDER", help="The bundle to look at.")
@click.option("--add", multiple=True, metavar="INTERFACE", help="Also name this interface; may be repeated.")
@click.option("--manifest", type=FILE, metavar="FLEET.YAML", help="Take topics, sources, keys and labels from it.")
@click.option("--break-glass", "emergency", metavar="REASON", help="Draft an emergency grant, needed for this reason.")
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write the draft here instead of to stdout.")
@TEAM
@click.pass_obj
def propose(session: Session, /, agent: str, target: Path | None, **wish: object) -> None:
    """Write a draft of the least that a component needs.

    Somebody else reads it, narrows it and approves it.

    With an approved grant in force, the draft is its next revision: the same, and what --add names. An emergency draft
    is what the fleet's policy for emergencies allows of that, for as long as it allows.
    """
    manifest, reason, team = wish["manifest"], wish["emergency"], str(wish["team"])
    known = _known(agent, manifest) if isinstance(manifest, Path) else Known()
    with session.connect() as client:
        approved = Approved.newest(session, client, team)
        whose = approved.team_of(agent)
        bundle, owner = open_bundle_of(approved, client, whose, str(wish["reference"]))
        wanted = Wanted(agent, whose, bundle, owner, words(wish["add"]), known)
        draft = draft_grant(approved, wanted)
        if isinstance(reason, str):
            draft = draft_emergency(approved, wanted, draft, reason)
    draft = name_proposer(draft, operator_name(session))
    if target is None:
        session.output.text(draft.decode())
    else:
        target.write_bytes(draft)
        check = f"`fleetctl grant approve {target}{f' --team {team}' if team else ''}`"
        session.output.note(f"Written to {target}. Read it, narrow it, then: {check}.")


def _known(agent: str, manifest: Path) -> Known:
    """Return what a manifest says of the agent.

    Raises:
        FleetError: MANIFEST_INVALID, also when the agent is not in it.
    """
    application = parse_application(read_bounded(manifest, MAX_DOCUMENT), manifest.name)
    for wanted in application.agents:
        if f"{application.name}/{wanted.name}" == agent:
            return known_from(application.name, wanted)
    raise FleetError(Code.MANIFEST_INVALID, f"it has no agent {agent}", place=str(manifest))


@grant.command()
@click.argument("file", type=FILE, metavar="GRANT.YAML")
@TEAM
@click.option("--yes", "-y", is_flag=True, help="Do not ask; for scripts that have shown the difference elsewhere.")
@OFFLINE
@click.pass_obj
def approve(session: Session, file: Path, team: str, yes: bool, offline: bool) -> int:  # noqa: FBT001 - click calls
    """Show what a grant changes, sign it, and publish it.

    Exactly these bytes are signed, with the grants role's key. Where the role takes more signatures than there are keys
    here, or a publisher of its own publishes, the signed change is kept as a file for the next person.

    An emergency grant is signed with a key for emergencies, whatever the team.
    """
    output = session.output
    if output.machine and not yes:
        raise click.UsageError("-o json and -o yaml need --yes: they show the difference only once it is signed")
    directory = TrustDirectory(session.trust_folder())
    with nullcontext() if offline else session.connect() as client:
        release = local_release(directory) if client is None else synchronise(directory, client, session.now())
        approved = Approved(session, directory, client, release, team)
        document = approved.file(file)
        proposed, newest = document.grant, approved.revision(document.grant.agent, document.team)
        if proposed.revision != newest + 1:
            raise FleetError(
                Code.GRANT_INVALID,
                f"revision {proposed.revision} does not follow {newest} of {document.team}",
                place=f"{file}: revision",
                remedy=f"Write revision: {newest + 1}; an approved revision never changes.",
            )
        old = approved.before(document)
        if not output.machine:
            show_difference(session, document, old)
        approved.check(document)
        if not yes and not click.confirm("Sign and publish this grant?", err=True):
            output.note("Nothing was signed.")
            return ExitCode.REFUSED
        add = AddDocument(document.path, document.data)
        staged = sign_document(directory, client, release, add, session.now())
    if output.machine:
        output.value(
            {
                **describe_difference(document, old),
                "revision": proposed.revision,
                "path": document.path,
                "digest": digest_of(document.data),
                "staged": None if staged is None else str(staged),
            }
        )
    elif staged is not None:
        tell_staged(session, staged, read_staged(directory, staged))
    elif proposed.break_glass:
        name = proposed.agent.partition("/")[2]
        output.note(f"{proposed.agent} has emergency grant revision {proposed.revision}, used by nobody yet.")
        output.note(f"Write `break_glass: {proposed.revision}` beside `name: {name}` in fleet.yaml, and deploy it.")
    else:
        output.note(f"{proposed.agent} has grant revision {proposed.revision}, in effect from the next deploy on.")
    return ExitCode.OK


@grant.command("list")
@click.argument("agent", required=False, default="", metavar="[APPLICATION/AGENT]")
@click.pass_obj
def list_grants(session: Session, agent: str) -> None:
    """List the approved grants.

    TEAM is whose role lists a grant; BREAK-GLASS marks one for an emergency.
    """
    with session.connect() as client:
        found = client.call(client.stub.ListGrants, pb.ListGrantsRequest(agent=agent)).grants
    rows = [
        Row(
            {
                "agent": g.agent,
                "team": None if is_break_glass(g.path) else team_of_grant(g.path),
                "break_glass": is_break_glass(g.path),
                "path": g.path,
                "revision": g.revision,
                "capabilities": list(g.interfaces),
                "not_before": exact(g.not_before_ms),
                "not_after": exact(g.not_after_ms),
                "approvers": list(g.approvers),
                "digest": g.digest,
            },
            {
                **({"team": "BREAK-GLASS"} if is_break_glass(g.path) else {}),
                "not_before": when(g.not_before_ms),
                "not_after": when(g.not_after_ms)[:10],
                "approvers": [short_digest(key) for key in g.approvers],
                "digest": short_digest(g.digest),
            },
        )
        for g in found
    ]
    session.output.rows(GRANT_COLUMNS, rows, "No grant is approved. Try `fleetctl grant propose`.")


for command in (
    grant_review.diff,
    grant_review.check,
    grant_explain.explain,
    grant_upkeep.unused,
    grant_upkeep.expiring,
    grant_upkeep.revoke,
    grant_policy.ceilings,
    grant_policy.break_glass,
    grant_policy.guardrails,
):
    grant.add_command(command)
