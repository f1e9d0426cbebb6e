"""What must hold of every node whatever anybody does, judged by the ledger of signatures and by no verification.

Laws:
    1. A node believes only metadata that the required keys signed: each root the one before it, the root the top-level
       roles, the targets role the code and the grants roles.
    2. It adopted none of it after its expiry, and never goes back to an older version; a restored disk forgets.
    3. What starts was admitted, and was ordered for this node by somebody with the director's key.
    4. Its bundle was listed by the code keys and its grant by the grants keys, in what the node believed at that
       moment; and what runs on is listed in what it believes now.
    5. The component is that bundle's, and the authority no more than that grant and the node's ceiling give.
    6. The order is a leaf of the audit log that the node was shown, and that log is the fleet's own unless the log's
       key was stolen.
    7. That log begins with every log that the node was shown before.
    8. A bundle or a grant of the thief's runs only where the thief holds the keys that the role takes, or those that
       name the role's keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runtime import AgentStart
from fleet.grants import Authority
from fleet.signing import encode_base64
from tests.model.node import Admitted, ModelNode
from tests.model.repository import CODE, GRANTS, TARGETS, KeySet, Written, checkpoint_of, tree_root

if TYPE_CHECKING:
    from edge_agent.trust_store import Adopted
    from tests.model.fleet import ModelFleet

STORE = "wasi:keyvalue/store"


class Laws:
    """Judges a fleet."""

    def __init__(self, fleet: ModelFleet) -> None:
        self._fleet = fleet
        self._seen: dict[tuple[str, str], int] = {}
        self._leaves: dict[str, list[bytes]] = {}

    def forget(self, node: str) -> None:
        """A node's disk was restored: it may go back to what was on it."""
        self._seen = {key: version for key, version in self._seen.items() if key[0] != node}
        self._leaves.pop(node, None)

    def check_start(self, node: ModelNode, start: AgentStart) -> None:
        """Judge an agent that is about to start."""
        admitted = node.admitted_as(start)
        assert admitted is not None, f"{start.name} starts on {node.name} and was never admitted"  # 3
        self._check_pair(node, start, admitted, self.believed(node, admitted.adopted))
        self._fleet.runs.append((node.name, admitted.spec.bundle.digest, admitted.spec.grant.digest))

    def check(self) -> None:
        """Judge every node, when all has settled."""
        for node in self._fleet.nodes.values():
            if not node.running or node.trust.adopted is None:
                continue
            believed = self.believed(node, node.trust.adopted)
            self._check_versions(node)
            for start in node.runtime.running.values():
                admitted = node.admitted_as(start)
                assert admitted is not None, f"{start.name} runs on {node.name} and was never admitted"
                self._check_pair(node, start, admitted, believed)

    def believed(self, node: ModelNode, adopted: Adopted) -> dict[str, str]:
        """Target path -> digest of everything that the required keys signed in what a node adopted."""
        ledger, files = self._fleet.repository.ledger, adopted.release.files
        roots = sorted(
            (name for name in files if name.endswith(".root.json")), key=lambda name: int(name.split(".")[0])
        )
        root = ledger.written(files[roots[0]])
        assert files[roots[0]] == self._fleet.pinned, f"{node.name} begins at another root than its own"
        for name in roots[1:]:
            following = ledger.written(files[name])
            for keys in (root.delegates["root"], following.delegates["root"]):
                self._check_signed(node, following, keys)
            root = following
        found: dict[str, Written] = {}
        for name in sorted(files.keys() - set(roots)):
            written = ledger.written(files[name])
            assert written.role not in found, f"{node.name} believes two versions of {written.role}"
            found[written.role] = written
        for role in ("timestamp", "snapshot", TARGETS):
            self._check_signed(node, found[role], root.delegates[role])
        for role in (CODE, GRANTS):
            self._check_signed(node, found[role], found[TARGETS].delegates[role])
        for written in (root, *found.values()):  # 2
            late = f"{node.name} adopted {written.role} {written.version} after its expiry"
            assert adopted.adopted_at < written.expires, late
        return {path: digest for role in (CODE, GRANTS) for path, digest in found[role].listing.items()}

    def _check_signed(self, node: ModelNode, written: Written, keys: KeySet) -> None:  # 1
        assert keys.met_by(written.signers), (
            f"{node.name} believes {written.role} {written.version}, signed by {sorted(written.signers)}"
        )

    def _check_versions(self, node: ModelNode) -> None:  # 2
        assert node.trust.adopted is not None
        for role, version in node.trust.adopted.release.versions.items():
            before = self._seen.get((node.name, role), 0)
            assert version >= before, f"{node.name} went back from {role} {before} to {version}"
            self._seen[node.name, role] = version

    def _check_pair(self, node: ModelNode, start: AgentStart, admitted: Admitted, believed: dict[str, str]) -> None:
        fleet, spec = self._fleet, admitted.spec
        what = f"{start.name} runs on {node.name}"
        self._check_order(node, admitted, what)  # 3, 6
        for ref in (spec.bundle, spec.grant):  # 4
            assert believed.get(ref.path) == ref.digest, f"{what} with {ref.path}, which its role does not list so"
        assert spec.bundle.path.startswith("bundles/"), what
        assert spec.grant.path.startswith("grants/"), what
        bundle, grant = fleet.bundles[spec.bundle.digest], fleet.grants[spec.grant.digest]
        assert start.component_digest == bundle.component, f"{what} with a component of no signed bundle"  # 5
        assert (grant.agent, grant.bundle) == (start.name, bundle.name), f"{what} under a grant for {grant.agent}"
        assert grant.labels.items() <= node.identity.labels.items(), f"{what} under a grant for other nodes"
        self._check_authority(start, grant.buckets & node.ceiling_buckets, what)
        for made_by_thief, role in ((bundle.evil, CODE), (grant.evil, GRANTS)):  # 8
            assert not made_by_thief or fleet.thief_may(role), f"{what}: the thief's own, without the keys of {role}"

    def _check_authority(self, start: AgentStart, buckets: frozenset[str], what: str) -> None:  # 5
        authority = Authority.decode(start.authority)
        assert authority.capabilities.keys() <= {STORE}, f"{what} with {sorted(authority.capabilities)}"
        given = {bucket for bucket in self._fleet.buckets if authority.allows(STORE, bucket=bucket, op="set")}
        assert given <= buckets, f"{what} with {sorted(given)}, granted {sorted(buckets)}"

    def _check_order(self, node: ModelNode, admitted: Admitted, what: str) -> None:
        fleet = self._fleet
        orders = [
            order for order in fleet.orders if order.node == node.name and admitted.spec in order.agents and order.sound
        ]
        assert orders, f"{what}, and no director ordered it there"  # 3
        entry = node.ledger.entry
        assert entry is not None, what
        index, size, root = checkpoint_of(entry.desired.proof)  # 6
        logs = [log for log in fleet.logs if len(log.leaves) >= size and tree_root(log.leaves[:size]) == root]
        assert logs, f"{what} by a checkpoint of no log: {encode_base64(root)}"
        assert logs[0].leaves[index] == entry.desired.envelope, f"{what} by an order that is not in the log"
        shown, before = logs[0].leaves[:size], self._leaves.get(node.name, [])  # 7
        common = min(len(shown), len(before))
        assert shown[:common] == before[:common], f"{what} by a log that forgot what {node.name} was shown"
        self._leaves[node.name] = max(shown, before, key=len)
        assert fleet.log in logs or fleet.thief_may("log"), f"{what} by an order that the fleet's log does not hold"
