"""Rotation of the node authority: `trust rotate node-ca`, and `trust node-ca`, which shows how far it is.

Owns: the two stages. First the coordinator makes a successor, whose key never leaves it, and the release lists both;
nodes then renew under the new one, and once all have, the coordinator shows a certificate of it as well. Last the
release lists the successor alone, and certificates of the old authority are worthless. What the coordinator does in
between is in `orchestrator.node_authorities`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from cryptography.hazmat.primitives import serialization

from fleet.errors import Code, FleetError
from fleet.release import AddDocument
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from fleet.v1 import control_pb2 as pb
from fleet.x509 import fingerprint, load_certificates
from orchestrator.cli.render import Column, Row, exact, when
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trust_change import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

    Change = Callable[[dict[str, str]], Mapping[str, str]]

COLUMNS = (
    Column("AUTHORITY", "authority"),
    Column("STATE", "state"),
    Column("LISTED", "listed"),
    Column("SIGNS NODES", "signs_nodes"),
    Column("SHOWN", "shown"),
    Column("NODES", "nodes", right=True),
    Column("UNTIL", "expires"),
)

MAX_NAMED = 20
"""Nodes that are named in one message."""

REVOKED = "revoked"


def behind(nodes: Iterable[pb.Node], successor: str, now_ms: int) -> tuple[str, ...]:
    """Return the nodes that a withdrawal of the old authority would cut off, by name.

    Not among them: who opened a session with a certificate of the successor; who is revoked; and whose certificate has
    expired, since they renew by their bound key before they come back.
    """
    return tuple(
        sorted(
            node.name
            for node in nodes
            if node.state != REVOKED and node.authority != successor and node.certificate_expires_ms > now_ms
        )
    )


def rotate_node_authority(session: Session, *, finish: bool, force: bool, offline: bool, yes: bool) -> None:
    """Begin the rotation of the node authority, or finish it.

    Args:
        session: the run of fleetctl.
        finish: withdraw the old authority; else begin.
        force: with `finish`, also while nodes are behind.
        offline: asked for, and impossible: only the coordinator can make the key.
        yes: whether the person has agreed already.

    Raises:
        FleetError: CONFIG_INVALID for `offline`; NOT_FOUND for a `finish` of nothing; NODES_BEHIND while nodes would be
            cut off; else as `perform`.
    """
    if offline:
        raise FleetError(
            Code.CONFIG_INVALID,
            "the coordinator makes the new node authority, so it has to be asked",
            remedy="Leave --offline out: where keys are missing the change is staged all the same.",
        )
    if finish:
        _finish(session, force=force, yes=yes)
    else:
        _begin(session, yes=yes)


@click.command("node-ca")
@click.pass_obj
def node_ca(session: Session) -> None:
    """Show the node authority and its rotation.

    NODES counts those that opened their newest session with a certificate of it.
    """
    with session.connect() as client:
        authorities = client.call(client.stub.ListNodeAuthorities, pb.ListNodeAuthoritiesRequest()).authorities
        nodes = client.call(client.stub.ListNodes, pb.ListNodesRequest()).nodes
    rows = []
    for authority, state in zip(authorities, ("present", "successor"), strict=False):
        holders = [n.name for n in nodes if n.authority == authority.fingerprint and n.state != REVOKED]
        record = {
            "authority": authority.fingerprint,
            "state": state,
            "listed": authority.listed,
            "signs_nodes": authority.issues,
            "shown": authority.serves,
            "nodes": holders,
            "expires": exact(authority.expires_ms),
        }
        shown = {
            "authority": authority.fingerprint[:16],
            "listed": _yes(authority.listed),
            "signs_nodes": _yes(authority.issues),
            "shown": _yes(authority.serves),
            "nodes": str(len(holders)),
            "expires": when(authority.expires_ms),
        }
        rows.append(Row(record, shown))
    session.output.rows(COLUMNS, rows, "The coordinator has no node authority.")
    if len(authorities) > 1:
        late = behind(nodes, authorities[1].fingerprint, session.now_ms())
        if not authorities[1].listed:
            session.output.note("The successor signs nothing before the release lists it.")
        elif late:
            session.output.note(f"Not yet under the successor: {_named(late)}.")
        else:
            session.output.note("Every node has moved: `fleetctl trust rotate node-ca --finish`.")


def _begin(session: Session, *, yes: bool) -> None:
    with session.connect() as client:
        made = client.call(client.stub.MakeNodeAuthority, pb.MakeNodeAuthorityRequest()).authorities
    successor = made[-1]
    if successor.listed:
        session.output.note("The rotation is under way: see `fleetctl trust node-ca`.")
        return
    # This machine, too, has to believe the coordinator once it shows a certificate of the successor.
    _believe(session, b"".join(authority.certificate for authority in made))

    def change(listed: dict[str, str]) -> Mapping[str, str]:
        return listed | {successor.fingerprint: successor.certificate.decode()}

    if _perform(session, change, "rotate node-ca", yes=yes):
        session.output.note("Nodes renew under the new authority as they hear of it: `fleetctl trust node-ca`.")
        session.output.note("Once every node has: `fleetctl trust rotate node-ca --finish`.")


def _finish(session: Session, *, force: bool, yes: bool) -> None:
    with session.connect() as client:
        present, successor = _both(client)
        late = behind(
            client.call(client.stub.ListNodes, pb.ListNodesRequest()).nodes, successor.fingerprint, session.now_ms()
        )
    if late and not force:
        raise FleetError(
            Code.NODES_BEHIND,
            f"still under the old authority: {_named(late)}",
            nodes=len(late),
            remedy="Connected nodes follow within minutes, others when they come, and after a day nobody counts any"
            " more: run the command again. With --force they are cut off, and come back through the enrolment port.",
        )

    def change(listed: dict[str, str]) -> Mapping[str, str]:
        return {print_: pem for print_, pem in listed.items() if print_ != present.fingerprint}

    if _perform(session, change, "rotate node-ca, finish", yes=yes):
        _believe(session, successor.certificate)
        session.output.note("Certificates of the old authority are worthless.")


def _both(client: Client) -> tuple[pb.NodeAuthority, pb.NodeAuthority]:
    found = client.call(client.stub.ListNodeAuthorities, pb.ListNodeAuthoritiesRequest()).authorities
    if len(found) < 2 or not found[1].listed:
        raise FleetError(
            Code.NOT_FOUND,
            "no rotation of the node authority is under way",
            remedy="Begin with `fleetctl trust rotate node-ca`; it is under way once the change is published.",
        )
    return found[0], found[1]


def _perform(session: Session, change: Change, title: str, *, yes: bool) -> bool:
    directory = TrustDirectory(session.trust_folder())

    def operations(release: Release) -> tuple[Operation, ...]:
        target = release.target(TRUST_PATH)
        trust = parse_fleet_trust(target.check(directory.document(TRUST_PATH)))
        listed = {
            fingerprint(certificate): certificate.public_bytes(serialization.Encoding.PEM).decode()
            for certificate in load_certificates(trust.node_ca_pem)
        }
        pem = "".join(change(listed).values()).encode()
        changed = encode_fleet_trust(replace(trust, node_ca_pem=pem))
        return (AddDocument(TRUST_PATH, changed, replaces=target.digest),)

    return perform(session, operations, title, offline=False, yes=yes)


def _believe(session: Session, pem: bytes) -> None:
    """Check the coordinator against these authorities from now on."""
    file = session.context().ca
    TrustDirectory(file.parent).write(file.name, pem)


def _named(nodes: tuple[str, ...]) -> str:
    rest = len(nodes) - MAX_NAMED
    return ", ".join(nodes[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _yes(value: bool) -> str:  # noqa: FBT001 - the value itself
    return "yes" if value else "no"
