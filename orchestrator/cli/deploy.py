"""Commands that change what the fleet runs: plan, deploy, undeploy, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, ExitCode, FleetError
from fleet.manifest import encode_removal, parse_application
from fleet.targets import is_break_glass
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.records import deployment_row
from orchestrator.cli.render import Column, Row, grant_name, short_digest
from orchestrator.files import read_named

if TYPE_CHECKING:
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

PLAN_COLUMNS = (
    Column("WAVE", "wave", right=True),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("ACTION", "action"),
    Column("BUNDLE", "bundle"),
    Column("GRANT", "grant_revision"),
    Column("BUNDLE DIGEST", "bundle_digest", wide=True),
    Column("GRANT DIGEST", "grant_digest", wide=True),
)

MANIFEST = click.Path(exists=True, dir_okay=False, path_type=Path)
WAIT = click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the rollout to its end.")
TIMEOUT = click.option(
    "--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to follow the rollout."
)


def _read_manifest(path: Path) -> bytes:
    """Read and check the manifest here, so that a fault names the user's file and line."""
    data = read_named(path, MAX_DOCUMENT)
    parse_application(data, str(path))
    return data


def _plan(client: Client, manifest: bytes) -> pb.PlanReply:
    return client.call(client.stub.Plan, pb.PlanRequest(manifest=manifest))


def _show_plan(session: Session, plan: pb.PlanReply) -> None:
    rows = [
        Row(
            {
                "wave": item.wave or None,
                "node": item.node,
                "agent": item.agent,
                "action": item.action,
                "bundle": item.bundle,
                "bundle_digest": item.bundle_digest,
                "grant_revision": item.grant_revision or None,
                "grant_path": item.grant_path,
                "break_glass": is_break_glass(item.grant_path),
                "grant_digest": item.grant_digest,
            },
            {
                "grant_revision": grant_name(item.grant_revision, emergency=is_break_glass(item.grant_path))
                if item.grant_revision
                else "",
                "bundle_digest": short_digest(item.bundle_digest),
                "grant_digest": short_digest(item.grant_digest),
            },
        )
        for item in plan.agents
    ]
    if session.output.machine:
        session.output.value(
            {
                "application": plan.application,
                "changes": plan.changes,
                "agents": [row.record for row in rows],
                "waves": [{"number": w.number, "nodes": list(w.nodes)} for w in plan.waves],
                "authority": [
                    {"agent": a.agent, "widened": list(a.widened), "narrowed": list(a.narrowed)} for a in plan.authority
                ],
                "warnings": list(plan.warnings),
                "base": plan.base,
            }
        )
        return
    session.output.rows(PLAN_COLUMNS, rows, "Nothing to do: no agent, no node.")
    for change in plan.authority:
        session.output.text(f"\nAuthority of {change.agent}:")
        for text in change.widened:
            session.output.line(("  + ", "green"), (text, ""))
        for text in change.narrowed:
            session.output.line(("  - ", "red"), (text, ""))
    for warning in plan.warnings:
        session.output.note(f"warning: {warning}")
    if not plan.changes:
        session.output.note("The fleet already runs this; nothing would change.")


@click.command()
@click.argument("manifest", type=MANIFEST, metavar="FLEET.YAML")
@click.option("--exit-code", is_flag=True, help="Exit with 3 when the plan would change something.")
@click.pass_obj
def plan(session: Session, manifest: Path, exit_code: bool) -> int:  # noqa: FBT001 - click's own convention
    """Show what a deploy would do, and change nothing.

    Placement, waves, and what each agent may do more or less than now.
    """
    data = _read_manifest(manifest)
    with session.connect() as client:
        reply = _plan(client, data)
    _show_plan(session, reply)
    return ExitCode.CHANGES_PENDING if exit_code and reply.changes else ExitCode.OK


def _progress(deployment: pb.Deployment) -> dict[int, str]:
    healthy = {n.node: f"{n.node} {n.healthy}/{n.agents}" for n in deployment.nodes if n.agents}
    return {
        wave.number: f"wave {wave.number}: {', '.join(healthy.get(n, n) for n in wave.nodes)}"
        for wave in deployment.waves
        if wave.state != "waiting"
    }


def _watch(session: Session, client: Client, identifier: str, timeout_s: float) -> pb.Deployment:
    """Follow a deployment to its end, one line per wave and change."""
    shown: dict[int, tuple[str, str]] = {}
    last = pb.Deployment()
    request = pb.WatchDeploymentRequest(id=identifier)
    try:
        for deployment in client.stream(client.stub.WatchDeployment, request, timeout_s=timeout_s):
            last = deployment
            states = {wave.number: wave.state for wave in deployment.waves}
            for number, text in _progress(deployment).items():
                line = (states[number], text)
                if shown.get(number) != line:
                    shown[number] = line
                    session.output.step(text, states[number])
    except KeyboardInterrupt:
        session.output.note(
            f"The rollout goes on: see `fleetctl deployments`; `fleetctl cancel {identifier}` stops it."
        )
        raise
    except FleetError as error:
        if error.code is not Code.DEADLINE_EXCEEDED:
            raise
        raise FleetError(
            Code.DEADLINE_EXCEEDED,
            f"the rollout did not finish within {timeout_s:g} s and goes on",
            deployment=identifier,
            remedy=f"See `fleetctl deployments`; `fleetctl cancel {identifier}` stops it.",
        ) from error
    return last


@click.command()
@click.argument("manifest", type=MANIFEST, metavar="FLEET.YAML")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop, as `fleetctl plan` does.")
@WAIT
@TIMEOUT
@click.pass_obj
def deploy(session: Session, manifest: Path, dry_run: bool, wait: bool, timeout_s: float) -> int:  # noqa: FBT001
    """Deploy an application wave by wave.

    Plan it, show the plan, roll it out, and roll it back when a wave fails.
    """
    data = _read_manifest(manifest)
    with session.connect() as client:
        planned = _plan(client, data)
        if dry_run or not session.output.machine:
            _show_plan(session, planned)
        if dry_run or not planned.changes:
            if session.output.machine and not dry_run:
                session.output.value({"id": None, "state": "unchanged"})
            return ExitCode.OK
        if _roll_out(session, client, pb.DeployRequest(manifest=data, base=planned.base), timeout_s if wait else None):
            session.output.note(f"{planned.application} is healthy on every node of the plan.")
    return ExitCode.OK


@click.command()
@click.argument("application")
@click.option("--yes", "-y", is_flag=True, help="Do not ask; for scripts that have shown the plan elsewhere.")
@WAIT
@TIMEOUT
@click.pass_obj
def undeploy(session: Session, application: str, yes: bool, wait: bool, timeout_s: float) -> int:  # noqa: FBT001
    """Remove an application from the fleet.

    Show the plan, ask, and stop its agents wave by wave. The agents' state stays on the nodes, and grants and bundles
    stay published.
    """
    data = encode_removal(application)
    parse_application(data, "APPLICATION")
    with session.connect() as client:
        planned = _plan(client, data)
        if not session.output.machine:
            _show_plan(session, planned)
        if not yes and not click.confirm(f"Remove {application} from the fleet?", err=True):
            session.output.note("Nothing was changed.")
            return ExitCode.REFUSED
        if _roll_out(session, client, pb.DeployRequest(manifest=data, base=planned.base), timeout_s if wait else None):
            session.output.note(f"{application} is gone from every node of the plan.")
    return ExitCode.OK


def _roll_out(session: Session, client: Client, request: pb.DeployRequest, timeout_s: float | None) -> bool:
    """Deploy and follow the rollout to its end, or not at all for None; return whether it was followed.

    Raises:
        FleetError: ROLLOUT_FAILED when it did not succeed; DEADLINE_EXCEEDED when it still runs.
    """
    output = session.output
    identifier = client.call(client.stub.Deploy, request).deployment
    output.note(f"\ndeployment {identifier}")
    if timeout_s is None:
        if output.machine:
            output.value({"id": identifier, "state": "running"})
        return False
    _follow(session, client, identifier, timeout_s)
    return True


def _follow(session: Session, client: Client, identifier: str, timeout_s: float) -> None:
    """Watch a rollout to its end and report how it ended.

    Raises:
        FleetError: ROLLOUT_FAILED when it did not succeed; DEADLINE_EXCEEDED when it still runs.
    """
    done = _watch(session, client, identifier, timeout_s)
    if session.output.machine:
        session.output.value(deployment_row(done, session.now_ms()).record)
    if done.state != "succeeded":
        raise FleetError(
            Code.ROLLOUT_FAILED,
            f"the deployment ended {done.state}: {done.reason}",
            deployment=identifier,
        )


@click.command()
@click.argument("deployment")
@TIMEOUT
@click.pass_obj
def watch(session: Session, deployment: str, timeout_s: float) -> None:
    """Follow a running rollout to its end.

    For one that was started without waiting, or by somebody else.
    """
    with session.connect() as client:
        _follow(session, client, deployment, timeout_s)


@click.command()
@click.argument("deployment")
@click.pass_obj
def cancel(session: Session, deployment: str) -> None:
    """Stop a running rollout.

    The nodes that it has reached get back what they ran before.
    """
    with session.connect() as client:
        done = client.call(client.stub.CancelDeployment, pb.CancelDeploymentRequest(id=deployment))
    if session.output.machine:
        session.output.value(deployment_row(done, session.now_ms()).record)
    else:
        session.output.text(f"deployment {done.id} is {done.state}")
