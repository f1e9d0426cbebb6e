"""What trust costs: publishing a release, verifying one on a node, signing orders for a large fleet.

    python -m bench.trust [--rounds 30] [--nodes 10000]

The release is a production one, with a bundle and a grant that two approvers signed. Cold is a node that has nothing
but its pinned root; warm is one that has adopted the same release and is offered a new timestamp. Both verify the
release, the order with its proof from the audit log, the bundle's documents and the grant. References: python-tuf's
public interface over the same files, for the release alone; and as many raw Ed25519 signatures. Prints rows
(`bench.measure`).
"""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from bench.measure import compare, emit, median
from fleet.assignment import encode_assignment, open_assignment, sign_assignment
from fleet.bundle import digest_of, open_bundle
from fleet.errors import Code, FleetError
from fleet.grants import parse_grant
from fleet.model import AssignedAgent, Assignment, TargetRef
from fleet.release import add_target, publish
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile, open_fleet_trust, open_release
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, Publisher, key

if TYPE_CHECKING:
    from collections.abc import Mapping

AGENT = "app/one"


class Scene:
    """A published fleet of one agent, and everything that a node is sent."""

    def __init__(self) -> None:
        self.world = FleetWorld(Publisher(Profile.PRODUCTION))
        self.built = bundle("one", "1.0.0", models={"m": b"weights"})
        self.agent = self.world.release(self.built, "one", grant(AGENT, "one"), AGENT)
        self.publisher = self.world.publisher
        self.root, self.files = self.publisher.root, dict(self.publisher.files)
        self.desired = self.world.assign(self.agent)
        self.newer = publish(self.files, self.publisher.keys, NOW)

    def read(self, digest: str, _limit: int = 0) -> bytes:
        """A stored document."""
        if digest not in self.world.blobs:
            raise FleetError(Code.BLOB_MISSING, "not stored", digest=digest)
        return self.world.blobs[digest]

    def verify(self, files: Mapping[str, bytes], previous: Mapping[str, bytes] | None) -> None:
        """Everything between what a coordinator sends and the authority of the agent."""
        release = open_release(files, root=self.root, now=NOW, previous=previous, allow_dev=False)
        fleet = open_fleet_trust(release, self.read(release.target(TRUST_PATH).digest))
        verified = open_assignment(self.desired, fleet, node="node-1", epoch=1, now=NOW)
        (agent,) = verified.assignment.agents
        for ref in (agent.bundle, agent.grant):
            release.target(ref.path).check(self.read(ref.digest))
        open_bundle(self.read(agent.bundle.digest), self.read)
        parse_grant(self.read(agent.grant.digest), agent.grant.path)

    def verify_by_python_tuf(self, files: Mapping[str, bytes]) -> None:
        """The signatures and versions of the release alone, with python-tuf's public interface."""
        root = Metadata[Root].from_bytes(self.root)
        root.verify_delegate(Root.type, root)
        timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"])
        root.verify_delegate(Timestamp.type, timestamp)
        name = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        timestamp.signed.snapshot_meta.verify_length_and_hashes(files[name])
        snapshot = Metadata[Snapshot].from_bytes(files[name])
        root.verify_delegate(Snapshot.type, snapshot)
        top: Metadata[Targets] | None = None
        for role, meta in sorted(snapshot.signed.meta.items(), key=lambda item: item[0] != "targets.json"):
            data = files[f"{meta.version}.{role}"]
            meta.verify_length_and_hashes(data)
            targets = Metadata[Targets].from_bytes(data)
            (top or root).verify_delegate(role.removesuffix(".json"), targets)
            top = top or targets


def measure(rounds: int, nodes: int) -> None:
    scene, signer = Scene(), key("director")
    keys, files = scene.publisher.keys, scene.files
    message = bytes(512)

    def signatures(count: int) -> None:
        for _ in range(count):
            signer.sign(message)

    index = scene.built.index
    compare(
        "sign a bundle into its role",
        lambda i: add_target(files, keys, bundle_path("one", f"2.{i}.0"), index, {}, NOW),
        lambda _: signatures(1),
        rounds,
    )
    document = grant(AGENT, "one")
    compare(
        "approve a grant, three approvers",
        lambda i: add_target(files, keys, grant_path(AGENT, i + 2), document, {}, NOW),
        lambda _: signatures(3),
        rounds,
    )
    compare("publish", lambda _: publish(files, keys, NOW), lambda _: signatures(2), rounds)
    compare(
        "node, cold: release, order, bundle, grant",
        lambda _: scene.verify(files, None),
        lambda _: scene.verify_by_python_tuf(files),
        rounds,
    )
    compare(
        "node, warm: the same after a new timestamp",
        lambda _: scene.verify(scene.newer, files),
        lambda _: scene.verify_by_python_tuf(scene.newer),
        rounds,
    )
    measure_orders(scene, nodes)


def measure_orders(scene: Scene, nodes: int) -> None:
    """Sign an order for every node of a fleet, and as many raw signatures over the same payloads."""
    signer, until = key("director"), NOW + timedelta(days=30)
    digest = digest_of(b"")
    agents = (AssignedAgent(AGENT, TargetRef(scene.agent.bundle.path, digest), scene.agent.grant),)
    orders = [Assignment("demo", f"node-{number}", 1, 7, NOW, until, agents) for number in range(nodes)]
    payload = encode_assignment(orders[0])
    ours, raw = [], []
    for _ in range(3):
        begin = time.perf_counter()
        for order in orders:
            sign_assignment(order, signer)
        middle = time.perf_counter()
        for _ in orders:
            signer.sign(payload)
        ours.append(middle - begin)
        raw.append(time.perf_counter() - middle)
    emit(median(f"{nodes:,} orders encoded and signed", "s", ours, raw))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=10_000)
    options = parser.parse_args()
    measure(options.rounds, options.nodes)
