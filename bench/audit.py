"""The audit log at a million leaves: appending, proving, and checking all of it.

A real store on disk (SQLite, synchronous=FULL) takes leaves of about 400 bytes in batches, as a busy coordinator does.
The check of the whole reads every leaf back from that store, parses it, rebuilds projections and the root, and keeps
no more than the edge of the tree: its growth in memory is measured beside it. The reference of the long runs is
hashlib's SHA-256 over the same bytes, which any log has to do. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import psutil

from bench.measure import Row, emit, median
from fleet import merkle
from fleet.audit import Anchors, LogCheck
from fleet.checkpoint import open_checkpoint, parse_proof
from fleet.leaves import event_leaf
from fleet.publications import Publications
from fleet.signing import SigningKey
from orchestrator.audit import AuditLog
from orchestrator.store import audit as rows
from orchestrator.store.database import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

BATCH = 1_000
PROOFS = 200
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def leaves(first: int, count: int) -> list[bytes]:
    """Leaves as renewals of certificates make them, each different."""
    labels = {"site": "oslo", "line": "three", "purpose": "x" * 200}
    return [
        event_leaf("node:certificate:renewed", NOW, f"node/n{i}", node=f"n{i}", sequence=i, labels=labels)
        for i in range(first, first + count)
    ]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def stream(connection: Connection, size: int) -> Iterator[bytes]:
    """Every leaf, a page at a time."""
    for first in range(0, size, BATCH):
        for _, leaf in rows.list_leaves(connection, first, BATCH):
            yield leaf


def resident_mib() -> float:
    """Memory that this process holds now."""
    return psutil.Process().memory_info().rss / (1 << 20)


def build(store: Store, log: AuditLog, size: int) -> None:
    """Fill the log and tell what a batch costs."""
    ours, reference = [], []
    for first in range(0, size, BATCH):
        batch = leaves(first, min(BATCH, size - first))
        reference.append(timed(lambda batch=batch: [hashlib.sha256(leaf).digest() for leaf in batch]) * 1000)
        with store.control.write() as connection:
            began = time.perf_counter()
            log.append(connection, batch)
        ours.append((time.perf_counter() - began) * 1000)
    emit(median(f"append {BATCH:,} leaves, committed", "ms", ours, reference))
    emit(median(f"append {BATCH:,} leaves, the last tenth of {size:,}", "ms", ours[-len(ours) // 10 :], reference))


def prove(store: Store, log: AuditLog, size: int) -> None:
    """Tell what a proof costs on both sides."""
    random, times = Random(7), {name: [] for name in ("checkpoint", "inclusion", "check", "consistency", "check both")}
    with store.control.read() as connection:

        def read(level: int, index: int) -> bytes:
            return rows.read_hash(connection, level, index)

        newest = open_checkpoint(log.checkpoint(connection), (log.vkey,))
        for _ in range(PROOFS):
            index, old = random.randrange(size), random.randrange(1, size)
            times["checkpoint"].append(timed(lambda: log.checkpoint(connection)) * 1e6)
            began = time.perf_counter()
            file = log.proof(connection, index)
            times["inclusion"].append((time.perf_counter() - began) * 1e6)
            leaf = merkle.leaf_hash(rows.list_leaves(connection, index, 1)[0][1])
            began = time.perf_counter()
            proof = parse_proof(file)
            claimed = open_checkpoint(proof.note, (log.vkey,))
            merkle.verify_inclusion(proof.index, claimed.size, leaf, proof.hashes, claimed.root)
            times["check"].append((time.perf_counter() - began) * 1e6)
            old_root = merkle.root(read, old)
            began = time.perf_counter()
            path = merkle.consistency_proof(read, old, size)
            times["consistency"].append((time.perf_counter() - began) * 1e6)
            check = timed(lambda o=old, r=old_root, p=path: merkle.verify_consistency(o, size, r, newest.root, p))
            times["check both"].append(check * 1e6)
    emit(median("sign a checkpoint, root included", "us", times["checkpoint"]))
    emit(median("make an inclusion proof with its checkpoint", "us", times["inclusion"]))
    emit(median("check it, signature included", "us", times["check"]))
    emit(median("make a consistency proof", "us", times["consistency"]))
    emit(median("check a consistency proof", "us", times["check both"]))


def verify(store: Store, log: AuditLog, size: int) -> None:
    """Tell what a check of the whole log costs, beside hashing its bytes."""
    running = LogCheck(Anchors("bench", ()), Publications("bench", b"", lambda _: None))
    with store.control.read() as connection:
        reference = timed(lambda: [None for leaf in stream(connection, size) if hashlib.sha256(leaf).digest() is None])
        before, held = resident_mib(), [0.0]

        def whole() -> None:
            for leaf in stream(connection, size):
                running.add(leaf)
                if running.size % BATCH == 0:
                    held.append(resident_mib())
            running.finish(open_checkpoint(log.checkpoint(connection), (log.vkey,)))

        emit(Row(f"check all {size:,} leaves", "s", timed(whole), reference))
        emit(Row(f"check all {size:,} leaves: growth in memory", "MiB", max(0.0, max(held) - before)))


def measure(size: int) -> None:
    """Print every row."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        log = AuditLog("bench", SigningKey.from_seed(bytes(32)))
        build(store, log, size)
        prove(store, log, size)
        verify(store, log, size)
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    measure(parser.parse_args().leaves)
