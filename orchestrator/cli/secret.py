"""Commands for secrets: secret set, reseal, list, remove, recipients.

A value is sealed on this machine, for each node and for the operator; the coordinator is handed ciphertext. Owns what a
person is asked and shown. Values are read from a file or from standard input, never from the command line, and are
never printed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.grants import parse_grant, propose_command
from fleet.names import is_name
from fleet.sealing import (
    ESCROW,
    MAX_SECRET,
    Label,
    SecretKind,
    SecretValue,
    open_sealed,
    public_of,
    unseal,
)
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.joins import token_key
from orchestrator.cli.recipients import (
    Accepted,
    check_recipient,
    compare,
    list_offered,
    load_accepted,
    save_accepted,
)
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.sealer import Sealer
from orchestrator.cli.session import AGENT_NAME, NODE_NAME
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.cli.trust_change import YES, confirm
from orchestrator.files import read_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.cli.client import Client
    from orchestrator.cli.recipients import Recipient
    from orchestrator.cli.session import Session

STORE = "fleet:secrets/store"
COLUMNS = (
    Column("AGENT", "agent"),
    Column("SECRET", "secret"),
    Column("VERSION", "version", right=True),
    Column("NODES", "nodes", fold=True),
    Column("OLDER VERSION", "behind", fold=True),
    Column("SET", "set"),
    Column("BY", "operator", wide=True),
)
BATCH = 100
"""Envelopes in one message."""

RECIPIENTS = (
    Column("NODE", "node"),
    Column("SEALING KEY", "key"),
    Column("ACCEPTED", "accepted"),
    Column("BOUND KEY", "bound_key", wide=True),
    Column("AGENTS", "agents", fold=True),
)

AGENT = click.option("--agent", required=True, type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Whose secret it is.")
NODES = click.option("--node", "nodes", multiple=True, type=NODE_NAME, help="For this node; default: where it runs.")


class _SecretName(click.ParamType[str]):
    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as wrong usage."""
        if not is_name(value):
            self.fail(f"{value!r}: expected lower-case words joined by hyphens, at most 63 characters", param, ctx)
        return value


SECRET_NAME = _SecretName()


@click.group()
def secret() -> None:
    """Give secrets to agents, sealed for their nodes."""


@secret.command("set")
@click.argument("name", type=SECRET_NAME)
@AGENT
@click.option(
    "--from-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the value here; default: standard input.",
)
@click.option("--bytes", "raw", is_flag=True, help="Any bytes, kept as they are; else text without its last line end.")
@NODES
@click.pass_obj
def set_secret(
    session: Session, /, name: str, agent: str, nodes: tuple[str, ...], **source: Path | bool | None
) -> None:
    """Set a secret, or replace its value: the next version.

    It is sealed for the nodes that run the agent, unless --node names others. Each must have joined by a token that was
    made on this machine, or have been accepted with `secret recipients --accept`. Agents that run start again with it.
    """
    with session.connect() as client:
        sealer = Sealer.open(session, client)
        _check_granted(client, agent, name)
        recipients = _recipients(session, client, sealer, agent, nodes)
        value = _read_value(**source)  # type: ignore[arg-type]  # click converted each to its type
        before = _find(client, agent, name)
        version = 1 if before is None else before.version + 1
        label = Label(sealer.trust.fleet, ESCROW, agent, name, version)
        own = sealer.seal(value, label, public_of(sealer.escrow()))
        have = _put(client, sealer, value, label, recipients, own)
    _tell(session, label, have)


@secret.command()
@click.argument("name", type=SECRET_NAME)
@AGENT
@NODES
@click.pass_obj
def reseal(session: Session, name: str, agent: str, nodes: tuple[str, ...]) -> None:
    """Seal the newest value for nodes that lack it.

    For nodes that joined, were enrolled again, or were given the agent since. Needs the operator's own key, which was
    made by `secret set` on this machine; the value is not asked for again.
    """
    with session.connect() as client:
        sealer = Sealer.open(session, client)
        found = _find(client, agent, name)
        if found is None or not found.escrow:
            raise FleetError(Code.NOT_FOUND, f"{agent} has no secret {name}", remedy="Set it: `fleetctl secret set`.")
        fleet = sealer.trust.fleet
        own = open_sealed(found.escrow, sealer.trust.secret_keys, fleet=fleet, node=ESCROW)
        label = Label(fleet, ESCROW, agent, name, found.version)
        if own.label != label:
            raise FleetError(Code.SECRET_INVALID, "the coordinator sent another secret", secret=name)
        value = unseal(own, sealer.escrow())
        recipients = _recipients(session, client, sealer, agent, nodes)
        lacking = [recipient for recipient in recipients if nodes or recipient.node not in found.nodes]
        have = _put(client, sealer, value, label, lacking, found.escrow) if lacking else tuple(found.nodes)
    _tell(session, label, have)


@secret.command("list")
@click.option("--agent", default="", type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Only of this agent.")
@click.pass_obj
def list_secrets(session: Session, agent: str) -> None:
    """List names, versions and nodes; values are shown by nothing."""
    with session.connect() as client:
        found = client.call(client.stub.ListSecrets, pb.ListSecretsRequest(agent=agent)).secrets
    rows = [
        Row(
            {
                "agent": one.agent,
                "secret": one.name,
                "version": one.version,
                "nodes": list(one.nodes),
                "behind": list(one.behind),
                "set": exact(one.set_ms),
                "operator": one.operator,
            },
            {"nodes": ", ".join(one.nodes), "behind": ", ".join(one.behind), "set": when(one.set_ms)},
        )
        for one in found
        if one.escrow
    ]
    session.output.rows(COLUMNS, rows, "There are no secrets.")


@secret.command()
@click.argument("name", type=SECRET_NAME)
@AGENT
@YES
@click.pass_obj
def remove(session: Session, name: str, agent: str, yes: bool) -> None:  # noqa: FBT001
    """Take a secret from every node.

    A node that is offline drops it when it connects.
    """
    confirm(session, f"Take {name} from {agent} everywhere?", yes=yes)
    with session.connect() as client:
        nodes = client.call(client.stub.RemoveSecret, pb.RemoveSecretRequest(agent=agent, name=name)).nodes
    if session.output.machine:
        session.output.value({"agent": agent, "secret": name, "nodes": list(nodes)})
    else:
        session.output.note(f"Removed {name} of {agent} from {', '.join(nodes) or 'no node'}.")


@secret.command()
@click.option("--accept", "accept", multiple=True, type=NODE_NAME, help="Believe the key that this node shows now.")
@YES
@click.pass_obj
def recipients(session: Session, accept: tuple[str, ...], yes: bool) -> None:  # noqa: FBT001
    """List the keys of nodes that secrets are sealed for.

    ACCEPTED says "yes", or "joined" for a node that used a join token of this machine: both are believed. "new" and
    "changed" are not. Compare a fingerprint with what `edge-agent identity` prints on the node before you accept it.
    """
    with session.connect() as client:
        directory = TrustDirectory(session.context().trust)
        synchronise(directory, client, session.now())
        trust, known = directory.fleet_trust(session.now()), load_accepted(directory)
        offered = list_offered(client)
        checked = [
            check_recipient(client, one, trust, token_key(directory, one.node)) for one in offered if one.statement
        ]
    for node in accept:
        found = next((one for one in checked if one.node == node), None)
        if found is None:
            raise FleetError(Code.NOT_FOUND, f"{node} has named no key to seal for", node=node)
        confirm(session, f"Seal for {node} with {found.key}?", yes=yes)
        known[node] = Accepted(found.bound_key, found.key)
    if accept:
        save_accepted(directory, known)
    rows = [
        Row(
            {
                "node": one.node,
                "epoch": one.epoch,
                "key": one.key,
                "bound_key": one.bound_key,
                "accepted": _standing(one, known),
                "agents": list(one.agents),
            },
            {"agents": ", ".join(one.agents), "bound_key": short_digest(one.bound_key)},
        )
        for one in checked
    ]
    session.output.rows(RECIPIENTS, rows, "No node has named a key to seal for.")


def _standing(recipient: Recipient, known: Mapping[str, Accepted]) -> str:
    try:
        return "yes" if compare(recipient, known) else "joined"
    except FleetError:
        return "changed" if recipient.node in known else "new"


def _recipients(
    session: Session, client: Client, sealer: Sealer, agent: str, nodes: tuple[str, ...]
) -> list[Recipient]:
    """The nodes to seal for, each checked and believed; what was proven is accepted from now on."""
    offered = {key.node: key for key in list_offered(client)}
    missing = [node for node in nodes if node not in offered or not offered[node].statement]
    if missing:
        raise FleetError(
            Code.NOT_FOUND,
            f"nothing can be sealed for {', '.join(missing)}",
            remedy="A node names its key when it connects: start it, and see `fleetctl secret recipients`.",
        )
    chosen = [
        key for key in offered.values() if key.statement and (key.node in nodes if nodes else agent in key.agents)
    ]
    if not chosen:
        raise FleetError(
            Code.NO_MATCHING_NODES,
            f"no node that can be sealed for runs {agent}",
            remedy="Name nodes with --node, or deploy the agent first; it gets the secret as soon as it is set.",
        )
    known, directory = load_accepted(sealer.directory), sealer.directory
    checked = [check_recipient(client, one, sealer.trust, token_key(directory, one.node)) for one in chosen]
    new = [one for one in checked if not compare(one, known)]
    for one in new:
        session.output.note(f"New recipient {one.node}: {one.key}; it used the join token that was made here.")
    if new:
        save_accepted(directory, known | {one.node: Accepted(one.bound_key, one.key) for one in new})
    return checked


def _check_granted(client: Client, agent: str, name: str) -> None:
    """Refuse a secret that the agent could not hold. A help for people: nodes ask the grant that they verified."""
    remedy = f"Name it in the grant: `{propose_command(agent, 'NAME@VERSION', (STORE,))}`, then approve it."
    granted = client.call(client.stub.ListGrants, pb.ListGrantsRequest(agent=agent)).grants
    if not granted:
        raise FleetError(Code.GRANT_MISSING, f"{agent} has no grant", agent=agent, remedy=remedy)
    document = client.call(client.stub.GetGrant, pb.GetGrantRequest(agent=agent)).document
    if not parse_grant(document, agent).authority.allows(STORE, name=name):
        raise FleetError(
            Code.CALL_DENIED, f"the newest grant of {agent} does not name {name} in {STORE}", agent=agent, remedy=remedy
        )


def _find(client: Client, agent: str, name: str) -> pb.Secret | None:
    found = client.call(client.stub.ListSecrets, pb.ListSecretsRequest(agent=agent)).secrets
    return next((one for one in found if (one.agent, one.name) == (agent, name)), None)


def _read_value(*, from_file: Path | None, raw: bool) -> SecretValue:
    if from_file is not None:
        data = read_named(from_file, MAX_SECRET + 2)
    elif sys.stdin.isatty():
        data = click.prompt("Value", hide_input=True, err=True).encode()
    else:
        data = sys.stdin.buffer.read(MAX_SECRET + 2)
    if raw:
        return SecretValue(SecretKind.BYTES, data)
    return SecretValue(SecretKind.TEXT, data.removesuffix(b"\n").removesuffix(b"\r"))


def _put(
    client: Client, sealer: Sealer, value: SecretValue, label: Label, recipients: Sequence[Recipient], own: bytes
) -> tuple[str, ...]:
    """Seal for each node and hand over in parts; the first one makes the version."""
    have: tuple[str, ...] = ()
    for start in range(0, len(recipients), BATCH):
        part = recipients[start : start + BATCH]
        sealed = [sealer.seal(value, replace(label, node=one.node), one.public) for one in part]
        request = pb.PutSecretRequest(
            agent=label.agent, name=label.name, version=label.version, envelopes=[own, *sealed]
        )
        have = tuple(client.call(client.stub.PutSecret, request).nodes)
    return have


def _tell(session: Session, label: Label, nodes: Sequence[str]) -> None:
    if session.output.machine:
        session.output.value(
            {"agent": label.agent, "secret": label.name, "version": label.version, "nodes": list(nodes)}
        )
    else:
        where = ", ".join(nodes)
        session.output.note(f"Version {label.version} of {label.name} is sealed for {label.agent} on {where}.")
