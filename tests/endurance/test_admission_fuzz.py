"""No component, however damaged or strange, ends a process: not the one that reads it, compiles it or runs it.

    make fuzz CASES=100000 SEED=7

Every specimen goes through the engine, with a grant that names everything, in a process made for many of them
(`engine_worker`). One in twenty-three also goes the way of a signed component on a node, after the signatures: a
compile worker compiles it, a runner starts it, its exports are called, and it is stopped. Any refusal is fine if it is
a `FleetError`; a lost process, or any other exception, is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentExited, AgentStart, RunnerLost, RuntimeEvent
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import check_imports
from fleet.model import ExitCause
from tests.endurance.grants import GRANTED, INVOCATIONS
from tests.endurance.publishing import publish
from tests.endurance.specimens import Specimens

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("CASES", "5000"))
SEED = int(os.environ.get("SEED", "1"))

AGENT = "fuzz/specimen"
ROOT = Path(__file__).resolve().parents[2]
BATCH = 1000
"""Specimens of one process."""
STEP = 23
"""One in so many goes through a node's processes: prime, so that every kind of specimen does."""

CRASHES = {ExitCause.ENGINE_CRASH, ExitCause.KILLED}


def test_no_specimen_ends_the_engine(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    progress = tmp_path / "progress"
    for first in range(0, CASES, BATCH):
        count = min(BATCH, CASES - first)
        command = [sys.executable, "-m", "tests.endurance.engine_worker", *map(str, (SEED, first, count, progress))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BATCH * 2.0, check=False)
        assert done.returncode == 0, f"specimen {progress.read_text()} of seed {SEED}: {done.returncode} {done.stderr}"
        outcomes.update(json.loads(done.stdout))
    report("engine-fuzz", "Fuzzing of the engine with components", CASES, outcomes, 0)


async def test_no_specimen_ends_a_process_of_a_node(tmp_path: Path) -> None:
    specimens = Specimens(SEED)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    numbers = range(0, CASES, STEP)
    paths = RunnerPaths(tmp_path / "run/zygote.sock", tmp_path / "cache", tmp_path / "keys/cache.key")
    host = RunnerHost(paths, node="n1", clock=SystemClock())
    await host.open()
    try:
        for number in numbers:
            done, component = specimens.make(number)
            outcome = await examine(host, tmp_path / "specimen.wasm", component)
            outcomes[outcome] += 1
            if outcome.startswith("CRASH"):
                failures.append(f"{number} ({done}): {outcome}")
            if number % 500 == 0:
                clear(paths.cache)
    finally:
        await host.close()
    report("admission-fuzz", "Fuzzing of admission with components", len(numbers), outcomes, len(failures))
    assert not failures, failures[:20]
    assert psutil.Process().children(recursive=True) == []


def report(page: str, title: str, specimens: int, outcomes: Counter[str], lost: int) -> None:
    """Publish what came of the specimens."""
    started = sum(count for outcome, count in outcomes.items() if outcome.startswith("ran"))
    results = {"specimens": specimens, "seed": SEED, "processes lost": lost, "started and called": started}
    publish(page, title, f"make fuzz CASES={CASES} SEED={SEED}", results | dict(outcomes.most_common()))
    assert started > specimens // 20, "hardly any specimen got far enough to show something"


async def examine(host: RunnerHost, file: Path, component: bytes) -> str:
    """Take one specimen as far as it goes; says how it ended."""
    digest = store(file, component)
    try:
        check_imports(read_component(component).imports, GRANTED, (), AGENT, "specimen@0.1.0")
        await host.prepare(file, digest)
    except FleetError as error:
        if "ended with" in error.private:
            return f"CRASH of a compile worker: {error.private}"
        return f"refused: {error.code}"
    start = AgentStart(AGENT, file, digest, GRANTED.encode(), state_dir=file.parent / "state")
    try:
        await host.start(start)
    except FleetError as error:
        return verdict("refused at its start", error)
    outcome = await call_all(host)
    await host.stop(AGENT, 0)
    while (event := await pending(host)) is not None:
        if isinstance(event, RunnerLost) or (isinstance(event, AgentExited) and event.exit.cause in CRASHES):
            outcome = f"CRASH: {event.exit.message}"
    return outcome


def store(file: Path, component: bytes) -> str:
    """Write a specimen over the last one; return its digest."""
    file.unlink(missing_ok=True)
    file.write_bytes(component)
    return f"sha256:{hashlib.sha256(component).hexdigest()}"


def clear(folder: Path) -> None:
    """Throw away what was compiled."""
    for file in folder.iterdir():
        file.unlink()


async def call_all(host: RunnerHost) -> str:
    """Call what may be exported, until the guest ends."""
    answered = False
    for invocation in INVOCATIONS:
        try:
            await host.call(AGENT, invocation)
            answered = True
        except FleetError as error:
            if error.code in (Code.EXPORT_NOT_FOUND, Code.WAVE_INVALID):
                continue
            return verdict("ran and ended", error)
    return "ran and answered" if answered else "ran"


def verdict(stage: str, error: FleetError) -> str:
    """Tell a refusal or a trap from the loss of a process."""
    if error.code is Code.RUNNER_LOST:
        return f"CRASH of a runner: {error.private}"
    cause = error.detail.get("cause")
    return f"{stage}: {cause or error.code}"


async def pending(host: RunnerHost) -> RuntimeEvent | None:
    """The next event that has happened already."""
    try:
        async with asyncio.timeout(0):
            return await host.next_event()
    except TimeoutError:
        return None
