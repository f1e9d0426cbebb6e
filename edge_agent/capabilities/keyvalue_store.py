"""Storage of `wasi:keyvalue`: one SQLite file for all buckets of one application.

Owns: the schema, the transactions, the bytes that each bucket uses, and the stamps that replication will need. Never
decides who may do what: that is `keyvalue.py`.

Every change is one transaction and is on disk when the call returns (write-ahead log with synchronous=FULL), so that
a power cut leaves the old state or the new one. Agents of one application have a connection each; SQLite lets them
read at any time and write one after the other.

Each key is a last-writer-wins register. Its row carries the write's stamp from the start, although this node is the
only writer today: `actor` (this file's number), `sequence` (count of writes to the file; with `actor` it names the
write) and `clock` (hybrid logical clock: milliseconds since the Unix epoch shifted left by 16, moved on by one where
the wall clock does not advance). A removed key leaves no row, since there is no other replica to tell. A number that
is incremented is a register like any other.
"""

from __future__ import annotations

import errno
import re
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

ROW_BYTES = 64
"""What a key counts for beyond its own bytes and its value's, so that a quota also bounds tiny keys."""

BUSY_MS = 5_000
"""How long a write waits for another agent's write."""

CACHE_KIB = 512
"""Page cache of one connection."""

WAL_BYTES = 4 * 1024 * 1024
"""Size to which the write-ahead log is cut back after a checkpoint."""

_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,19}")

_SCHEMA_VERSION = 1

_SCHEMA = (
    """CREATE TABLE replica (
        actor INTEGER NOT NULL, sequence INTEGER NOT NULL, clock INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT""",
    "INSERT INTO replica (actor, sequence, clock, bytes) VALUES (random() & 0x3fffffffffffffff, 0, 0, 0)",
    "CREATE TABLE bucket (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE register (
        bucket TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
        clock INTEGER NOT NULL, actor INTEGER NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (bucket, key)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)

_opening = threading.Lock()
"""Held while a file is opened: SQLite does not wait for another connection that switches the journal mode."""


@dataclass(frozen=True, slots=True)
class Version:
    """Names one write to one key."""

    actor: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Register:
    """A value and the write that made it."""

    value: bytes
    version: Version


@dataclass(frozen=True, slots=True)
class Quota:
    """How far a write may make things grow; a write that shrinks them always succeeds.

    Attributes:
        bucket_bytes: for the bucket.
        total_bytes: for all buckets of the application.
    """

    bucket_bytes: int
    total_bytes: int


class KeyValueFile:
    """One connection to an application's file.

    Args:
        path: the file; it and its directory are made when missing, readable by their owner only.
        now_ms: milliseconds since the Unix epoch.
        connection: class of the connection; tests give one that fails at a chosen statement.

    Raises:
        FleetError: STATE_CORRUPT, STORAGE_FULL, UNAVAILABLE; every method too.
    """

    def __init__(
        self, path: Path, now_ms: Callable[[], int], connection: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        self._now_ms = now_ms
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with _opening, _translated():
            # The agent's thread is the only user, but it need not be the thread that closes.
            self._database = sqlite3.connect(
                path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, factory=connection
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        with self._transaction():
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA:
                    self._database.execute(statement)
            elif version != _SCHEMA_VERSION:
                raise FleetError(
                    Code.STATE_CORRUPT, f"the file has schema {version}, this release reads {_SCHEMA_VERSION}"
                )

    def close(self) -> None:
        """Close the connection. Nothing is lost either way."""
        self._database.close()

    def read(self, bucket: str, key: str) -> Register | None:
        """Value and version of a key, None when it is absent."""
        with _translated():
            row = self._database.execute(
                "SELECT value, actor, sequence FROM register WHERE bucket = ? AND key = ?", (bucket, key)
            ).fetchone()
        return None if row is None else Register(row[0], Version(row[1], row[2]))

    def size(self, bucket: str, key: str) -> int | None:
        """Bytes of the value of a key, None when it is absent."""
        with _translated():
            row = self._database.execute(
                "SELECT length(value) FROM register WHERE bucket = ? AND key = ?", (bucket, key)
            ).fetchone()
        return None if row is None else int(row[0])

    def keys(self, bucket: str, after: str | None, limit: int) -> list[str]:
        """At most `limit` keys that follow `after`, by code point."""
        # No text sorts before the empty one, which is a key too: the first page needs its own bound.
        bound = ("key >= ?", "") if after is None else ("key > ?", after)
        with _translated():
            rows = self._database.execute(
                f"SELECT key FROM register WHERE bucket = ? AND {bound[0]} ORDER BY key LIMIT ?",  # noqa: S608 - constants
                (bucket, bound[1], limit),
            ).fetchall()
        return [key for (key,) in rows]

    def used_bytes(self, bucket: str) -> int:
        """What the keys and values of a bucket count for against its quota."""
        with _translated():
            row = self._database.execute("SELECT bytes FROM bucket WHERE name = ?", (bucket,)).fetchone()
        return 0 if row is None else int(row[0])

    def write(self, bucket: str, pairs: Iterable[tuple[str, bytes]], quota: Quota) -> None:
        """Store every pair, or none.

        Raises:
            FleetError: LIMIT_EXCEEDED when the quota does not leave room.
        """
        with self._transaction():
            writer = _Writer(self._database, bucket, self._now_ms())
            for key, value in pairs:
                writer.put(key, value, quota)
            writer.finish()

    def remove(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove every key that is present, all or none."""
        with self._transaction():
            writer = _Writer(self._database, bucket, self._now_ms())
            for key in keys:
                writer.remove(key)
            writer.finish()

    def increment(self, bucket: str, key: str, change: Callable[[int], int], quota: Quota) -> int:
        """Replace the number under `key`, absent counting as zero, by `change(number)`, and return the new one.

        Numbers are stored as decimal text, so that `get` shows them and `set` can prepare them.

        Raises:
            FleetError: VALUE_INVALID when the value is no number; LIMIT_EXCEEDED; whatever `change` raises.
        """
        with self._transaction():
            found = self.read(bucket, key)
            if found is not None and _NUMBER.fullmatch(found.value) is None:
                raise FleetError(Code.VALUE_INVALID, f"the value under {key!r} is not a decimal number")
            number = change(0 if found is None else int(found.value))
            writer = _Writer(self._database, bucket, self._now_ms())
            writer.put(key, str(number).encode(), quota)
            writer.finish()
        return number

    def swap(self, bucket: str, key: str, expected: Version | None, value: bytes, quota: Quota) -> bool:
        """Store `value` if the newest write to `key` is still `expected`; None expects the key to be absent."""
        with self._transaction():
            found = self.read(bucket, key)
            if (None if found is None else found.version) != expected:
                return False
            writer = _Writer(self._database, bucket, self._now_ms())
            writer.put(key, value, quota)
            writer.finish()
        return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite has ended the transaction itself after some errors, a full disk among them.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


class _Writer:
    """Changes to one bucket within one transaction."""

    def __init__(self, database: sqlite3.Connection, bucket: str, now_ms: int) -> None:
        self._database = database
        self._bucket = bucket
        counts: tuple[int, int, int, int] = database.execute(
            "SELECT actor, sequence, clock, bytes FROM replica"
        ).fetchone()
        self._actor, self._sequence, clock, self._total_bytes = counts
        self._clock = max(clock, (now_ms << 16) - 1)
        row = database.execute("SELECT bytes FROM bucket WHERE name = ?", (bucket,)).fetchone()
        self._bytes: int = 0 if row is None else row[0]
        self._changed = False

    def put(self, key: str, value: bytes, quota: Quota) -> None:
        """Write one register.

        Raises:
            FleetError: LIMIT_EXCEEDED when the quota does not leave room.
        """
        growth = _cost(key, len(value)) - self._cost_of(key)
        for what, held, most in (
            ("bucket holds", self._bytes, quota.bucket_bytes),
            ("application's buckets hold", self._total_bytes, quota.total_bytes),
        ):
            if growth > 0 and held + growth > most:
                raise FleetError(
                    Code.LIMIT_EXCEEDED, f"quota: the {what} {held} of {most} bytes, {growth} more do not fit"
                )
        self._stamp(growth)
        self._database.execute(
            "INSERT OR REPLACE INTO register (bucket, key, value, clock, actor, sequence) VALUES (?, ?, ?, ?, ?, ?)",
            (self._bucket, key, value, self._clock, self._actor, self._sequence),
        )

    def remove(self, key: str) -> None:
        """Remove one register if it is there."""
        cost = self._cost_of(key)
        if cost:
            self._stamp(-cost)
            self._database.execute("DELETE FROM register WHERE bucket = ? AND key = ?", (self._bucket, key))

    def finish(self) -> None:
        """Write back the counts. A bucket without keys leaves no row."""
        if not self._changed:
            return
        self._database.execute(
            "UPDATE replica SET sequence = ?, clock = ?, bytes = ?", (self._sequence, self._clock, self._total_bytes)
        )
        if self._bytes:
            self._database.execute(
                "INSERT OR REPLACE INTO bucket (name, bytes) VALUES (?, ?)", (self._bucket, self._bytes)
            )
        else:
            self._database.execute("DELETE FROM bucket WHERE name = ?", (self._bucket,))

    def _cost_of(self, key: str) -> int:
        row = self._database.execute(
            "SELECT length(value) FROM register WHERE bucket = ? AND key = ?", (self._bucket, key)
        ).fetchone()
        return 0 if row is None else _cost(key, row[0])

    def _stamp(self, growth: int) -> None:
        self._changed = True
        self._bytes += growth
        self._total_bytes += growth
        self._sequence += 1
        self._clock += 1


def _cost(key: str, value_bytes: int) -> int:
    return ROW_BYTES + len(key.encode()) + value_bytes


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what SQLite and the file system report into codes, without the file's path in the text."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the primary result code (sqlite.org/rescode.html).
        primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        name = getattr(error, "sqlite_errorname", None) or type(error).__name__
        match primary:
            case sqlite3.SQLITE_FULL:
                raise FleetError(Code.STORAGE_FULL, "there is no room left on the device") from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise FleetError(Code.UNAVAILABLE, "the store is busy with another agent's write") from error
        raise FleetError(Code.STATE_CORRUPT, f"the store cannot be used ({name})") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FleetError(Code.STORAGE_FULL, "there is no room left on the device") from error
        raise
