"""For whom an operator seals: which key of a node is believed, and why.

Owns: the checks between what a coordinator says about a node's sealing key and its use, and the file of keys that were
accepted here (`recipients.json` in the trust directory). A coordinator could offer a key of its own in place of a
node's. It would have to forge the node's signature, or present another bound key, which differs from what was accepted
here before; what it presents is in the audit log for ever. The first time there is nothing to compare with but the
fingerprint that the node itself prints (`edge-agent identity`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.checkpoint import open_checkpoint, parse_proof
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.keys import read_public_key
from fleet.merkle import leaf_hash, verify_inclusion
from fleet.sealing import fingerprint, open_statement
from fleet.v1 import control_pb2 as pb
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.trust import FleetTrust
    from orchestrator.cli.client import Client
    from orchestrator.cli.trust import TrustDirectory

FILE = "recipients.json"
SCHEMA = "fleet.recipients/v1"
MAX_FILE = 4 << 20
MAX_RECIPIENTS = 100_000
DECLARED = "node:sealing-key:declared"
"""Kind of the leaf that shows a node's statement."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A node whose key has passed the checks.

    Attributes:
        bound_key: id of the key that identifies the node.
        public: X25519 key to seal for.
        agents: that the node is ordered to run.
    """

    node: str
    epoch: int
    bound_key: str
    public: bytes
    agents: tuple[str, ...]

    @property
    def key(self) -> str:
        """Fingerprint of the sealing key."""
        return fingerprint(self.public)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was believed about a node before."""

    bound_key: str
    key: str


def check_recipient(client: Client, offered: pb.SealingKey, trust: FleetTrust) -> Recipient:
    """Check one offered key.

    Checks, in this order:
        1. The node's bound key signed the statement, for this fleet, node and enrolment.
        2. The audit log holds a leaf with this statement of this node: the proof leads to a checkpoint that is signed
           by the log key of the release.

    Whether the bound key is the node's own is `compare`'s question.

    Raises:
        FleetError: SIGNATURE_INVALID, SECRET_INVALID, PROOF_INVALID, LIMIT_EXCEEDED.
    """
    bound_key = read_public_key(offered.bound_key)
    statement = open_statement(  # 1
        offered.statement, fleet=trust.fleet, node=offered.node, epoch=offered.epoch, key=bound_key
    )
    proof = parse_proof(offered.proof)
    checkpoint = open_checkpoint(proof.note, trust.log_vkey)
    leaf = _leaf(client, proof.index)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)  # 2
    _check_leaf(leaf, offered)
    return Recipient(offered.node, offered.epoch, bound_key.key_id, statement.key, tuple(offered.agents))


def list_offered(client: Client) -> list[pb.SealingKey]:
    """Return what the coordinator says about every node, by name.

    Raises:
        FleetError: MESSAGE_INVALID when its parts do not go on.
    """
    found: list[pb.SealingKey] = []
    while True:
        after = found[-1].node if found else ""
        part = client.call(client.stub.ListSealingKeys, pb.ListSealingKeysRequest(after=after)).keys
        if not part:
            return found
        if part[0].node <= after or len(found) > MAX_RECIPIENTS:
            raise FleetError(Code.MESSAGE_INVALID, "the coordinator's list of nodes has no end")
        found += part


def load_accepted(directory: TrustDirectory) -> dict[str, Accepted]:
    """Read what was accepted before, by node.

    Raises:
        FleetError: CONFIG_INVALID when the file is spoiled: it is then for a person to look why.
    """
    path = directory.path / FILE
    try:
        data = read_bounded(path, MAX_FILE)
    except FileNotFoundError:
        return {}
    found: dict[str, Accepted] = {}
    with Reader(load_json(data, Code.CONFIG_INVALID, str(path), MAX_FILE), Code.CONFIG_INVALID, str(path)) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        for value, place in top.items("nodes", MAX_RECIPIENTS):
            with Reader(value, Code.CONFIG_INVALID, place) as entry:
                found[entry.text("node")] = Accepted(entry.text("bound_key"), entry.text("key"))
    return found


def save_accepted(directory: TrustDirectory, accepted: Mapping[str, Accepted]) -> None:
    """Write what is accepted from now on."""
    nodes = [{"node": node, "bound_key": known.bound_key, "key": known.key} for node, known in sorted(accepted.items())]
    directory.write(FILE, dump_json({"schema": SCHEMA, "nodes": nodes}))


def compare(recipient: Recipient, accepted: Mapping[str, Accepted]) -> bool:
    """Whether this key was accepted here before; False for a node that was never seen.

    Raises:
        FleetError: SECRET_INVALID when another key was: the node was enrolled again, or somebody stands in its place.
    """
    known = accepted.get(recipient.node)
    if known is None:
        return False
    if known != Accepted(recipient.bound_key, recipient.key):
        raise FleetError(
            Code.SECRET_INVALID,
            f"{recipient.node} shows another key than the one that was accepted here",
            node=recipient.node,
            accepted=known.key,
            shown=recipient.key,
            remedy="Run `edge-agent identity` on the node. If it prints the shown key: "
            f"`fleetctl secret recipients --accept {recipient.node}`; else treat the coordinator as captured.",
        )
    return True


def _leaf(client: Client, index: int) -> bytes:
    for entry in client.stream(client.stub.AuditEntries, pb.AuditEntriesRequest(from_index=index), timeout_s=30.0):
        if entry.index == index:
            return entry.leaf
        break
    raise FleetError(Code.PROOF_INVALID, f"the coordinator does not show leaf {index}")


def _check_leaf(leaf: bytes, offered: pb.SealingKey) -> None:
    try:
        event = json.loads(leaf)
        facts = event["facts"]
        same = (event["kind"], facts["node"], facts["envelope"]) == (
            DECLARED,
            offered.node,
            offered.statement.decode(),
        )
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise FleetError(Code.PROOF_INVALID, f"the log does not hold what {offered.node} is said to have said")
