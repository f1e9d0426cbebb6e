"""Releases are refused role by role: the numbers from 8 on of `open_release`, delegations to entries."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, MetaFile

from fleet.errors import Code
from fleet.release import RoleKeys
from fleet.targets import BREAK_GLASS_ROLE, TRUST_PATH, grant_path
from fleet.trust import (
    MAX_TARGET,
    Profile,
)
from tests.fakes.publisher import Publisher, key, role_keys
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.fleet.trust.conftest import (
    BUNDLE,
    GRANT,
    edit,
    edit_targets,
    expire,
    opened,
    refused,
    renamed,
    targets_of,
)


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
    listed = repository.files["2.code-default.json"]  # the publisher drops the files of roles that nobody delegates to
    delegation(repository, lambda raw: raw["roles"][0].update(name="everything"))
    repository.files["1.everything.json"] = listed
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
