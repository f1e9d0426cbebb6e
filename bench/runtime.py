"""A real runtime and the smallest agent, for benchmarks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentStart
from fleet.grants import Authority, Limits

if TYPE_CHECKING:
    from pathlib import Path

TINY = """(component
 (core module $m (memory 1) (global $calls (mut i32) (i32.const 0))
  (func (export "trap") unreachable)
  (func (export "count") (result i32)
   (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)))
 (core instance $i (instantiate $m))
 (func (export "trap") (canon lift (core func $i "trap")))
 (func (export "count") (result u32) (canon lift (core func $i "count"))))"""


async def open_host(folder: Path) -> RunnerHost:
    """Open a runtime with its files in `folder`."""
    paths = RunnerPaths(folder / "zygote.sock", folder / "compiled", folder / "cache.key")
    host = RunnerHost(paths, node="bench", clock=SystemClock())
    await host.open()
    return host


def tiny_agent(folder: Path, name: str) -> AgentStart:
    """Describe an agent with one page of memory."""
    component = folder / "tiny.wasm"
    if not component.exists():
        # In a process of its own: a supervisor never imports the engine, and this process stands for one.
        program = "import sys, wasmtime; sys.stdout.buffer.write(wasmtime.wat2wasm(sys.argv[1]))"
        done = subprocess.run([sys.executable, "-c", program, TINY], check=True, capture_output=True)
        component.write_bytes(done.stdout)
    digest = f"sha256:{hashlib.sha256(component.read_bytes()).hexdigest()}"
    return AgentStart(name, component, digest, Authority({}, Limits()).encode(), folder / "state")
