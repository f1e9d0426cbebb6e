"""Publishing: one failing case per numbered rule of `Releases.publish`; what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.bundle import BuiltBundle
from fleet.errors import Code, FleetError
from fleet.targets import bundle_path, grant_path
from orchestrator.audit import AuditLog
from orchestrator.blobs import Blobs
from orchestrator.recognition import Identity
from orchestrator.releases import Releases
from orchestrator.store.database import Store
from tests.fakes.fleet import bundle, with_artifact
from tests.fakes.fleet_fixture import FleetFixture, ShiftedClock, grant_text
from tests.fakes.publisher import key


class Desk:
    """Releases over a database in memory, and the publisher who brings them."""

    def __init__(self, folder: Path) -> None:
        self.fleet = FleetFixture(folder)
        self.store = Store.open(None)
        self.blobs = Blobs(folder / "stored")
        self.log = AuditLog("demo", self.fleet.log_key)
        self.identity = Identity("demo", self.fleet.director.public, self.fleet.trust.log_vkeys[0])
        self.clock = ShiftedClock()

    def releases(self, blobs: Blobs | None = None) -> Releases:
        return Releases(
            store=self.store,
            blobs=blobs or self.blobs,
            log=self.log,
            root=self.fleet.files["1.root.json"],
            identity=self.identity,
            clock=self.clock,
        )

    def publish(self, blobs: Blobs | None = None) -> None:
        for data in self.fleet.blobs.values():
            self.blobs.put(data)
        self.releases(blobs).publish(*self.fleet.publish(), "alice")

    def bundle(self, built: BuiltBundle, name: str = "context", version: str = "1.0.0") -> None:
        self.fleet.blobs.update(built.blobs)
        self.fleet.add(bundle_path(name, version), built.index)

    def refused(self, code: Code, blobs: Blobs | None = None) -> None:
        before = self.releases().files()
        with pytest.raises(FleetError) as caught:
            self.publish(blobs)
        assert caught.value.code is code
        assert self.releases().files() == before


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def test_a_release_is_adopted_and_found_again(desk: Desk) -> None:
    desk.fleet.release()
    desk.publish()
    found = desk.releases()
    target = found.find_bundle(found.current(), "context@1.0.0")
    assert found.open_bundle(target).name == "context"


def test_1_a_release_that_does_not_verify(desk: Desk) -> None:
    desk.fleet.role_keys = replace(
        desk.fleet.role_keys, keys={**desk.fleet.role_keys.keys, "timestamp": (key("thief"),)}
    )
    desk.refused(Code.TRUST_INVALID)


def test_1_an_older_release(desk: Desk) -> None:
    desk.publish()
    old = dict(desk.fleet.files)
    desk.fleet.release()
    desk.publish()
    with pytest.raises(FleetError) as caught:
        desk.releases().publish(old, [], "alice")
    assert caught.value.code is Code.TRUST_ROLLBACK


@pytest.mark.parametrize(
    "other",
    [
        lambda identity: replace(identity, fleet="other"),
        lambda identity: replace(identity, director_key=key("another director").public),
        lambda identity: replace(identity, log_vkey=AuditLog("demo", key("another log")).vkey),
    ],
)
def test_2_a_release_for_another_coordinator(desk: Desk, other: Callable[[Identity], Identity]) -> None:
    desk.identity = other(desk.identity)
    desk.refused(Code.TRUST_INVALID)


def test_3_a_bundle_whose_blobs_are_not_stored(desk: Desk) -> None:
    desk.fleet.release()
    desk.fleet.blobs.clear()
    desk.refused(Code.BLOB_MISSING)


def test_3_a_bundle_under_another_name(desk: Desk) -> None:
    desk.bundle(bundle("context", "1.0.0"), "trusted")
    desk.refused(Code.BUNDLE_INVALID)


def test_3_a_bundle_under_another_version(desk: Desk) -> None:
    desk.bundle(bundle("context", "1.0.0"), version="2.0.0")
    desk.refused(Code.BUNDLE_INVALID)


def test_3_a_bundle_that_names_a_wrong_size(desk: Desk) -> None:
    def grow(artifact: dict[str, list[dict[str, int]]]) -> None:
        artifact["layers"][0]["size"] += 1

    desk.bundle(with_artifact(bundle("context", "1.0.0"), 0, grow))
    desk.refused(Code.DIGEST_MISMATCH)


@pytest.mark.parametrize(("agent", "revision"), [("climate/context", 2), ("climate/other", 1)])
def test_3_a_grant_under_another_path(desk: Desk, agent: str, revision: int) -> None:
    desk.fleet.add(grant_path(agent, revision), grant_text("climate/context", "context"))
    desk.refused(Code.GRANT_INVALID)


def test_3_a_grant_that_is_none(desk: Desk) -> None:
    desk.fleet.add(grant_path("climate/context", 1), b"schema: nonsense")
    desk.refused(Code.GRANT_INVALID)


class InterruptedBlobs(Blobs):
    """Somebody else publishes while documents are stored."""

    def __init__(self, root: Path, meanwhile: Callable[[], None]) -> None:
        super().__init__(root)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def put(self, data: bytes) -> str:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().put(data)


def test_4_of_two_who_publish_at_once_one_must_try_again(desk: Desk) -> None:
    desk.publish()
    desk.fleet.release()
    mine, documents = desk.fleet.publish()
    for data in desk.fleet.blobs.values():
        desk.blobs.put(data)
    rival = InterruptedBlobs(desk.fleet.folder / "stored", lambda: desk.releases().publish(mine, documents, "bob"))
    with pytest.raises(FleetError) as caught:
        desk.releases(rival).publish(mine, documents, "alice")
    assert caught.value.code is Code.GENERATION_CONFLICT
    assert desk.releases().files() == mine
