"""The sample agent of each language: size, compile, start and call.

    python -m bench.languages [--json]

Writes the table of docs/languages.md; builds what is not built yet, which takes minutes the first time, and needs what
`make languages` needs. With `--json` it builds nothing, measures the languages that were built before, prints rows
(`bench.measure`), and a note that says which are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Row, emit, emit_note
from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentStart, ModelFile
from fleet.bundle import Language
from tests.fakes.agents import authority
from tests.languages import toolchains
from tests.languages.test_matrix import AGENT, MODEL, RUNTIME, SMALLEST, WORLD

if TYPE_CHECKING:
    from collections.abc import Collection

PAGE = Path(__file__).resolve().parents[1] / "docs" / "languages.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"
CALLS = 200
STARTS = 5
HEADER = (
    "| language | size | compressed | compile | start | call | works in |",
    "|---|---|---|---|---|---|---|",
)


def digest(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


async def started(host: RunnerHost, start: AgentStart) -> float:
    before = time.perf_counter()
    await host.start(start)
    return time.perf_counter() - before


@dataclass(frozen=True, slots=True)
class Measured:
    """What one language takes; seconds and bytes.

    Attributes:
        size: of the component.
        compressed: the same by gzip.
        compile: from the supervisor's order to the running agent, where nothing was compiled before.
        start: the same with compiled code on disk; the runner is a new one, too.
        first_call: the first call of an agent.
        call: one of the calls after it.
    """

    size: int
    compressed: int
    compile: float
    start: float
    first_call: float
    call: float

    def cells(self) -> tuple[str, ...]:
        """What the page about languages shows."""
        return amount(self.size), amount(self.compressed), *map(duration, (self.compile, self.start, self.call))

    def rows(self, language: str) -> tuple[Row, ...]:
        """What the page of benchmarks shows."""
        return (
            Row(f"{language}: size", "MiB", self.size / (1 << 20)),
            Row(f"{language}: compile and start", "s", self.compile),
            Row(f"{language}: start", "ms", self.start * 1e3),
            Row(f"{language}: first call", "ms", self.first_call * 1e3),
            Row(f"{language}: call", "ms", self.call * 1e3),
        )


async def called(host: RunnerHost) -> float:
    before = time.perf_counter()
    await host.call(AGENT, 'take({source: "roof", value: 1.5})')
    return time.perf_counter() - before


async def measure(language: Language, file: Path, data: bytes) -> Measured:
    """Measure one language on a runner of its own."""
    capabilities = {**WORLD, **{interface: [{}] for interface in RUNTIME[language]}}
    granted = authority(capabilities, memory="64MiB", deadline="60s", log_per_minute="1KiB")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = RunnerPaths(folder / "zygote.sock", folder / "compiled", folder / "cache.key")
        models = {"distance": ModelFile(MODEL, digest(MODEL))}
        order = AgentStart(AGENT, file, digest(file), granted.encode(), folder / "state", models=models)
        host = RunnerHost(paths, node="bench", clock=SystemClock())
        await host.open()
        try:
            compiled = await started(host, order)
            starts, first = [], []
            for _ in range(STARTS):
                await host.stop(AGENT, 1000)
                starts.append(await started(host, order))
                first.append(await called(host))
            calls = [await called(host) for _ in range(CALLS)]
        finally:
            await host.close()
    times = (compiled, *map(statistics.median, (starts, first, calls)))
    return Measured(len(data), len(gzip.compress(data, 6)), *times)


def built() -> dict[Language, Path]:
    """The newest sample of every language that was built before."""
    found = {
        language: max(
            toolchains.BUILD.glob(f"*-sample-{language}.wasm"), key=lambda file: file.stat().st_mtime, default=None
        )
        for language in Language
    }
    return {language: file for language, file in found.items() if file is not None}


def show() -> None:
    """Print the rows of what is built."""
    found = built()
    for language, file in found.items():
        for row in asyncio.run(measure(language, file, file.read_bytes())).rows(language):
            emit(row)
    if missing := missing_languages(found):
        emit_note(missing)


def missing_languages(found: Collection[Language]) -> str:
    """What a reader has to know about languages that were not measured; empty when all were."""
    missing = ", ".join(language for language in Language if language not in found)
    return f"Not measured, as not built on this machine: {missing}. `make languages` builds all." if missing else ""


def write() -> None:
    """Measure every language and rewrite the table, with how busy the machine was."""
    rows, loads = [], []
    for language in Language:
        file = toolchains.sample(language)
        cells = asyncio.run(measure(language, file, file.read_bytes())).cells()
        loads.append(os.getloadavg()[0])
        rows.append(f"| {' | '.join((language, *cells, SMALLEST[language].replace('MiB', ' MiB')))} |")
        sys.stderr.write(f"{rows[-1]}\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    busy = f"Load while this ran: {min(loads):.0f} to {max(loads):.0f}, on {os.cpu_count()} processors."
    PAGE.write_text(f"{before}{BEGIN}" + "\n".join((*HEADER, *rows, "", busy)) + f"\n{END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows of what is built; build and write nothing")
    if parser.parse_args().json:
        show()
    else:
        write()
