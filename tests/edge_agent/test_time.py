"""Who can make a node believe another time: threats of a clock that is set back, and of one that is sent ahead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from edge_agent.disk import replace_file
from edge_agent.time_store import SAVE_EVERY, TimeStore
from fleet.errors import Code
from fleet.time_floor import LEAD
from fleet.times import to_ms
from fleet.trust import SIGNED_AT_FIELD
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.publisher import NOW, Publisher
from tests.fakes.refusals import code_of
from tests.fakes.whole_node import DATA, WholeNode

FAR = datetime.fromisoformat("2099-01-01T00:00:00Z")
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FOLDER = Path("/node/trust")


@pytest.fixture
def node() -> Iterator[WholeNode]:
    node = WholeNode()
    assert node.accept(node.world.assign(node.world.agent())) is None
    yield node
    node.close()


def sign_timestamp(publisher: Publisher, signed_at: object, expires: datetime | None = None) -> None:
    """Publish as the thief of the timestamp key would."""
    publisher.publish()
    document = Metadata.from_bytes(publisher.files["timestamp.json"])
    document.signed.unrecognized_fields[SIGNED_AT_FIELD] = signed_at
    document.signed.expires = expires or document.signed.expires
    document.signatures.clear()
    for signer in publisher.keys.of("timestamp"):
        private = getattr(signer, "private")  # noqa: B009 - the publisher here holds plain keys
        document.sign(CryptoSigner(private, SSlibKey.from_crypto(private.public_key())), append=True)
    publisher.files["timestamp.json"] = document.to_bytes(JSONSerializer(compact=True))


def adopts_what_is_published_next(node: WholeNode) -> bool:
    node.world.publisher.now = node.now()
    node.world.publisher.publish()
    return node.refresh() is None


def test_a_malicious_director_moves_the_time_by_a_day_however_often_it_signs(node: WholeNode) -> None:
    for generation in range(2, 12):
        order = node.world.assign(node.world.agent(), generation=generation, now=FAR + generation * DAY)
        assert node.accept(order) is None
        node.restart()
    assert node.trust.floor(NOW) <= NOW + LEAD + HOUR
    assert adopts_what_is_published_next(node)
    assert node.running() == {"app/one"}


def test_a_malicious_timestamp_role_moves_the_time_by_a_day_however_often_it_signs(node: WholeNode) -> None:
    for number in range(10):
        sign_timestamp(node.world.publisher, to_ms(FAR + number * DAY), FAR + 30 * DAY)
        assert node.refresh() is None
        node.restart()
    assert node.trust.floor(NOW) <= NOW + LEAD + HOUR
    assert adopts_what_is_published_next(node)
    assert node.running() == {"app/one"}


def test_a_clock_in_the_far_future_locks_the_node_out_only_as_long_as_it_is_wrong(node: WholeNode) -> None:
    node.set_clock(FAR)
    node.live(3 * HOUR)
    assert node.refresh() is Code.TRUST_EXPIRED
    node.restart()
    node.set_clock(NOW + 4 * HOUR)
    assert adopts_what_is_published_next(node)
    assert node.running() == {"app/one"}


def test_with_a_clock_from_1970_two_signers_tell_the_time(node: WholeNode) -> None:
    node.set_clock(datetime.fromisoformat("1970-01-01T00:00:00Z"))
    later = NOW + 60 * DAY
    node.world.publisher.now = later - HOUR
    node.world.publisher.publish()
    assert node.refresh() is None
    assert node.accept(node.world.assign(node.world.agent(), generation=2, now=later)) is None
    assert later - HOUR <= node.clock.now() <= later + HOUR
    node.restart()
    assert later - HOUR <= node.clock.now()
    stale = node.world.assign(node.world.agent(), generation=3, now=NOW)  # its thirty days are over
    assert node.accept(stale) is Code.ASSIGNMENT_EXPIRED


def test_a_clock_that_was_set_back_makes_no_order_valid_again(node: WholeNode) -> None:
    order = node.world.assign(node.world.agent("app/two"), generation=2)
    node.set_clock(NOW + 31 * DAY)
    assert adopts_what_is_published_next(node)
    node.set_clock(NOW)
    assert node.accept(order) is Code.ASSIGNMENT_EXPIRED
    node.restart()
    assert node.accept(order) is Code.ASSIGNMENT_EXPIRED


def test_a_clock_that_was_set_back_is_told_once_with_what_it_should_be(node: WholeNode) -> None:
    node.live(DAY)
    node.set_clock(NOW - 100 * DAY)
    node.live(HOUR)
    told = [event for event in node.events() if event.kind == "node:clock:behind"]
    assert len(told) == 1
    assert "2026-02-21" in told[0].message
    assert "2026-06-02" in told[0].message
    node.set_clock(NOW + 2 * DAY)
    node.live(HOUR)
    node.set_clock(NOW)
    node.live(HOUR)
    assert [event.kind for event in node.events()].count("node:clock:behind") == 1


def test_a_spoiled_file_of_the_time_is_told_and_the_adopted_release_counts(node: WholeNode) -> None:
    node.live(DAY)
    node.switch_off()
    replace_file(node.disk, DATA / "trust" / "time.json", b"{}")
    node.switch_on()
    assert node.running() == {"app/one"}
    assert "node:boot:incomplete" in [event.kind for event in node.events()]
    assert node.trust.floor(NOW - 100 * DAY) >= NOW
    node.live(2 * HOUR)
    node.restart()
    assert "node:boot:incomplete" not in [event.kind for event in node.events()]


@pytest.mark.parametrize("noted", ["2026", -1, True, 10**18])
def test_an_unreadable_signing_time_is_no_release(node: WholeNode, noted: object) -> None:
    sign_timestamp(node.world.publisher, noted)
    assert node.refresh() is Code.TRUST_INVALID


def test_a_timestamp_may_say_nothing_about_when_it_was_signed(node: WholeNode) -> None:
    node.world.publisher.publish()
    raw = json.loads(node.world.publisher.files["timestamp.json"])
    assert raw["signed"][SIGNED_AT_FIELD] == to_ms(NOW)
    sign_timestamp(node.world.publisher, 0)
    assert node.refresh() is None


# The store alone


def test_before_the_first_adoption_the_clock_is_believed() -> None:
    store = TimeStore(MemoryDisk(), FOLDER)
    store.ordered(FAR)
    store.passed(NOW, HOUR)
    assert store.believed(NOW - 99 * DAY) == NOW - 99 * DAY
    assert store.behind(NOW) == timedelta()


def test_time_that_passes_is_written_once_an_hour_and_not_more_often() -> None:
    disk = MemoryDisk()
    store = TimeStore(disk, FOLDER)
    store.adopted(NOW, None)
    before = disk.operations
    for minutes in range(1, 180):
        store.passed(NOW + timedelta(minutes=minutes), timedelta(minutes=1))
    writes = (disk.operations - before) // 4  # write, sync, rename, sync
    assert 2 <= writes <= 180 * timedelta(minutes=1) // SAVE_EVERY


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_any_write_of_the_time_never_sets_it_back_before_the_last_one(seed: int) -> None:
    for cut_at in range(1, 5):
        disk = MemoryDisk()
        TimeStore(disk, FOLDER).adopted(NOW, NOW)
        store = TimeStore(disk, FOLDER)
        store.load(NOW)
        disk.operations, disk.cut_at = 0, cut_at
        with pytest.raises(PowerCutError):
            store.passed(NOW + 2 * HOUR, 2 * HOUR)
        again = TimeStore(disk.after_power_cut(Random(seed)), FOLDER)
        again.load(NOW)
        assert again.believed(NOW - DAY) in {NOW, NOW + 2 * HOUR}


@pytest.mark.parametrize(
    "spoil",
    [b"", b"{}", b"[]", b" " * 5_000, b'{"schema":"fleet.time/v2","local_ms":0,"timestamp_ms":0,"director_ms":0}'],
)
def test_a_file_that_cannot_be_read_is_refused_and_the_release_counts(spoil: bytes) -> None:
    disk = MemoryDisk()
    replace_file(disk, FOLDER / "time.json", spoil)
    store = TimeStore(disk, FOLDER)
    assert code_of(store.load, NOW) in (Code.TRUST_INVALID, Code.LIMIT_EXCEEDED)
    assert store.believed(NOW - DAY) == NOW
