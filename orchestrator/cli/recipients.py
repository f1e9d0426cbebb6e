"""For whom an operator seals: which key of a node is believed, and why.

Owns: the checks between what a coordinator says about a node's sealing key and its use, and the file of keys that were
accepted here (`recipients.json` in the trust directory). A coordinator could offer a key of its own in place of a
node's. It would have to forge the node's signature, or present another bound key. The bound key of a node that used a
join token of this machine is signed by that token's key, which no coordinator ever had (`fleet.joining`); for any other
node a person compares the fingerprint that the node itself prints (`edge-agent identity`) and accepts it. What neither
says is refused, and what a coordinator presents is in its audit log for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.checkpoint import open_checkpoint, parse_proof
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.joining import check_join
from fleet.keys import read_public_key
from fleet.merkle import leaf_hash, verify_inclusion
from fleet.sealing import fingerprint, open_statement
from fleet.v1 import control_pb2 as pb
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.signing import PublicKey
    from fleet.trust import FleetTrust
    from orchestrator.cli.client import Client
    from orchestrator.cli.trust import TrustDirectory

FILE = "recipients.json"
SCHEMA = "fleet.recipients/v1"
MAX_FILE = 4 << 20
MAX_RECIPIENTS = 100_000
DECLARED = "node:sealing-key:declared"
"""Kind of the leaf that shows a node's statement."""

ENROLLED = "node:identity:enrolled"
"""Kind of the leaf that shows an enrolment, and what the machine said with the key of its join token."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A node whose key has passed the checks.

    Attributes:
        bound_key: id of the key that identifies the node.
        public: X25519 key to seal for.
        agents: that the node is ordered to run.
        joined: whether it is the machine that used the newest join token which was made here for the name.
    """

    node: str
    epoch: int
    bound_key: str
    public: bytes
    agents: tuple[str, ...]
    joined: bool = False

    @property
    def key(self) -> str:
        """Fingerprint of the sealing key."""
        return fingerprint(self.public)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was believed about a node before."""

    bound_key: str
    key: str


def check_recipient(
    client: Client, offered: pb.SealingKey, trust: FleetTrust, token: PublicKey | None = None
) -> Recipient:
    """Check one offered key.

    Args:
        client: shows leaves of the audit log.
        offered: what the coordinator says about a node.
        trust: of the adopted release.
        token: key of the newest join token that was made here for the node's name.

    Checks, in this order:
        1. The node's bound key signed the statement, for this fleet, node and enrolment.
        2. The audit log holds a leaf with this statement of this node: the proof leads to a checkpoint that is signed
           by the log key of the release.
        3. Likewise a leaf with the enrolment, in which the key of the token signed this bound key. Without a token, or
           where another key signed, the recipient has not `joined`, and `compare` is stricter.

    Raises:
        FleetError: SIGNATURE_INVALID, SECRET_INVALID, PROOF_INVALID, LIMIT_EXCEEDED.
    """
    bound_key = read_public_key(offered.bound_key)
    statement = open_statement(  # 1
        offered.statement, fleet=trust.fleet, node=offered.node, epoch=offered.epoch, key=bound_key
    )
    declared = _facts(_proven_leaf(client, offered.proof, trust), DECLARED, offered.node)  # 2
    if declared.get("envelope") != offered.statement.decode():
        raise _unsaid(offered.node)
    joined = token is not None and _has_joined(client, offered, trust, token)  # 3
    return Recipient(offered.node, offered.epoch, bound_key.key_id, statement.key, tuple(offered.agents), joined)


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
    """Whether this key was accepted here before; False for one that is new and the node's own, since it `joined`.

    Raises:
        FleetError: SECRET_INVALID when nothing here says that the key is the node's: the node was set up by somebody
            else, or was enrolled again, or the coordinator stands in its place.
    """
    known = accepted.get(recipient.node)
    if known == Accepted(recipient.bound_key, recipient.key):
        return True
    if recipient.joined:
        return False
    said = (
        "no join token that was made here proves"
        if known is None
        else "another key was accepted here, and nothing proves"
    )
    raise FleetError(
        Code.SECRET_INVALID,
        f"{said} that this key is of {recipient.node}",
        node=recipient.node,
        accepted="" if known is None else known.key,
        shown=recipient.key,
        remedy="Run `edge-agent identity` on the node. If it prints the shown key: "
        f"`fleetctl secret recipients --accept {recipient.node}`; else treat the coordinator as captured.",
    )


def _has_joined(client: Client, offered: pb.SealingKey, trust: FleetTrust, token: PublicKey) -> bool:
    if not offered.join_proof:
        return False
    facts = _facts(_proven_leaf(client, offered.join_proof, trust), ENROLLED, offered.node)
    try:
        check_join(str(facts.get("join", "")).encode(), bound_key=offered.bound_key, key=token)
    except FleetError:
        return False
    return facts.get("epoch") == offered.epoch


def _proven_leaf(client: Client, data: bytes, trust: FleetTrust) -> bytes:
    """Return the leaf that a proof is about, as the log holds it."""
    proof = parse_proof(data)
    checkpoint = open_checkpoint(proof.note, trust.log_vkeys)
    leaf = _leaf(client, proof.index)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    return leaf


def _leaf(client: Client, index: int) -> bytes:
    for entry in client.stream(client.stub.AuditEntries, pb.AuditEntriesRequest(from_index=index), timeout_s=30.0):
        if entry.index == index:
            return entry.leaf
        break
    raise FleetError(Code.PROOF_INVALID, f"the coordinator does not show leaf {index}")


def _facts(leaf: bytes, kind: str, node: str) -> Mapping[str, object]:
    """Return what an event of a node says."""
    try:
        event = json.loads(leaf)
        facts: Mapping[str, object] = event["facts"]
        if (event["kind"], facts["node"]) == (kind, node):
            return facts
    except (ValueError, KeyError, TypeError) as error:
        raise _unsaid(node) from error
    raise _unsaid(node)


def _unsaid(node: str) -> FleetError:
    return FleetError(Code.PROOF_INVALID, f"the log does not hold what {node} is said to have said")
