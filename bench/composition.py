"""What a call from one agent to another costs: between two stores, and fused into one component.

The calling agent loops inside one call, so that what is measured is the way between the two and nothing around it.
Prints rows (`bench.measure`); what a call between two stores is compared with is the same call fused.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Row, emit
from bench.runtime import open_host
from edge_agent.fusion import Fusion, Part, Wire
from edge_agent.runtime import AgentStart
from fleet.grants import Authority, Limits
from fleet.oci import digest_of
from tests.fakes.linked_guests import SCORE, asker, scorer

if TYPE_CHECKING:
    from edge_agent.runner.host import RunnerHost

ASKER, SCORER = "bench/asker", "bench/scorer"


def agent(folder: Path, name: str, component: bytes) -> AgentStart:
    """An agent whose calls may take long."""
    file = folder / f"{name.partition('/')[2]}.wasm"
    file.write_bytes(component)
    authority = Authority({}, Limits(deadline_ms=60_000)).encode()
    return AgentStart(name, file, digest_of(component), authority, folder / "state")


async def per_call(host: RunnerHost, calls: int, rounds: int) -> float:
    """Microseconds of one call from the asking agent to the other: the best of some rounds."""
    took = [(await host.call(ASKER, f"run-many({calls})")).duration_ms for _ in range(rounds)]
    return min(took) * 1000 / calls


async def measure(folder: Path, calls: int, rounds: int) -> None:
    """Measure both kinds of link."""
    asking, scoring = agent(folder, ASKER, asker()), agent(folder, SCORER, scorer())
    host = await open_host(folder)
    try:
        await host.start(scoring)
        await host.start(replace(asking, links={SCORE: SCORER}))
        apart = await per_call(host, calls, rounds)
        await host.stop(ASKER, 0)
        parts = tuple(Part(one.name, one.component, one.component_digest) for one in (asking, scoring))
        await host.start(replace(asking, fusion=Fusion(parts, (Wire(0, SCORE, 1),))))
        fused = await per_call(host, calls * 1000, rounds)
    finally:
        await host.close()
    emit(Row("call to another agent, isolation: store", "us", apart, fused))
    emit(Row("call to another agent, isolation: none", "us", fused))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(measure(Path(scratch), arguments.calls, arguments.rounds))
