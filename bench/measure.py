"""What every benchmark shares: a row of results, how it is printed, and how two calls are timed against each other.

A benchmark prints one JSON object per row, or per note for the reader, and nothing else; `bench.run` collects them.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One result.

    Attributes:
        name: what was measured.
        unit: of both figures: `us`, `ms`, `s`, `MiB`, `MiB/s` or `calls/s`.
        median: of this project.
        reference: median of what it is compared with, in the same run; none where there is nothing to compare with.
    """

    name: str
    unit: str
    median: float
    reference: float | None = None


def emit(row: Row) -> None:
    """Print a row for whoever runs the benchmark."""
    print(json.dumps(asdict(row)), flush=True)


def emit_note(text: str) -> None:
    """Print a sentence that belongs under the table, for whoever runs the benchmark."""
    print(json.dumps({"note": text}), flush=True)


def parse(line: str) -> Row | str:
    """Read a row that `emit` printed, or the text of a note."""
    printed = json.loads(line)
    return str(printed["note"]) if "note" in printed else Row(**printed)


def median(name: str, unit: str, ours: Sequence[float], reference: Sequence[float] = ()) -> Row:
    """Make a row of single measurements."""
    return Row(name, unit, statistics.median(ours), statistics.median(reference) if reference else None)


def compare(name: str, ours: Callable[[int], object], reference: Callable[[int], object], rounds: int) -> None:
    """Time both in turns, so that both see the same weather, and print their medians in microseconds.

    Each is called with the number of the round.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds):
        for call, spent in zip((ours, reference), times, strict=True):
            begin = time.perf_counter()
            call(i)
            spent.append((time.perf_counter() - begin) * 1e6)
    emit(median(name, "us", *times))
