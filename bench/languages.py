"""The sample agent of each language: size, compile, start and call; written into docs/languages.md.

    python -m bench.languages

Builds what is not built yet, which takes minutes the first time, and needs what `make languages` needs.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentStart, ModelFile
from fleet.bundle import Language
from tests.fakes.agents import authority
from tests.languages import toolchains
from tests.languages.test_matrix import AGENT, MODEL, RUNTIME, SMALLEST, WORLD

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


async def measure(language: Language) -> str:
    """Measure one language on a runner of its own; returns its row."""
    file = toolchains.sample(language)
    data = file.read_bytes()
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
            starts = []
            for _ in range(STARTS):
                await host.stop(AGENT, 1000)
                starts.append(await started(host, order))
            calls = []
            for _ in range(CALLS):
                before = time.perf_counter()
                await host.call(AGENT, 'take({source: "roof", value: 1.5})')
                calls.append(time.perf_counter() - before)
        finally:
            await host.close()
    times = (compiled, statistics.median(starts), statistics.median(calls))
    cells = (language.value, amount(len(data)), amount(len(gzip.compress(data, 6))), *map(duration, times))
    return f"| {' | '.join((*cells, SMALLEST[language].replace('MiB', ' MiB')))} |"


def main() -> int:
    """Measure every language and rewrite the table."""
    rows = []
    for language in Language:
        rows.append(asyncio.run(measure(language)))
        sys.stderr.write(f"{rows[-1]}\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}" + "\n".join((*HEADER, *rows)) + f"\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
