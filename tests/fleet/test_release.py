"""The publisher's side: what it makes verifies, and it never changes what it was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from fleet.errors import Code
from fleet.release import (
    LIFETIMES,
    Lifetimes,
    RoleKeys,
    add_target,
    countersign,
    new_release,
    publish,
    remove_target,
    renew,
    rotate_root,
)
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile, open_release
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BUNDLE = bundle_path("context-agent", "1.0.0")
GRANT = grant_path("climate/context", 1)
LATER = NOW + timedelta(days=1)


def test_every_function_leaves_its_input_alone() -> None:
    publisher = Publisher()
    files, keys = publisher.files, publisher.keys
    before = dict(files)
    added = add_target(files, keys, BUNDLE, b"index", {}, NOW)
    remove_target(added, keys, BUNDLE, NOW)
    renew(files, keys, "targets", NOW)
    countersign(files, keys, "code-default")
    rotate_root(files, keys, keys, NOW)
    publish(files, keys, NOW)
    assert files == before
    assert BUNDLE not in open_release(files, root=publisher.root, now=NOW, allow_dev=True).documents


def test_superseded_files_are_dropped_and_roots_kept() -> None:
    publisher = Publisher()
    publisher.add(BUNDLE, b"index")
    publisher.files = rotate_root(publisher.files, publisher.keys, publisher.keys, NOW)
    publisher.publish()
    assert sorted(publisher.files) == [
        "1.grants-default.json",
        "1.root.json",
        "2.code-default.json",
        "2.root.json",
        "2.snapshot.json",
        "2.targets.json",
        "timestamp.json",
    ]


def test_one_change_costs_one_version() -> None:
    publisher = Publisher()
    publisher.add(BUNDLE, b"index")
    publisher.publish()
    versions = open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True).versions
    assert dict(versions) == {
        "root": 1,
        "targets": 2,
        "code-default": 2,
        "grants-default": 1,
        "snapshot": 2,
        "timestamp": 2,
    }


def test_the_profile_decides_how_long_signatures_last() -> None:
    production = role_keys(Profile.PRODUCTION)
    files = new_release(production, profile=Profile.PRODUCTION, now=NOW, documents={TRUST_PATH: b"{}"})
    expected = LIFETIMES[Profile.PRODUCTION]
    for name, lifetime in (
        ("1.root.json", expected.root),
        ("2.targets.json", expected.targets),
        ("1.code-default.json", expected.delegated),
        ("1.snapshot.json", expected.snapshot),
        ("timestamp.json", expected.timestamp),
    ):
        assert Metadata.from_bytes(files[name]).signed.expires == NOW + lifetime


def test_lifetimes_can_be_chosen() -> None:
    day = timedelta(days=1)
    keys = RoleKeys(role_keys().keys, lifetimes=Lifetimes(4 * day, 3 * day, 3 * day, 2 * day, day))
    files = new_release(keys, profile=Profile.DEV, now=NOW, documents={})
    files = publish(renew(rotate_root(files, keys, keys, LATER), keys, "targets", LATER), keys, LATER)
    release = open_release(files, root=files["1.root.json"], now=LATER, allow_dev=True)
    assert release.expires == LATER + day


def test_expiry_is_refreshed_with_publisher_keys_alone() -> None:
    publisher = Publisher(Profile.PRODUCTION)
    online = RoleKeys({role: publisher.keys.of(role) for role in ("snapshot", "timestamp")})
    files = publish(publisher.files, online, NOW + timedelta(days=10))
    assert open_release(files, root=publisher.root, now=NOW + timedelta(days=10), allow_dev=False)


def test_approvers_sign_one_after_the_other() -> None:
    publisher = Publisher(Profile.PRODUCTION)

    def approver(number: int) -> RoleKeys:
        return RoleKeys({**publisher.keys.keys, "grants-default": (key(f"approver-{number}"),)})

    files = add_target(publisher.files, approver(0), GRANT, b"grant", {}, NOW)
    files = publish(countersign(files, approver(2), "grants-default"), publisher.keys, NOW)
    release = open_release(files, root=publisher.root, now=NOW, allow_dev=False)
    assert release.target(GRANT).approvers == tuple(sorted((key("approver-0").key_id, key("approver-2").key_id)))


def test_a_change_without_the_key_is_refused() -> None:
    publisher = Publisher()
    keys = RoleKeys({"code-default": (key("code-default"),)})
    assert code_of(add_target, publisher.files, keys, GRANT, b"grant", {}, NOW) is Code.CONFIG_INVALID


def test_withdrawing_what_is_not_listed_is_refused() -> None:
    publisher = Publisher()
    assert code_of(remove_target, publisher.files, publisher.keys, GRANT, NOW) is Code.NOT_FOUND


def test_a_role_that_the_repository_lacks_is_refused() -> None:
    publisher = Publisher()
    other = bundle_path("context-agent", "1.0.0", "other")
    assert code_of(add_target, publisher.files, publisher.keys, other, b"x", {}, NOW) is Code.TRUST_INVALID


@pytest.mark.parametrize("data", [b"nonsense", Publisher().files["timestamp.json"]])
def test_a_damaged_repository_is_refused(data: bytes) -> None:
    publisher = Publisher()
    files = {**publisher.files, "1.code-default.json": data}
    assert code_of(add_target, files, publisher.keys, BUNDLE, b"x", {}, NOW) is Code.TRUST_INVALID


def test_paths_and_roles_outside_a_fleet_are_a_programmers_fault() -> None:
    publisher = Publisher()
    with pytest.raises(ValueError, match="no role may sign"):
        publisher.add("elsewhere/x", b"")
    with pytest.raises(ValueError, match="not a role of a fleet"):
        Publisher(keys=RoleKeys({**role_keys().keys, "everything": (key("x"),)}))


def test_a_policy_role_signs_policies() -> None:
    publisher = Publisher(keys=RoleKeys({**role_keys().keys, "policy": (key("policy"),)}))
    publisher.add("policy/ceilings.yaml", b"ceilings")
    publisher.publish()
    release = open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)
    assert release.target("policy/ceilings.yaml").role == "policy"


class FileFetcher(FetcherInterface):
    """Serves a mapping to python-tuf's public client."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadHTTPError("not found", 404)
        return iter([self.files[name]])


def test_a_standard_client_reads_the_repository(tmp_path: Path) -> None:
    """The public client has the wall clock, so this repository is made now."""
    publisher = Publisher(now=datetime.now(UTC))
    publisher.add(BUNDLE, b"index", {"team": "default"})
    publisher.files = rotate_root(publisher.files, publisher.keys, publisher.keys, publisher.now)
    publisher.publish()
    client = Updater(
        str(tmp_path),
        "https://repository.invalid/",
        fetcher=FileFetcher(publisher.files),
        config=UpdaterConfig(),
        bootstrap=publisher.root,
    )
    client.refresh()
    target = client.get_targetinfo(BUNDLE)
    assert target is not None
    target.verify_length_and_hashes(b"index")
    assert client.get_targetinfo(bundle_path("evil", "6.6.6")) is None
