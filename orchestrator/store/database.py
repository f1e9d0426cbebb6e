"""Opens the database files and owns transactions.

Owns: pragmas, the one writer at a time, migrations at start, and the translation of what SQLite says about its disk.
Never holds a statement of any topic.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.pool import StaticPool

from fleet.errors import Code, FleetError
from orchestrator.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY_TIMEOUT_S = 10
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One SQLite file, or one database in memory.

    Writers take turns inside the process by a lock, which is fair and wakes at once where SQLite's own busy handler
    sleeps and polls; between processes SQLite's lock decides. Readers see the last commit (write-ahead log).
    """

    def __init__(self, engine: sa.Engine, *, one_connection: bool) -> None:
        self.engine = engine
        self._writer = threading.Lock()
        self._reader: threading.Lock | None = self._writer if one_connection else None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run one transaction that may write; leaving the block commits, an exception rolls back.

        Raises:
            FleetError: UNAVAILABLE when another process holds the file too long; STORAGE_FULL.
        """
        with self._writer, self._transaction("IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run one transaction that only reads, from one snapshot."""
        if self._reader is None:
            with self._transaction("DEFERRED") as connection:
                yield connection
        else:
            with self._reader, self._transaction("DEFERRED") as connection:
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect().execution_options(begin=kind) as connection, connection.begin():
                yield connection
        except sa.exc.OperationalError as error:
            _translate(error)
            raise


def _translate(error: sa.exc.OperationalError) -> None:
    reason = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if reason in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise FleetError(Code.UNAVAILABLE, "another process holds the database") from error
    if reason == sqlite3.SQLITE_FULL:
        raise FleetError(Code.STORAGE_FULL, "the database's disk is full") from error


@dataclass(frozen=True, slots=True)
class Store:
    """Both files of a coordinator.

    Attributes:
        control: what must survive a power cut the moment it is acknowledged (synchronous=FULL).
        telemetry: events and reports; a power cut may cost the last of them (synchronous=NORMAL).
    """

    control: Database
    telemetry: Database

    @classmethod
    def open(cls, folder: Path | None) -> Self:
        """Open and migrate both files of a folder, or two databases in memory for None."""
        files = (None, None) if folder is None else (folder / "control.db", folder / "telemetry.db")
        return cls(
            control=_open(files[0], "FULL", "control", schema.CONTROL),
            telemetry=_open(files[1], "NORMAL", "telemetry", schema.TELEMETRY),
        )

    def close(self) -> None:
        """Close both files."""
        self.control.close()
        self.telemetry.close()


def _open(file: Path | None, synchronous: str, history: str, metadata: sa.MetaData) -> Database:
    if file is None:
        engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = sa.create_engine(
            f"sqlite:///{file}", connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}
        )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin in `begin` below, never inside the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        # Without it INSERT OR REPLACE would remove a row of the audit log and fire no trigger.
        connection.execute("PRAGMA recursive_triggers=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'IMMEDIATE')}")

    database = Database(engine, one_connection=file is None)
    with database.write() as connection:
        migrate(connection, history, metadata)
    if file is not None:
        file.chmod(0o600)  # join tokens are secrets until they are used
    return database


def migrate(connection: sa.Connection, history: str, metadata: sa.MetaData) -> None:
    """Bring one file up to the newest revision of its history, in the caller's transaction.

    Raises:
        FleetError: CONFIG_INVALID for a file that a newer release has written.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("version_locations", str(_MIGRATIONS / history))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise FleetError(
            Code.CONFIG_INVALID, f"the {history} database is of another release: {error}", place=f"{history}.db"
        ) from error
