"""What the release repository was at each publication, from the metadata that the log names; numbers as in `take`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.checkpoint import format_vkey
from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.publications import METADATA, Publications, documents_of
from fleet.signing import encode_base64
from fleet.targets import TRUST_PATH, bundle_path
from fleet.trust import encode_fleet_trust
from tests.fakes.published import GRANT, Repository
from tests.fakes.publisher import LOG, NOW, Publisher, fleet_trust, key
from tests.fakes.refusals import code_of


@pytest.fixture
def repository() -> Repository:
    return Repository()


def test_keys_count_from_the_publication_that_lists_them(repository: Repository) -> None:
    found = repository.verifier()
    assert found.newest is None
    assert found.take(repository.publish())
    assert found.newest is not None
    assert found.newest.trust == fleet_trust()
    successor = format_vkey(LOG, key("log-2").public)
    later = replace(fleet_trust(director=key("director-2")), log_vkeys=(successor,))
    repository.publisher.document = encode_fleet_trust(later)
    repository.publisher.add(TRUST_PATH, repository.publisher.document)
    repository.approve()
    assert found.take(repository.publish())
    assert found.newest.trust.director_keys == (key("director-2").public,)
    assert found.newest.release.documents[GRANT].approvers == (key("grants-default").public.key_id,)
    assert found.log_vkeys == {successor, *fleet_trust().log_vkeys}
    repository.publisher.remove(GRANT)
    repository.publisher.publish()
    assert found.take(repository.publish())


def test_a_leaf_says_what_it_takes_to_verify_it(repository: Repository) -> None:
    leaf = repository.publish()
    assert set(documents_of(leaf)) == set(repository.blobs)
    assert TRUST_PATH not in repository.publish().facts["added"]  # type: ignore[operator]  # a mapping


def test_1_metadata_is_named_from_the_first_time_on(repository: Repository) -> None:
    found = repository.verifier()
    assert not found.take(repository.publish(**{METADATA: None}))
    assert not found.take(repository.publish(**{METADATA: "x"}))
    assert found.take(repository.publish())
    assert code_of(found.take, repository.publish(**{METADATA: None})) is Code.AUDIT_INVALID


def test_2_what_is_named_is_at_hand_and_unchanged(repository: Repository) -> None:
    leaf = repository.publish()
    digest = documents_of(leaf)[0]
    data = repository.blobs.pop(digest)
    assert code_of(repository.verifier().take, leaf) is Code.AUDIT_INVALID
    repository.blobs[digest] = data + b" "
    assert code_of(repository.verifier().take, leaf) is Code.AUDIT_INVALID


def test_3_it_verifies_as_of_its_day_and_goes_not_back(repository: Repository) -> None:
    first = repository.publish()
    repository.approve()
    second = repository.publish()
    found = repository.verifier()
    assert found.take(first)
    assert found.take(second)
    assert code_of(found.take, first) is Code.TRUST_ROLLBACK
    late = repository.publish(NOW + timedelta(days=4_000))
    assert code_of(repository.verifier().take, late) is Code.TRUST_EXPIRED
    stranger = Publications("demo", Publisher(keys=repository.publisher.keys).root, repository.blobs.get)
    assert stranger.take(first)  # the same root, made again
    other = Publications("demo", b"{}", repository.blobs.get)
    assert code_of(other.take, first) is Code.TRUST_INVALID


def test_4_the_keys_of_the_fleet_are_at_hand_and_of_this_fleet(repository: Repository) -> None:
    leaf = repository.publish()
    assert code_of(replace_fleet(repository.verifier(), "other").take, leaf) is Code.AUDIT_INVALID
    del repository.blobs[digest_of(repository.publisher.document)]
    assert code_of(repository.verifier().take, leaf) is Code.AUDIT_INVALID


def replace_fleet(found: Publications, fleet: str) -> Publications:
    return Publications(fleet, found.root, found.read)


@pytest.mark.parametrize(
    "changed",
    [{"added": {}}, {"added": None}, {"added": {GRANT: "x"}}, {"removed": ["x"]}, {"removed": [TRUST_PATH]}],
)
def test_5_what_came_and_went_is_what_differs(repository: Repository, changed: dict[str, object]) -> None:
    found = repository.verifier()
    assert found.take(repository.publish())
    repository.approve()
    assert code_of(found.take, repository.publish(**changed)) is Code.AUDIT_INVALID


def test_5_the_first_is_compared_with_what_there_is(repository: Repository) -> None:
    gone = bundle_path("one", "1.0.0")
    assert repository.verifier().take(repository.publish(added={}, removed=[gone]))
    assert code_of(repository.verifier().take, repository.publish(removed=[TRUST_PATH])) is Code.AUDIT_INVALID
    assert code_of(repository.verifier().take, repository.publish(added={TRUST_PATH: "x"})) is Code.AUDIT_INVALID


@pytest.mark.parametrize(
    "grants",
    [
        {},
        {"digest": digest_of(b"x")},
        {"approvers": [key("thief").public.key_id]},
        {"approvers": []},
        {"document": encode_base64(b"another grant")},
    ],
)
def test_6_who_approved_is_who_signed(repository: Repository, grants: dict[str, object]) -> None:
    """A coordinator that names approvers of its own choice is found out by the metadata that they did not sign."""
    repository.approve()
    honest = repository.publish()
    repository.known = {}
    whole = honest.facts["grants"]
    assert isinstance(whole, dict)
    shown = {GRANT: {**whole[GRANT], **grants}} if grants else {}  # type: ignore[dict-item]  # a mapping
    assert repository.verifier().take(honest)
    with pytest.raises(FleetError, match="others approved") as refused:
        repository.verifier().take(repository.publish(grants=shown))
    assert refused.value.code is Code.AUDIT_INVALID
