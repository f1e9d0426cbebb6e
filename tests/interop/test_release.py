"""A TUF client in another language, by other authors, reads the release repository that this project writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.release import RoleKeys, publish, rotate_root
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile
from tests.fakes.fleet import bundle, grant
from tests.fakes.publisher import Publisher, key, role_keys
from tests.interop.tools import http_server, run_javascript, write_repository

pytestmark = pytest.mark.slow

BUNDLE, GRANT = bundle_path("one", "1.0.0"), grant_path("app/one", 1)
MISSING = bundle_path("one", "6.6.6")


class Repository:
    """A published production release, and a client that keeps what it has seen."""

    def __init__(self, folder: Path) -> None:
        self.served, self.client = folder / "served", folder / "client"
        self.publisher = Publisher(Profile.PRODUCTION, now=datetime.now(UTC))
        self.documents = {
            TRUST_PATH: self.publisher.document,
            BUNDLE: bundle("one", "1.0.0").index,
            GRANT: grant("app/one", "one"),
        }
        for path in (BUNDLE, GRANT):
            self.publisher.add(path, self.documents[path])
        self.publisher.publish()
        self.client.mkdir()
        (self.client / "root.json").write_bytes(self.publisher.root)

    def read(self, *paths: str) -> dict[str, object]:
        """Serve the newest files and let the client fetch targets."""
        write_repository(self.served, self.publisher.files, self.documents)
        with http_server(self.served) as base:
            return run_javascript("release", self.client, base, *paths)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_it_finds_every_document_that_its_role_signed(repository: Repository) -> None:
    found = repository.read(*repository.documents, MISSING)
    assert found == {**{path: len(data) for path, data in repository.documents.items()}, MISSING: None}


def test_it_follows_a_rotation_of_every_top_level_key(repository: Repository) -> None:
    assert repository.read(BUNDLE)[BUNDLE]
    publisher, now = repository.publisher, repository.publisher.now
    fresh = {role: (key(f"new-{role}"),) for role in ("root", "snapshot", "timestamp")}
    new = RoleKeys({**publisher.keys.keys, **fresh}, publisher.keys.thresholds)
    publisher.files = rotate_root(publisher.files, publisher.keys, new, now)
    publisher.keys = new
    publisher.publish()
    assert repository.read(GRANT)[GRANT]


def test_it_refuses_other_bytes(repository: Repository) -> None:
    honest = repository.documents[BUNDLE]
    write_repository(repository.served, {}, {BUNDLE: honest})
    (stored,) = repository.served.rglob("*.1.0.0.json")
    stored.write_bytes(honest[:-1] + b" ")
    del repository.documents[BUNDLE]
    assert repository.read(BUNDLE)["refused"] == "LengthOrHashMismatchError"


def test_it_refuses_a_grants_role_that_one_approver_signed(repository: Repository) -> None:
    publisher = repository.publisher
    approvers = publisher.keys.keys["grants-default"]
    publisher.keys = replace(publisher.keys, keys={**publisher.keys.keys, "grants-default": approvers[:1]})
    publisher.add(grant_path("app/one", 2), grant("app/one", "one", caps='{"wasi:logging/logging": []}'))
    publisher.publish()
    assert str(repository.read(GRANT)["message"]).endswith("grants-default was signed by 1/2 keys")


def test_it_refuses_a_release_signed_by_somebody_else(repository: Repository) -> None:
    repository.publisher.files = Publisher(
        Profile.PRODUCTION, role_keys(Profile.PRODUCTION, timestamp=key("thief")), repository.publisher.now
    ).files
    assert "refused" in repository.read(BUNDLE)


def test_it_refuses_what_has_expired(repository: Repository) -> None:
    publisher = repository.publisher
    publisher.files = publish(publisher.files, publisher.keys, publisher.now - timedelta(days=30))
    assert repository.read(BUNDLE)["refused"] == "ExpiredMetadataError"
