"""Releases are refused file by file: the numbers up to 7 of `open_release`, root to targets."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fleet import metadata
from fleet.errors import Code
from fleet.release import RoleKeys, rotate_root
from fleet.targets import bundle_path
from fleet.trust import (
    Profile,
)
from tests.fakes.publisher import NOW, Publisher, key, role_keys

if TYPE_CHECKING:
    pass
from tests.fleet.trust.conftest import BUNDLE, GRANT, edit, expire, opened, refused, renamed, snapshot_of, targets_of


def test_a_release_lists_what_the_responsible_roles_signed(repository: Publisher) -> None:
    release = opened(repository)
    bundle, grant = release.target(BUNDLE), release.target(GRANT)
    assert (bundle.role, bundle.approvers, dict(bundle.custom)) == (
        "code-default",
        (key("code-default").key_id,),
        {"imports": 3},
    )
    assert (grant.role, grant.length, grant.check(b"grant")) == ("grants-default", 5, b"grant")
    assert [target.path for target in release.targets("bundles/")] == [BUNDLE]
    assert release.profile is Profile.DEV
    assert release.versions["grants-default"] == 2
    assert release.expires == NOW + timedelta(days=365)


def test_a_release_keeps_exactly_the_files_it_verified(repository: Publisher) -> None:
    release = opened(repository, files={**repository.files, "9.code-default.json": b"x", "nonsense": b"y"})
    assert dict(release.files) == repository.files
    assert opened(repository, files=release.files) == release


def test_reference_time_is_the_argument_and_not_the_clock(repository: Publisher) -> None:
    # pins the one private attribute of python-tuf that the adapter sets
    assert opened(repository, now=NOW - timedelta(days=3650)).profile is Profile.DEV
    refused(Code.TRUST_EXPIRED, repository, now=NOW + timedelta(days=365))


def test_1_number_of_files(repository: Publisher) -> None:
    refused(Code.LIMIT_EXCEEDED, repository, files=dict.fromkeys(map(str, range(metadata.MAX_FILES + 1)), b""))


def test_1_bytes_of_one_file(repository: Publisher) -> None:
    repository.files["timestamp.json"] += b" " * metadata.MAX_METADATA
    refused(Code.LIMIT_EXCEEDED, repository)


def test_1_bytes_of_all_files(repository: Publisher) -> None:
    filler = {f"{number}.filler.json": b" " * metadata.MAX_METADATA for number in range(5)}
    refused(Code.LIMIT_EXCEEDED, repository, files=repository.files | filler)


def test_2_the_pinned_root_must_be_a_root(repository: Publisher) -> None:
    for pin in (b"", b"{}", repository.files["timestamp.json"]):
        refused(Code.TRUST_INVALID, repository, root=pin)


def test_2_another_pin_does_not_accept_the_repository(repository: Publisher) -> None:
    other = Publisher(keys=role_keys(timestamp=key("other")))
    refused(Code.TRUST_INVALID, repository, root=other.root)


def rotated(publisher: Publisher, new: RoleKeys) -> None:
    publisher.files = rotate_root(publisher.files, publisher.keys, new, NOW)
    publisher.keys = new
    publisher.publish()


def test_2_a_root_signed_by_old_and_new_root_keys_is_followed(repository: Publisher) -> None:
    rotated(repository, role_keys(root=key("root-2"), timestamp=key("timestamp-2")))
    rotated(repository, role_keys(root=key("root-3"), timestamp=key("timestamp-2")))
    release = opened(repository)
    assert release.versions["root"] == 3
    assert {"1.root.json", "2.root.json", "3.root.json"} <= release.files.keys()


@pytest.mark.parametrize("signer", ["root", "root-2", "thief"])
def test_2_a_root_signed_by_one_side_only_is_refused(repository: Publisher, signer: str) -> None:
    rotated(repository, role_keys(root=key("root-2")))
    edit(repository, "2.root.json", lambda _: None, key(signer))
    refused(Code.TRUST_INVALID, repository)


def test_2_a_root_of_another_version_is_refused(repository: Publisher) -> None:
    rotated(repository, repository.keys)
    repository.files["2.root.json"] = repository.files["1.root.json"]
    refused(Code.TRUST_INVALID, repository)


def test_2_rotations_have_a_limit(repository: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_ROOT_ROTATIONS", 2)
    for _ in range(2):
        rotated(repository, repository.keys)
    adopted = opened(repository).files
    for _ in range(2):
        rotated(repository, repository.keys)
    refused(Code.LIMIT_EXCEEDED, repository)
    assert opened(repository, previous=adopted).versions["root"] == 5  # what was climbed once counts no more


def test_2_an_adopted_root_cannot_be_withheld(repository: Publisher) -> None:
    before = dict(repository.files)
    rotated(repository, role_keys(timestamp=key("timestamp-2")))
    adopted = opened(repository).files
    refused(Code.TRUST_INVALID, repository, files=before, previous=adopted)


def test_2_a_damaged_adopted_root_gives_way_to_a_good_one(repository: Publisher) -> None:
    rotated(repository, repository.keys)
    adopted = {**opened(repository).files, "2.root.json": b"damaged"}
    assert opened(repository, previous=adopted).versions["root"] == 2
    without = {name: data for name, data in repository.files.items() if name != "2.root.json"}
    assert opened(repository, files=without, previous=adopted).versions["root"] == 1


def test_3_a_development_root_is_refused_unless_allowed(repository: Publisher) -> None:
    refused(Code.DEV_PROFILE_REFUSED, repository, allow_dev=False)


@pytest.mark.parametrize("field", ["staging", 1, ""])
def test_3_an_unknown_profile_is_refused(repository: Publisher, field: object) -> None:
    edit(repository, "1.root.json", lambda root: root.unrecognized_fields.update({"x-fleet-profile": field}))
    refused(Code.TRUST_INVALID, repository, root=repository.files["1.root.json"])


def test_3_file_names_carry_versions(repository: Publisher) -> None:
    edit(repository, "1.root.json", lambda root: setattr(root, "consistent_snapshot", False))
    refused(Code.TRUST_INVALID, repository, root=repository.files["1.root.json"])


def test_4_an_expired_root(repository: Publisher) -> None:
    edit(repository, "1.root.json", expire)
    refused(Code.TRUST_EXPIRED, repository, root=repository.files["1.root.json"])


def test_5_an_unsigned_timestamp(repository: Publisher) -> None:
    edit(repository, "timestamp.json", lambda _: None, key("thief"))
    refused(Code.TRUST_INVALID, repository)


def test_5_a_missing_timestamp(repository: Publisher) -> None:
    del repository.files["timestamp.json"]
    refused(Code.TRUST_INVALID, repository)


def test_5_an_expired_timestamp(repository: Publisher) -> None:
    edit(repository, "timestamp.json", expire)
    refused(Code.TRUST_EXPIRED, repository)


def test_5_an_older_timestamp(repository: Publisher) -> None:
    old = dict(repository.files)
    repository.publish()
    refused(Code.TRUST_ROLLBACK, repository, files=old, previous=opened(repository).files)


def test_5_another_timestamp_of_the_same_version_does_not_replace_the_adopted_one(repository: Publisher) -> None:
    adopted = opened(repository).files
    edit(repository, "timestamp.json", lambda timestamp: setattr(timestamp, "expires", NOW + timedelta(days=900)))
    assert opened(repository, previous=adopted).files["timestamp.json"] == adopted["timestamp.json"]


def test_5_the_adopted_timestamp_expires_too(repository: Publisher) -> None:
    adopted = opened(repository).files
    refused(Code.TRUST_EXPIRED, repository, previous=adopted, now=NOW + timedelta(days=400))


def test_5_a_revoked_timestamp_key_does_not_hold_the_fleet_hostage(repository: Publisher) -> None:
    # a thief of the old key fast-forwarded the version as far as it goes (TUF 5.3.11)
    stolen = Publisher(keys=repository.keys)
    edit(stolen, "timestamp.json", lambda timestamp: setattr(timestamp, "version", 2**31))
    adopted = opened(stolen).files
    refused(Code.TRUST_ROLLBACK, repository, previous=adopted)
    rotated(repository, role_keys(timestamp=key("timestamp-2")))
    assert opened(repository, previous=adopted).versions["root"] == 2


def test_6_a_snapshot_that_the_timestamp_does_not_name(repository: Publisher) -> None:
    edit(repository, snapshot_of(repository), lambda snapshot: setattr(snapshot, "expires", NOW + timedelta(days=1)))
    refused(Code.TRUST_INVALID, repository)


def test_6_a_missing_snapshot(repository: Publisher) -> None:
    del repository.files[snapshot_of(repository)]
    refused(Code.TRUST_INVALID, repository)


def test_6_an_unsigned_snapshot(repository: Publisher) -> None:
    renamed(repository, lambda _: None, key("thief"))
    refused(Code.TRUST_INVALID, repository)


def test_6_an_expired_snapshot(repository: Publisher) -> None:
    renamed(repository, expire)
    refused(Code.TRUST_EXPIRED, repository)


def test_6_a_snapshot_with_an_older_role(repository: Publisher) -> None:
    adopted = opened(repository).files
    old_role = repository.files["2.code-default.json"]
    repository.add(bundle_path("other", "1.0.0"), b"x")
    repository.publish()
    newer = opened(repository, previous=adopted).files
    del repository.files["3.code-default.json"]
    repository.files["2.code-default.json"] = old_role
    repository.publish()
    refused(Code.TRUST_ROLLBACK, repository, previous=newer)


def test_6_a_snapshot_without_an_adopted_role(repository: Publisher) -> None:
    adopted = opened(repository).files
    repository.publish()
    renamed(repository, lambda snapshot: snapshot.meta.pop("grants-default.json"))
    refused(Code.TRUST_INVALID, repository, previous=adopted)


def test_7_targets_with_another_version_than_the_snapshot_says(repository: Publisher) -> None:
    # the snapshot's hash is right and its version wrong: only a snapshot key can do this
    name = "2.targets.json" if "2.targets.json" in repository.files else "1.targets.json"
    repository.files["9.targets.json"] = repository.files[name]
    renamed(repository, lambda snapshot: setattr(snapshot.meta["targets.json"], "version", 9))
    refused(Code.TRUST_INVALID, repository)


def test_7_targets_that_nobody_snapshotted(repository: Publisher) -> None:
    renamed(repository, lambda snapshot: snapshot.meta.pop("targets.json"))
    refused(Code.TRUST_INVALID, repository)


def test_7_unsigned_targets(repository: Publisher) -> None:
    edit(repository, targets_of(repository), lambda _: None, key("thief"))
    repository.publish()
    refused(Code.TRUST_INVALID, repository)


def test_7_expired_targets(repository: Publisher) -> None:
    edit(repository, targets_of(repository), expire)
    repository.publish()
    refused(Code.TRUST_EXPIRED, repository)
