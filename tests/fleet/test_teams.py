"""Fleets of several teams: whose keys sign what, and that no key counts for two things under another name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from fleet.errors import Code, FleetError
from fleet.grants import check_team, parse_grant
from fleet.targets import bundle_path, grant_path
from fleet.trust import Release, open_release
from tests.fakes.fleet import grant
from tests.fakes.publisher import NOW, Publisher, key
from tests.fakes.refusals import code_of
from tests.fakes.teams import team_keys

Delegations = dict[str, Any]


def opened(publisher: Publisher) -> Release:
    return open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)


def refusal(publisher: Publisher) -> Code:
    with pytest.raises(FleetError) as caught:
        opened(publisher)
    return caught.value.code


def with_delegations(publisher: Publisher, change: Callable[[Delegations], None]) -> Publisher:
    """Change the raw delegations as the holders of the targets keys could, and publish."""
    name = next(name for name in publisher.files if name.endswith(".targets.json"))
    raw = json.loads(publisher.files[name])
    change(raw["signed"]["delegations"])
    document = Metadata.from_bytes(json.dumps(raw).encode())
    document.signatures.clear()
    signer = key("targets").private
    document.sign(CryptoSigner(signer, SSlibKey.from_crypto(signer.public_key())))
    publisher.files[name] = document.to_bytes(JSONSerializer(compact=True))
    publisher.publish()
    return publisher


def role(raw: Delegations, name: str) -> Delegations:
    return next(item for item in raw["roles"] if item["name"] == name)


def test_two_teams_may_publish_a_bundle_of_one_name() -> None:
    publisher = Publisher(keys=team_keys("vision"))
    ours, theirs = bundle_path("context-agent", "1.0.0"), bundle_path("context-agent", "1.0.0", "vision")
    publisher.add(ours, b"ours")
    publisher.add(theirs, b"theirs")
    publisher.publish()
    release = opened(publisher)
    assert (release.target(ours).role, release.target(theirs).role) == ("code-default", "code-vision")
    assert release.target(ours).digest != release.target(theirs).digest


@pytest.mark.parametrize("path", [bundle_path("evil", "1.0.0", "vision"), grant_path("app/one", 1, "vision")])
def test_a_team_lists_nothing_in_the_folder_of_another(path: str) -> None:
    publisher = Publisher(keys=team_keys("vision"))
    publisher.add(bundle_path("honest", "1.0.0"), b"index")
    name = "2.code-default.json"
    document = Metadata.from_bytes(publisher.files[name])
    document.signed.targets[path] = next(iter(document.signed.targets.values()))
    document.signatures.clear()
    signer = key("code-default").private
    document.sign(CryptoSigner(signer, SSlibKey.from_crypto(signer.public_key())))
    publisher.files[name] = document.to_bytes(JSONSerializer(compact=True))
    publisher.publish()
    release = opened(publisher)
    assert path not in release.documents
    assert code_of(release.target, path) is Code.TARGET_UNSIGNED


@pytest.mark.parametrize(
    ("code", "grants"),
    [("code_default", "grants_vision"), ("code_vision", "grants_default"), ("code_vision", "grants_vision")],
)
def test_a_code_key_of_any_team_signs_grants_of_none(code: str, grants: str) -> None:
    shared = key("shared")
    assert refusal(Publisher(keys=team_keys("vision", **{code: shared, grants: shared}))) is Code.TRUST_INVALID


def test_one_person_may_sign_code_of_two_teams() -> None:
    publisher = Publisher(keys=team_keys("vision", code_vision=key("code-default")))
    assert opened(publisher).role_keys["code-vision"] == {key("code-default").public}


@pytest.mark.parametrize("spell", [str, str.upper])
def test_keys_are_told_apart_by_their_material_and_not_by_their_ids(spell: Callable[[str], str]) -> None:
    def smuggle(raw: Delegations) -> None:
        held = raw["keys"][role(raw, "code-default")["keyids"][0]]
        raw["keys"]["innocent"] = {**held, "keyval": {"public": spell(held["keyval"]["public"])}}
        role(raw, "grants-vision")["keyids"] = ["innocent"]

    assert refusal(with_delegations(Publisher(keys=team_keys("vision")), smuggle)) is Code.TRUST_INVALID


def test_a_role_is_not_delegated_below_a_team() -> None:
    publisher = Publisher(keys=team_keys("vision"))
    name = "1.code-vision.json"
    document = Metadata.from_bytes(publisher.files[name])
    parent = Metadata.from_bytes(next(data for n, data in publisher.files.items() if n.endswith(".targets.json")))
    document.signed.delegations = parent.signed.delegations
    document.signatures.clear()
    signer = key("code-vision").private
    document.sign(CryptoSigner(signer, SSlibKey.from_crypto(signer.public_key())))
    publisher.files[name] = document.to_bytes(JSONSerializer(compact=True))
    publisher.publish()
    assert refusal(publisher) is Code.TRUST_INVALID


FOREIGN = b"bundle: {name: one, role: code-vision,"


@pytest.mark.parametrize(
    ("document", "grants_role", "code_role", "applies"),
    [
        (grant("app/one", "one"), "grants-default", "code-default", True),
        (grant("app/one", "one"), "grants-default", "code-vision", False),
        (grant("app/one", "one"), "grants-vision", "code-vision", True),
        (grant("app/one", "one").replace(b"bundle: {name: one,", FOREIGN), "grants-default", "code-vision", True),
        (grant("app/one", "one").replace(b"bundle: {name: one,", FOREIGN), "grants-default", "code-default", False),
    ],
)
def test_a_grant_is_for_its_own_teams_bundles_unless_it_names_the_role(
    document: bytes, grants_role: str, code_role: str, *, applies: bool
) -> None:
    parsed = parse_grant(document, "grant.yaml")
    if applies:
        check_team(parsed, grants_role, code_role)
        return
    with pytest.raises(FleetError) as caught:
        check_team(parsed, grants_role, code_role)
    assert (caught.value.code, caught.value.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "bundle.role")


@pytest.mark.parametrize("named", [b"grants-vision", b"code-", b"code-Vision", b"targets"])
def test_a_grant_names_only_a_code_role(named: bytes) -> None:
    document = grant("app/one", "one").replace(b"bundle: {name: one,", b"bundle: {name: one, role: %b," % named)
    assert code_of(parse_grant, document, "grant.yaml") is Code.GRANT_INVALID
