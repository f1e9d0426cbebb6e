"""Storage of `wasi:keyvalue`: one SQLite file for all buckets of one application.

Owns: the schema, the transactions, the bytes that each bucket uses, and the stamps that replication will need. Never
decides who may do what: that is `keyvalue.py`.

Every change is one transaction and is on disk when the call returns (write-ahead log with synchronous=FULL), so that
a power cut leaves the old state or the new one. Agents of one application have a connection each; SQLite lets them
read at any time and write one after the other.

Each key is a last-writer-wins register. Its row carries the write's stamp from the start, although no other node
writes today: `actor` (a number for each agent that writes to this file), `sequence` (count of the actor's writes; with
`actor` it names the write) and `clock` (hybrid logical clock: milliseconds since the Unix epoch shifted left by 16,
moved on by one where the wall clock does not advance; always above the clock of the row that it replaces). A removed
key leaves no row, since there is no other node to tell. A number that is incremented is a register like any other.

What a row costs counts for its bucket and for the actor that wrote it last.
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

SYNCHRONOUS = "FULL"
"""SQLite's setting under which a commit in the write-ahead log is on disk when it returns (pragma.html#synchronous)."""

BUSY_MS = 2_000
"""How long a write waits for another agent's write."""

CACHE_KIB = 512
"""Page cache of one connection."""

WAL_BYTES = 4 * 1024 * 1024
"""Size to which the write-ahead log is cut back after a checkpoint."""

_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,19}")

_SCHEMA_VERSION = 1

# The value is the last column, since SQLite walks through all pages of a large one to reach a column behind it; and
# `register` has row numbers, since a search in a table without them compares whole rows, values included.
_SCHEMA = (
    """CREATE TABLE writer (
        agent TEXT PRIMARY KEY, actor INTEGER NOT NULL UNIQUE,
        sequence INTEGER NOT NULL DEFAULT 0, clock INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE TABLE bucket (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE register (
        bucket TEXT NOT NULL, key TEXT NOT NULL,
        clock INTEGER NOT NULL, actor INTEGER NOT NULL, sequence INTEGER NOT NULL, value BLOB NOT NULL,
        UNIQUE (bucket, key)
    ) STRICT""",
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
    """How far a write may make things grow; what does not grow may stay above its quota.

    Attributes:
        bucket_bytes: for the bucket, whoever wrote to it; None leaves that to the agents' own quotas.
        agent_bytes: for what the agent has written, in all buckets.
    """

    bucket_bytes: int | None
    agent_bytes: int


class KeyValueFile:
    """One connection to an application's file.

    Args:
        path: the file; it and its directory are made when missing, readable by their owner only.
        agent: whose writes go through this connection.
        now_ms: milliseconds since the Unix epoch.
        connection: class of the connection; tests give one that fails at a chosen statement.

    Raises:
        FleetError: STATE_CORRUPT, STORAGE_FULL, UNAVAILABLE; every method too.
    """

    def __init__(
        self,
        path: Path,
        agent: str,
        now_ms: Callable[[], int],
        connection: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self._agent = agent
        self._now_ms = now_ms
        with _opening, _translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
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
        for pragma in ("journal_mode = WAL", f"synchronous = {SYNCHRONOUS}", "temp_store = MEMORY"):
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
            # SQLite seeds its random numbers from the operating system, also after a fork.
            self._database.execute(
                "INSERT OR IGNORE INTO writer (agent, actor) VALUES (?, random() & 0x3fffffffffffffff)", (self._agent,)
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
            writer = _Writer(self._database, self._agent, bucket, self._now_ms())
            for key, value in pairs:
                writer.put(key, value, quota)
            writer.finish()

    def remove(self, bucket: str, keys: Sequence[str]) -> list[str]:
        """Remove every key that is present, all or none; return those that were."""
        with self._transaction():
            writer = _Writer(self._database, self._agent, bucket, self._now_ms())
            removed = [key for key in keys if writer.remove(key)]
            writer.finish()
        return removed

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
            writer = _Writer(self._database, self._agent, bucket, self._now_ms())
            writer.put(key, str(number).encode(), quota)
            writer.finish()
        return number

    def swap(self, bucket: str, key: str, expected: Version | None, value: bytes, quota: Quota) -> bool:
        """Store `value` if the newest write to `key` is still `expected`; None expects the key to be absent."""
        with self._transaction():
            found = self.read(bucket, key)
            if (None if found is None else found.version) != expected:
                return False
            writer = _Writer(self._database, self._agent, bucket, self._now_ms())
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


class SharedFile:
    """A connection that is opened when first needed; the parameters are those of `KeyValueFile`."""

    def __init__(self, path: Path, agent: str, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._agent = agent
        self._now_ms = now_ms
        self._file: KeyValueFile | None = None

    def open(self) -> KeyValueFile:
        """Return the connection.

        Raises:
            FleetError: as `KeyValueFile`.
        """
        if self._file is None:
            self._file = KeyValueFile(self._path, self._agent, self._now_ms)
        return self._file

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Writer:
    """Changes by one agent to one bucket within one transaction."""

    def __init__(self, database: sqlite3.Connection, agent: str, bucket: str, now_ms: int) -> None:
        self._database = database
        self._bucket = bucket
        counts: tuple[int, int, int, int] = database.execute(
            "SELECT actor, sequence, clock, bytes FROM writer WHERE agent = ?", (agent,)
        ).fetchone()
        self._actor, self._sequence, clock, self._agent_bytes = counts
        self._clock = max(clock, (now_ms << 16) - 1)
        row = database.execute("SELECT bytes FROM bucket WHERE name = ?", (bucket,)).fetchone()
        self._bucket_bytes: int = 0 if row is None else row[0]
        self._changed = False

    def put(self, key: str, value: bytes, quota: Quota) -> None:
        """Write one register.

        Raises:
            FleetError: LIMIT_EXCEEDED when the quota does not leave room.
        """
        bucket_bytes, agent_bytes = self._bucket_bytes, self._agent_bytes
        self._take_off(key)
        self._stamp()
        cost = _cost(key, len(value))
        self._bucket_bytes += cost
        self._agent_bytes += cost
        _check_quota("bucket holds", bucket_bytes, self._bucket_bytes, quota.bucket_bytes)
        _check_quota("agent keeps", agent_bytes, self._agent_bytes, quota.agent_bytes)
        self._database.execute(
            "INSERT INTO register (bucket, key, clock, actor, sequence, value) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (bucket, key) DO UPDATE SET clock = excluded.clock, actor = excluded.actor,"
            " sequence = excluded.sequence, value = excluded.value",
            (self._bucket, key, self._clock, self._actor, self._sequence, value),
        )

    def remove(self, key: str) -> bool:
        """Remove one register if it is there; return whether it was."""
        found = self._take_off(key)
        if found:
            self._stamp()
            self._database.execute("DELETE FROM register WHERE bucket = ? AND key = ?", (self._bucket, key))
        return found

    def finish(self) -> None:
        """Write back the counts. A bucket without keys leaves no row."""
        if not self._changed:
            return
        self._database.execute(
            "UPDATE writer SET sequence = ?, clock = ?, bytes = ? WHERE actor = ?",
            (self._sequence, self._clock, self._agent_bytes, self._actor),
        )
        if self._bucket_bytes:
            self._database.execute(
                "INSERT OR REPLACE INTO bucket (name, bytes) VALUES (?, ?)", (self._bucket, self._bucket_bytes)
            )
        else:
            self._database.execute("DELETE FROM bucket WHERE name = ?", (self._bucket,))

    def _stamp(self) -> None:
        self._changed = True
        self._sequence += 1
        self._clock += 1

    def _take_off(self, key: str) -> bool:
        """Take the row under `key` off the counts, if there is one. The next stamp will be above its own."""
        row = self._database.execute(
            "SELECT length(value), actor, clock FROM register WHERE bucket = ? AND key = ?", (self._bucket, key)
        ).fetchone()
        if row is None:
            return False
        cost = _cost(key, row[0])
        self._clock = max(self._clock, row[2])
        self._bucket_bytes -= cost
        if row[1] == self._actor:
            self._agent_bytes -= cost
        else:
            self._database.execute("UPDATE writer SET bytes = bytes - ? WHERE actor = ?", (cost, row[1]))
        return True


def _check_quota(what: str, before: int, after: int, most: int | None) -> None:
    if most is not None and after > max(before, most):
        raise FleetError(Code.LIMIT_EXCEEDED, f"quota: the {what} {most} bytes at most, {after} would be needed")


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
        raise FleetError(Code.STATE_CORRUPT, f"the store cannot be used ({type(error).__name__})") from error
