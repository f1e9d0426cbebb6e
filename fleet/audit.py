"""The whole audit log checked leaf by leaf, by somebody who trusts nobody's database.

Owns: `LogCheck`, which is fed every leaf in order and keeps no more than a tree's edge, the rows of `fleet.history` and
the keys that the log itself has shown. What it needs from outside is the fleet's trust document, and whatever
checkpoints others hold: a node, a witness, an earlier check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization

from fleet.action import ACTION_TYPE, decode_action, open_action
from fleet.assignment import ASSIGNMENT_TYPE, RECEIPT_TYPE, decode_assignment, open_receipt
from fleet.certificates import WITNESS_TYPE, decode_witness, open_witness
from fleet.errors import Code, FleetError
from fleet.history import History, Rows, receipt_of
from fleet.keys import P256PublicKey, read_public_key
from fleet.leaves import ENROLLED, RECEIVED, EventLeaf, SignedLeaf
from fleet.merkle import EMPTY_ROOT, Frontier, leaf_hash
from fleet.signing import verify_envelope
from fleet.x509 import is_issued_by, load_certificate, p256_key_of, uris_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography import x509

    from fleet.checkpoint import Checkpoint, VerifierKey
    from fleet.signing import PublicKey, VerifyingKey

CERTIFICATE_SHOWN = "operator:certificate:shown"


@dataclass(frozen=True, slots=True)
class HeldCheckpoint:
    """A verified checkpoint and whose it is, for messages."""

    checkpoint: Checkpoint
    holder: str


@dataclass(frozen=True, slots=True)
class Anchors:
    """What the check starts from.

    Attributes:
        fleet: name of the fleet.
        director_keys: keys that may have signed assignments.
        operator_authorities: certificates that operators' certificates must come from; none: any is believed.
    """

    fleet: str
    director_keys: Sequence[PublicKey]
    operator_authorities: Sequence[x509.Certificate] = ()


@dataclass(slots=True)
class LogCheck:
    """Checks a log. Feed it with `add`, then call `finish`.

    For each leaf, in this order:
        1. It is a leaf (`fleet.leaves`), and what it says is well-formed.
        2. An assignment is signed by a director key, and for this fleet.
        3. A receipt is signed by the bound key that the log showed for that enrolment of the node.
        4. An operator's action is signed by the key of the certificate that the log showed before, and that comes from
           the operators' authority where it is known.
        5. A witness key is certified by the bound key of its node.
        6. Where somebody holds a checkpoint of this size, the tree has its root.

    At the end:
        7. The tree has the size and the root of the checkpoint that the check is about.
        8. Nobody holds a checkpoint of a larger log.

    Attributes:
        anchors: what it starts from.
        rows_at: number of leaves after which the rows are kept; below 0: after the last.
        rows: the rows of that moment, rebuilt from the leaves.
        witnesses: witness keys that nodes certified, and whose they are.
        history: rebuilds the rows.
        checked: how many signatures of each kind verified.
        agreed: holders whose checkpoints fit, with their sizes.
    """

    anchors: Anchors
    held: Mapping[int, Sequence[HeldCheckpoint]]
    rows_at: int = -1
    rows: Rows = field(default_factory=Rows)
    witnesses: dict[VerifierKey, str] = field(default_factory=dict)
    history: History = field(default_factory=History)
    checked: Counter[str] = field(default_factory=Counter)
    agreed: dict[str, int] = field(default_factory=dict)
    _tree: Frontier = field(default_factory=Frontier)
    _bound: dict[tuple[str, int], VerifyingKey] = field(default_factory=dict)
    _shown: dict[str, x509.Certificate] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._tree.size

    def add(self, data: bytes) -> EventLeaf | SignedLeaf:
        """Check the next leaf and return it as read.

        Raises:
            FleetError: AUDIT_INVALID with the leaf; LOG_FORKED for check 6.
        """
        index = self.size
        try:
            leaf = self.history.apply(index, data)  # 1
            if isinstance(leaf, SignedLeaf):
                self._check_signed(leaf)  # 2, 4, 5
            else:
                self._learn(leaf)
        except FleetError as error:
            raise FleetError(Code.AUDIT_INVALID, f"{error.code}: {error.private}", leaf=index) from error
        self._tree.append(leaf_hash(data))
        if self.size == self.rows_at:
            self.rows = self.history.rows()
        self._compare()  # 6
        return leaf

    def finish(self, checkpoint: Checkpoint) -> None:
        """Check the whole against the checkpoint that it shall have.

        Raises:
            FleetError: AUDIT_INVALID, LOG_FORKED.
        """
        if (self.size, self._tree.root()) != (checkpoint.size, checkpoint.root):  # 7
            raise FleetError(
                Code.AUDIT_INVALID,
                "the leaves do not give the signed root",
                leaves=self.size,
                size=checkpoint.size,
            )
        larger = [held for size, several in self.held.items() if size > self.size for held in several]
        if larger:  # 8
            raise FleetError(
                Code.LOG_FORKED,
                f"the log has {self.size} leaves, and {larger[0].holder} has seen {larger[0].checkpoint.size}",
                holder=larger[0].holder,
            )
        if self.rows_at < 0:
            self.rows = self.history.rows()

    def _compare(self) -> None:
        if self.size not in self.held:
            return
        root = self._tree.root()
        for held in self.held[self.size]:
            if held.checkpoint.root != root:
                raise FleetError(
                    Code.LOG_FORKED,
                    f"the first {self.size} leaves are not those that {held.holder} has seen",
                    holder=held.holder,
                    size=self.size,
                )
            self.agreed[held.holder] = self.size

    def _check_signed(self, leaf: SignedLeaf) -> None:
        match leaf.payload_type:
            case t if t == ASSIGNMENT_TYPE:
                verify_envelope(leaf.envelope, ASSIGNMENT_TYPE, self.anchors.director_keys)
                if decode_assignment(leaf.payload).fleet != self.anchors.fleet:
                    raise FleetError(Code.ASSIGNMENT_WRONG_NODE, "an assignment of another fleet")
                self.checked["assignments"] += 1
            case t if t == ACTION_TYPE:
                self._check_action(leaf)
                self.checked["actions"] += 1
            case t if t == WITNESS_TYPE:
                claimed = decode_witness(leaf.payload)
                key = self._key(claimed.node, claimed.epoch)
                open_witness(leaf.envelope, fleet=self.anchors.fleet, node=claimed.node, epoch=claimed.epoch, key=key)
                self.witnesses[claimed.key] = claimed.node
                self.checked["witness keys"] += 1
            case t if t == RECEIPT_TYPE:
                raise FleetError(Code.AUDIT_INVALID, "a receipt that does not say when it came")
            case other:
                raise FleetError(Code.AUDIT_INVALID, f"nothing is known of {other}")

    def _learn(self, leaf: EventLeaf) -> None:
        if leaf.kind == ENROLLED:
            key = read_public_key(_unhex(leaf.text("public_key")))
            if key.key_id != leaf.text("bound_key"):
                raise FleetError(Code.AUDIT_INVALID, "a bound key under another id")
            self._bound[leaf.text("node"), leaf.number("epoch")] = key
        elif leaf.kind == RECEIVED:
            claimed, envelope = receipt_of(leaf), leaf.text("envelope").encode()
            key = self._key(claimed.node, claimed.epoch)
            open_receipt(envelope, fleet=self.anchors.fleet, node=claimed.node, epoch=claimed.epoch, key=key)  # 3
            self.checked["receipts"] += 1
        elif leaf.kind == CERTIFICATE_SHOWN:
            certificate = load_certificate(leaf.text("certificate").encode(), Code.AUDIT_INVALID)
            _check_issued(certificate, self.anchors.operator_authorities)
            self._shown[f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"] = certificate

    def _check_action(self, leaf: SignedLeaf) -> None:
        claimed = decode_action(leaf.payload)
        certificate = self._shown.get(claimed.certificate)
        if certificate is None:
            raise FleetError(Code.AUDIT_INVALID, "an action under a certificate that was not shown before")
        public = p256_key_of(certificate, Code.AUDIT_INVALID)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        wanted = f"spiffe://{self.anchors.fleet}/user/{claimed.operator}"
        if wanted not in uris_of(certificate, Code.AUDIT_INVALID):
            raise FleetError(Code.AUDIT_INVALID, f"the certificate is not that of {claimed.operator}")
        open_action(
            leaf.envelope,
            fleet=self.anchors.fleet,
            operator=claimed.operator,
            certificate=claimed.certificate,
            key=P256PublicKey(public.public_bytes(serialization.Encoding.DER, form)),
        )

    def _key(self, node: str, epoch: int) -> VerifyingKey:
        key = self._bound.get((node, epoch))
        if key is None:
            raise FleetError(Code.AUDIT_INVALID, f"the log does not show epoch {epoch} of {node}")
        return key


def group_held(held: Iterable[HeldCheckpoint]) -> dict[int, list[HeldCheckpoint]]:
    """Sort checkpoints by their size; those of an empty log say nothing but that its root is the empty one.

    Raises:
        FleetError: LOG_FORKED for another root of an empty log.
    """
    grouped: dict[int, list[HeldCheckpoint]] = {}
    for one in held:
        if one.checkpoint.size:
            grouped.setdefault(one.checkpoint.size, []).append(one)
        elif one.checkpoint.root != EMPTY_ROOT:
            raise FleetError(Code.LOG_FORKED, "a log without leaves has one root only", holder=one.holder)
    return grouped


def _check_issued(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    if authorities and not any(is_issued_by(certificate, authority) for authority in authorities):
        raise FleetError(Code.AUDIT_INVALID, "an operator's certificate that no known authority has signed")


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FleetError(Code.AUDIT_INVALID, "a key is not hexadecimal") from error
