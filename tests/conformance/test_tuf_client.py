"""The node's TUF client, driven through the commands that conformance suites use, over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import Code
from fleet.release import RoleKeys, publish, rotate_root
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile
from tests.conformance import tuf_client
from tests.fakes.fleet import bundle, grant
from tests.fakes.publisher import Publisher, key, role_keys
from tests.interop.tools import http_server, write_repository

BUNDLE, GRANT = bundle_path("one", "1.0.0"), grant_path("app/one", 1)


class Driver:
    """A repository in memory and a client in a folder; states of attack are edits of the repository."""

    def __init__(self, folder: Path) -> None:
        self.served, self.metadata, self.targets = folder / "served", folder / "metadata", folder / "targets"
        self.targets.mkdir()
        self.publisher = Publisher(Profile.PRODUCTION, now=datetime.now(UTC))
        self.documents = {TRUST_PATH: self.publisher.document, BUNDLE: bundle("one", "1.0.0").index}
        self.publisher.add(BUNDLE, self.documents[BUNDLE])
        self.publisher.publish()
        self.base = ""

    def run(self, *command: str) -> int:
        """Serve the repository as it is now, and run a command of the client."""
        for path in self.served.glob("metadata/*"):
            path.unlink()
        write_repository(self.served, self.publisher.files, self.documents)
        urls = ["--metadata-url", f"{self.base}/metadata", "--target-base-url", f"{self.base}/targets"]
        folders = ["--metadata-dir", str(self.metadata), "--target-dir", str(self.targets)]
        return tuf_client.main([*urls, *folders, *command])

    def init(self) -> int:
        root = self.served / "trusted-root.json"
        root.parent.mkdir(exist_ok=True)
        root.write_bytes(self.publisher.root)
        return self.run("init", str(root))

    def download(self, name: str) -> int:
        return self.run("--target-name", name, "download")

    def version(self, role: str) -> int:
        return tuf_client._version((self.metadata / f"{role}.json").read_bytes())

    def rotate(self, *roles: str, version: int | None = None) -> None:
        old = self.publisher.keys
        fresh = {role: (key(f"{role} {version}"),) for role in roles}
        new = RoleKeys({**old.keys, **fresh}, old.thresholds)
        self.publisher.files = rotate_root(self.publisher.files, old, new, self.publisher.now)
        self.publisher.keys = new
        self.publisher.publish()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    driver.served.mkdir()
    with http_server(driver.served) as base:
        driver.base = base
        assert driver.init() == 0
        yield driver


def refused_with(capsys: pytest.CaptureFixture[str], code: Code) -> bool:
    return capsys.readouterr().err.startswith(f"{code}:")


def test_refresh_keeps_the_newest_of_each_role(driver: Driver) -> None:
    assert driver.run("refresh") == 0
    before = driver.version("timestamp")
    driver.publisher.publish()
    assert driver.run("refresh") == 0
    assert driver.version("timestamp") == before + 1
    assert {path.name for path in driver.metadata.glob("*.json")} >= {"root.json", "snapshot.json", "targets.json"}


def test_download_takes_what_was_signed_and_nothing_else(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver.download(BUNDLE) == 0
    (stored,) = driver.targets.iterdir()
    assert stored.read_bytes() == driver.documents[BUNDLE]
    assert driver.download(BUNDLE) == 0
    assert driver.download(GRANT) == 1
    assert refused_with(capsys, Code.TARGET_UNSIGNED)


def test_changed_targets_are_refused(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver.run("refresh") == 0
    (served,) = driver.served.rglob("*.1.0.0.json")
    served.write_bytes(served.read_bytes()[:-1] + b" ")
    del driver.documents[BUNDLE]
    assert driver.download(BUNDLE) == 1
    assert refused_with(capsys, Code.DIGEST_MISMATCH)
    assert not list(driver.targets.iterdir())


def test_rotations_are_followed_one_by_one(driver: Driver) -> None:
    assert driver.run("refresh") == 0
    for number in range(3):
        driver.rotate("root", "snapshot", "timestamp", version=number)
    assert driver.run("refresh") == 0
    assert driver.version("root") == 4
    assert driver.run("refresh") == 0


def test_a_root_that_the_old_keys_did_not_sign_is_refused(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = role_keys(Profile.PRODUCTION, root=key("stranger"))
    driver.publisher.files = rotate_root(driver.publisher.files, stranger, stranger, driver.publisher.now)
    assert driver.run("refresh") == 1
    assert refused_with(capsys, Code.TRUST_INVALID)


def test_a_rollback_is_refused(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    old = dict(driver.publisher.files)
    driver.publisher.publish()
    assert driver.run("refresh") == 0
    driver.publisher.files = old
    assert driver.run("refresh") == 1
    assert refused_with(capsys, Code.TRUST_ROLLBACK)


def test_expired_metadata_is_refused(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    publisher = driver.publisher
    publisher.files = publish(publisher.files, publisher.keys, publisher.now - timedelta(days=30))
    assert driver.run("refresh") == 1
    assert refused_with(capsys, Code.TRUST_EXPIRED)


def test_versions_that_ran_ahead_end_with_their_keys(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    honest = dict(driver.publisher.files)
    for _ in range(5):
        driver.publisher.publish()
    assert driver.run("refresh") == 0
    driver.publisher.files = honest
    assert driver.run("refresh") == 1
    assert refused_with(capsys, Code.TRUST_ROLLBACK)
    driver.rotate("snapshot", "timestamp", version=9)
    assert driver.run("refresh") == 0


def test_a_role_that_lacks_a_signature_is_refused(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    publisher = driver.publisher
    one = publisher.keys.keys["grants-default"][:1]
    publisher.keys = RoleKeys({**publisher.keys.keys, "grants-default": one}, publisher.keys.thresholds)
    publisher.add(GRANT, grant("app/one", "one"))
    publisher.publish()
    assert driver.run("refresh") == 1
    assert refused_with(capsys, Code.TRUST_INVALID)


def test_a_server_that_is_gone_is_told(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver.run("--metadata-url", "http://127.0.0.1:1", "refresh") == 1
    assert refused_with(capsys, Code.UNAVAILABLE)
