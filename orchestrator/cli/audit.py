"""Commands of the audit: who may do what, and whether the log that says so is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet import merkle
from fleet.checkpoint import open_checkpoint
from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.session import AGENT_NAME, NODE_NAME
from orchestrator.cli.trust import TrustDirectory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.session import Session

WHO_COLUMNS = (
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("CAPABILITY", "interface"),
    Column("CONSTRAINTS", "constraints", fold=True),
    Column("GRANT", "grant_revision"),
    Column("ENFORCED", "enforced"),
    Column("APPROVED BY", "approvers", wide=True),
    Column("SINCE", "since", wide=True),
    Column("BUNDLE", "bundle", wide=True),
    Column("GRANT DIGEST", "grant_digest", wide=True),
    Column("LOG LEAF", "leaf", wide=True, right=True),
)

MAX_ENTRY = 1024 * 1024
"""Bytes of one leaf."""


def _parse_time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter("expected an RFC 3339 time, for example 2026-11-22T13:00:00Z") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


@click.group()
def audit() -> None:
    """Ask who could do what, where and when, and check the answer."""


@audit.command()
@click.option("--agent", default="", type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Only this agent.")
@click.option("--node", default="", type=NODE_NAME, help="Only on this node.")
@click.option("--capability", default="", metavar="INTERFACE", help="For example wasi:keyvalue/store.")
@click.option("--at", "at_ms", callback=_parse_time, metavar="TIME", help="At this moment; default now.")
@click.pass_obj
def who(session: Session, agent: str, node: str, capability: str, at_ms: int) -> None:
    """Show which agent has which capability on which node.

    ENFORCED says whether the node has confirmed it.

    -o wide adds who approved it, since when it holds, and where the log says so.
    """
    request = pb.AuditWhoRequest(agent=agent, node=node, interface=capability, at_ms=at_ms)
    with session.connect() as client:
        answers = client.call(client.stub.AuditWho, request).answers
    rows = [
        Row(
            {
                "node": a.node,
                "agent": a.agent,
                "interface": a.interface,
                "constraints": list(a.constraints),
                "grant_revision": a.grant_revision,
                "grant_digest": a.grant_digest,
                "approvers": list(a.approvers),
                "since": exact(a.since_ms),
                "enforced": a.enforced,
                "bundle": a.bundle,
                "leaf": a.leaf,
            },
            {
                "constraints": " | ".join(a.constraints),
                "grant_revision": f"r{a.grant_revision}",
                "grant_digest": short_digest(a.grant_digest),
                "approvers": [short_digest(key) for key in a.approvers],
                "since": when(a.since_ms),
            },
        )
        for a in answers
    ]
    session.output.rows(WHO_COLUMNS, rows, "No agent had that capability there and then.")


class _Replay:
    """Rebuilds the tree from its leaves, and remembers the root at one earlier size."""

    def __init__(self, earlier_size: int) -> None:
        self.size = 0
        self.earlier_root = merkle.EMPTY_ROOT
        self._earlier_size = earlier_size
        self._nodes: dict[tuple[int, int], bytes] = {}

    def _at(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]

    def add(self, leaf: bytes) -> None:
        """Append one leaf."""
        for node in merkle.append(self._at, self.size, [merkle.leaf_hash(leaf)]):
            self._nodes[node.level, node.index] = node.hash
        self.size += 1
        if self.size == self._earlier_size:
            self.earlier_root = self.root()

    def root(self) -> bytes:
        """Root over everything added so far."""
        return merkle.root(self._at, self.size)


def _replay(entries: Iterable[pb.AuditEntry], size: int, earlier_size: int) -> _Replay:
    replay = _Replay(earlier_size)
    for entry in entries:
        if entry.index != replay.size:
            raise FleetError(Code.PROOF_INVALID, f"leaf {replay.size} is missing; got leaf {entry.index}")
        replay.add(entry.leaf)
        if replay.size == size:
            break
    return replay


@audit.command()
@click.pass_obj
def verify(session: Session) -> None:
    """Read the whole log and check it.

    \b
    1. The checkpoint is signed by the log key that the release repository names.
    2. Every leaf is there, and together they give the root that the checkpoint states.
    3. The log still contains, unchanged, everything that was verified here before.
    """  # noqa: D301 - \b is click's mark for keeping line breaks
    directory = TrustDirectory(session.context().trust)
    vkey = directory.fleet_trust(session.now()).log_vkey
    remembered = directory.path / "log.checkpoint"
    earlier = open_checkpoint(remembered.read_bytes(), vkey) if remembered.exists() else None
    with session.connect() as client:
        note = client.call(client.stub.AuditCheckpoint, pb.AuditCheckpointRequest()).checkpoint
        checkpoint = open_checkpoint(note, vkey)  # 1
        entries = client.stream(client.stub.AuditEntries, pb.AuditEntriesRequest(), timeout_s=600.0)
        replay = _replay(entries, checkpoint.size, earlier.size if earlier else 0)
    if replay.size != checkpoint.size or replay.root() != checkpoint.root:  # 2
        raise FleetError(
            Code.PROOF_INVALID, "the leaves do not give the signed root", leaves=replay.size, size=checkpoint.size
        )
    if earlier and (earlier.size > checkpoint.size or (earlier.size and replay.earlier_root != earlier.root)):  # 3
        raise FleetError(
            Code.PROOF_INVALID, f"the log was rewritten: its first {earlier.size} leaves are not the ones seen before"
        )
    directory.write("log.checkpoint", note)
    if session.output.machine:
        session.output.value({"size": checkpoint.size, "root": checkpoint.root.hex(), "verified": True})
        return
    session.output.text(f"The log is whole: {checkpoint.size} leaves, root {checkpoint.root.hex()[:16]}…")
    if earlier:
        session.output.text(f"It extends the {earlier.size} leaves that were verified here before.")
