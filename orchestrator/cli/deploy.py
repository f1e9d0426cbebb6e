"""Commands that change what the fleet runs: plan, deploy, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, ExitCode, FleetError
from fleet.manifest import parse_application
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.inventory import deployment_row
from orchestrator.cli.render import Column, short_digest

if TYPE_CHECKING:
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

PLAN_COLUMNS = (
    Column("WAVE", "wave", right=True),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("ACTION", "action"),
    Column("BUNDLE", "bundle"),
    Column("GRANT", "grant"),
    Column("BUNDLE DIGEST", "bundle_digest", wide=True),
    Column("GRANT DIGEST", "grant_digest", wide=True),
)

MANIFEST = click.Path(exists=True, dir_okay=False, path_type=Path)


def _read_manifest(path: Path) -> bytes:
    """Read and check the manifest here, so that a fault names the user's file and line."""
    data = path.read_bytes()
    parse_application(data, str(path))
    return data


def _plan(client: Client, manifest: bytes) -> pb.PlanReply:
    return client.call(client.stub.Plan, pb.PlanRequest(manifest=manifest))


def _show_plan(session: Session, plan: pb.PlanReply) -> None:
    rows: list[dict[str, object]] = [
        {
            "wave": item.wave or "",
            "node": item.node,
            "agent": item.agent,
            "action": item.action,
            "bundle": item.bundle,
            "grant": f"r{item.grant_revision}" if item.grant_revision else "",
            "bundle_digest": short_digest(item.bundle_digest),
            "grant_digest": short_digest(item.grant_digest),
        }
        for item in plan.agents
    ]
    if session.output.machine:
        session.output.value(
            {
                "application": plan.application,
                "changes": plan.changes,
                "agents": rows,
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
    """Show what a deploy would do: placement, waves and changes of authority. Nothing is changed."""
    data = _read_manifest(manifest)
    with session.connect() as client:
        reply = _plan(client, data)
    _show_plan(session, reply)
    return ExitCode.CHANGES_PENDING if exit_code and reply.changes else ExitCode.OK


def _progress(deployment: pb.Deployment) -> dict[int, str]:
    healthy = {n.node: f"{n.node} {n.healthy}/{n.agents}" for n in deployment.nodes}
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
    except FleetError as error:
        if error.code is not Code.DEADLINE_EXCEEDED:
            raise
        raise FleetError(
            Code.DEADLINE_EXCEEDED,
            f"the rollout did not finish within {timeout_s:.0f} s and goes on",
            deployment=identifier,
            remedy="Follow it with `fleetctl status`.",
        ) from error
    return last


@click.command()
@click.argument("manifest", type=MANIFEST, metavar="FLEET.YAML")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop, as `fleetctl plan` does.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the rollout to its end.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to follow the rollout.")
@click.pass_obj
def deploy(session: Session, manifest: Path, dry_run: bool, wait: bool, timeout_s: float) -> int:  # noqa: FBT001
    """Deploy an application: plan it, show the plan, roll it out wave by wave, roll it back when a wave fails."""
    data = _read_manifest(manifest)
    output = session.output
    with session.connect() as client:
        planned = _plan(client, data)
        if dry_run or not output.machine:
            _show_plan(session, planned)
        if dry_run or not planned.changes:
            return ExitCode.OK
        identifier = client.call(client.stub.Deploy, pb.DeployRequest(manifest=data, base=planned.base)).deployment
        output.note(f"\ndeployment {identifier} of {planned.application}")
        if not wait:
            if output.machine:
                output.value({"id": identifier, "state": "running"})
            return ExitCode.OK
        done = _watch(session, client, identifier, timeout_s)
    if output.machine:
        output.value(deployment_row(done))
    if done.state != "succeeded":
        raise FleetError(
            Code.ROLLOUT_FAILED,
            f"the deployment ended {done.state}: {done.reason}",
            deployment=identifier,
        )
    output.note(f"{planned.application} is healthy on every node of the plan.")
    return ExitCode.OK


@click.command()
@click.argument("deployment")
@click.pass_obj
def cancel(session: Session, deployment: str) -> None:
    """Stop a running rollout; the waves that are done stay as they are."""
    with session.connect() as client:
        done = client.call(client.stub.CancelDeployment, pb.CancelDeploymentRequest(id=deployment))
    session.output.note(f"deployment {done.id} is {done.state}")
