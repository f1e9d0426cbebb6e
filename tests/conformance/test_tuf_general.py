"""The workflow alone, over repositories that no fleet has; and how the outside suite's outcomes are judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fleet.errors import Code
from tests.conformance import tuf_client
from tests.conformance.tuf_suite import EXPECTED, PAGE, Expected, Failure
from tests.interop.tools import http_server

EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
CONTENT, PATH = b"of a role two levels down", "deep/er/file"


class Repository:
    """ECDSA keys, delegations two levels deep that do not terminate, a role with a strange name, SHA-512."""

    def __init__(self, folder: Path, *, versioned: bool = True) -> None:
        self.folder, self.metadata, self.targets = folder, folder / "metadata", folder / "targets"
        self.client = {name: folder / "client" / name for name in ("metadata", "targets")}
        for made in (self.metadata, self.targets / "deep" / "er", self.client["targets"]):
            made.mkdir(parents=True)
        self.versioned = versioned
        self.signer = CryptoSigner.generate_ecdsa()
        self.root = Root(expires=EXPIRES, consistent_snapshot=versioned)
        for role in ("root", "timestamp", "snapshot", "targets"):
            self.root.add_key(self.signer.public_key, role)
        target = TargetFile.from_data(PATH, CONTENT, ["sha512"])
        (digest,) = target.hashes.values()
        (self.targets / "deep" / "er" / (f"{digest}.file" if versioned else "file")).write_bytes(CONTENT)
        self.listings = {
            "targets": self.delegating("a b", "deep/*/*"),
            "a b": self.delegating("c", "deep/er/*"),
            "c": Targets(expires=EXPIRES, targets={PATH: target}),
        }
        self.version = 0
        self.publish()
        self.sign("1.root.json", self.root)
        self.base = ""

    def delegating(self, role: str, pattern: str) -> Targets:
        """A role that lists nothing and delegates everything."""
        delegation = DelegatedRole(role, [], 1, terminating=False, paths=[pattern])
        signed = Targets(expires=EXPIRES, delegations=Delegations({}, {role: delegation}))
        signed.add_key(self.signer.public_key, role)
        return signed

    def sign(self, name: str, signed: Root | Snapshot | Targets | Timestamp) -> None:
        """Sign one file and serve it."""
        envelope = Metadata(signed)
        envelope.sign(self.signer)
        (self.metadata / name).write_bytes(envelope.to_bytes())

    def publish(self, *, withhold: str = "") -> None:
        """Sign everything again, and serve it all but one role."""
        self.version += 1
        prefix = f"{self.version}." if self.versioned else ""
        for role, signed in self.listings.items():
            signed.version = self.version
            self.sign(f"{prefix}{role}.json", signed)
        meta = {f"{role}.json": MetaFile(self.version) for role in self.listings}
        self.sign(f"{prefix}snapshot.json", Snapshot(self.version, expires=EXPIRES, meta=meta))
        self.sign("timestamp.json", Timestamp(self.version, expires=EXPIRES, snapshot_meta=MetaFile(self.version)))
        if withhold:
            (self.metadata / f"{prefix}{withhold}.json").unlink()

    def run(self, rules: str, *command: str) -> int:
        """Run the client."""
        urls = ["--metadata-url", f"{self.base}/metadata", "--target-base-url", f"{self.base}/targets"]
        folders = ["--metadata-dir", str(self.client["metadata"]), "--target-dir", str(self.client["targets"])]
        return tuf_client.main(["--rules", rules, *urls, *folders, *command])

    def trusted(self, role: str) -> int:
        """Version of a role that the client believes."""
        document = json.loads((self.client["metadata"] / f"{quote(role, '')}.json").read_bytes())
        version: int = document["signed"]["version"]
        return version


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    repository = Repository(tmp_path, versioned=request.param)
    with http_server(tmp_path) as repository.base:
        assert repository.run("tuf", "init", str(repository.metadata / "1.root.json")) == 0
        yield repository


def test_a_target_two_levels_down_is_found_by_the_workflow_alone(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    download = ("--target-name", PATH, "download")
    assert repository.run("fleet", *download) == 1
    assert capsys.readouterr().err.startswith(f"{Code.TRUST_INVALID}:")
    assert repository.run("tuf", *download) == 0
    assert [file.read_bytes() for file in repository.client["targets"].iterdir()] == [CONTENT]
    assert [repository.trusted(role) for role in ("targets", "a b", "c")] == [1, 1, 1]
    assert repository.run("tuf", "--target-name", PATH, "--target-name", "deep/er/other", "download") == 1
    assert capsys.readouterr().err.startswith(f"{Code.TARGET_UNSIGNED}:")


def test_each_role_is_kept_as_soon_as_it_verifies(repository: Repository) -> None:
    assert repository.run("tuf", "refresh") == 0
    repository.publish(withhold="snapshot")
    assert repository.run("tuf", "refresh") == 1
    assert [repository.trusted(role) for role in ("timestamp", "snapshot", "targets")] == [2, 1, 1]


def test_a_copy_that_is_spoiled_is_fetched_again(repository: Repository) -> None:
    assert repository.run("tuf", "refresh") == 0
    kept = repository.client["metadata"] / "kept" / "1.targets.json"
    kept.write_bytes(kept.read_bytes().replace(b'"version": 1', b'"version": 2'))
    assert repository.run("tuf", "refresh") == 0
    assert repository.trusted("targets") == 1


def test_outcomes_are_judged_both_ways() -> None:
    expected = Expected(3, {"keys": "because"}, {"tuf": {"b": Failure("keys", "no"), "gone": Failure("keys", "no")}})
    found = {"a": "passed", "b": "passed", "c": "failed"}
    told = expected.deviations("tuf", {test: {"outcome": word, "client": "so"} for test, word in found.items()})
    assert told == [
        "tuf: gone is not in the suite",
        "tuf: b passed unexpectedly; it is listed for: keys",
        "tuf: c failed unexpectedly: so",
    ]
    other = {"b": {"outcome": "failed", "client": "other words"}}
    assert expected.deviations("tuf", other)[:1] == ["tuf: 1 tests, expected 3"]
    assert "tuf: b failed otherwise: 'other words', expected 'no'" in expected.deviations("tuf", other)


def test_the_page_tells_what_is_expected() -> None:
    expected, page = Expected.load(), PAGE.read_text()
    assert json.loads(EXPECTED.read_text())["total"] == expected.total
    for run, failures in expected.failures.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {run} |")]
        assert row.endswith(f"| {expected.total} | {expected.total - len(failures)} | {len(failures)} |")
        assert {failure.reason for failure in failures.values()} <= expected.reasons.keys()
    assert all(text in page for text in expected.reasons.values())
