"""What thieves try against a release, and that nothing raises anything but a FleetError."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, MetaFile, Targets
from tuf.api.serialization.json import JSONSerializer

from fleet.errors import Code, FleetError
from fleet.release import RoleKeys, add_target, publish, renew
from fleet.targets import bundle_path
from fleet.trust import (
    Profile,
)
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

from tests.fleet.trust.conftest import (
    BUNDLE,
    GRANT,
    INTACT,
    INTACT_DOCUMENTS,
    JSON,
    edit,
    opened,
    refused,
    renamed,
    signed_by,
    targets_of,
)


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
