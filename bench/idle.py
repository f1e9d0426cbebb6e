"""How much memory a thousand idle Rust agents take in one runner, above what the runner takes itself.

    python -m bench.idle [--agents 1000]

Proportional set size of the runner (`Pss` of smaps_rollup, proc(5)) with one context-agent, and with so many more of
them: started, with all that their grant gives them, and never called. The starts are timed from the supervisor's side,
to see whether a full runner starts agents as quickly as an empty one. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import psutil

from bench.measure import Row, emit, median
from bench.runtime import open_host
from bench.start import COMPONENTS
from edge_agent.runtime import AgentStart, ModelFile
from fleet.oci import digest_of
from tests.fakes.agents import authority

APPLICATION = "idle"
CAPABILITIES: dict[str, list[dict[str, object]]] = {
    "wasi:logging/logging": [{}],
    "wasi:keyvalue/store": [{"buckets": ["context"], "ops": ["get", "set"]}],
    "wasi:nn/graph": [{"models": ["context"], "devices": ["cpu"]}],
    "wasi:nn/tensor": [{}],
    "wasi:nn/inference": [{}],
}
SETTLE_S = 1.0
SOME = 100


async def size(pid: int) -> float:
    """MiB of a process when it has come to rest."""
    await asyncio.sleep(SETTLE_S)
    return float(psutil.Process(pid).memory_full_info().pss) / (1 << 20)


async def measure(folder: Path, agents: int) -> None:
    """Start the agents one by one."""
    sample = COMPONENTS / "context-agent"
    component, model = sample / "context_agent.wasm", sample / "model" / "context.onnx"
    digest = digest_of(component.read_bytes())
    models = {"context": ModelFile(model, digest_of(model.read_bytes()))}
    granted = authority(CAPABILITIES).encode()

    def agent(number: int) -> AgentStart:
        return AgentStart(f"{APPLICATION}/a{number}", component, digest, granted, folder / "state", models=models)

    host = await open_host(folder)
    try:
        await host.start(agent(0))
        pid = host.runner_pid(APPLICATION)
        if pid is None:
            raise SystemExit("the runner is gone")
        own = await size(pid)
        starts = []
        for number in range(1, agents + 1):
            began = time.perf_counter()
            await host.start(agent(number))
            starts.append((time.perf_counter() - began) * 1000)
        more = await size(pid) - own
    finally:
        await host.close()
    emit(Row("the runner with one agent", "MiB", own))
    emit(Row(f"{agents:,} agents more", "MiB", more))
    emit(Row("one agent more", "MiB", more / agents))
    emit(median(f"start of one of the first {SOME}", "ms", starts[:SOME]))
    emit(median(f"start of one of the last {SOME}", "ms", starts[-SOME:]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(measure(Path(scratch), options.agents))
