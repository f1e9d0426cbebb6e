"""What a power cut leaves: the state before a write or the state after it, never something between."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.capabilities.keyvalue_store import KeyValueFile, Quota
from fleet.errors import Code, FleetError

QUOTA = Quota(None, 1 << 20)
OLD = {"a": b"old", "n": b"41", "gone": b"x" * 5000}


class PowerCutError(BaseException):
    """Stands for the end of the process."""


class FailingConnection(sqlite3.Connection):
    """A connection that copies the files away and fails right before the n-th statement."""

    statements_left: int | None = None
    copy_from: Path
    copy_to: Path
    fault: Callable[[], BaseException] = PowerCutError

    def execute(self, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        kind = type(self)
        if kind.statements_left is not None:
            kind.statements_left -= 1
            if kind.statements_left < 0:
                kind.statements_left = None
                shutil.copytree(kind.copy_from, kind.copy_to)
                raise kind.fault()
        return super().execute(*args)


@pytest.fixture
def connection(tmp_path: Path) -> type[FailingConnection]:
    class Connection(FailingConnection):
        copy_from = tmp_path / "state"
        copy_to = tmp_path / "after-the-cut"

    return Connection


def open_file(folder: Path, connection: type[sqlite3.Connection] = sqlite3.Connection) -> KeyValueFile:
    return KeyValueFile(folder / "keyvalue.db", "app/agent", lambda: 1_000, connection)


def content(folder: Path) -> tuple[dict[str, bytes], int]:
    file = open_file(folder)
    found = {key: file.read("b", key).value for key in file.keys("b", None, 100)}
    used = file.used_bytes("b")
    file.close()
    check = sqlite3.connect(folder / "keyvalue.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counted = check.execute("SELECT sum(64 + length(CAST(key AS BLOB)) + length(value)) FROM register").fetchone()[0]
    assert check.execute("SELECT bytes FROM writer").fetchone() == (counted or 0,)
    check.close()
    assert used == (counted or 0)
    return found, used


CHANGES: dict[str, tuple[Callable[[KeyValueFile], object], dict[str, bytes]]] = {
    "write": (lambda file: file.write("b", [("a", b"new")], QUOTA), {**OLD, "a": b"new"}),
    "write many": (
        lambda file: file.write("b", [("a", b"new"), ("c", b"3"), ("d", b"4" * 9000)], QUOTA),
        {**OLD, "a": b"new", "c": b"3", "d": b"4" * 9000},
    ),
    "remove many": (lambda file: file.remove("b", ["a", "gone"]), {"n": b"41"}),
    "remove all": (lambda file: file.remove("b", list(OLD)), {}),
    "increment": (lambda file: file.increment("b", "n", lambda n: n + 1, QUOTA), {**OLD, "n": b"42"}),
    "swap": (lambda file: file.swap("b", "c", None, b"3", QUOTA), {**OLD, "c": b"3"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_cut_before_each_statement(tmp_path: Path, connection: type[FailingConnection], change: str) -> None:
    act, new = CHANGES[change]
    seen = []
    for statements in range(100):
        file = open_file(tmp_path / "state", connection)
        file.remove("b", file.keys("b", None, 100))
        file.write("b", OLD.items(), QUOTA)
        connection.statements_left = statements
        try:
            act(file)
        except PowerCutError:
            seen.append(content(connection.copy_to)[0])
            shutil.rmtree(connection.copy_to)
            file.close()
        else:
            connection.statements_left = None
            file.close()
            break
    assert len(seen) >= 4, "every statement up to COMMIT was tried"
    assert all(found == OLD for found in seen)
    assert content(tmp_path / "state")[0] == new


@pytest.mark.parametrize("change", CHANGES)
def test_a_write_that_was_cut_within_the_log(tmp_path: Path, change: str) -> None:
    """The log ends anywhere: what was appended last counts whole or not at all."""
    act, new = CHANGES[change]
    file = open_file(tmp_path / "state")
    file.write("b", OLD.items(), QUOTA)
    log = tmp_path / "state" / "keyvalue.db-wal"
    before = log.stat().st_size
    act(file)
    after = log.stat().st_size
    seen = []
    cuts = sorted({before, after, *range(before, after, max(509, (after - before) // 12))})
    for cut in cuts:
        copied = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "state", copied)
        (copied / "keyvalue.db-shm").unlink()
        with (copied / "keyvalue.db-wal").open("r+b") as copy:
            copy.truncate(cut)
        seen.append(content(copied)[0])
        shutil.rmtree(copied)
    file.close()
    assert len(seen) > 8
    assert all(found == OLD for found in seen[:-1])
    assert seen[-1] == new


@pytest.mark.parametrize("change", CHANGES)
def test_a_fault_before_each_statement_leaves_a_usable_file(
    tmp_path: Path, connection: type[FailingConnection], change: str
) -> None:
    act, new = CHANGES[change]
    connection.fault = lambda: sqlite3.OperationalError("disk I/O error")
    codes = []
    file = open_file(tmp_path / "state", connection)
    file.write("b", OLD.items(), QUOTA)
    for statements in range(100):
        connection.statements_left = statements
        try:
            act(file)
        except FleetError as error:
            codes.append(error.code)
            shutil.rmtree(connection.copy_to)
            assert {key: file.read("b", key).value for key in file.keys("b", None, 100)} == OLD
        else:
            connection.statements_left = None
            break
    file.close()
    assert set(codes) == {Code.STATE_CORRUPT}
    assert content(tmp_path / "state")[0] == new


def test_cut_while_the_file_is_made(tmp_path: Path, connection: type[FailingConnection]) -> None:
    for statements in range(100):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        connection.statements_left = statements
        try:
            open_file(tmp_path / "state", connection).close()
        except PowerCutError:
            file = open_file(connection.copy_to)
            file.write("b", OLD.items(), QUOTA)
            file.close()
            assert content(connection.copy_to)[0] == OLD
            shutil.rmtree(connection.copy_to)
        else:
            connection.statements_left = None
            break
    assert statements > 10


def test_full_disk_is_said_and_leaves_the_old_state(tmp_path: Path) -> None:
    class SmallDisk(sqlite3.Connection):
        def execute(self, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
            if args == ("BEGIN IMMEDIATE",):
                super().execute("PRAGMA max_page_count = 20")
            return super().execute(*args)

    file = open_file(tmp_path / "state", SmallDisk)
    file.write("b", OLD.items(), QUOTA)
    with pytest.raises(FleetError) as refused:
        file.write("b", [("big", bytes(200_000))], QUOTA)
    assert refused.value.code is Code.STORAGE_FULL
    file.write("b", [("small", b"1")], QUOTA)
    file.close()
    assert content(tmp_path / "state")[0] == {**OLD, "small": b"1"}


def test_a_commit_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    seen: list[object] = []

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            seen.extend(self.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))
            super().close()

    open_file(tmp_path, Watched).close()
    full = 2
    assert seen == ["wal", full]


def test_no_room_for_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(FleetError) as refused:
        open_file(tmp_path / "state")
    assert refused.value.code is Code.STORAGE_FULL


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(FleetError) as refused:
        open_file(tmp_path / "state")
    assert refused.value.code is Code.STATE_CORRUPT


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    open_file(tmp_path / "state").close()
    database = sqlite3.connect(tmp_path / "state" / "keyvalue.db")
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(FleetError) as refused:
        open_file(tmp_path / "state")
    assert refused.value.code is Code.STATE_CORRUPT


def test_every_agent_is_an_actor_with_its_own_sequence(tmp_path: Path) -> None:
    files = [KeyValueFile(tmp_path / "keyvalue.db", f"app/{name}", lambda: 1_000) for name in ("one", "two")]
    for file in files:
        file.write("b", [("shared", b"x"), ("shared", b"y")], QUOTA)
    versions = [files[0].read("b", "shared").version]
    files[0].write("b", [("shared", b"z")], QUOTA)
    versions.append(files[0].read("b", "shared").version)
    assert versions[0].actor != versions[1].actor
    assert (versions[0].sequence, versions[1].sequence) == (2, 3)
    for file in files:
        file.close()


def test_a_write_waits_for_another_and_then_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.capabilities.keyvalue_store.BUSY_MS", 1)
    file = open_file(tmp_path)
    other = sqlite3.connect(tmp_path / "keyvalue.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FleetError) as refused:
        file.write("b", OLD.items(), QUOTA)
    assert refused.value.code is Code.UNAVAILABLE
    other.close()
    file.write("b", OLD.items(), QUOTA)
    file.close()
