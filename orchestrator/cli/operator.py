"""Commands about operators: login, operator add, list, revoke, authority."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.targets import TRUST_PATH
from fleet.trust import open_release
from fleet.v1 import control_pb2 as pb
from orchestrator import pki
from orchestrator.cli import login as logins
from orchestrator.cli.context import Config, Context, load_config, save_config
from orchestrator.cli.render import Column, Row, ago, exact, short_digest, when
from orchestrator.cli.session import NODE_NAME
from orchestrator.cli.trust import MAX_FILE, TrustDirectory
from orchestrator.principals import Role

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

COLUMNS = (
    Column("OPERATOR", "operator"),
    Column("STATE", "state"),
    Column("ROLES", "roles", fold=True),
    Column("TEAM", "team"),
    Column("CERTIFICATE UNTIL", "certificate_expires"),
    Column("REASON", "reason", fold=True),
    Column("KEY", "key", wide=True),
    Column("INVITED BY", "created_by", wide=True),
    Column("AGE", "created", wide=True, right=True),
)

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def operator() -> None:
    """Say who may operate the fleet."""


@operator.command()
@click.argument("name", type=NODE_NAME)
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="What they may do; may be repeated.",
)
@click.option(
    "--team",
    default="",
    type=NODE_NAME,
    help="Only what is of this team: its applications, bundles, grants and secrets.",
)
@click.option("--ttl", "ttl_s", default=3600, show_default=True, type=click.IntRange(1), help="Seconds to log in.")
@click.pass_obj
def add(session: Session, name: str, roles: tuple[str, ...], team: str, ttl_s: int) -> None:
    """Invite an operator.

    Makes a one-use token for `fleetctl login`.

    For a name that exists it is a new invitation: the key and the certificates of the earlier one are worthless then.
    """
    request = pb.AddOperatorRequest(name=name, roles=roles, team=team, ttl_s=ttl_s)
    with session.connect() as client:
        reply = client.call(client.stub.AddOperator, request)
    if session.output.machine:
        session.output.value(
            {"token": reply.token, "coordinator": reply.enrolment_address, "expires": exact(reply.expires_ms)}
        )
        return
    root = session.context().trust / "root.json"
    session.output.note(f"Hand {root} and this token to {name}, who runs before {when(reply.expires_ms)}:\n")
    session.output.text(
        f"fleetctl login --coordinator {reply.enrolment_address} --root root.json --token {reply.token}"
    )


@operator.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List the operators whom the coordinator knows.

    Whoever holds a certificate of the offline authority (`fleetctl init`) is not among them.
    """
    with session.connect() as client:
        found = client.call(client.stub.ListOperators, pb.ListOperatorsRequest()).operators
    rows = [_row(item, session.now_ms()) for item in found]
    session.output.rows(COLUMNS, rows, "Nobody was invited yet. Try `fleetctl operator add NAME --role viewer`.")


@operator.command()
@click.argument("name", type=NODE_NAME)
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
@click.pass_obj
def revoke(session: Session, name: str, reason: str) -> None:
    """Take an operator's access back.

    At once, open connections included, and until somebody invites them again.
    """
    with session.connect() as client:
        row = _row(client.call(client.stub.RevokeOperator, pb.RevokeOperatorRequest(name=name, reason=reason)), 0)
    if session.output.machine:
        session.output.value(row.record)
    else:
        session.output.note(f"{name} is revoked.")


@operator.command()
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Default: the coordinator's keys."
)
@click.pass_obj
def authority(session: Session, folder: Path | None) -> None:
    """Make a new login authority.

    It signs operators when they log in.

    Needs the key of the operators' authority. The coordinator takes it within seconds; certificates of the earlier one
    are worthless then, and operators get the next one by their keys.
    """
    target = TrustDirectory(folder or session.home / "coordinator" / "keys")
    base = session.home / "operator"
    try:
        pair = pki.KeyPair((base / "operator-ca.pem").read_bytes(), (base / "operator-ca.crt").read_bytes())
    except FileNotFoundError as error:
        raise FleetError(
            Code.NOT_FOUND,
            "the key of the operators' authority is not here",
            place=str(error.filename),
            remedy="Run this where `fleetctl init` was run.",
        ) from error
    made = pki.issue_authority(
        pair, f"operators, login {time.strftime('%Y-%m-%d', session.now().timetuple())}", session.now()
    )
    target.write("login-ca.pem", made.key, 0o600)
    target.write("login-ca.crt", made.certificate)
    session.output.note(f"The new login authority is in {target.path}; the coordinator takes it within seconds.")


@click.command()
@click.option("--coordinator", metavar="HOST:PORT", help="Enrolment port of the coordinator, for a first login.")
@click.option("--root", type=FILE, help="The fleet's root.json, handed over by an operator, for a first login.")
@click.option("--token", help="The token; other users of this machine may see it in the process list.")
@click.option("--token-file", type=FILE, help="A file with the token.")
@click.option("--name", help="Name of the new context; default: the fleet's name.")
@click.pass_obj
def login(
    session: Session,
    coordinator: str | None,
    root: Path | None,
    token: str | None,
    token_file: Path | None,
    name: str | None,
) -> None:
    """Log in with a token, or renew the certificate.

    Without a token the key of the last login asks for the next certificate.

    The key is made on this machine and never leaves it. Certificates last 12 hours; every command renews one that is
    due, as long as the operator is not revoked.
    """
    if (token is None) == (token_file is None) and (token or token_file or coordinator or root):
        raise click.UsageError("a first login needs either --token or --token-file")
    text = token_file.read_text(encoding="utf-8") if token_file is not None else token
    if text is None:
        context = session.context()
        known = logins.renew(context.certificate, context.key)
        session.output.note(f"{known.operator} is logged in to {known.fleet} for another 12 hours.")
        return
    if coordinator is None or root is None:
        raise click.UsageError("a first login needs --coordinator and --root")
    home = session.home.absolute()
    known, issued = logins.first_login(home / "operator", coordinator, logins.parse_token(text))
    context = Context(
        address=issued.session_address,
        ca=home / "operator" / "node-ca.crt",
        certificate=home / "operator" / f"{known.operator}.crt",
        key=home / "operator" / f"{known.operator}.pem",
        trust=home / "trust",
        team=issued.team if is_name(issued.team) else "",
    )
    _save_context(home / "config.yaml", name or known.fleet, context)
    _fetch_trust(session, context, root.read_bytes())
    roles = ", ".join(issued.roles) + (f" of team {issued.team}" if issued.team else "")
    session.output.note(f"{known.operator} is logged in to {known.fleet} for 12 hours ({roles}).")


def _save_context(file: Path, name: str, context: Context) -> None:
    contexts = dict(load_config(file).contexts) if file.exists() else {}
    if name in contexts and contexts[name].certificate != context.certificate:
        raise FleetError(
            Code.ALREADY_EXISTS, f"there is a context {name!r} of somebody else", remedy="Choose another with --name."
        )
    save_config(file, Config(name, {**contexts, name: context}))


def _fetch_trust(session: Session, context: Context, root: bytes) -> None:
    """Fill the trust directory: the pin that was handed over, and the release that verifies from it."""
    directory = TrustDirectory(context.trust)
    if (context.trust / "root.json").exists():
        return  # a machine that signs has its own
    directory.write("root.json", root)
    with session.connect() as client:
        offered = dict(client.call(client.stub.GetTrust, pb.GetTrustRequest()).files)
        if not offered:
            return
        release = open_release(offered, root=root, now=session.now(), allow_dev=True)
        target = release.target(TRUST_PATH)
        document = client.get_blob(target.digest, MAX_FILE)
    directory.save(release.files)
    target.check(document)
    directory.write(f"documents/{TRUST_PATH}", document)


def _row(item: pb.Operator, now_ms: int) -> Row:
    return Row(
        {
            "operator": item.name,
            "state": item.state,
            "roles": list(item.roles),
            "team": item.team,
            "reason": item.reason,
            "key": item.key_id,
            "created_by": item.created_by,
            "created": exact(item.created_ms),
            "certificate_expires": exact(item.certificate_expires_ms),
        },
        {
            "roles": ", ".join(item.roles),
            "key": short_digest(item.key_id),
            "created": ago(item.created_ms, now_ms),
            "certificate_expires": when(item.certificate_expires_ms) if item.certificate_expires_ms else "",
        },
    )
