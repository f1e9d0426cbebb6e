"""Commands about who is a node: token, tokens, join, up, down; lock, unlock, revoke, reset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.trust import Profile
from fleet.v1 import control_pb2 as pb
from orchestrator.cli import background
from orchestrator.cli.joins import make_token
from orchestrator.cli.records import node_row
from orchestrator.cli.render import Column, Row, exact, labels, when
from orchestrator.cli.session import NODE_NAME, parse_labels
from orchestrator.cli.trust import TrustDirectory

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

AGENT = (sys.executable, "-P", "-m", "edge_agent.agent")
JOIN_TIMEOUT_S = 60.0

TOKEN_COLUMNS = (
    Column("TOKEN", "id"),
    Column("NODE", "node"),
    Column("LABELS", "labels", fold=True),
    Column("USED", "used"),
    Column("EXPIRES", "expires"),
    Column("BY", "created_by"),
)

REASON = click.option("--reason", required=True, help="Why; it is kept in the audit log.")

LABELS = click.option("--label", "-l", "label", multiple=True, metavar="KEY=VALUE", help="A label; may be repeated.")
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The node's directory; default $FLEET_HOME/nodes/NAME.",
)


def _token(session: Session, name: str, labels: dict[str, str], ttl_s: int) -> pb.CreateJoinTokenReply:
    with session.connect() as client:
        return make_token(client, TrustDirectory(session.context().trust), name, labels, ttl_s)


def _label_options(labels: dict[str, str]) -> list[str]:
    """Options of `edge-agent join`: the node keeps the labels that a person gave it, not what the coordinator says."""
    return [option for key, value in sorted(labels.items()) for option in ("--label", f"{key}={value}")]


def _is_development(session: Session) -> bool:
    """Whether nodes have to be told to trust this fleet's development profile."""
    return TrustDirectory(session.context().trust).release(session.now()).profile is Profile.DEV


def _directory(session: Session, name: str, data_dir: Path | None) -> Path:
    return (data_dir or session.home / "nodes" / name).absolute()


@click.group()
def node() -> None:
    """Bring nodes into the fleet, and take them out of it."""


@node.command()
@click.argument("name", type=NODE_NAME)
@LABELS
@click.option(
    "--ttl",
    "ttl_s",
    default=3600,
    show_default=True,
    type=click.IntRange(1),
    help="Seconds for which the token is good.",
)
@click.pass_obj
def token(session: Session, name: str, label: tuple[str, ...], ttl_s: int) -> None:
    """Make a one-use join token for another machine.

    The token is bound to this name and these labels.
    """
    reply = _token(session, name, parse_labels(label), ttl_s)
    root = session.context().trust / "root.json"
    if session.output.machine:
        session.output.value(
            {
                "token": reply.token,
                "coordinator": reply.enrolment_address,
                "expires": exact(reply.expires_ms),
                "root": str(root),
            }
        )
        return
    given = "".join(f" {word}" for word in _label_options(parse_labels(label)))
    session.output.note(f"Copy {root} to the node, then run there, before {when(reply.expires_ms)}:\n")
    session.output.text(
        f"edge-agent join --data-dir /var/lib/edge-agent --coordinator {reply.enrolment_address} "
        f"--root root.json --token {reply.token}{given}"
    )
    profile = " --set allow_dev_profile=true" if _is_development(session) else ""
    session.output.text(f"edge-agent run --data-dir /var/lib/edge-agent{profile}")


@node.command()
@click.argument("name", type=NODE_NAME)
@LABELS
@DATA_DIR
@click.option("--start/--no-start", default=True, show_default=True, help="Start it in the background.")
@click.pass_obj
def join(session: Session, name: str, label: tuple[str, ...], data_dir: Path | None, start: bool) -> None:  # noqa: FBT001
    """Make this machine a node.

    Take a token, enrol, and start the supervisor.
    """
    directory = _directory(session, name, data_dir)
    if (directory / "node.json").exists():
        raise FleetError(
            Code.ALREADY_EXISTS,
            f"{name} has joined already",
            place=str(directory / "node.json"),
            remedy=f"Start it with `fleetctl node up {name}`.",
        )
    labels = parse_labels(label)
    reply = _token(session, name, labels, 600)
    command = [
        *AGENT,
        "join",
        "--data-dir",
        str(directory),
        "--coordinator",
        reply.enrolment_address,
        "--root",
        str(session.context().trust / "root.json"),
        "--token-file",
        "/dev/stdin",
        *_label_options(labels),
    ]
    # The token goes over standard input: an argument would be visible to every user of the machine.
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        command, input=reply.token, capture_output=True, text=True, timeout=JOIN_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise FleetError(
            Code.CERTIFICATE_INVALID,
            f"{name} could not join: {done.stderr.strip()}",
            node=name,
            remedy="Check that the coordinator runs (`fleetctl status`), then join again.",
        )
    if _is_development(session):
        (directory / "agent.toml").write_text("allow_dev_profile = true\n", encoding="utf-8")
    session.output.note(f"{name} joined the fleet; its files are in {directory}.")
    if start:
        _start(session, name, directory)


def _start(session: Session, name: str, directory: Path) -> None:
    if not (directory / "node.json").exists():
        raise FleetError(
            Code.NOT_FOUND,
            f"{name} has not joined from this machine",
            place=str(directory),
            remedy=f"Join it with `fleetctl node join {name}`.",
        )
    command = [*AGENT, "run", "--data-dir", str(directory)]
    background.start(command, directory / "agent.pid", directory / "agent.log")
    session.output.note(f"{name} is started; its log is {directory / 'agent.log'}.")


@node.command()
@click.argument("name", type=NODE_NAME)
@DATA_DIR
@click.pass_obj
def up(session: Session, name: str, data_dir: Path | None) -> None:
    """Start a node of this machine in the background."""
    _start(session, name, _directory(session, name, data_dir))


@node.command()
@click.argument("name", type=NODE_NAME)
@DATA_DIR
@click.pass_obj
def down(session: Session, name: str, data_dir: Path | None) -> None:
    """Stop a node of this machine.

    Its agents come back with `fleetctl node up`.
    """
    stopped = background.stop(_directory(session, name, data_dir) / "agent.pid")
    session.output.note(f"{name} is stopped." if stopped else f"{name} was not running.")


@node.command()
@click.option("--revoke", "identifier", metavar="TOKEN", help="Make this one worthless instead.")
@click.pass_obj
def tokens(session: Session, identifier: str | None) -> None:
    """List the join tokens that are still good, or revoke one.

    Their secrets are shown once only, when they are made.
    """
    with session.connect() as client:
        if identifier is not None:
            client.call(client.stub.RevokeJoinToken, pb.RevokeJoinTokenRequest(id=identifier))
            session.output.note(f"The join token {identifier} is worthless now.")
            return
        found = client.call(client.stub.ListJoinTokens, pb.ListJoinTokensRequest()).tokens
    rows = [
        Row(
            {
                "id": item.id,
                "node": item.node,
                "labels": dict(sorted(item.labels.items())),
                "used": item.used,
                "expires": exact(item.expires_ms),
                "created_by": item.created_by,
            },
            {
                "labels": labels(item.labels.items()),
                "used": "yes" if item.used else "no",
                "expires": when(item.expires_ms),
            },
        )
        for item in found
    ]
    session.output.rows(TOKEN_COLUMNS, rows, "No join token is good. Make one with `fleetctl node token NAME`.")


def _tell_change(session: Session, changed: pb.Node, done: str) -> None:
    if session.output.machine:
        session.output.value(node_row(changed, session.now_ms()).record)
    else:
        session.output.note(f"{changed.name} {done}")


@node.command()
@click.argument("name", type=NODE_NAME)
@REASON
@click.pass_obj
def lock(session: Session, name: str, reason: str) -> None:
    """Refuse a node until it is unlocked.

    Its connections end at once.
    Its agents go on for as long as their grants allow without a coordinator.
    """
    with session.connect() as client:
        changed = client.call(client.stub.LockNode, pb.ChangeNodeRequest(name=name, reason=reason))
    _tell_change(session, changed, f"is locked. It comes back with `fleetctl node unlock {name} --reason WHY`.")


@node.command()
@click.argument("name", type=NODE_NAME)
@REASON
@click.pass_obj
def unlock(session: Session, name: str, reason: str) -> None:
    """Let a locked node come back, and forget the warning about it."""
    with session.connect() as client:
        changed = client.call(client.stub.UnlockNode, pb.ChangeNodeRequest(name=name, reason=reason))
    _tell_change(session, changed, "is unlocked.")


@node.command()
@click.argument("name", type=NODE_NAME)
@REASON
@click.pass_obj
def revoke(session: Session, name: str, reason: str) -> None:
    """Take a node's enrolment and orders back for good.

    Its connections end at once.
    """
    with session.connect() as client:
        changed = client.call(client.stub.RevokeNode, pb.ChangeNodeRequest(name=name, reason=reason))
    _tell_change(session, changed, f"is revoked. Only a new token (`fleetctl node token {name}`) brings the name back.")


@node.command()
@click.argument("name", type=NODE_NAME)
@REASON
@click.pass_obj
def reset(session: Session, name: str, reason: str) -> None:
    """Begin a new epoch of a node.

    Its connections end at once; its old certificates, orders and copies are worthless. It gets its orders again when it
    has joined again.
    """
    with session.connect() as client:
        changed = client.call(client.stub.ResetNode, pb.ChangeNodeRequest(name=name, reason=reason))
    _tell_change(session, changed, f"is reset. Join it again with a token of `fleetctl node token {name}`.")
