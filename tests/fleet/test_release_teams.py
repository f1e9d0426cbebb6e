"""A team leaves a release, and nodes go on; a team of the same name comes later and counts on."""

from __future__ import annotations

import pytest

from fleet.errors import Code
from fleet.release import (
    ChangeKeys,
    NamedKey,
    Operation,
    RemoveRole,
    completed,
    differences,
    publish,
    rotate_root,
    sign_staged,
    stage,
)
from fleet.targets import bundle_path
from fleet.trust import Release, open_release
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of
from tests.fakes.teams import team_keys

VISION = ("code-vision", "grants-vision")
LEAVES = tuple(RemoveRole(role) for role in VISION)


class Fleet:
    """A publisher, and a node that adopts everything as it comes."""

    def __init__(self) -> None:
        self.publisher = Publisher(keys=team_keys("vision"))
        self.publisher.add(bundle_path("one", "1.0.0", "vision"), b"bundle")
        self.publisher.publish()
        self.node = self.adopt()

    def adopt(self) -> Release:
        previous = self.node.files if hasattr(self, "node") else None
        root, files = self.publisher.root, self.publisher.files
        self.node = open_release(files, root=root, now=NOW, previous=previous, allow_dev=True)
        self.publisher.files = dict(self.node.files)  # whoever publishes next has what a node has
        return self.node

    def change(self, *operations: Operation, signers: tuple[str, ...] = ("targets",)) -> Release:
        staged = sign_staged(stage(self.node, operations, "", NOW, {}), [key(name) for name in signers])
        self.publisher.files = publish(completed(staged, self.node), self.publisher.keys, NOW)
        return self.adopt()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_a_team_that_leaves_takes_its_documents_along_and_nodes_go_on(fleet: Fleet) -> None:
    left = fleet.change(*LEAVES)
    assert set(VISION).isdisjoint(left.role_keys)
    assert left.targets("bundles/vision/") == ()
    assert not any("vision" in name for name in left.files)
    for _ in range(2):
        fleet.publisher.publish()  # the snapshot names the roles still, or nodes would refuse it (TUF 5.5.5)
        fleet.adopt()


def test_a_team_of_the_same_name_counts_on(fleet: Fleet) -> None:
    before = fleet.node.versions["code-vision"]
    fleet.change(*LEAVES)
    again = fleet.change(
        *(ChangeKeys(role, (NamedKey(key(f"{role}-2").public, "new"),), threshold=1) for role in VISION),
        signers=("targets", *(f"{role}-2" for role in VISION)),
    )
    assert again.versions["code-vision"] == before + 1
    assert again.role_keys["code-vision"] == {key("code-vision-2").public}
    assert again.targets("bundles/vision/") == ()


def test_what_was_withdrawn_is_forgotten_with_the_keys_of_the_snapshot(fleet: Fleet) -> None:
    fleet.change(*LEAVES)
    new = role_keys(snapshot=key("snapshot-2"), timestamp=key("timestamp-2"))
    fleet.publisher.files = rotate_root(fleet.publisher.files, fleet.publisher.keys, new, NOW)
    fleet.publisher.keys = new
    fleet.publisher.publish()
    assert b"vision" not in fleet.publisher.files["1.snapshot.json"]
    fleet.adopt()


@pytest.mark.parametrize("role", ["policy", "targets", "code-robotics"])
def test_only_roles_of_teams_leave(fleet: Fleet, role: str) -> None:
    assert code_of(stage, fleet.node, (RemoveRole(role),), "", NOW, {}) is Code.NOT_FOUND


def test_a_role_that_joins_and_leaves_in_one_change_was_never_there(fleet: Fleet) -> None:
    joins = ChangeKeys("code-lab", (NamedKey(key("lab").public, "lab"),), threshold=1)
    assert fleet.change(joins, RemoveRole("code-lab")).role_keys.keys() >= set(VISION)
    assert "code-lab" not in fleet.node.role_keys


def test_whoever_signs_is_shown_what_goes(fleet: Fleet) -> None:
    shown = [f"{d.sign} {d.text}" for d in differences(stage(fleet.node, LEAVES, "", NOW, {}))]
    assert shown == [
        "- role code-vision for bundles/vision/*/*, with 1 documents",
        "- role grants-vision for grants/vision/*/*/*, with 0 documents",
    ]
