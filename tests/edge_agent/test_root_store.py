"""What a root takes away stays away, also when the release that it came with was refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.disk import replace_file
from edge_agent.trust_store import TrustStore
from fleet.errors import Code
from fleet.release import rotate_root
from tests.fakes.disk import MemoryDisk
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of

FOLDER = Path("/node/trust")
STOLEN = ("snapshot", "timestamp")


def started(disk: MemoryDisk) -> TrustStore:
    """Return the store as a node has it after a restart."""
    store = TrustStore(disk, FOLDER, allow_dev_profile=True)
    store.load()
    return store


class Theft:
    """The publisher's keys are stolen, and a new root replaces them; node and thief see what the test shows them."""

    def __init__(self) -> None:
        self.disk, self.honest = MemoryDisk(), Publisher()
        replace_file(self.disk, FOLDER / "root.json", self.honest.root)
        self.thief = Publisher()
        self.thief.files = dict(self.honest.files)
        self.thief.publish()
        self.before = dict(self.honest.files)
        new = role_keys(**{role: key(f"{role}-2") for role in STOLEN})
        self.honest.files = rotate_root(self.honest.files, self.honest.keys, new, NOW)
        self.honest.keys = new
        self.incomplete = {**self.before, "2.root.json": self.honest.files["2.root.json"]}
        self.honest.publish()


@pytest.fixture
def theft() -> Theft:
    return Theft()


def test_a_stolen_key_is_of_no_use_once_the_node_saw_the_root_that_replaces_it(theft: Theft) -> None:
    node, documents = started(theft.disk), theft.honest.documents
    node.adopt(theft.before, documents, NOW)
    assert started(theft.disk).check(theft.thief.files, NOW).versions["timestamp"] == 2  # until it is replaced
    assert code_of(node.check, theft.incomplete, NOW) is Code.TRUST_INVALID
    for store in (node, started(theft.disk)):
        assert store.adopted is not None  # what was adopted stays in force
        assert code_of(store.check, theft.thief.files, NOW) is Code.TRUST_INVALID
        assert store.check(theft.honest.files, NOW).versions["root"] == 2


def test_a_node_that_has_adopted_nothing_remembers_roots_too(theft: Theft) -> None:
    assert code_of(started(theft.disk).check, theft.incomplete, NOW) is Code.TRUST_INVALID
    assert code_of(started(theft.disk).check, theft.thief.files, NOW) is Code.TRUST_INVALID
    node = started(theft.disk)
    node.adopt(theft.honest.files, theft.honest.documents, NOW)
    assert started(theft.disk).adopted == node.adopted


def test_a_root_that_nobody_in_charge_signed_is_not_kept(theft: Theft) -> None:
    stranger = Publisher(keys=role_keys(root=key("thief")))
    stranger.files = rotate_root(stranger.files, stranger.keys, stranger.keys, NOW)
    offered = {**theft.before, "2.root.json": stranger.files["2.root.json"]}
    assert code_of(started(theft.disk).check, offered, NOW) is Code.TRUST_INVALID
    assert theft.disk.size(FOLDER / "roots.json") is None


@pytest.mark.parametrize(
    "spoil", [b"{}", b'{"schema":"fleet.roots/v2"}', b'{"schema":"fleet.roots/v1","roots":{"2.root.json":"?"}}']
)
def test_a_spoiled_file_is_told_once_and_the_adopted_release_counts(theft: Theft, spoil: bytes) -> None:
    started(theft.disk).adopt(theft.before, theft.honest.documents, NOW)
    replace_file(theft.disk, FOLDER / "roots.json", spoil)
    node = TrustStore(theft.disk, FOLDER, allow_dev_profile=True)
    assert code_of(node.load) is Code.TRUST_INVALID
    assert node.adopted is not None
    assert started(theft.disk).adopted is not None
