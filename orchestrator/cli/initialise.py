"""`fleetctl init`: a new fleet with the development trust profile, complete or not at all.

Owns: which key is made where. Three places that must stay apart, also when one machine holds them all:

trust/        what signers hold: the role keys for code, grants, root, targets, snapshot and timestamp, and the key
              that signs secrets
operator/     what an operator shows: the operators' authority and one administrator's certificate
coordinator/  what the coordinator needs: its director and log keys, the node authority, the authority that signs
              operators at a login, its server certificates; no key of the other two places
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from fleet.checkpoint import format_vkey
from fleet.errors import Code, FleetError
from fleet.model import is_name
from fleet.release import RoleKeys, new_release
from fleet.signing import KEY_BYTES, SigningKey
from fleet.targets import DEFAULT_TEAM, POLICY_ROLE, TRUST_PATH, code_role, grants_role
from fleet.trust import FleetTrust, Profile, encode_fleet_trust
from orchestrator import pki, principals
from orchestrator.cli.context import Config, Context, save_config
from orchestrator.cli.trust import TrustDirectory

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from fleet.signing import PublicKey
    from orchestrator.cli.session import Session

ROLES = ("root", "targets", "snapshot", "timestamp", code_role(DEFAULT_TEAM), grants_role(DEFAULT_TEAM), POLICY_ROLE)
"""Each role has a key of its own even here, so that one of them can move to another machine later."""

OPERATOR_LIFETIME = timedelta(days=365)
SERVER_NAME = "coordinator.fleet.internal"
"""Name inside the coordinator's certificate that every client expects, whatever address it dials."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to set up.

    Attributes:
        fleet: name of the fleet; trust domain of its identities.
        operator: name of the first administrator.
        host: address the coordinator listens on and is reached by.
        port: of NodeService and ControlService.
        enrolment_port: of EnrolmentService.
        now: time of signing.
    """

    fleet: str
    operator: str
    host: str
    port: int
    enrolment_port: int
    now: datetime


def _key() -> SigningKey:
    return SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))


def _write(folder: Path, name: str, data: bytes, *, secret: bool = False) -> None:
    TrustDirectory(folder).write(name, data, 0o600 if secret else 0o644)


def _coordinator_files(folder: Path, plan: Plan, secret_key: PublicKey) -> tuple[FleetTrust, pki.KeyPair]:
    """Write the coordinator's keys; returns what the fleet shall trust about it, and the node authority."""
    director, log = _key(), _key()
    nodes = pki.new_authority(f"{plan.fleet} nodes", plan.now)
    server = pki.issue_server(nodes, [SERVER_NAME, "localhost", plan.host], plan.now)
    enrolment = pki.new_enrolment_certificate(plan.now)
    _write(folder, "keys/director.pem", director.to_pem(), secret=True)
    _write(folder, "keys/log.pem", log.to_pem(), secret=True)
    _write(folder, "keys/node-ca.pem", nodes.key, secret=True)
    _write(folder, "keys/node-ca.crt", nodes.certificate)
    _write(folder, "tls/server.pem", server.key, secret=True)
    _write(folder, "tls/server.crt", server.certificate)
    _write(folder, "tls/enrolment.pem", enrolment.key, secret=True)
    _write(folder, "tls/enrolment.crt", enrolment.certificate)
    trust = FleetTrust(
        fleet=plan.fleet,
        director_keys=(director.public,),
        log_vkeys=(format_vkey(f"{plan.fleet}/audit", log.public),),
        node_ca_pem=nodes.certificate,
        profile=Profile.DEV,
        secret_keys=(secret_key,),
    )
    return trust, nodes


def _configuration(plan: Plan) -> str:
    return f"""# Coordinator of the fleet {plan.fleet}; written by `fleetctl init`. Paths are relative to this file.
fleet = "{plan.fleet}"
data_dir = "."

[listen]
session = "{plan.host}:{plan.port}"
enrolment = "{plan.host}:{plan.enrolment_port}"
"""


def set_up(folder: Path, plan: Plan) -> None:
    """Write a whole fleet below an empty folder."""
    coordinator = folder / "coordinator"
    for_secrets = _key()
    trust, nodes = _coordinator_files(coordinator, plan, for_secrets.public)
    keys = {role: _key() for role in ROLES}
    _write(folder, "trust/keys/secrets.pem", for_secrets.to_pem(), secret=True)
    for role, key in keys.items():
        _write(folder, f"trust/keys/{role}.pem", key.to_pem(), secret=True)
    document = encode_fleet_trust(trust)
    files = new_release(
        RoleKeys({role: (key,) for role, key in keys.items()}),
        profile=Profile.DEV,
        now=plan.now,
        documents={TRUST_PATH: document},
    )
    directory = TrustDirectory(folder / "trust")
    directory.write("root.json", files["1.root.json"])
    directory.save(files)
    directory.write(f"documents/{TRUST_PATH}", document)
    directory.fleet_trust(plan.now)  # a fleet that does not verify is not handed out
    operators = pki.new_authority(f"{plan.fleet} operators", plan.now, path_length=1)
    login = pki.issue_authority(operators, f"{plan.fleet} operators, login", plan.now)
    administrator = pki.issue_operator(
        operators, plan.fleet, plan.operator, [principals.Role.ADMIN], plan.now, OPERATOR_LIFETIME
    )
    _write(folder, "operator/operator-ca.pem", operators.key, secret=True)
    _write(folder, "operator/operator-ca.crt", operators.certificate)
    _write(folder, f"operator/{plan.operator}.pem", administrator.key, secret=True)
    _write(folder, f"operator/{plan.operator}.crt", administrator.certificate)
    _write(folder, "operator/node-ca.crt", nodes.certificate)
    _write(coordinator, "keys/operator-ca.crt", operators.certificate)
    _write(coordinator, "keys/login-ca.pem", login.key, secret=True)
    _write(coordinator, "keys/login-ca.crt", login.certificate)
    _write(coordinator, "trust/root.json", files["1.root.json"])
    _write(coordinator, "coordinator.toml", _configuration(plan).encode())
    context = Context(
        address=f"{plan.host}:{plan.port}",
        ca=folder / "operator" / "node-ca.crt",
        certificate=folder / "operator" / f"{plan.operator}.crt",
        key=folder / "operator" / f"{plan.operator}.pem",
        trust=folder / "trust",
    )
    save_config(folder / "config.yaml", Config(plan.fleet, {plan.fleet: context}))


@click.command()
@click.option("--fleet", default="fleet", show_default=True, help="Name of the fleet.")
@click.option("--operator", default="admin", show_default=True, help="Name of the first administrator.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the coordinator.")
@click.option("--port", default=7443, show_default=True, type=click.IntRange(1, 65535))
@click.option("--enrolment-port", default=7444, show_default=True, type=click.IntRange(1, 65535))
@click.pass_obj
def init(session: Session, fleet: str, operator: str, host: str, port: int, enrolment_port: int) -> None:
    """Set up a new fleet on this machine.

    Keys, trust repository, certificates, the coordinator's files, and a context to reach it.
    """
    home = session.home.absolute()
    for name in (fleet, operator):
        if not is_name(name):
            raise FleetError(Code.CONFIG_INVALID, f"{name!r} is not a name: lower-case words joined by hyphens")
    if home.exists() and any(home.iterdir()):
        raise FleetError(
            Code.ALREADY_EXISTS,
            "there is something already",
            place=str(home),
            remedy="Choose another directory with FLEET_HOME, or use the fleet that is there.",
        )
    staging = home.with_name(f".{home.name}.{secrets.token_hex(4)}")
    staging.mkdir(parents=True, mode=0o700)
    try:
        set_up(staging, Plan(fleet, operator, host, port, enrolment_port, session.now()))
        staging.rename(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    session.output.note(f"The fleet {fleet} is set up in {home} (development profile: every key is on this machine).")
    session.output.note("Next: `fleetctl coordinator up`, then `fleetctl node join NAME`.")
