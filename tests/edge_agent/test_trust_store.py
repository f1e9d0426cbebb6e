"""Adopting is gated by signatures, expiry and rollback; what was adopted opens for ever."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from edge_agent.disk import replace_file
from edge_agent.trust_store import TrustStore
from fleet.errors import Code, FleetError
from fleet.release import RoleKeys
from fleet.targets import CEILINGS_PATH, TRUST_PATH
from fleet.trust import Profile, encode_fleet_trust
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.publisher import NOW, Publisher, fleet_trust, key, role_keys
from tests.fakes.refusals import code_of

FOLDER = Path("/node/trust")
YEARS_LATER = NOW + timedelta(days=3_000)


def pinned(publisher: Publisher) -> MemoryDisk:
    disk = MemoryDisk()
    replace_file(disk, FOLDER / "root.json", publisher.root)
    return disk


def store(disk: MemoryDisk, *, allow_dev_profile: bool = True) -> TrustStore:
    return TrustStore(disk, FOLDER, allow_dev_profile=allow_dev_profile)


def newer(publisher: Publisher) -> dict[str, bytes]:
    publisher.add("grants/default/app/one/1.yaml", b"a grant")
    publisher.publish()
    return dict(publisher.files)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def test_what_was_adopted_opens_from_disk_years_later(publisher: Publisher) -> None:
    disk = pinned(publisher)
    adopted = store(disk).adopt(publisher.files, publisher.documents, NOW)
    again = store(disk).load()
    assert again is not None
    assert again == adopted
    assert again.fleet.fleet == "demo"


def test_nothing_adopted_is_nothing(publisher: Publisher) -> None:
    assert store(pinned(publisher)).load() is None


def test_without_a_pinned_root_nothing_is_trusted(publisher: Publisher) -> None:
    assert code_of(store(MemoryDisk()).load) is Code.TRUST_INVALID
    assert code_of(store(MemoryDisk()).adopt, publisher.files, publisher.documents, NOW) is Code.TRUST_INVALID


def test_expired_metadata_is_not_adopted(publisher: Publisher) -> None:
    trust = store(pinned(publisher))
    assert code_of(trust.adopt, publisher.files, publisher.documents, YEARS_LATER) is Code.TRUST_EXPIRED
    assert trust.adopted is None


def test_a_clock_that_was_set_back_makes_nothing_valid_again(publisher: Publisher) -> None:
    disk = pinned(publisher)
    store(disk).adopt(publisher.files, publisher.documents, NOW)
    trust = store(disk)
    trust.load()
    assert trust.floor(NOW - timedelta(days=999)) == NOW
    assert trust.floor(YEARS_LATER) == YEARS_LATER


def test_a_clock_that_was_set_back_adopts_nothing_expired(publisher: Publisher) -> None:
    trust = store(pinned(publisher))
    late = trust.check(publisher.files, NOW).expires - timedelta(seconds=1)
    trust.adopt(publisher.files, publisher.documents, late)
    publisher.now = NOW - timedelta(days=1)
    expired = newer(publisher)
    assert code_of(trust.check, expired, NOW) is Code.TRUST_EXPIRED


def test_a_fleet_document_that_was_exchanged_on_disk_is_not_believed(publisher: Publisher) -> None:
    disk = pinned(publisher)
    store(disk).adopt(publisher.files, publisher.documents, NOW)
    thief = encode_fleet_trust(fleet_trust(director=key("thief")))
    path = FOLDER / "metadata.json"
    stored = disk.read(path, 0, 10**6)
    exchanged = stored.replace(base64.b64encode(publisher.document), base64.b64encode(thief))
    assert exchanged != stored
    replace_file(disk, path, exchanged)
    assert code_of(store(disk).load) is Code.DIGEST_MISMATCH


def test_an_older_release_is_refused(publisher: Publisher) -> None:
    old, trust = dict(publisher.files), store(pinned(publisher))
    trust.adopt(newer(publisher), publisher.documents, NOW)
    assert code_of(trust.adopt, old, publisher.documents, NOW) is Code.TRUST_ROLLBACK
    assert trust.adopted is not None
    assert trust.adopted.release.target("grants/default/app/one/1.yaml")


def test_a_rollback_is_refused_after_a_restart_too(publisher: Publisher) -> None:
    disk, old = pinned(publisher), dict(publisher.files)
    store(disk).adopt(newer(publisher), publisher.documents, NOW)
    trust = store(disk)
    trust.load()
    assert code_of(trust.check, old, NOW) is Code.TRUST_ROLLBACK


def test_another_fleet_document_is_refused(publisher: Publisher) -> None:
    trust = store(pinned(publisher))
    assert code_of(trust.adopt, publisher.files, {TRUST_PATH: publisher.document + b" "}, NOW) is Code.DIGEST_MISMATCH


def test_the_development_profile_must_be_allowed(publisher: Publisher) -> None:
    trust = store(pinned(publisher), allow_dev_profile=False)
    assert code_of(trust.adopt, publisher.files, publisher.documents, NOW) is Code.DEV_PROFILE_REFUSED
    production = Publisher(Profile.PRODUCTION)
    store(pinned(production), allow_dev_profile=False).adopt(production.files, production.documents, NOW)


def test_too_many_files_are_refused(publisher: Publisher) -> None:
    files = {f"{number}.root.json": b"" for number in range(2_000)}
    assert code_of(store(pinned(publisher)).check, files, NOW) is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("spoil", [b"", b"{}", b'{"schema":"fleet.adopted/v1"}', b"\xff"])
def test_a_spoiled_file_is_not_believed(publisher: Publisher, spoil: bytes) -> None:
    disk = pinned(publisher)
    store(disk).adopt(publisher.files, publisher.documents, NOW)
    disk.write(FOLDER / "metadata.json", spoil, 0)
    assert code_of(store(disk).load) is Code.TRUST_INVALID


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_at_any_write_leaves_the_old_release_or_the_new_one(publisher: Publisher, seed: int) -> None:
    old, new = dict(publisher.files), newer(publisher)
    for cut_at in range(1, 7):
        disk = pinned(publisher)
        trust = store(disk)
        trust.adopt(old, publisher.documents, NOW)
        disk.operations, disk.cut_at = 0, cut_at
        expected = {2}
        try:
            trust.adopt(new, publisher.documents, NOW)
        except PowerCutError:
            expected = {1, 2}
        found = store(disk.after_power_cut(Random(seed))).load()
        assert found is not None
        assert found.release.versions["timestamp"] in expected


def test_refusals_leave_what_is_adopted(publisher: Publisher) -> None:
    trust = store(pinned(publisher))
    before = trust.adopt(publisher.files, publisher.documents, NOW)
    with pytest.raises(FleetError):
        trust.adopt({"timestamp.json": b"{}"}, publisher.documents, NOW)
    assert trust.adopted is before


CEILINGS = b"schema: fleet.ceilings/v1\nceilings: [{name: all, caps: {'wasi:logging/logging': []}}]\n"


@pytest.fixture
def policed() -> Publisher:
    """A publisher with a policy role."""
    return Publisher(keys=RoleKeys({**role_keys().keys, "policy": (key("policy"),)}))


def test_3_the_fleets_ceilings_are_kept_and_read_again(policed: Publisher) -> None:
    disk = pinned(policed)
    assert store(disk).adopt(policed.files, policed.documents, NOW).ceilings is None
    policed.add(CEILINGS_PATH, CEILINGS)
    policed.publish()
    adopted = store(disk).adopt(policed.files, policed.documents, NOW)
    assert adopted.ceilings is not None
    assert adopted.ceilings.on({})[0].authority.capabilities.keys() == {"wasi:logging/logging"}
    again = store(disk).load()
    assert again is not None
    assert again.ceilings == adopted.ceilings


@pytest.mark.parametrize("spoiled", [b"ceilings: [", CEILINGS.replace(b"wasi:logging", b"wasi:unknown"), b""])
def test_3_a_ceiling_that_cannot_be_read_is_never_taken_for_none(policed: Publisher, spoiled: bytes) -> None:
    disk = pinned(policed)
    policed.add(CEILINGS_PATH, CEILINGS)
    policed.publish()
    trust = store(disk)
    adopted = trust.adopt(policed.files, policed.documents, NOW)
    policed.add(CEILINGS_PATH, spoiled)
    policed.publish()
    assert code_of(trust.adopt, policed.files, policed.documents, NOW) is Code.GRANT_INVALID
    assert trust.adopted == adopted
    kept = {TRUST_PATH: policed.document}
    assert code_of(trust.adopt, policed.files, kept, NOW) is Code.BLOB_MISSING


def test_a_file_from_before_there_were_policies_opens(publisher: Publisher) -> None:
    disk = pinned(publisher)
    adopted = store(disk).adopt(publisher.files, publisher.documents, NOW)
    path = FOLDER / "metadata.json"
    kept = json.loads(disk.read(path, 0, 10**6))
    first = {
        "schema": "fleet.adopted/v1",
        "adopted_at_ms": kept["adopted_at_ms"],
        "fleet": kept["documents"][TRUST_PATH],
        "files": kept["files"],
    }
    replace_file(disk, path, json.dumps(first).encode())
    assert store(disk).load() == adopted


def test_a_release_without_the_document_that_every_node_needs_is_refused(publisher: Publisher) -> None:
    trust = store(pinned(publisher))
    assert code_of(trust.adopt, publisher.files, {}, NOW) is Code.BLOB_MISSING
