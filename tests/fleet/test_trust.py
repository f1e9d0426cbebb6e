"""The release repository as a node sees it: one failing case per numbered check, then attacks as whole stories."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from fleet import metadata
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.release import RoleKeys, add_target, publish, renew, rotate_root
from fleet.targets import BREAK_GLASS_ROLE, TRUST_PATH, bundle_path, grant_path
from fleet.trust import (
    MAX_TARGET,
    SIGNED_AT_FIELD,
    Profile,
    Release,
    encode_fleet_trust,
    open_fleet_trust,
    open_release,
    parse_fleet_trust,
)
from tests.fakes.publisher import NOW, Publisher, fleet_trust, key, role_keys
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from fleet.signing import SigningKey

BUNDLE = bundle_path("context-agent", "1.0.0")
GRANT = grant_path("climate/context", 1)


@pytest.fixture
def repository() -> Publisher:
    publisher = Publisher()
    publisher.add(BUNDLE, b"index", {"imports": 3})
    publisher.add(GRANT, b"grant")
    publisher.publish()
    return publisher


def opened(publisher: Publisher, **changes: object) -> Release:
    arguments = {"root": publisher.root, "now": NOW, "allow_dev": True, **changes}
    files = arguments.pop("files", publisher.files)
    return open_release(files, **arguments)


def refused(code: Code, publisher: Publisher, **changes: object) -> FleetError:
    with pytest.raises(FleetError) as caught:
        opened(publisher, **changes)
    assert caught.value.code is code
    return caught.value


def signed_by(*keys: SigningKey) -> list[CryptoSigner]:
    return [CryptoSigner(item.private, SSlibKey.from_crypto(item.private.public_key())) for item in keys]


def edit(
    publisher: Publisher, name: str, change: Callable[[Root | Targets | Snapshot | Timestamp], None], *keys: SigningKey
) -> None:
    """Change the signed part of one file and sign it again, by default with the role's own keys."""
    document = Metadata.from_bytes(publisher.files[name])
    change(document.signed)
    document.signatures.clear()
    role = name.removesuffix(".json").rpartition(".")[2]
    for signer in signed_by(*(keys or publisher.keys.of(role))):
        document.sign(signer, append=True)
    publisher.files[name] = document.to_bytes(JSONSerializer(compact=True))


def edit_targets(publisher: Publisher, change: Callable[[Targets], None]) -> None:
    """Change the top-level targets and publish the result, all with the right keys."""
    edit(publisher, "1.targets.json" if "1.targets.json" in publisher.files else "2.targets.json", change)
    publisher.publish()


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


# The numbers are those of open_release.


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


def expire(signed: Root | Targets | Snapshot | Timestamp) -> None:
    signed.expires = NOW - timedelta(seconds=1)


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


def snapshot_of(publisher: Publisher) -> str:
    return next(name for name in publisher.files if name.endswith(".snapshot.json"))


def test_6_a_snapshot_that_the_timestamp_does_not_name(repository: Publisher) -> None:
    edit(repository, snapshot_of(repository), lambda snapshot: setattr(snapshot, "expires", NOW + timedelta(days=1)))
    refused(Code.TRUST_INVALID, repository)


def test_6_a_missing_snapshot(repository: Publisher) -> None:
    del repository.files[snapshot_of(repository)]
    refused(Code.TRUST_INVALID, repository)


def renamed(publisher: Publisher, change: Callable[[Snapshot], None], *keys: SigningKey) -> None:
    """Change the snapshot and let the timestamp follow, as a thief of the timestamp key would."""
    name = snapshot_of(publisher)
    edit(publisher, name, change, *keys)
    data = publisher.files[name]
    meta = MetaFile.from_data(int(name.partition(".")[0]), data, ["sha256"])
    edit(publisher, "timestamp.json", lambda timestamp: setattr(timestamp, "snapshot_meta", meta))


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


def targets_of(publisher: Publisher) -> str:
    return next(name for name in publisher.files if name.endswith(".targets.json"))


def test_7_expired_targets(repository: Publisher) -> None:
    edit(repository, targets_of(repository), expire)
    repository.publish()
    refused(Code.TRUST_EXPIRED, repository)


def delegation(publisher: Publisher, change: Callable[[dict[str, object]], None]) -> None:
    """Change the raw delegations, sign and publish with the right keys."""
    name = targets_of(publisher)
    raw = json.loads(publisher.files[name])
    change(raw["signed"]["delegations"])
    publisher.files[name] = json.dumps(raw).encode()
    edit(publisher, name, lambda _: None)
    publisher.publish()


def test_8_a_delegation_that_is_not_terminating(repository: Publisher) -> None:
    delegation(repository, lambda raw: raw["roles"][0].update(terminating=False))
    refused(Code.TRUST_INVALID, repository)


def test_8_a_role_that_no_fleet_has(repository: Publisher) -> None:
    delegation(repository, lambda raw: raw["roles"][0].update(name="everything"))
    repository.files["1.everything.json"] = repository.files["2.code-default.json"]
    refused(Code.TRUST_INVALID, repository)


def test_8_a_role_with_paths_of_another(repository: Publisher) -> None:
    delegation(repository, lambda raw: raw["roles"][0].update(paths=["grants/default/*/*/*"]))
    refused(Code.TRUST_INVALID, repository)


def test_8_a_role_with_hash_prefixes(repository: Publisher) -> None:
    def change(raw: dict[str, object]) -> None:
        del raw["roles"][0]["paths"]
        raw["roles"][0]["path_hash_prefixes"] = ["a"]

    delegation(repository, change)
    refused(Code.TRUST_INVALID, repository)


def test_8_succinct_delegations(repository: Publisher) -> None:
    def change(raw: dict[str, object]) -> None:
        del raw["roles"]
        raw["succinct_roles"] = {"keyids": [], "threshold": 1, "bit_length": 1, "name_prefix": "code"}

    delegation(repository, change)
    refused(Code.TRUST_INVALID, repository)


def test_8_a_role_named_twice(repository: Publisher) -> None:
    name = targets_of(repository)
    raw = json.loads(repository.files[name])
    raw["signed"]["delegations"]["roles"] *= 2
    repository.files[name] = json.dumps(raw).encode()
    renamed(
        repository,
        lambda snapshot: snapshot.meta.update(
            {"targets.json": MetaFile.from_data(int(name[0]), repository.files[name], ["sha256"])}
        ),
    )
    refused(Code.TRUST_INVALID, repository)


def test_8_a_repository_without_delegations_lists_only_trust() -> None:
    publisher = Publisher(keys=RoleKeys({role: (key(role),) for role in ("root", "targets", "snapshot", "timestamp")}))
    edit_targets(publisher, lambda targets: setattr(targets, "delegations", None))
    assert [target.path for target in opened(publisher).targets("")] == [TRUST_PATH]


def test_9_a_key_that_signs_code_and_grants() -> None:
    refused(Code.TRUST_INVALID, Publisher(keys=role_keys(grants_default=key("code-default"))))


@pytest.mark.parametrize("threshold", [1, 2])
def test_9_one_key_under_two_ids(threshold: int) -> None:
    publisher = Publisher()

    def change(raw: dict[str, object]) -> None:
        role = next(item for item in raw["roles"] if item["name"] == "grants-default")
        raw["keys"]["another-id"] = raw["keys"][role["keyids"][0]]
        role["keyids"].append("another-id")
        role["threshold"] = threshold

    delegation(publisher, change)
    refused(Code.TRUST_INVALID, publisher)


def test_9_a_key_that_is_not_listed() -> None:
    publisher = Publisher()
    delegation(publisher, lambda raw: raw["roles"][0]["keyids"].append("unknown"))
    refused(Code.TRUST_INVALID, publisher)


def test_9_a_key_of_another_algorithm() -> None:
    publisher = Publisher()
    other = SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key())

    def change(raw: dict[str, object]) -> None:
        raw["keys"][other.keyid] = other.to_dict()
        raw["roles"][0]["keyids"].append(other.keyid)

    delegation(publisher, change)
    refused(Code.TRUST_INVALID, publisher)


def test_9_an_ed25519_key_under_another_name() -> None:
    publisher = Publisher()

    def change(raw: dict[str, object]) -> None:
        raw["keys"]["odd"] = {
            "keytype": "ecdsa",
            "scheme": "ecdsa-sha2-nistp256",
            "keyval": {"public": key("odd").public.hex},
        }
        raw["roles"][0]["keyids"].append("odd")

    delegation(publisher, change)
    refused(Code.TRUST_INVALID, publisher)


def test_9_production_grants_take_two_approvers() -> None:
    keys = role_keys(Profile.PRODUCTION)
    assert opened(Publisher(Profile.PRODUCTION), allow_dev=False).profile is Profile.PRODUCTION
    refused(Code.TRUST_INVALID, Publisher(Profile.PRODUCTION, keys=dataclasses.replace(keys, thresholds={})))


def with_emergencies(profile: Profile = Profile.DEV, holder: str = "emergency") -> Publisher:
    keys = role_keys(profile)
    emergency = {BREAK_GLASS_ROLE: (key(holder),), "policy": (key("policy"),)}
    return Publisher(profile, keys=dataclasses.replace(keys, keys={**keys.keys, **emergency}))


def test_9_emergency_grants_take_one_approver() -> None:
    release = opened(with_emergencies(Profile.PRODUCTION), allow_dev=False)
    assert release.role_keys[BREAK_GLASS_ROLE] == {key("emergency").public}


@pytest.mark.parametrize(
    "role", ["root", "targets", "snapshot", "timestamp", "code-default", "grants-default", "policy"]
)
def test_9_a_key_for_emergencies_is_one_of_no_other_role(role: str) -> None:
    message = refused(Code.TRUST_INVALID, with_emergencies(holder=role)).private
    assert role in message or message == "a key may sign both code and grants"


def test_9_nor_is_it_under_another_id() -> None:
    publisher = with_emergencies()

    def change(raw: dict[str, object]) -> None:
        roles = {item["name"]: item for item in raw["roles"]}
        raw["keys"]["another-id"] = raw["keys"][roles["code-default"]["keyids"][0]]
        roles[BREAK_GLASS_ROLE]["keyids"] = ["another-id"]

    delegation(publisher, change)
    refused(Code.TRUST_INVALID, publisher)


def test_10_a_role_that_the_coordinator_signed_itself(repository: Publisher) -> None:
    edit(repository, "2.grants-default.json", lambda _: None, key("director"))
    repository.publish()  # even with the publisher's keys
    refused(Code.TRUST_INVALID, repository)


def test_10_an_expired_role(repository: Publisher) -> None:
    edit(repository, "2.grants-default.json", expire)
    repository.publish()
    refused(Code.TRUST_EXPIRED, repository)


def test_10_a_role_that_delegates(repository: Publisher) -> None:
    delegations = Metadata.from_bytes(repository.files[targets_of(repository)]).signed.delegations
    edit(repository, "2.code-default.json", lambda targets: setattr(targets, "delegations", delegations))
    repository.publish()
    refused(Code.TRUST_INVALID, repository)


def listed(change: Callable[[dict[str, object]], object]) -> Publisher:
    """A repository whose code role lists the bundle with a changed entry."""
    publisher = Publisher()
    publisher.add(BUNDLE, b"index")
    raw = json.loads(publisher.files["2.code-default.json"])
    change(raw["signed"]["targets"][BUNDLE])
    publisher.files["2.code-default.json"] = json.dumps(raw).encode()
    edit(publisher, "2.code-default.json", lambda _: None)
    publisher.publish()
    return publisher


@pytest.mark.parametrize(
    "entry",
    [
        {"hashes": {"sha512": "ab"}},
        {"hashes": {"sha256": "AB" * 32}},
        {"length": MAX_TARGET + 1},
        {"custom": []},
    ],
)
def test_11_a_target_without_a_usable_digest_or_length(entry: dict[str, object]) -> None:
    refused(Code.TRUST_INVALID, listed(lambda raw: raw.update(entry)))


def test_11_a_target_in_another_roles_folder_is_not_believed(repository: Publisher) -> None:
    stolen = grant_path("climate/context", 9)
    for name, role in (("2.code-default.json", "code-default"), (targets_of(repository), "targets")):
        foreign = Metadata.from_bytes(repository.files["2.grants-default.json"]).signed.targets[GRANT]
        edit(repository, name, lambda targets, foreign=foreign: targets.targets.update({stolen: foreign}))
        assert role in repository.keys.keys
    repository.publish()
    release = opened(repository)
    assert code_of(release.target, stolen) is Code.TARGET_UNSIGNED
    assert release.target(GRANT).role == "grants-default"


# Stories


def test_unsigned_code_is_not_listed(repository: Publisher) -> None:
    assert code_of(opened(repository).target, bundle_path("evil", "6.6.6")) is Code.TARGET_UNSIGNED


def test_a_document_has_the_signed_length_too(repository: Publisher) -> None:
    target = opened(repository).target(BUNDLE)
    assert target.check(b"index") == b"index"
    assert code_of(dataclasses.replace(target, length=6).check, b"index") is Code.DIGEST_MISMATCH


def test_swapped_bundle_and_widened_grant_are_other_bytes(repository: Publisher) -> None:
    release = opened(repository)
    for path, data in ((BUNDLE, b"xndex"), (GRANT, b"grant: everything")):
        assert code_of(release.target(path).check, data) is Code.DIGEST_MISMATCH


def test_one_approver_of_two_is_not_enough() -> None:
    publisher = Publisher(Profile.PRODUCTION)
    lone = RoleKeys({**publisher.keys.keys, "grants-default": (key("approver-0"),)})
    publisher.files = publish(add_target(publisher.files, lone, GRANT, b"grant", {}, NOW), lone, NOW)
    refused(Code.TRUST_INVALID, publisher, allow_dev=False)


def test_freeze_ends_when_the_timestamp_expires() -> None:
    publisher = Publisher(Profile.PRODUCTION)
    assert opened(publisher, now=NOW + timedelta(days=6), allow_dev=False)
    refused(Code.TRUST_EXPIRED, publisher, now=NOW + timedelta(days=8), allow_dev=False)


def test_mix_and_match_of_old_and_new_roles(repository: Publisher) -> None:
    old = repository.files["2.code-default.json"]
    repository.add(bundle_path("other", "1.0.0"), b"x")
    repository.publish()
    repository.files["3.code-default.json"] = old
    refused(Code.TRUST_INVALID, repository)


def test_a_withdrawn_bundle_is_gone(repository: Publisher) -> None:
    adopted = opened(repository).files
    repository.remove(BUNDLE)
    repository.publish()
    assert code_of(opened(repository, previous=adopted).target, BUNDLE) is Code.TARGET_UNSIGNED


def test_a_leaked_code_key_is_replaced(repository: Publisher) -> None:
    leaked, new = key("code-default"), key("code-default-2")

    def change(targets: Targets) -> None:
        targets.revoke_key(leaked.key_id, "code-default")
        targets.add_key(signed_by(new)[0].public_key, "code-default")
        targets.version += 1

    name = targets_of(repository)
    edit(repository, name, change)
    repository.files[f"{int(name[0]) + 1}.targets.json"] = repository.files.pop(name)
    thief = Publisher(keys=repository.keys)
    thief.files = dict(repository.files)
    repository.keys = role_keys(code_default=new)
    repository.files = renew(repository.files, repository.keys, "code-default", NOW)
    repository.publish()
    assert opened(repository).target(BUNDLE).approvers == (new.key_id,)
    thief.add(bundle_path("evil", "6.6.6"), b"x")
    thief.publish()
    refused(Code.TRUST_INVALID, thief)


def test_missing_files_are_taken_from_the_adopted_release(repository: Publisher) -> None:
    adopted = opened(repository).files
    old = set(repository.files)
    repository.publish()
    fresh = {name: data for name, data in repository.files.items() if name not in old or name == "timestamp.json"}
    assert opened(repository, files=fresh, previous=adopted) == opened(repository)


def test_back_from_disk_what_was_adopted_is_opened_as_of_then(repository: Publisher) -> None:
    adopted: Mapping[str, bytes] = opened(repository).files
    year_later: datetime = NOW + timedelta(days=400)
    refused(Code.TRUST_EXPIRED, repository, files=adopted, now=year_later)
    assert opened(repository, files=adopted, now=NOW).target(BUNDLE)


@given(st.data())
def test_no_changed_byte_of_any_file_changes_what_is_believed(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(INTACT.files)))
    content = bytearray(INTACT.files[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    files = {**INTACT.files, name: bytes(content)}
    try:
        release = opened(INTACT, files=files)
    except FleetError:
        return
    assert release.documents == INTACT_DOCUMENTS


@given(st.sampled_from(["timestamp.json", "2.root.json", "1.snapshot.json"]), st.binary(max_size=200))
def test_no_file_raises_anything_but_a_fleet_error(name: str, content: bytes) -> None:
    refused(Code.TRUST_INVALID, INTACT, files={**INTACT.files, name: content})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), JSON)
def test_no_rightly_signed_nonsense_raises_anything_but_a_fleet_error(data: st.DataObject, value: object) -> None:
    """Role keys are held by people, and one of them may be hostile: every field of signed metadata may be anything."""
    publisher = Publisher(keys=INTACT.keys)
    publisher.files = dict(INTACT.files)
    name = data.draw(st.sampled_from(sorted(publisher.files)))
    raw = json.loads(publisher.files[name])
    place: dict[str, object] = raw["signed"]
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [item for item in place.values() if isinstance(item, dict) and item]
        if inner:
            place = data.draw(st.sampled_from(inner))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    changed = json.dumps(raw).encode()
    with suppress(Exception):  # what the library cannot sign is sent with the old signature
        document = Metadata.from_bytes(changed)
        document.signatures.clear()
        for signer in signed_by(*publisher.keys.of(name.removesuffix(".json").rpartition(".")[2])):
            document.sign(signer, append=True)
        changed = document.to_bytes(JSONSerializer(compact=True))
    publisher.files[name] = changed
    version, _, role = name.removesuffix(".json").partition(".")
    if role in {"targets", "code-default", "grants-default"}:
        meta = MetaFile.from_data(int(version), changed, ["sha256"])
        renamed(publisher, lambda snapshot: snapshot.meta.update({f"{role}.json": meta}))
    code_of(lambda: opened(publisher, root=publisher.files["1.root.json"]))


INTACT = Publisher()
INTACT_DOCUMENTS = opened(INTACT).documents


# trust/fleet.json: the numbers are those of open_fleet_trust.


def test_the_fleets_keys_come_from_the_signed_document(repository: Publisher) -> None:
    trust = open_fleet_trust(opened(repository), repository.document)
    assert trust == fleet_trust()
    assert parse_fleet_trust(encode_fleet_trust(trust)) == trust


def test_trust_1_other_bytes_are_refused(repository: Publisher) -> None:
    changed = encode_fleet_trust(fleet_trust(director=key("thief")))
    assert code_of(open_fleet_trust, opened(repository), changed) is Code.DIGEST_MISMATCH


def test_trust_1_an_unlisted_document_is_refused(repository: Publisher) -> None:
    repository.remove(TRUST_PATH)
    repository.publish()
    assert code_of(open_fleet_trust, opened(repository), repository.document) is Code.TARGET_UNSIGNED


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "fleet.trust/v2"},
        {"fleet": "Not A Name"},
        {"profile": "staging"},
        {"director_keys": []},
        {"director_keys": [key("a").public.hex] * 2},
        {"director_keys": ["zz"]},
        {"director_keys": [key(str(number)).public.hex for number in range(9)]},
        {"secret_keys": [key("a").public.hex] * 2},
        {"secret_keys": ["zz"]},
        {"secret_keys": [key(str(number)).public.hex for number in range(9)]},
        {"log_vkey": "log"},
        {"node_ca": "not PEM"},
        {"more": 1},
    ],
)
def test_trust_2_a_malformed_document_is_refused(repository: Publisher, change: dict[str, object]) -> None:
    data = dump_json(json.loads(repository.document) | change)
    repository.add(TRUST_PATH, data)
    repository.publish()
    assert code_of(open_fleet_trust, opened(repository), data) is Code.TRUST_INVALID


def test_trust_3_the_profile_is_that_of_the_root(repository: Publisher) -> None:
    data = encode_fleet_trust(fleet_trust(Profile.PRODUCTION))
    repository.add(TRUST_PATH, data)
    repository.publish()
    assert code_of(open_fleet_trust, opened(repository), data) is Code.TRUST_INVALID


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "code-default", "grants-default"])
def test_trust_4_the_director_holds_no_key_of_any_role(repository: Publisher, role: str) -> None:
    data = encode_fleet_trust(fleet_trust(director=key(role)))
    repository.add(TRUST_PATH, data)
    repository.publish()
    assert code_of(open_fleet_trust, opened(repository), data) is Code.TRUST_INVALID


def test_trust_4_the_director_holds_no_key_for_secrets(repository: Publisher) -> None:
    data = encode_fleet_trust(fleet_trust(director=key("secrets")))
    repository.add(TRUST_PATH, data)
    repository.publish()
    assert code_of(open_fleet_trust, opened(repository), data) is Code.TRUST_INVALID


def test_a_fleet_without_keys_for_secrets_says_nothing_of_them() -> None:
    trust = replace(fleet_trust(), secret_keys=())
    assert b"secret_keys" not in encode_fleet_trust(trust)
    assert parse_fleet_trust(encode_fleet_trust(trust)) == trust


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_trust_document_raises_anything_but_a_fleet_error(data: bytes) -> None:
    assert code_of(parse_fleet_trust, data) is Code.TRUST_INVALID


def test_a_release_says_when_its_timestamp_was_signed(repository: Publisher) -> None:
    assert opened(repository).signed_at == NOW
    edit(repository, "timestamp.json", lambda timestamp: timestamp.unrecognized_fields.pop(SIGNED_AT_FIELD))
    assert opened(repository).signed_at is None


@pytest.mark.parametrize("noted", ["2026-06-01", -1, True, 10**18])
def test_a_signing_time_that_cannot_be_read_is_refused(repository: Publisher, noted: object) -> None:
    edit(repository, "timestamp.json", lambda timestamp: timestamp.unrecognized_fields.update({SIGNED_AT_FIELD: noted}))
    refused(Code.TRUST_INVALID, repository)


def test_the_smallest_version_of_nodes_is_read_as_it_was_written() -> None:
    trust = replace(fleet_trust(), min_node_version="1.4.0-rc.1")
    assert parse_fleet_trust(encode_fleet_trust(trust)) == trust
    assert b"min_node_version" not in encode_fleet_trust(fleet_trust())


@pytest.mark.parametrize("version", ["1", "1.4", "new", "1.4.0.0"])
def test_a_smallest_version_that_is_no_version_is_refused(version: str) -> None:
    data = encode_fleet_trust(replace(fleet_trust(), min_node_version=version))
    assert code_of(parse_fleet_trust, data) is Code.TRUST_INVALID
