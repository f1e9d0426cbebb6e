"""Cost of wasi:keyvalue calls against plain SQLite with the same settings and the same durability.

    python -m bench.keyvalue [DIRECTORY]

Rows "by a guest" call through a component, so they hold what it costs to cross into the guest and back; the others
call the host functions. DIRECTORY should lie on the disk that matters, since a write is mostly the disk's time. Prints
rows (`bench.measure`).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import guests
from bench.measure import compare
from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.base import AgentContext
from fleet.grants import Authority
from fleet.grants.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 300
SIZES = {"100B": 100, "64KiB": 65_536, "1MiB": 1_048_576, "2MiB": 2_097_152}
GUEST_ROUNDS = {"100B": 300, "64KiB": 50, "1MiB": 20, "2MiB": 20}
KEYS = 5
VERSION = "0.2.0-draft2"


def granted(directory: Path) -> AgentContext:
    """What an agent that may do everything works with."""
    everything = {f"wasi:keyvalue/{name}": (Rule({}),) for name in ("store", "atomics", "batch")}
    return AgentContext(
        "app/agent",
        "app",
        Authority(everything),
        {},
        directory / "state",
        {},
        lambda _line: None,
        time,
        lambda _: None,
        os.urandom,
    )


def functions(context: AgentContext) -> dict[str, Callable[..., Any]]:
    """Host functions as plain callables."""
    return {
        name: function.call
        for interface in keyvalue.interfaces(context)
        if interface.name.endswith(f"@{VERSION}")
        for name, function in interface.functions.items()
    }


def plain(directory: Path) -> sqlite3.Connection:
    """The smallest table that could do the job."""
    database = sqlite3.connect(directory / "plain.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 4194304", "cache_size = -512"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE pair (bucket TEXT, key TEXT, value BLOB, UNIQUE (bucket, key)) STRICT")
    return database


def fresh(i: int, size: int) -> bytes:
    """A value that no other round has."""
    return i.to_bytes(8, "little") + bytes(size - 8)


def pairs(i: int) -> list[tuple[str, bytes]]:
    """A batch that no other round has."""
    return [(f"many{key}", fresh(i, 100)) for key in range(100)]


def main(directory: Path) -> None:
    context = granted(directory)
    calls = functions(context)
    agent = guests.start(guests.KEYVALUE, context)
    bucket = calls["open"]("bench").value
    put, get, increment = calls["[method]bucket.set"], calls["[method]bucket.get"], calls["increment"]
    set_many = calls["set-many"]
    database = plain(directory)
    write = "INSERT INTO pair VALUES ('bench', ?, ?) ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value"
    read = "SELECT value FROM pair WHERE bucket = 'bench' AND key = ?"

    def reference_many(pairs: list[tuple[str, bytes]]) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(write, pairs)
        database.execute("COMMIT")

    def reference_increment(_i: int) -> None:
        database.execute("BEGIN IMMEDIATE")
        (found,) = database.execute(read, ("n",)).fetchone() or (b"0",)
        database.execute(write, ("n", str(int(found) + 1).encode()))
        database.execute("COMMIT")

    # SQLite writes nothing for a row that stays the same, so every value is a new one.
    for name, size in SIZES.items():
        rounds = ROUNDS if size < 100_000 else ROUNDS // 5
        compare(
            f"set {name}",
            lambda i, size=size: put(bucket, f"k{i % KEYS}", fresh(i, size)),
            lambda i, size=size: database.execute(write, (f"k{i % KEYS}", fresh(i, size))),
            rounds,
        )
        if get(bucket, f"k{(rounds - 1) % KEYS}").value != fresh(rounds - 1, size):
            raise SystemExit(f"set {name}: nothing was stored")
        compare(
            f"get {name}",
            lambda i: get(bucket, f"k{i % KEYS}"),
            lambda i: database.execute(read, (f"k{i % KEYS}",)).fetchone(),
            rounds * 5,
        )
        compare(
            f"set {name}, by a guest",
            lambda i, size=size: agent.call("set", i, size),
            lambda i, size=size: database.execute(write, (f"k{i % KEYS}", fresh(i, size))),
            GUEST_ROUNDS[name],
        )
        compare(
            f"get {name}, by a guest",
            lambda i: agent.call("get", i),
            lambda i: database.execute(read, (f"k{i % KEYS}",)).fetchone(),
            GUEST_ROUNDS[name],
        )
    compare(
        "set-many 100 x 100B", lambda i: set_many(bucket, pairs(i)), lambda i: reference_many(pairs(i)), ROUNDS // 3
    )
    compare("increment", lambda _: increment(bucket, "n", 1), reference_increment, ROUNDS)
    agent.close()
    database.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        main(Path(scratch))
