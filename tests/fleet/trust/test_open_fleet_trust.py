"""The fleet's own document in a release: the numbers are those of `open_fleet_trust`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.targets import TRUST_PATH
from fleet.trust import (
    SIGNED_AT_FIELD,
    Profile,
    encode_fleet_trust,
    open_fleet_trust,
    parse_fleet_trust,
)
from tests.fakes.publisher import NOW, Publisher, fleet_trust, key
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    pass
from tests.fleet.trust.conftest import JSON, edit, opened, refused


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
