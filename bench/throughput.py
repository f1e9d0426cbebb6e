"""How much goes through: calls per second of a whole runtime, and bytes per second of the engine.

    python -m bench.throughput [--seconds 1]

Calls: every agent has one caller, which asks again as soon as it is answered; the supervisor's side is one process, and
an application's agents share a runner. What they are compared with is the same call, text and all, in one process and
one thread: `edge_agent.runner.invocation.evaluate`. The difference is the way to the runner and back.

Bytes: calls of one agent through the engine with a list of numbers one way, compared with a string of as many bytes,
which the engine carries in one piece anyway. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Row, emit
from bench.runtime import open_host
from edge_agent.runner.engine import Engine, Instance, Limits
from edge_agent.runner.engine.malloc import keep_large_blocks
from edge_agent.runner.invocation import evaluate
from edge_agent.runtime import AgentStart
from fleet.grants import Authority
from fleet.grants import Limits as GrantedLimits
from fleet.oci import digest_of
from fleet.wit_types import Numbers
from tests.fakes.components import wasm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.runner.host import RunnerHost

OPTIONS = '(memory (core memory $i "memory")) (realloc (core func $i "realloc"))'
CORE = """(core module $m
  (memory (export "memory") 64)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "size") (param i32 i32) (result i32) (local.get 1))
  (func (export "fill") (param i32) (result i32)
   (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))
  (func (export "same") (param i32 i32) (result i32)
   (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0)))
 (core instance $i (instantiate $m))"""
ECHO = f"""(component {CORE}
 (func (export "echo") (param "s" string) (result string) (canon lift (core func $i "same") {OPTIONS})))"""
KINDS = {"bytes": "(list u8)", "floats": "(list f32)", "text": "string"}
BULK = f"""(component {CORE} {"".join(f'''
 (func (export "{name}-in") (param "v" {kind}) (result u32) (canon lift (core func $i "size") {OPTIONS}))
 (func (export "{name}-out") (param "n" u32) (result {kind}) (canon lift (core func $i "fill") {OPTIONS}))'''
 for name, kind in KINDS.items())})"""  # fmt: skip

CALL = 'echo("thermometer-7")'
ROUNDS = 3
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20}
BULK_BYTES = 48 << 20
"""So many bytes are moved for each figure."""


def agents(folder: Path, names: Sequence[str]) -> list[AgentStart]:
    """Agents that give back what they are given."""
    component = folder / "echo.wasm"
    component.write_bytes(wasm(ECHO))
    digest = digest_of(component.read_bytes())
    authority = Authority({}, GrantedLimits()).encode()
    return [AgentStart(name, component, digest, authority, folder / "state") for name in names]


async def rate(host: RunnerHost, names: Sequence[str], seconds: float) -> float:
    """Calls per second of all agents together, each with one caller."""
    end = time.perf_counter() + seconds

    async def ask(name: str) -> int:
        calls = 0
        while time.perf_counter() < end:
            await host.call(name, CALL)
            calls += 1
        return calls

    began = time.perf_counter()
    calls = sum(await asyncio.gather(*map(ask, names)))
    return calls / (time.perf_counter() - began)


async def rates(folder: Path, seconds: float) -> dict[str, float]:
    """Calls per second by the number of agents and of their applications."""
    found = {}
    host = await open_host(folder)
    try:
        for agents_each, applications in ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8)):
            names = [f"app{a}/agent{n}" for a in range(applications) for n in range(agents_each)]
            for agent in agents(folder, names):
                await host.start(agent)
            await rate(host, names, 0.2)
            measured = [await rate(host, names, seconds) for _ in range(ROUNDS)]
            count = agents_each * applications
            where = "" if count == 1 else " of one application" if applications == 1 else " of an application each"
            found[f"{count} agent{'s' if count > 1 else ''}{where}"] = statistics.median(measured)
            for name in names:
                await host.stop(name, 1000)
    finally:
        await host.close()
    return found


def in_process(seconds: float) -> float:
    """Calls per second of the same call where nothing lies between."""
    engine = Engine()
    instance = Instance(engine.load(engine.compile(wasm(ECHO))), [], Limits())
    measured = []
    for _ in range(ROUNDS):
        calls, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            evaluate(instance, CALL, 1.0)
            calls += 1
        measured.append(calls / (time.perf_counter() - began))
    return statistics.median(measured)


def measure_bytes() -> None:
    """Print how many bytes go each way in a second, in calls of each size."""
    keep_large_blocks()  # as a runner does
    engine = Engine()
    instance = Instance(engine.load(engine.compile(wasm(BULK))), [], Limits())
    for title, size in SIZES.items():
        given = {"bytes": os.urandom(size), "floats": Numbers("f", range(size // 4)), "text": "a" * size}
        lengths = {"bytes": size, "floats": size // 4, "text": size}
        for name, kind in (("bytes", "list<u8>"), ("floats", "list<f32>")):
            into: list[Callable[[], object]] = [partial(instance.call, f"{n}-in", given[n]) for n in (name, "text")]
            out: list[Callable[[], object]] = [partial(instance.call, f"{n}-out", lengths[n]) for n in (name, "text")]
            for way, calls in (("to the guest", into), ("to the host", out)):
                ours, reference = _speeds(calls, size)
                emit(Row(f"{kind} {way}, {title} a call", "MiB/s", ours, reference))
    instance.close()


def _speeds(calls: Sequence[Callable[[], object]], size: int) -> list[float]:
    """MiB per second of each of some calls, which take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(BULK_BYTES // size):
        for call, spent in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            spent.append(time.perf_counter() - began)
    return [size / (1 << 20) / statistics.median(spent) for spent in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as scratch:
        found = asyncio.run(rates(Path(scratch), seconds))
    reference = in_process(seconds)
    for name, calls in found.items():
        emit(Row(name, "calls/s", calls, reference))
    measure_bytes()


if __name__ == "__main__":
    main()
