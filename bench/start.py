"""How long a committed Rust agent takes to start: from nothing but the loaded component to its first call.

    python -m bench.start [--repeat 50]

Ours is what a runner does for every start: link the component by its grant to the real capabilities, make a store with
limits, instantiate. The reference is the stock `wasmtime.component` API with a linker that is made once and holds
functions that do nothing, so the comparison favours the stock API. Loading of the component is in neither, since a
runner loads a component once; nor is freeing the store. Prints rows (`bench.measure`).

"To first call" ends where the first call could be made. "To first result" goes on through a call: the context-agent is
given a reading it refuses, so that it answers with a string and logs a line, but waits for no disk and no model.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import wasmtime
from wasmtime import component as stock

from bench.measure import emit, median
from edge_agent.capabilities.base import AgentContext
from edge_agent.runner.engine import Engine, Instance, Limits
from edge_agent.runner.linking import link
from fleet.grants import Authority
from fleet.grants.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import ComponentTypes

COMPONENTS = Path(__file__).resolve().parents[1] / "components"
MEMORY = 16 << 20
HANDLE_DATA = "syuthd:agent-mesh/sensor-handler#handle-data"
INTERFACES = ("logging/logging", "keyvalue/store", "nn/graph", "nn/tensor", "nn/inference", "nn/errors")
STARTS = 30


@dataclass
class Reading:
    """`sensor-data` as the stock API takes it: an object with the record's fields."""

    source: str
    value: float
    timestamp: int


REFUSED = Reading("", 1.0, 1)


class Ours:
    """Starts of one component through the binding of this project."""

    def __init__(self, wasm: bytes, folder: Path) -> None:
        engine = Engine()
        self.component = engine.load(engine.compile(wasm))
        self._authority = Authority({f"wasi:{name}": (Rule({}),) for name in INTERFACES})
        self._limits = Limits(memory_bytes=MEMORY)
        self._folder = folder

    def start(self) -> tuple[Instance, AgentContext]:
        """Start an agent."""
        context = AgentContext(
            "app/agent",
            "app",
            self._authority,
            {},
            self._folder,
            {},
            lambda _line: None,
            time,
            lambda _: None,
            os.urandom,
        )
        return Instance(self.component, link(self.component, context, self._authority, ()), self._limits), context

    def timed(self, call: bool) -> float:  # noqa: FBT001 - two kinds of one measurement
        """Microseconds of one start, with its first call if `call`."""
        begin = time.perf_counter_ns()
        instance, context = self.start()
        if call:
            instance.call(HANDLE_DATA, asdict(REFUSED))
        taken = time.perf_counter_ns() - begin
        instance.close()
        context.close()
        return taken / 1000


def stock_linker(engine: wasmtime.Engine, types: ComponentTypes) -> stock.Linker:
    """A linker of the stock API whose functions do nothing."""
    linker = stock.Linker(engine)
    origins = sorted({o for interface in types.imports.values() for o in interface.resources.values()})
    with linker.root() as root:
        for name, interface in types.imports.items():
            with root.add_instance(name) as instance:
                for resource, origin in interface.resources.items():
                    kind = stock.ResourceType.host(origins.index(origin))
                    instance.add_resource(resource, kind, lambda _store, _number: None)
                for function in interface.functions:
                    instance.add_func(function, lambda _store, *_arguments: None)
    return linker


class Stock:
    """Starts of the same component through the stock API."""

    def __init__(self, wasm: bytes, types: ComponentTypes) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        self._engine = wasmtime.Engine(config)
        self._component = stock.Component(self._engine, wasm)
        self._linker = stock_linker(self._engine, types)
        exporter, _, function = HANDLE_DATA.partition("#")
        handler = self._component.get_export_index(function, self._component.get_export_index(exporter))
        if handler is None:
            raise SystemExit(f"the component exports no {HANDLE_DATA}")
        self._handler = handler

    def timed(self, call: bool) -> float:  # noqa: FBT001 - two kinds of one measurement
        """Microseconds of one start, with its first call if `call`."""
        begin = time.perf_counter_ns()
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=MEMORY)
        store.set_epoch_deadline(1000)
        instance = self._linker.instantiate(store, self._component)
        if call:
            handle_data = instance.get_func(store, self._handler)
            assert handle_data is not None
            handle_data(store, REFUSED)
        taken = time.perf_counter_ns() - begin
        store.close()
        return taken / 1000


def measure(agent: str, call: bool, folder: Path, repeat: int) -> None:  # noqa: FBT001 - two kinds of one measurement
    """Time the starts of one agent, a block of ours and a block of the stock API in turns."""
    (file,) = (COMPONENTS / agent).glob("*.wasm")
    wasm = file.read_bytes()
    ours = Ours(wasm, folder)
    reference = Stock(wasm, ours.component.types)
    times: tuple[list[float], list[float]] = ([], [])
    kinds: tuple[Callable[[bool], float], ...] = (ours.timed, reference.timed)
    for _ in range(repeat):
        for timed, taken in zip(kinds, times, strict=True):
            taken += [timed(call) for _ in range(STARTS)]
    emit(median(f"{agent}, store to {'first result' if call else 'first call'}", "us", *times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for agent, call in (
            ("context-agent", False),
            ("context-agent", True),
            ("crasher-agent", False),
            ("hungry-agent", False),
        ):
            measure(agent, call, Path(scratch), options.repeat)
