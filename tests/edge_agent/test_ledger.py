"""What the ledger refuses, and that no power cut leaves anything but the old entry or the new one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.disk import LocalDisk
from edge_agent.ledger import Ledger
from fleet.assignment import MAX_ENVELOPE, VerifiedAssignment
from fleet.checkpoint import MAX_NOTE
from fleet.errors import Code, FleetError
from fleet.model import Assignment, DesiredState
from tests.fakes.clock import START
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.refusals import code_of

FOLDER = Path("/node/ledger")
FILE = FOLDER / "desired.json"


def verified(generation: int, content: str = "", epoch: int = 1) -> VerifiedAssignment:
    assignment = Assignment("demo", "node-1", epoch, generation, START, START + timedelta(days=1), ())
    return VerifiedAssignment(assignment, f"sha256:{content:0>64}", 0, 1)


def desired(generation: int) -> DesiredState:
    return DesiredState(b"envelope \x00\xff" * generation, b"proof %d" % generation)


def accept(ledger: Ledger, generation: int, content: str = "", epoch: int = 1) -> bool:
    return ledger.accept(verified(generation, content, epoch), desired(generation), START)


def test_exactly_the_accepted_bytes_come_back() -> None:
    disk = MemoryDisk()
    accept(Ledger(disk, FOLDER), 3, "a")
    entry = Ledger(disk, FOLDER).load()
    assert entry is not None
    assert (entry.epoch, entry.generation, entry.accepted_at) == (1, 3, START)
    assert entry.desired == desired(3)


def test_the_largest_order_that_verifies_can_be_kept() -> None:
    disk = MemoryDisk()
    largest = DesiredState(b"x" * MAX_ENVELOPE, b"p" * MAX_NOTE)
    assert Ledger(disk, FOLDER).accept(verified(1), largest, START)
    entry = Ledger(disk, FOLDER).load()
    assert entry is not None
    assert entry.desired == largest


def test_the_local_disk_keeps_it_private(tmp_path: Path) -> None:
    accept(Ledger(LocalDisk(), tmp_path / "ledger"), 1)
    (path,) = (tmp_path / "ledger").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert Ledger(LocalDisk(), tmp_path / "ledger").load() is not None


@pytest.mark.parametrize(
    ("epoch", "generation", "content", "code"),
    [
        (1, 4, "a", Code.GENERATION_STALE),
        (1, 5, "b", Code.GENERATION_CONFLICT),
        (0, 9, "b", Code.GENERATION_STALE),
        (1, 5, "a", None),
        (1, 6, "b", None),
        (2, 1, "b", None),
    ],
)
def test_older_generations_and_conflicts_are_refused(epoch: int, generation: int, content: str, code: Code) -> None:
    ledger = Ledger(MemoryDisk(), FOLDER)
    accept(ledger, 5, "a")
    assert code_of(accept, ledger, generation, content, epoch) == code


def test_the_same_again_changes_nothing() -> None:
    disk = MemoryDisk()
    ledger = Ledger(disk, FOLDER)
    assert accept(ledger, 1)
    before = disk.operations
    assert not accept(ledger, 1)
    assert disk.operations == before


@pytest.mark.parametrize("spoil", [b"", b"{}", b"\xff", b'{"schema":"fleet.ledger/v2"}', b"x" * 200_000])
def test_a_corrupt_file_is_moved_aside(spoil: bytes) -> None:
    disk = MemoryDisk()
    accept(Ledger(disk, FOLDER), 7)
    disk.write(FILE, spoil, 0)
    ledger = Ledger(disk, FOLDER)
    with pytest.raises(FleetError) as caught:
        ledger.load()
    assert caught.value.code is Code.LEDGER_CORRUPT
    assert disk.names(FOLDER) == ("desired.corrupt",)
    assert ledger.entry is None
    assert accept(ledger, 1)


def test_what_verifies_no_more_is_moved_aside() -> None:
    disk = MemoryDisk()
    ledger = Ledger(disk, FOLDER)
    accept(ledger, 7)
    ledger.discard()
    assert ledger.entry is None
    assert Ledger(disk, FOLDER).load() is None


def test_an_oversized_entry_is_refused_before_it_is_written() -> None:
    ledger = Ledger(MemoryDisk(), FOLDER)
    huge = DesiredState(bytes(2 * MAX_ENVELOPE), b"")
    assert code_of(ledger.accept, verified(1), huge, START) is Code.LIMIT_EXCEEDED
    assert ledger.entry is None


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_at_any_write_leaves_the_old_entry_or_the_new_one(seed: int) -> None:
    for cut_at in range(1, 10):
        disk = MemoryDisk()
        ledger = Ledger(disk, FOLDER)
        accept(ledger, 1)
        disk.operations, disk.cut_at = 0, cut_at
        finished = True
        try:
            accept(ledger, 2)
        except PowerCutError:
            finished = False
        entry = Ledger(disk.after_power_cut(Random(seed)), FOLDER).load()
        assert entry is not None
        assert entry.generation == 2 if finished else entry.generation in (1, 2)
        assert entry.desired == desired(entry.generation)


orders = st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from("ab"))


@given(st.lists(orders, max_size=20), st.integers(0, 2**16))
def test_the_accepted_generation_never_decreases(sequence: list[tuple[int, int, str]], seed: int) -> None:
    random, disk = Random(seed), MemoryDisk()
    ledger, last = Ledger(disk, FOLDER), (0, 0)
    for epoch, generation, content in sequence:
        if random.random() < 0.3:
            disk = disk.after_power_cut(random)
            ledger = Ledger(disk, FOLDER)
            ledger.load()
        code_of(accept, ledger, generation, content, epoch)
        assert ledger.entry is not None
        number = (ledger.entry.epoch, ledger.entry.generation)
        assert number >= last
        last = number
