"""The whole audit log checked leaf by leaf, by somebody who trusts nobody's database.

Owns: `LogCheck`, which is fed every leaf in order and keeps no more than a tree's edge, the rows of `fleet.history` and
the keys that the log itself has shown. What it needs from outside is the pinned root (`fleet.publications`), and
whatever checkpoints others hold: a node, a witness, an earlier check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from fleet.action import ACTION_TYPE, decode_action, open_action
from fleet.assignment import ASSIGNMENT_TYPE, RECEIPT_TYPE, decode_assignment, open_receipt
from fleet.certificates import WITNESS_TYPE, decode_witness, open_witness
from fleet.errors import Code, FleetError
from fleet.history import History, Rows, receipt_of
from fleet.keys import P256PublicKey, read_public_key
from fleet.leaves import ENROLLED, PUBLISHED, RECEIVED, EventLeaf, SignedLeaf, read_leaf
from fleet.merkle import EMPTY_ROOT, Frontier, leaf_hash
from fleet.signing import verify_envelope
from fleet.times import to_ms
from fleet.x509 import certificate_digest, is_issued_by, load_certificate, p256_key_of, uris_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cryptography import x509

    from fleet.checkpoint import Checkpoint, VerifierKey
    from fleet.logs import ClosedLog
    from fleet.publications import Publications
    from fleet.signing import PublicKey, VerifyingKey
    from fleet.witnesses import Cosignature

CERTIFICATE_SHOWN = "operator:certificate:shown"

TOLERANCE_MS = 5 * 60 * 1000
"""How far the clocks of a witness and of who made a leaf may differ: as far as an operator's may from a coordinator's
(`fleet.action.WINDOW`)."""


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
        director_keys: keys that may have signed assignments before the log shows which keys may (`fleet.publications`).
        operator_authorities: certificates that operators' certificates must come from; none: any is believed.
    """

    fleet: str
    director_keys: Sequence[PublicKey]
    operator_authorities: Sequence[x509.Certificate] = ()


class FindingKind(StrEnum):
    """What somebody should look at though the log is whole."""

    LOST = "lost"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not make the log wrong, or cannot be proven to; `leaf` is None where it is about none."""

    kind: FindingKind
    holder: str
    text: str
    leaf: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """The first leaves of a log: their root, and the latest time that one of them claims, with its index."""

    root: bytes
    latest_ms: int
    leaf: int


@dataclass(slots=True)
class LogCheck:
    """Checks a log. Feed it with `add`, then call `finish`, then `compare` with what others hold.

    For each leaf, in this order:
        1. It is a leaf (`fleet.leaves`), and what it says is well-formed.
        2. An assignment is signed by a director key of the publication before it, and for this fleet.
        3. A receipt is signed by the bound key that the log showed for that enrolment of the node.
        4. An operator's action is signed by the key of the certificate that the log showed before, and that comes from
           the operators' authority where it is known.
        5. A witness key is certified by the bound key of its node.
        6. A publication is what its metadata shows, and so are the approvers (`fleet.publications`).

    At the end:
        7. The tree has the size and the root of the checkpoint that the check is about.
        8. Where somebody holds a checkpoint of some size, the tree of that size has its root.
        9. Nobody holds a checkpoint of a larger log. (Of one that is closed, `fleet.logs`, the end is lost.)

    Attributes:
        anchors: what it starts from.
        publications: verifies what the release repository was.
        sizes: trees whose `marks` are kept, to compare them afterwards.
        rows_at: number of leaves after which the rows are kept; below 0: after the last.
        rows: the rows of that moment, rebuilt from the leaves.
        witnesses: witness keys that nodes certified, and whose they are.
        history: rebuilds the rows.
        checked: how many signatures of each kind verified.
        agreed: holders whose checkpoints fit, with their sizes.
        marks: size to what is known of the tree.
    """

    anchors: Anchors
    publications: Publications
    sizes: Collection[int] = ()
    rows_at: int = -1
    rows: Rows = field(default_factory=Rows)
    witnesses: dict[VerifierKey, str] = field(default_factory=dict)
    history: History = field(default_factory=History)
    checked: Counter[str] = field(default_factory=Counter)
    agreed: dict[str, int] = field(default_factory=dict)
    marks: dict[int, Mark] = field(default_factory=dict)
    _tree: Frontier = field(default_factory=Frontier)
    _latest: tuple[int, int] = (0, 0)
    _bound: dict[tuple[str, int], VerifyingKey] = field(default_factory=dict)
    _shown: dict[str, x509.Certificate] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._tree.size

    def add(self, data: bytes) -> EventLeaf | SignedLeaf:
        """Check the next leaf and return it as read.

        Raises:
            FleetError: AUDIT_INVALID with the leaf.
        """
        index = self.size
        try:
            leaf = self.history.apply(index, data)  # 1
            if isinstance(leaf, SignedLeaf):
                self._check_signed(leaf)  # 2, 4, 5
            else:
                self._learn(leaf)  # 3, 6
            at_ms = time_of(leaf) or 0
        except FleetError as error:
            raise FleetError(Code.AUDIT_INVALID, f"{error.code}: {error.private}", leaf=index) from error
        self._tree.append(leaf_hash(data))
        self._latest = max(self._latest, (at_ms, index))
        if self.size == self.rows_at:
            self.rows = self.history.rows()
        if self.size in self.sizes:
            self.marks[self.size] = Mark(self._tree.root(), *self._latest)
        return leaf

    def finish(self, checkpoint: Checkpoint) -> None:
        """Check the whole against the checkpoint that it shall have.

        Raises:
            FleetError: AUDIT_INVALID.
        """
        if (self.size, self._tree.root()) != (checkpoint.size, checkpoint.root):  # 7
            raise FleetError(
                Code.AUDIT_INVALID,
                "the leaves do not give the signed root",
                leaves=self.size,
                size=checkpoint.size,
            )
        if self.rows_at < 0:
            self.rows = self.history.rows()

    def compare(self, held: Iterable[HeldCheckpoint], closed: Sequence[ClosedLog] = ()) -> tuple[Finding, ...]:
        """Compare the log with what others hold; returns what they saw of closed logs and is lost.

        Args:
            held: their checkpoints, verified; the sizes are among `sizes`.
            closed: the logs that this one continues.

        Raises:
            FleetError: LOG_FORKED.
        """
        lost: list[Finding] = []
        for one in held:
            size, rest = one.checkpoint.size, kept_of(one.checkpoint.origin, closed)
            if rest is not None and size > rest:
                text = f"{one.checkpoint.origin} had {size} leaves, of which {rest} went on: the others are lost"
                lost.append(Finding(FindingKind.LOST, one.holder, text))
                continue
            if size > self.size:  # 9
                raise FleetError(
                    Code.LOG_FORKED,
                    f"the log has {self.size} leaves, and {one.holder} has seen {size}",
                    holder=one.holder,
                )
            root = self.marks[size].root if size else EMPTY_ROOT
            if one.checkpoint.root != root:  # 8
                raise FleetError(
                    Code.LOG_FORKED,
                    f"the first {size} leaves are not those that {one.holder} has seen",
                    holder=one.holder,
                    size=size,
                )
            if size:
                self.agreed[one.holder] = max(size, self.agreed.get(one.holder, 0))
        return tuple(lost)

    def _check_signed(self, leaf: SignedLeaf) -> None:
        match leaf.payload_type:
            case t if t == ASSIGNMENT_TYPE:
                newest = self.publications.newest
                keys = self.anchors.director_keys if newest is None else newest.trust.director_keys
                verify_envelope(leaf.envelope, ASSIGNMENT_TYPE, keys)
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
            self._shown[certificate_digest(certificate)] = certificate
        elif leaf.kind == PUBLISHED and self.publications.take(leaf):  # 6
            self.checked["publications"] += 1

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


@dataclass(slots=True)
class Beginning:
    """Finds how a log began up to a moment: its leaves that claim no later time, before the first that does.

    Feed it with every leaf in order. Leaves that claim no time do not count where the first later one follows them:
    they may have come with it.

    Attributes:
        until_ms: the moment.
        size: leaves of that beginning.
        root: its root.
        whole: the tree of all leaves so far.
    """

    until_ms: int
    size: int = 0
    root: bytes = EMPTY_ROOT
    whole: Frontier = field(default_factory=Frontier)
    _ended: bool = False

    def add(self, data: bytes) -> None:
        """Take the next leaf in.

        Raises:
            FleetError: AUDIT_INVALID and what else `fleet.leaves.read_leaf` and the leaf's own form raise.
        """
        self.whole.append(leaf_hash(data))
        at_ms = time_of(read_leaf(data))
        self._ended = self._ended or (at_ms is not None and at_ms > self.until_ms)
        if at_ms is not None and not self._ended:
            self.size, self.root = self.whole.size, self.whole.root()


def time_of(leaf: EventLeaf | SignedLeaf) -> int | None:
    """Return the time that a leaf claims, by its signer's or the coordinator's clock; None where it claims none."""
    if isinstance(leaf, EventLeaf):
        return leaf.at_ms
    match leaf.payload_type:
        case t if t == ASSIGNMENT_TYPE:
            return to_ms(decode_assignment(leaf.payload).issued)
        case t if t == ACTION_TYPE:
            return to_ms(decode_action(leaf.payload).at)
        case _:
            return None


def kept_of(origin: str, closed: Sequence[ClosedLog]) -> int | None:
    """Return how many leaves of a log went on into the present one; None for a log that is not closed."""
    names = [log.origin for log in closed]
    return min(log.size for log in closed[names.index(origin) :]) if origin in names else None


def dated_later(mark: Mark, cosignature: Cosignature) -> bool:
    """Whether a witness had seen a leaf before the time that the leaf claims, by more than clocks may differ."""
    return mark.latest_ms > (cosignature.at_s + 1) * 1000 + TOLERANCE_MS


def _check_issued(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    if authorities and not any(is_issued_by(certificate, authority) for authority in authorities):
        raise FleetError(Code.AUDIT_INVALID, "an operator's certificate that no known authority has signed")


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FleetError(Code.AUDIT_INVALID, "a key is not hexadecimal") from error
