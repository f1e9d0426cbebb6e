"""What must hold of every node whatever anybody does, judged by the ledgers of signatures and by no verification.

Laws:
    1. A node believes only metadata that the required keys signed: each root the one before it, the root the top-level
       roles, the targets role the policy, the code and the grants roles.
    2. It adopted none of it after its expiry, and never goes back to an older version; a restored disk forgets.
    3. What starts was admitted, and was ordered for this enrolment of this node with a key that the release named as
       the director's when the order was accepted.
    4. Its bundle was listed by the code keys and its grant by the grants keys, in what the node believed at that
       moment; and what runs on is listed in what it believes now.
    5. The component is that bundle's, and the authority no more than that grant and the node's ceiling give.
    6. The order is a leaf of the audit log that the node was shown, whose checkpoint was signed by a key that the
       release named as the log's when the order was accepted; and that log is the fleet's own, unless the log's key was
       stolen, and the keys of a quorum of witnesses where the node asked for one.
    7. That log begins with every log that the node was shown before.
    8. A bundle or a grant of the thief's runs only where the thief holds the keys that the role takes, or those that
       name the role's keys.
    9. Where the policy that the node obeyed when the order was accepted asks for witnesses, a quorum of them cosigned.
    10. Nothing runs that the node believes to be revoked: no bundle, no grant, and nothing that was ordered, or proven
        in the log, by revoked keys alone.
    11. What is revoked stays revoked until every key of the policy role was replaced; a restored disk forgets.
    12. Nothing starts under an emergency grant after its end by the node's own clock, and it gives no more, and for no
        longer, than the policy allowed that the node obeyed then. On a node whose clock is right nothing runs on.
    13. Every run stands in the log as a verifier reads it, who takes the whole log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from edge_agent.runtime import AgentStart
from fleet.audit import Anchors, LogCheck
from fleet.checkpoint import Checkpoint
from fleet.grants import Authority
from fleet.publications import Publications
from fleet.revocations import Kind
from fleet.signing import encode_base64
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE, REVOCATIONS_PATH, TRUST_PATH, WITNESS_POLICY_PATH
from tests.fakes.publisher import LOG, key
from tests.model.documents import Bounds, Grant, Revoked, TrustKeys
from tests.model.log import Tree, checkpoint_of, tree_root
from tests.model.node import Admitted, ModelNode
from tests.model.repository import CODE, DELEGATED, GRANTS, POLICY, TARGETS, KeySet, Written

if TYPE_CHECKING:
    from edge_agent.trust_store import Adopted
    from tests.model.world import Order, World

STORE = "wasi:keyvalue/store"
LATEST = timedelta(seconds=5)
"""Time that a node may take to stop what may run no longer."""


@dataclass(frozen=True)
class Beliefs:
    """What a node believes, as the people who wrote it meant it.

    Attributes:
        listed: target path -> digest.
        trust: keys of the director and the log.
        quorum: the witnesses that must have cosigned, if any.
        revoked: what may not run any more.
        policy: who may sign policies.
        bounds: of emergency grants, if there may be any.
    """

    listed: dict[str, str]
    trust: TrustKeys
    quorum: KeySet | None
    revoked: Revoked
    policy: KeySet
    bounds: Bounds | None


@dataclass(frozen=True)
class Accepted:
    """An order that a machine accepted, the tree that it was proven in, and what the machine believed then."""

    order: Order
    index: int
    tree: Tree
    beliefs: Beliefs


class Laws:
    """Judges a fleet."""

    def __init__(self, fleet: World) -> None:
        self._fleet = fleet
        self._seen: dict[tuple[str, str], int] = {}
        self._leaves: dict[str, list[bytes]] = {}
        self._revoked: dict[str, Beliefs] = {}
        self._accepted: dict[tuple[str, bytes, bytes], Accepted] = {}

    def forget(self, node: ModelNode) -> None:
        """A node's disk was restored: it may go back to what was on it."""
        self._seen = {key: version for key, version in self._seen.items() if key[0] != node.machine}
        self._leaves.pop(node.machine, None)
        self._revoked.pop(node.machine, None)

    def copied(self, original: ModelNode, copy: ModelNode) -> None:
        """A machine has the disk of another."""
        for (machine, *of), accepted in list(self._accepted.items()):
            if machine == original.machine:
                self._accepted[copy.machine, of[0], of[1]] = accepted

    def note_acceptance(self, node: ModelNode) -> None:
        """Note what a node believes when it accepts an order."""
        entry = node.ledger.entry
        if entry is None or node.trust.adopted is None:
            return
        what = (node.machine, entry.desired.envelope, entry.desired.proof)
        if what not in self._accepted:
            order = next((o for o in self._fleet.orders if o.desired.envelope == entry.desired.envelope), None)
            assert order is not None, f"{node.machine} accepted an order that nobody signed"
            index, *tree = checkpoint_of(entry.desired.proof)
            self._accepted[what] = Accepted(order, index, (tree[0], tree[1]), self.believed(node, node.trust.adopted))

    def check_start(self, node: ModelNode, start: AgentStart) -> None:
        """Judge an agent that is about to start."""
        self.note_acceptance(node)
        admitted = node.admitted_as(start)
        assert admitted is not None, f"{start.name} starts on {node.machine} and was never admitted"  # 3
        self._check_pair(node, start, admitted, self.believed(node, admitted.adopted))
        self._fleet.runs.append((node.name, admitted.spec.bundle.digest, admitted.spec.grant.digest))

    def check(self) -> None:
        """Judge every node, when all has settled."""
        for node in self._fleet.nodes.values():
            if not node.running or node.trust.adopted is None:
                continue
            believed = self.believed(node, node.trust.adopted)
            self._check_versions(node)
            self._check_revoked(node, believed)
            for start in node.runtime.running.values():
                admitted = node.admitted_as(start)
                assert admitted is not None, f"{start.name} runs on {node.machine} and was never admitted"
                self._check_pair(node, start, admitted, believed)
                self._check_keys(self._in_force(node), believed, f"{start.name} runs on {node.machine}")

    def verify_log(self) -> None:
        """Have a verifier read the fleet's own log, and find every run in it that this log was shown for."""  # 13
        fleet = self._fleet
        if fleet.soiled:
            return  # the verifier refuses the whole log, which is how such a thief is found out
        directors = {name for keys in fleet.documents.trusts.values() for name in keys.directors}
        verifier = LogCheck(
            Anchors("demo", [key(name).public for name in sorted(directors)]), Publications("demo", b"", lambda _: None)
        )
        for leaf in fleet.log.leaves:
            verifier.add(leaf)
        verifier.finish(Checkpoint(LOG, *fleet.log.tree))
        rows = {(row.node, row.bundle_digest, row.grant_digest) for row in verifier.rows.assigned}
        hidden = {leaf for log in fleet.logs[1:] for leaf in log.leaves} - {*fleet.log.leaves}
        elsewhere = {
            (accepted.order.assignment.node, spec.bundle.digest, spec.grant.digest)
            for accepted in self._accepted.values()
            if accepted.order.desired.envelope in hidden
            for spec in accepted.order.assignment.agents
        }
        missing = {*fleet.runs} - rows - elsewhere
        assert not missing, f"the verifier finds no order for {missing}"

    def believed(self, node: ModelNode, adopted: Adopted) -> Beliefs:
        """What a node believes, all of which the required keys signed."""
        ledger, files = self._fleet.repository.ledger, adopted.release.files
        roots = sorted(
            (name for name in files if name.endswith(".root.json")), key=lambda name: int(name.split(".")[0])
        )
        root = ledger.written(files[roots[0]])
        assert files[roots[0]] == self._fleet.pinned, f"{node.machine} begins at another root than its own"
        for name in roots[1:]:
            following = ledger.written(files[name])
            for keys in (root.delegates["root"], following.delegates["root"]):
                self._check_signed(node, following, keys)
            root = following
        found: dict[str, Written] = {}
        for name in sorted(files.keys() - set(roots)):
            written = ledger.written(files[name])
            assert written.role not in found, f"{node.machine} believes two versions of {written.role}"
            found[written.role] = written
        for role in ("timestamp", "snapshot", TARGETS):
            self._check_signed(node, found[role], root.delegates[role])
        for role in DELEGATED:
            self._check_signed(node, found[role], found[TARGETS].delegates[role])
        for written in (root, *found.values()):  # 2
            late = f"{node.machine} adopted {written.role} {written.version} after its expiry"
            assert adopted.adopted_at < written.expires, late
        listed = {path: digest for role in (TARGETS, *DELEGATED) for path, digest in found[role].listing.items()}
        documents = self._fleet.documents
        return Beliefs(
            listed,
            documents.trusts[listed[TRUST_PATH]],
            documents.quorums[listed[WITNESS_POLICY_PATH]] if WITNESS_POLICY_PATH in listed else None,
            documents.revoked[listed[REVOCATIONS_PATH]] if REVOCATIONS_PATH in listed else frozenset(),
            found[TARGETS].delegates[POLICY],
            documents.bounds[listed[BREAK_GLASS_PATH]] if BREAK_GLASS_PATH in listed else None,
        )

    def _check_signed(self, node: ModelNode, written: Written, keys: KeySet) -> None:  # 1
        assert keys.met_by(written.signers), (
            f"{node.machine} believes {written.role} {written.version}, signed by {sorted(written.signers)}"
        )

    def _check_versions(self, node: ModelNode) -> None:  # 2
        assert node.trust.adopted is not None
        for role, version in node.trust.adopted.release.versions.items():
            before = self._seen.get((node.machine, role), 0)
            assert version >= before, f"{node.machine} went back from {role} {before} to {version}"
            self._seen[node.machine, role] = version

    def _check_revoked(self, node: ModelNode, now: Beliefs) -> None:  # 11
        before = self._revoked.get(node.machine)
        if before is not None and not {*before.policy.names}.isdisjoint(now.policy.names):
            lost = before.revoked - now.revoked
            assert not lost, f"{node.machine} believes no more that {sorted(lost)} is revoked"
        self._revoked[node.machine] = now

    def _check_pair(self, node: ModelNode, start: AgentStart, admitted: Admitted, believed: Beliefs) -> None:
        fleet, spec = self._fleet, admitted.spec
        what = f"{start.name} runs on {node.machine}"
        self._check_order(node, admitted, what)  # 3, 6, 9
        for ref, kind in ((spec.bundle, Kind.BUNDLE), (spec.grant, Kind.GRANT)):
            assert believed.listed.get(ref.path) == ref.digest, (  # 4
                f"{what} with {ref.path}, which its role does not list so"
            )
            assert (kind, ref.digest) not in believed.revoked, f"{what} with a revoked {kind}"  # 10
        assert spec.bundle.path.startswith("bundles/"), what
        assert spec.grant.path.startswith("grants/"), what
        bundle, grant = fleet.bundles[spec.bundle.digest], fleet.grants[spec.grant.digest]
        assert start.component_digest == bundle.component, f"{what} with a component of no signed bundle"  # 5
        assert (grant.agent, grant.bundle) == (start.name, bundle.name), f"{what} under a grant for {grant.agent}"
        assert grant.labels.items() <= node.identity.labels.items(), f"{what} under a grant for other nodes"
        self._check_authority(start, grant.buckets & node.ceiling_buckets, what)
        lists = GRANTS if grant.emergency is None else BREAK_GLASS_ROLE
        if grant.emergency is not None:
            self._check_emergency(node, grant, believed.bounds, what)
        for made_by_thief, role in ((bundle.evil, CODE), (grant.evil, lists)):  # 8
            assert not made_by_thief or fleet.thief_may(role), f"{what}: the thief's own, without the keys of {role}"

    def _check_emergency(self, node: ModelNode, grant: Grant, bounds: Bounds | None, what: str) -> None:  # 12
        assert bounds is not None, f"{what} under an emergency grant, which no policy allows"
        assert grant.emergency is not None, what
        assert grant.buckets <= bounds.buckets, f"{what} with {sorted(grant.buckets)} in an emergency"
        assert grant.emergency <= bounds.longest, f"{what} in an emergency of {grant.emergency}"
        late = node.clock.now() - grant.end
        assert node.misled or late < LATEST, f"{what} under an emergency grant that ended {late} ago"

    def _check_authority(self, start: AgentStart, buckets: frozenset[str], what: str) -> None:  # 5
        authority = Authority.decode(start.authority)
        assert authority.capabilities.keys() <= {STORE}, f"{what} with {sorted(authority.capabilities)}"
        given = {bucket for bucket in self._fleet.buckets if authority.allows(STORE, bucket=bucket, op="set")}
        assert given <= buckets, f"{what} with {sorted(given)}, granted {sorted(buckets)}"

    def _in_force(self, node: ModelNode) -> Accepted:
        entry = node.ledger.entry
        assert entry is not None, f"{node.machine} runs something and has no order"
        return self._accepted[node.machine, entry.desired.envelope, entry.desired.proof]

    def _check_order(self, node: ModelNode, admitted: Admitted, what: str) -> None:
        fleet, accepted = self._fleet, self._in_force(node)
        ordered = [
            each.order
            for (machine, *_), each in self._accepted.items()
            if machine == node.machine
            and admitted.spec in each.order.assignment.agents
            and (each.order.assignment.node, each.order.assignment.epoch) == (node.name, node.identity.epoch)
            and each.order.signer in each.beliefs.trust.directors
        ]
        assert ordered, f"{what}, and no director ordered it there"  # 3
        (size, root), index = accepted.tree, accepted.index  # 6
        logs = [log for log in fleet.logs if len(log.leaves) >= size and tree_root(log.leaves[:size]) == root]
        assert logs, f"{what} by a checkpoint of no log: {encode_base64(root)}"
        assert logs[0].leaves[index] == accepted.order.desired.envelope, f"{what} by an order that is not in the log"
        shown, before = logs[0].leaves[:size], self._leaves.get(node.machine, [])  # 7
        common = min(len(shown), len(before))
        assert shown[:common] == before[:common], f"{what} by a log that forgot what {node.machine} was shown"
        self._leaves[node.machine] = max(shown, before, key=len)
        quorum, cosigned = accepted.beliefs.quorum, fleet.testimony.cosigned[accepted.tree]
        assert quorum is None or quorum.met_by(cosigned), f"{what}, and no quorum of witnesses saw it"  # 9
        thief_may = fleet.thief_may("log") and (quorum is None or fleet.thief_may("witnesses"))
        assert fleet.log in logs or thief_may, f"{what} by an order that the fleet's log does not hold"
        self._check_keys(accepted, accepted.beliefs, what)

    def _check_keys(self, accepted: Accepted, believed: Beliefs, what: str) -> None:
        """Not one key is left that both sealed the order and counted when it was accepted: what then is revoked."""
        revoked, trust = believed.revoked, accepted.beliefs.trust
        assert (Kind.DIRECTOR_KEY, accepted.order.signer) not in revoked, f"{what} by order of a revoked key"  # 10
        signers = self._fleet.testimony.signed[accepted.tree].intersection(trust.logs)
        assert signers, f"{what} by a checkpoint of no key of the log"  # 6
        assert any((Kind.LOG_KEY, name) not in revoked for name in signers), f"{what} by a log with a revoked key"  # 10
