"""No component, however damaged or strange, ends a process: not the one that reads it, compiles it or runs it.

    make fuzz CASES=100000 SEED=7

Each specimen goes the way of a signed component on a node, after the signatures: the names are read, the imports
checked against a grant that names everything, a compile worker compiles it, a runner starts it, its exports are called,
and it is stopped. Any refusal is fine if it is a `FleetError`; a lost worker or runner, or any other exception, is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
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
from tests.endurance.grants import everything
from tests.endurance.publishing import publish
from tests.endurance.specimens import Specimens
from tests.fakes.agents import authority

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("CASES", "5000"))
SEED = int(os.environ.get("SEED", "1"))

GRANTED = authority(everything(), memory="8MiB", deadline="150ms", log_per_minute="4KiB", keyvalue="1MiB")
INVOCATIONS = (
    'handle-data({source: "x", value: 1.5, timestamp: 7})',
    "make()",
    "add(1, 2)",
    "grow(3)",
    "random()",
    "read()",
    'print("text")',
    "directories()",
    "exit(3)",
)
AGENT = "fuzz/specimen"
BATCH = 500
"""Specimens of one host: what it compiled is thrown away with it."""

CRASHES = {ExitCause.ENGINE_CRASH, ExitCause.KILLED}


async def test_no_specimen_ends_a_process(tmp_path: Path) -> None:
    specimens = Specimens(SEED)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    for first in range(0, CASES, BATCH):
        folder = tmp_path / f"batch-{first}"
        folder.mkdir()
        host = RunnerHost(
            RunnerPaths(folder / "run/zygote.sock", folder / "cache", folder / "keys/cache.key"),
            node="n1",
            clock=SystemClock(),
        )
        await host.open()
        try:
            for number in range(first, min(first + BATCH, CASES)):
                done, component = specimens.make(number)
                outcome = await examine(host, folder / "specimen.wasm", component)
                outcomes[outcome] += 1
                if outcome.startswith("CRASH"):
                    failures.append(f"{number} ({done}): {outcome}")
        finally:
            await host.close()
        clear(folder)
    started = sum(count for outcome, count in outcomes.items() if outcome.startswith("ran"))
    results = {
        "specimens": CASES,
        "seed": SEED,
        "started and called": started,
        **dict(outcomes.most_common()),
        "processes lost": len(failures),
    }
    publish("admission-fuzz", "Fuzzing of admission", f"make fuzz CASES={CASES} SEED={SEED}", results)
    assert not failures, failures[:20]
    assert started > CASES // 20, "hardly any specimen got far enough to show something"
    assert psutil.Process().children(recursive=True) == []


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
    shutil.rmtree(folder)


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
