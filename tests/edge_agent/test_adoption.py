"""From the network or from disk to the supervisor: what is verified, fetched, refused, kept."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.adoption import Adoption, Stores
from edge_agent.blobs import Blobs
from edge_agent.disk import LocalDisk, replace_file
from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.supervision import Accepted
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.errors import Code, FleetError
from fleet.model import DesiredState, TargetRef
from fleet.oci import digest_of
from fleet.trust import FleetTrust
from tests.fakes.clock import VirtualClock
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, key

IDENTITY = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:2", "00" * 32)


@dataclass
class NodeUnderTest:
    """The stores of one node; `start` is what switching it on does."""

    folder: Path
    world: FleetWorld = field(default_factory=FleetWorld)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOW))
    accepted: list[Accepted] = field(default_factory=list)
    reconsidered: int = 0

    def __post_init__(self) -> None:
        replace_file(LocalDisk(), self.folder / "trust" / "root.json", self.world.publisher.root)
        self.start()

    def start(self) -> None:
        disk = LocalDisk()
        self.trust = TrustStore(disk, self.folder / "trust", allow_dev_profile=True)
        self.ledger = Ledger(disk, self.folder / "ledger")
        self.blobs = Blobs(disk, self.folder / "blobs", 10**6)
        self.journal = Journal("node-1", 500)
        self.witness = Witness(disk, self.folder, IDENTITY, self.fleet_trust, self.journal, self.clock)
        stores = Stores(self.trust, self.ledger, self.blobs, self.witness)
        self.adoption = Adoption(IDENTITY, stores, self.accepted.append, self.count, self.journal, self.clock)
        self.adoption.boot()

    def fleet_trust(self) -> FleetTrust | None:
        return None if self.trust.adopted is None else self.trust.adopted.fleet

    def count(self) -> None:
        self.reconsidered += 1

    async def accept(self, desired: DesiredState) -> Code | None:
        try:
            await self.adoption.accept(desired, self.world)
        except FleetError as error:
            return error.code
        return None

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.take_events(100, NOW)]


@pytest.fixture
def node(tmp_path: Path) -> NodeUnderTest:
    return NodeUnderTest(tmp_path)


async def test_a_desired_state_is_verified_fetched_written_and_handed_over(node: NodeUnderTest) -> None:
    assert node.adoption.trust_digest() == ""
    agent = node.world.agent()
    assert await node.accept(node.world.assign(agent)) is None
    assert [accepted.agents for accepted in node.accepted] == [(agent,)]
    assert node.ledger.entry is not None
    assert node.accepted[0].digest == node.ledger.entry.digest
    assert node.blobs.has(agent.bundle.digest)
    assert node.kinds() == ["trust:release:adopted", "assignment:desired:accepted"]
    assert node.trust.adopted is not None
    assert node.adoption.trust_digest() == digest_of(node.trust.adopted.documents["trust/fleet.json"])


async def test_without_any_network_the_same_comes_back_from_disk_years_later(node: NodeUnderTest) -> None:
    await node.accept(node.world.assign(node.world.agent()))
    node.clock.wall += timedelta(days=3_650)
    node.world.fetched.clear()
    node.start()
    assert node.accepted[1] == node.accepted[0]
    assert node.world.fetched == []


async def test_a_clock_without_battery_changes_nothing_at_boot(node: NodeUnderTest) -> None:
    await node.accept(node.world.assign(node.world.agent()))
    node.clock.wall -= timedelta(days=20_000)
    node.start()
    assert node.accepted[1] == node.accepted[0]


async def test_nothing_is_fetched_twice(node: NodeUnderTest) -> None:
    agent = node.world.agent()
    await node.accept(node.world.assign(agent))
    node.world.fetched.clear()
    await node.accept(node.world.assign(agent, generation=2))
    assert node.world.fetched == []


async def test_the_release_is_fetched_when_the_adopted_one_lacks_a_document(node: NodeUnderTest) -> None:
    first = node.world.agent("app/one")
    await node.accept(node.world.assign(first))
    second = node.world.agent("app/two")
    assert await node.accept(node.world.assign(first, second, generation=2)) is None
    assert node.world.fetched.count("trust") == 2


async def test_a_document_that_nobody_signed_is_not_fetched_and_left_to_admission(node: NodeUnderTest) -> None:
    agent = node.world.agent()
    forged = replace(agent, grant=TargetRef(agent.grant.path, node.world.put(grant("app/one", "one", labels="{a: b}"))))
    unknown = replace(agent, bundle=TargetRef("bundles/default/evil/1.0.0.json", agent.bundle.digest))
    for generation, refused in enumerate((forged, unknown), start=1):
        assert await node.accept(node.world.assign(refused, generation=generation)) is None
        assert not any(node.blobs.has(digest) for digest in (refused.bundle.digest, refused.grant.digest))
    await node.adoption.repair(node.world)
    assert not node.blobs.has(agent.bundle.digest)


async def test_a_withdrawn_grant_holds_up_no_other_agent(node: NodeUnderTest) -> None:
    withdrawn, other = node.world.agent("app/one"), node.world.agent("app/two")
    node.world.publisher.remove(withdrawn.grant.path)
    node.world.publisher.publish()
    assert await node.accept(node.world.assign(withdrawn, other)) is None
    assert [accepted.agents for accepted in node.accepted] == [(withdrawn, other)]
    assert node.blobs.has(other.grant.digest)
    assert not node.blobs.has(withdrawn.grant.digest)


async def test_another_director_is_refused(node: NodeUnderTest) -> None:
    node.world.director = key("somebody")
    assert await node.accept(node.world.assign(node.world.agent())) is Code.SIGNATURE_INVALID


async def test_an_order_for_another_node_or_epoch_is_refused(node: NodeUnderTest) -> None:
    assert await node.accept(node.world.assign(node.world.agent(), epoch=2)) is Code.ASSIGNMENT_WRONG_NODE


async def test_an_expired_order_is_refused(node: NodeUnderTest) -> None:
    desired = node.world.assign(node.world.agent(), now=NOW - timedelta(days=40))
    assert await node.accept(desired) is Code.ASSIGNMENT_EXPIRED


async def test_generations_only_go_up(node: NodeUnderTest) -> None:
    agent, other = node.world.agent("app/one"), node.world.agent("app/two")
    await node.accept(node.world.assign(agent, generation=5))
    assert await node.accept(node.world.assign(agent, generation=4)) is Code.GENERATION_STALE
    assert await node.accept(node.world.assign(other, generation=5)) is Code.GENERATION_CONFLICT
    assert len(node.accepted) == 1
    assert not node.blobs.has(other.bundle.digest)  # nothing is fetched for what is refused


async def test_the_same_order_again_changes_nothing(node: NodeUnderTest) -> None:
    desired = node.world.assign(node.world.agent())
    assert [await node.accept(desired) for _ in range(3)] == [None] * 3
    assert len(node.accepted) == 1


async def test_an_older_release_is_refused_even_when_the_coordinator_offers_it(node: NodeUnderTest) -> None:
    old = dict(node.world.publisher.files)
    agent = node.world.agent()
    await node.accept(node.world.assign(agent))
    node.world.withheld = old
    with pytest.raises(FleetError) as caught:
        await node.adoption.refresh(node.world)
    assert caught.value.code is Code.TRUST_ROLLBACK


async def test_an_unchanged_release_counts_as_fresh_again(node: NodeUnderTest) -> None:
    await node.accept(node.world.assign(node.world.agent()))
    node.clock.wall += timedelta(hours=1)
    await node.adoption.refresh(node.world)
    assert node.trust.adopted is not None
    assert node.trust.adopted.adopted_at == NOW + timedelta(hours=1)
    assert node.reconsidered == 2


async def test_a_transfer_that_breaks_leaves_the_old_order_in_force(node: NodeUnderTest) -> None:
    agent = node.world.agent("app/one")
    await node.accept(node.world.assign(agent))
    other = node.world.agent("app/two")
    node.world.cut_after[other.bundle.digest] = 10
    desired = node.world.assign(other, generation=2)
    assert await node.accept(desired) is Code.UNAVAILABLE
    assert len(node.accepted) == 1
    assert await node.accept(desired) is None
    assert [accepted.generation for accepted in node.accepted] == [1, 2]


async def test_files_of_the_last_two_orders_stay_and_older_ones_go(node: NodeUnderTest) -> None:
    agents = [node.world.agent(f"app/{name}") for name in ("one", "two", "three")]
    for generation, agent in enumerate(agents, start=1):
        await node.accept(node.world.assign(agent, generation=generation))
    assert [node.blobs.has(agent.grant.digest) for agent in agents] == [False, True, True]


async def test_what_was_lost_is_fetched_again(node: NodeUnderTest) -> None:
    built = bundle("one", "1.0.0", models={"anomaly": b"weights"})
    agent = node.world.release(built, "one", grant("app/one", "one"), "app/one")
    await node.accept(node.world.assign(agent))
    for digest in (agent.bundle.digest, *built.blobs):
        node.blobs.path(digest).unlink()
    await node.adoption.repair(node.world)
    for digest in (agent.bundle.digest, *built.blobs):
        assert node.blobs.path(digest)


async def test_admission_is_asked_again_after_a_repair(node: NodeUnderTest) -> None:
    agent = node.world.agent()
    await node.accept(node.world.assign(agent))
    node.blobs.path(agent.grant.digest).unlink()
    before = node.reconsidered
    await node.adoption.repair(node.world)
    assert node.reconsidered == before + 1


async def test_what_cannot_be_repaired_for_one_agent_holds_up_no_other(node: NodeUnderTest) -> None:
    first, second = node.world.agent("app/one"), node.world.agent("app/two")
    await node.accept(node.world.assign(first, second))
    for agent in (first, second):
        node.blobs.path(agent.grant.digest).unlink()
    node.world.spoiled.add(first.grant.digest)
    with pytest.raises(FleetError) as caught:
        await node.adoption.repair(node.world)
    assert caught.value.code is Code.DIGEST_MISMATCH
    assert (node.blobs.has(first.grant.digest), node.blobs.has(second.grant.digest)) == (False, True)
    node.world.spoiled.clear()
    await node.adoption.repair(node.world)
    assert node.blobs.path(first.grant.digest)


async def test_a_corrupt_ledger_is_set_aside_and_the_node_starts_empty(node: NodeUnderTest) -> None:
    desired = node.world.assign(node.world.agent())
    await node.accept(desired)
    (node.folder / "ledger" / "desired.json").write_bytes(b"\0" * 100)
    node.start()
    assert len(node.accepted) == 1
    assert node.kinds() == ["node:boot:incomplete"]
    assert await node.accept(desired) is None
    assert node.accepted[1] == node.accepted[0]


async def test_with_corrupt_trust_metadata_the_order_waits_for_a_release_and_keeps_its_number(
    node: NodeUnderTest,
) -> None:
    agent = node.world.agent()
    await node.accept(node.world.assign(agent, generation=5))
    (node.folder / "trust" / "metadata.json").write_bytes(b"{}")
    node.start()
    assert (len(node.accepted), node.kinds()) == (1, ["node:boot:incomplete"])
    await node.adoption.refresh(node.world)
    assert node.accepted[1] == node.accepted[0]
    assert await node.accept(node.world.assign(agent, generation=4)) is Code.GENERATION_STALE


async def test_an_order_on_disk_that_verifies_no_more_is_set_aside(node: NodeUnderTest) -> None:
    await node.accept(node.world.assign(node.world.agent()))
    path = node.folder / "ledger" / "desired.json"
    other = FleetWorld(director=key("somebody")).assign(node.world.agent())
    entry = node.ledger.entry
    assert entry is not None
    path.write_bytes(path.read_bytes().replace(_base64(entry.desired.envelope), _base64(other.envelope)))
    node.start()
    assert len(node.accepted) == 1
    assert node.kinds() == ["assignment:ledger:refused"]
    assert not path.exists()


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data)
