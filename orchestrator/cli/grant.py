"""Commands for grants: propose, approve, list; and the group of all others."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import EXPORTS, extend_grant, name_proposer, parse_grant, propose_grant, requested_interfaces
from fleet.grants.draft import Known, known_from
from fleet.manifest import parse_application
from fleet.oci import digest_of
from fleet.release import AddDocument
from fleet.targets import DEFAULT_TEAM, grant_path
from fleet.v1 import control_pb2 as pb
from orchestrator.cli import grant_policy, grant_review, grant_upkeep
from orchestrator.cli.grant_review import FILE, describe_difference, show_difference
from orchestrator.cli.granted import (
    Document,
    check_guardrails,
    newest_revision,
    operator_name,
    published,
    reader,
)
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.session import AGENT_NAME, NODE_NAME
from orchestrator.cli.sources import open_layout, open_published
from orchestrator.cli.trust import TrustDirectory, read_staged, sign_document, synchronise
from orchestrator.cli.trust_change import OFFLINE, local_release, tell_staged
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

GRANT_COLUMNS = (
    Column("AGENT", "agent"),
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
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write the draft here instead of to stdout.")
@click.pass_obj
def propose(
    session: Session, agent: str, reference: str, add: tuple[str, ...], manifest: Path | None, target: Path | None
) -> None:
    """Write a draft of the least that a component needs.

    Somebody else reads it, narrows it and approves it.

    With an approved grant in force, the draft is its next revision: the same, and what --add names.
    """
    directory = TrustDirectory(session.context().trust)
    known = Known() if manifest is None else _known(agent, manifest)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        local = Path(reference)
        opened = open_layout(local) if local.exists() else open_published(session, client, reference)
        newest = newest_revision(release, agent)
        current = published(reader(directory, client, release), release, agent).grant if newest else None
    bundle = opened.bundle
    models = tuple(model.name for model in bundle.models)
    if current is not None:
        draft = extend_grant(
            current,
            add,
            models=models,
            revision=newest + 1,
            request=requested_interfaces(bundle.imports, bundle.exports),
            known=known,
        )
    else:
        draft = propose_grant(
            (*bundle.imports, *(name for name in bundle.exports if name.partition("@")[0] in EXPORTS), *add),
            agent=agent,
            bundle_name=bundle.name,
            bundle_version=bundle.version,
            models=models,
            revision=1,
            now=session.now(),
            known=known,
        )
    draft = name_proposer(draft, operator_name(session))
    if target is None:
        session.output.text(draft.decode())
    else:
        target.write_bytes(draft)
        session.output.note(f"Written to {target}. Read it, narrow it, then: `fleetctl grant approve {target}`.")


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
@click.option("--team", default=DEFAULT_TEAM, show_default=True, type=NODE_NAME, help="Whose grants role signs.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask; for scripts that have shown the difference elsewhere.")
@OFFLINE
@click.pass_obj
def approve(session: Session, file: Path, team: str, yes: bool, offline: bool) -> int:  # noqa: FBT001 - click calls
    """Show what a grant changes, sign it, and publish it.

    Exactly these bytes are signed, with the grants role's key. Where the role takes more signatures than there are keys
    here, or a publisher of its own publishes, the signed change is kept as a file for the next person.
    """
    output = session.output
    if output.machine and not yes:
        raise click.UsageError("-o json and -o yaml need --yes: they show the difference only once it is signed")
    data = read_bounded(file, MAX_DOCUMENT)
    proposed = parse_grant(data, str(file))
    directory = TrustDirectory(session.trust_folder())
    with nullcontext() if offline else session.connect() as client:
        release = local_release(directory) if client is None else synchronise(directory, client, session.now())
        read = reader(directory, client, release)
        newest = newest_revision(release, proposed.agent)
        if proposed.revision != newest + 1:
            raise FleetError(
                Code.GRANT_INVALID,
                f"revision {proposed.revision} does not follow {newest}",
                place=f"{file}: revision",
                remedy=f"Write revision: {newest + 1}; an approved revision never changes.",
            )
        old = published(read, release, proposed.agent) if newest else None
        document = Document(proposed, data, str(file))
        if not output.machine:
            show_difference(session, document, old)
        check_guardrails(session, directory, release, proposed, read)
        if not yes and not click.confirm("Sign and publish this grant?", err=True):
            output.note("Nothing was signed.")
            return ExitCode.REFUSED
        path = grant_path(proposed.agent, proposed.revision, team)
        staged = sign_document(directory, client, release, AddDocument(path, data), session.now())
    if output.machine:
        output.value(
            {
                **describe_difference(document, old),
                "revision": proposed.revision,
                "path": path,
                "digest": digest_of(data),
                "staged": None if staged is None else str(staged),
            }
        )
    elif staged is not None:
        tell_staged(session, staged, read_staged(directory, staged))
    else:
        output.note(f"{proposed.agent} has grant revision {proposed.revision}, in effect from the next deploy on.")
    return ExitCode.OK


@grant.command("list")
@click.argument("agent", required=False, default="", metavar="[APPLICATION/AGENT]")
@click.pass_obj
def list_grants(session: Session, agent: str) -> None:
    """List the approved grants."""
    with session.connect() as client:
        found = client.call(client.stub.ListGrants, pb.ListGrantsRequest(agent=agent)).grants
    rows = [
        Row(
            {
                "agent": g.agent,
                "revision": g.revision,
                "capabilities": list(g.interfaces),
                "not_before": exact(g.not_before_ms),
                "not_after": exact(g.not_after_ms),
                "approvers": list(g.approvers),
                "digest": g.digest,
            },
            {
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
    grant_review.explain,
    grant_upkeep.unused,
    grant_upkeep.expiring,
    grant_upkeep.revoke,
    grant_policy.ceilings,
    grant_policy.guardrails,
):
    grant.add_command(command)
