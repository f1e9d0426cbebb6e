"""Commands for grants: propose, approve, list, explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import (
    EXPORTS,
    Grant,
    describe_rules,
    diff_grants,
    extend_grant,
    find_specs,
    parse_grant,
    propose_grant,
    requested_interfaces,
)
from fleet.oci import digest_of
from fleet.targets import grant_path
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.session import AGENT_NAME, parse_labels
from orchestrator.cli.sources import open_layout, open_published
from orchestrator.cli.trust import TrustDirectory, read_staged, sign_document, synchronise
from orchestrator.cli.trust_change import tell_staged

if TYPE_CHECKING:
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

MAX_GRANT = 256 * 1024
"""Bytes of one grant document."""

GRANT_COLUMNS = (
    Column("AGENT", "agent"),
    Column("REVISION", "revision", right=True),
    Column("CAPABILITIES", "capabilities", fold=True),
    Column("VALID UNTIL", "not_after"),
    Column("APPROVED BY", "approvers"),
    Column("DIGEST", "digest", wide=True),
    Column("VALID FROM", "not_before", wide=True),
)


def _newest_revision(release: Release, agent: str) -> int:
    prefix = grant_path(agent, 1).rpartition("/")[0] + "/"
    revisions = [int(target.path.rpartition("/")[2].removesuffix(".yaml")) for target in release.targets(prefix)]
    return max(revisions, default=0)


def _published(client: Client, release: Release, agent: str, revision: int) -> Grant:
    """Fetch one approved grant, checked against the signature of the grants role."""
    target = release.target(grant_path(agent, revision))
    return parse_grant(target.check(client.get_blob(target.digest, MAX_GRANT)), target.path)


@click.group()
def grant() -> None:
    """Propose, approve and explain what agents may do."""


@grant.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.option("--bundle", "reference", required=True, metavar="NAME@VERSION|FOLDER", help="The bundle to look at.")
@click.option("--add", multiple=True, metavar="INTERFACE", help="Also name this interface; may be repeated.")
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write the draft here instead of to stdout.")
@click.pass_obj
def propose(session: Session, agent: str, reference: str, add: tuple[str, ...], target: Path | None) -> None:
    """Write a draft of the least that a component needs.

    Somebody else reads it, narrows it and approves it.

    With an approved grant in force, the draft is its next revision: the same, and what --add names.
    """
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        local = Path(reference)
        opened = open_layout(local) if local.exists() else open_published(session, client, reference)
        newest = _newest_revision(release, agent)
        current = _published(client, release, agent, newest) if newest else None
    bundle = opened.bundle
    models = tuple(model.name for model in bundle.models)
    if current is not None:
        draft = extend_grant(
            current,
            add,
            models=models,
            revision=newest + 1,
            request=requested_interfaces(bundle.imports, bundle.exports),
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
        )
    if target is None:
        session.output.text(draft.decode())
    else:
        target.write_bytes(draft)
        session.output.note(f"Written to {target}. Read it, narrow it, then: `fleetctl grant approve {target}`.")


def _show_difference(session: Session, proposed: Grant, old: Grant | None) -> None:
    output = session.output
    against = f"revision {old.revision}" if old else "no authority at all"
    output.text(f"{proposed.agent}, revision {proposed.revision}, compared with {against}:")
    change = diff_grants(old, proposed)
    for text in change.widened:
        output.line(("  + ", "green"), (text, ""))
    for text in change.narrowed:
        output.line(("  - ", "red"), (text, ""))
    if not change.widened and not change.narrowed:
        output.line(("  no change", "dim"))
    labels = ", ".join(f"{k}={v}" for k, v in sorted(proposed.node_labels.items())) or "every node"
    output.line(("  bundle  ", "dim"), (f"{proposed.bundle.name} {proposed.bundle.versions.text}", ""))
    output.line(("  nodes   ", "dim"), (labels, ""))
    output.line(("  valid   ", "dim"), (f"{proposed.not_before:%Y-%m-%d} to {proposed.not_after:%Y-%m-%d}", ""))
    now = session.now()
    if not proposed.not_before <= now < proposed.not_after:
        output.note("warning: this grant is not valid now, so no agent runs under it")


@grant.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="GRANT.YAML")
@click.option("--yes", "-y", is_flag=True, help="Do not ask; for scripts that have shown the difference elsewhere.")
@click.pass_obj
def approve(session: Session, file: Path, yes: bool) -> int:  # noqa: FBT001 - click's own convention
    """Show what a grant changes, sign it, and publish it.

    Exactly these bytes are signed, with the grants role's key. Where the role takes more signatures than there are keys
    here, or a publisher of its own publishes, the signed change is kept as a file for the next person.
    """
    output = session.output
    if output.machine and not yes:
        raise click.UsageError("-o json and -o yaml need --yes: they show the difference only once it is signed")
    data = file.read_bytes()
    proposed = parse_grant(data, str(file))
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        newest = _newest_revision(release, proposed.agent)
        if proposed.revision != newest + 1:
            raise FleetError(
                Code.GRANT_INVALID,
                f"revision {proposed.revision} does not follow {newest}",
                place=f"{file}: revision",
                remedy=f"Write revision: {newest + 1}; an approved revision never changes.",
            )
        old = _published(client, release, proposed.agent, newest) if newest else None
        if not output.machine:
            _show_difference(session, proposed, old)
        if not yes and not click.confirm("Sign and publish this grant?", err=True):
            output.note("Nothing was signed.")
            return ExitCode.REFUSED
        path = grant_path(proposed.agent, proposed.revision)
        staged = sign_document(directory, client, release, path, data, session.now())
    if output.machine:
        change = diff_grants(old, proposed)
        output.value(
            {
                "agent": proposed.agent,
                "revision": proposed.revision,
                "path": path,
                "digest": digest_of(data),
                "widened": list(change.widened),
                "narrowed": list(change.narrowed),
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


@grant.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.argument("interface", required=False)
@click.argument("request", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--revision", default=0, help="Revision of the grant; default the newest.")
@click.pass_obj
def explain(session: Session, agent: str, interface: str | None, request: tuple[str, ...], revision: int) -> int:
    """Say whether a call is allowed, and which document says so.

    Without INTERFACE, list everything that is allowed.

    Example: fleetctl grant explain climate/context wasi:keyvalue/store bucket=context op=set
    """
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        number = revision or _newest_revision(release, agent)
        if not number:
            raise FleetError(
                Code.GRANT_MISSING,
                f"{agent} has no approved grant: every call is denied",
                agent=agent,
                remedy=f"fleetctl grant propose {agent} --bundle NAME@VERSION",
            )
        document = _published(client, release, agent, number)
    path = grant_path(agent, number)
    if interface is None:
        lines = [line for name, rules in sorted(document.capabilities.items()) for line in describe_rules(name, rules)]
        if session.output.machine:
            session.output.value({"document": path, "allows": lines, "limits": document.limits.describe()})
        else:
            session.output.text("\n".join([f"{path} allows:", *(f"  {line}" for line in lines)]))
            limits = ", ".join(f"{key} {value}" for key, value in document.limits.describe().items())
            session.output.text(f"limits: {limits}")
        return ExitCode.OK
    if find_specs(interface) is None:
        raise FleetError(Code.CALL_DENIED, f"no grant can name {interface}", agent=agent)
    try:
        allowed = document.authority.allows(interface, **parse_labels(request))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    rules = document.capabilities.get(interface)
    reasons = describe_rules(interface, rules) if rules is not None else [f"{interface} is not in the grant"]
    if session.output.machine:
        session.output.value({"allowed": allowed, "document": path, "rules": reasons})
    else:
        verdict = "allowed" if allowed else "denied"
        session.output.text("\n".join([f"{verdict} by {path}:", *(f"  {reason}" for reason in reasons)]))
    return ExitCode.OK if allowed else ExitCode.REFUSED
