"""Our engine binding against the stock `wasmtime.component` API, in one process and one run.

Measures the start of an agent (new store to first result) and warm calls, both on the same compiled guest, and prints
rows (`bench.measure`) on request and a Markdown table otherwise. Medians; `ratio` is stock divided by ours.

    python -m bench.binding [--json] [--repeat 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import wasmtime
from wasmtime import component as stock

from bench.measure import Row as Measured
from bench.measure import emit
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from edge_agent.runner.engine.malloc import keep_large_blocks
from fleet.wit_text import parse_signature
from fleet.wit_types import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "bench:binding/host"
_OPTIONS = '(memory (core memory $i "memory")) (realloc (core func $i "realloc"))'
GUEST = f"""(component
 (import "{HOST}" (instance $host (export "tick" (func (param "n" u32) (result u32)))))
 (core func $tick (canon lower (func $host "tick")))
 (core module $m
  (import "h" "tick" (func $tick (param i32) (result i32)))
  (memory (export "memory") 64)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "nop"))
  (func (export "same") (param i32) (result i32) (local.get 0))
  (func (export "host") (param i32) (result i32) (call $tick (local.get 0)))
  (func (export "text") (param i32 i32) (result i32)
    (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))
  (func (export "record") (param i32 i32 f64 i64 i32) (result i32)
    (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
    (f64.store (i32.const 8) (local.get 2)) (i64.store (i32.const 16) (local.get 3))
    (i32.store8 (i32.const 24) (local.get 4)) (i32.const 0)))
 (core instance $i (instantiate $m (with "h" (instance (export "tick" (func $tick))))))
 (type $sample' (record (field "source" string) (field "value" f64) (field "timestamp" u64) (field "valid" bool)))
 (export $sample "sample" (type $sample'))
 (func (export "nop") (canon lift (core func $i "nop")))
 (func (export "u32") (param "n" u32) (result u32) (canon lift (core func $i "same")))
 (func (export "host") (param "n" u32) (result u32) (canon lift (core func $i "host")))
 (func (export "string") (param "s" string) (result string) (canon lift (core func $i "text") OPTIONS))
 (func (export "record") (param "r" $sample) (result $sample) (canon lift (core func $i "record") OPTIONS)))""".replace(
    "OPTIONS", _OPTIONS
)
BYTES_GUEST = f"""(component
 (import "{HOST}" (instance $host (export "tick" (func (param "n" u32) (result u32)))))
 (core func $tick (canon lower (func $host "tick")))
 (core module $m
  (import "h" "tick" (func $tick (param i32) (result i32)))
  (memory (export "memory") 64)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "host") (param i32) (result i32) (call $tick (local.get 0)))
  (func (export "size") (param i32 i32) (result i32) (local.get 1))
  (func (export "fill") (param i32) (result i32)
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0)))
 (core instance $i (instantiate $m (with "h" (instance (export "tick" (func $tick))))))
 (func (export "host") (param "n" u32) (result u32) (canon lift (core func $i "host")))
 (func (export "bytes-in") (param "b" (list u8)) (result u32) (canon lift (core func $i "size") OPTIONS))
 (func (export "bytes-out") (param "n" u32) (result (list u8)) (canon lift (core func $i "fill") OPTIONS))
 (func (export "f32-in") (param "b" (list f32)) (result u32) (canon lift (core func $i "size") OPTIONS))
 (func (export "f32-out") (param "n" u32) (result (list f32)) (canon lift (core func $i "fill") OPTIONS)))""".replace(
    "OPTIONS", _OPTIONS
)
"""A component of its own, because one that moves lists of numbers has a shim, which costs time when it starts."""

SAMPLE = {"source": "thermometer-7", "value": 21.5, "timestamp": 1_700_000_000, "valid": True}
KIB, MIB = os.urandom(1 << 10), os.urandom(1 << 20)
FLOATS = Numbers("f", range(1 << 18))


@dataclass(frozen=True)
class Row:
    """One line of the table; times in microseconds."""

    case: str
    stock: float
    ours: float
    ratio: float


def median(work: Callable[[], object], times: int) -> float:
    """Median duration of one run of `work` in microseconds.

    Runs that are many are short: they are timed by the batch, so that reading the clock does not count.
    """
    batch = max(1, times // 100)
    work()
    taken = []
    for _ in range(times // batch):
        begin = time.perf_counter_ns()
        for _ in range(batch):
            work()
        taken.append((time.perf_counter_ns() - begin) / batch)
    return statistics.median(taken) / 1000


class Stock:
    """The stock bindings, with what they need shared between starts as far as they allow."""

    def __init__(self, wasm: bytes) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        self.engine = wasmtime.Engine(config)
        self.component = stock.Component(self.engine, wasm)
        self.linker = stock.Linker(self.engine)
        with self.linker.root() as root, root.add_instance(HOST) as instance:
            instance.add_func("tick", lambda _store, n: n)

    def start(self) -> tuple[wasmtime.Store, stock.Instance]:
        """A new store and instance."""
        store = wasmtime.Store(self.engine)
        store.set_limits(memory_size=16 << 20)
        store.set_epoch_deadline(1000)
        return store, self.linker.instantiate(store, self.component)

    def first_call(self) -> None:
        """Start an agent, call it once, and free it."""
        store, instance = self.start()
        instance.get_func(store, "host")(store, 7)
        store.close()

    def caller(self, name: str) -> Callable[..., object]:
        """A function that calls an export of a started agent."""
        store, instance = self.start()
        function = instance.get_func(store, name)
        if function is None:
            raise RuntimeError(f"the guest exports no function '{name}'")
        return partial(function, store)


class Ours:
    """The binding of this project."""

    def __init__(self, wasm: bytes) -> None:
        engine = Engine()
        self.component = engine.load(engine.compile(wasm))
        tick = HostFunction(parse_signature("func(n: u32) -> u32"), lambda n: n)
        self.interfaces = [HostInterface(HOST, {"tick": tick})]
        self.limits = Limits(memory_bytes=16 << 20)

    def first_call(self) -> None:
        """Start an agent, call it once, and free it."""
        instance = Instance(self.component, self.interfaces, self.limits)
        instance.call("host", 7)
        instance.close()

    def caller(self, name: str) -> Callable[..., object]:
        """A function that calls an export of a started agent."""
        instance = Instance(self.component, self.interfaces, self.limits)
        return partial(instance.call, name)


def stock_sample() -> stock.Record:
    record = stock.Record()
    for name, value in SAMPLE.items():
        setattr(record, name, value)
    return record


def measure(repeat: int) -> list[Row]:
    """Run every case `repeat` times, alternating between the bindings; keep the median of the medians."""
    keep_large_blocks()  # as a runner does
    rows = []
    values: list[tuple[str, str, object, object, int]] = [
        ("u32 -> u32", "u32", 7, 7, 2000),
        ("u32 -> u32 through a host function", "host", 7, 7, 2000),
        ("string of 11 -> string", "string", "hello world", "hello world", 2000),
        ("record of 4 -> record", "record", stock_sample(), SAMPLE, 1000),
    ]
    wasm = bytes(wasmtime.wat2wasm(GUEST))
    theirs, ours = Stock(wasm), Ours(wasm)
    rows.append(_row("start: store to first result, and close", theirs.first_call, ours.first_call, 500, repeat))
    rows.append(_row("nop", theirs.caller("nop"), ours.caller("nop"), 2000, repeat))
    rows += [_call(theirs, ours, case, repeat) for case in values]
    wasm = bytes(wasmtime.wat2wasm(BYTES_GUEST))
    theirs, ours = Stock(wasm), Ours(wasm)
    rows.append(_row("start of a component that moves bytes", theirs.first_call, ours.first_call, 500, repeat))
    bulk: list[tuple[str, str, object, object, int]] = [
        ("1 KiB bytes in", "bytes-in", KIB, KIB, 50),
        ("1 KiB bytes out", "bytes-out", 1 << 10, 1 << 10, 50),
        ("1 MiB bytes in", "bytes-in", MIB, MIB, 1),
        ("1 MiB bytes out", "bytes-out", 1 << 20, 1 << 20, 1),
        ("1 MiB of f32 in", "f32-in", FLOATS.tolist(), FLOATS, 1),
        ("1 MiB of f32 out", "f32-out", 1 << 18, 1 << 18, 1),
    ]
    return rows + [_call(theirs, ours, case, repeat) for case in bulk]


def _call(theirs: Stock, ours: Ours, case: tuple[str, str, object, object, int], repeat: int) -> Row:
    """Calls of one function with one argument: title, name, the argument as each binding takes it, and how often."""
    title, name, their_argument, our_argument, times = case
    return _row(
        title, partial(theirs.caller(name), their_argument), partial(ours.caller(name), our_argument), times, repeat
    )


def _row(title: str, theirs: Callable[[], object], ours: Callable[[], object], times: int, repeat: int) -> Row:
    # One call of the stock bindings with a megabyte takes seconds, so ours gets more runs there.
    pairs = [(median(theirs, times), median(ours, max(times, 10))) for _ in range(repeat if times > 1 else 1)]
    slow, fast = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Row(title, round(slow, 1), round(fast, 1), round(slow / fast, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per row instead of a table")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rows = measure(options.repeat)
    if options.json:
        for row in rows:
            emit(Measured(row.case, "us", row.ours, row.stock))
        return
    print("| case | stock, us | ours, us | ratio |\n|---|---:|---:|---:|")
    for row in rows:
        print(f"| {row.case} | {row.stock} | {row.ours} | {row.ratio} |")


if __name__ == "__main__":
    main()
