"""The power goes at every single write of an adoption: the node comes back with the old order or with the new one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from edge_agent.adoption import Adoption, Stores
from edge_agent.blobs import Blobs
from edge_agent.disk import replace_file
from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.supervision import Accepted
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.bundle import open_bundle
from fleet.trust import FleetTrust
from tests.fakes.clock import VirtualClock
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import NOW

FOLDER = Path("/node")
IDENTITY = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:2", "00" * 32)


class Booted:
    """A node after it was switched on over some disk."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.accepted: list[Accepted] = []
        self.trust = TrustStore(disk, FOLDER / "trust", allow_dev_profile=True)
        self.ledger = Ledger(disk, FOLDER / "ledger")
        self.blobs = Blobs(disk, FOLDER / "blobs", 10**6)
        self.journal = Journal("node-1", 500)
        self.witness = Witness(disk, FOLDER, IDENTITY, self.fleet_trust, self.journal, VirtualClock(NOW))
        stores = Stores(self.trust, self.ledger, self.blobs, self.witness)
        self.adoption = Adoption(IDENTITY, stores, self.accepted.append, lambda: None, self.journal, VirtualClock(NOW))
        self.adoption.boot()

    def fleet_trust(self) -> FleetTrust | None:
        return None if self.trust.adopted is None else self.trust.adopted.fleet

    @property
    def generation(self) -> int:
        return self.accepted[-1].generation if self.accepted else 0

    def check_complete(self) -> None:
        """Every file of the order in force is there, with every byte right."""
        for agent in self.accepted[-1].agents:
            self.blobs.read(agent.grant.digest)
            for blob in open_bundle(self.blobs.read(agent.bundle.digest), self.blobs.read).blobs:
                self.blobs.read(blob.digest)


@pytest.mark.parametrize("seed", range(3))
async def test_an_adoption_is_whole_or_was_not(seed: int) -> None:
    world, random = FleetWorld(), Random(seed)
    disk = MemoryDisk()
    replace_file(disk, FOLDER / "trust" / "root.json", world.publisher.root)
    await Booted(disk).adoption.accept(world.assign(world.agent("app/one"), generation=1), world)
    second = world.assign(world.agent("app/two"), generation=2)
    outcomes: set[int] = set()
    cut, finished = 0, False
    while not finished:
        cut += 1
        trial = settled(disk)
        trial.cut_at = cut
        node = Booted(trial)
        assert node.generation == 1
        try:
            await node.adoption.accept(second, world)
            finished = True
        except PowerCutError:
            pass
        after = Booted(trial.after_power_cut(random))
        after.check_complete()
        outcomes.add(after.generation)
        await after.adoption.accept(second, world)  # the coordinator sends it again
        assert after.generation == 2
        after.check_complete()
    assert outcomes == {1, 2}
    assert cut > 10  # release, documents, component and ledger: each with its own writes


def settled(disk: MemoryDisk) -> MemoryDisk:
    """The same content, all of it durable."""
    copy = MemoryDisk()
    for path, file in disk.names_now.items():
        replace_file(copy, path, file.content)
    copy.operations = 0
    return copy
