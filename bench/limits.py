"""What it costs a guest that its time is limited: the same code with and without the engine's checks.

    python -m bench.limits [--rounds 40]

Wasmtime's epochs, by which deadlines are kept and which are always on, check a counter at every loop and function;
fuel, for agents whose grant has a budget of instructions, counts at every branch. Both are compiled in, so the same
component is compiled three times, and everything runs through the stock `wasmtime.component` API, which can do without
either: the runner's own binding cannot. Prints rows (`bench.measure`).

The context-agent refuses a reading: a short call of a real Rust agent, most of whose time is the API's. The sieve is a
long one of tight loops, written by hand: close to the worst case.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasmtime
from wasmtime import component as stock

from bench.measure import compare
from bench.start import COMPONENTS, HANDLE_DATA, REFUSED, stock_linker
from edge_agent.runner.engine import Engine
from tests.fakes.components import wasm

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = 1_000_000
SIEVE = """(component
 (core module $m (memory 16)
  (func (export "primes") (param $below i32) (result i32) (local $i i32) (local $j i32) (local $found i32)
   (memory.fill (i32.const 0) (i32.const 0) (local.get $below))
   (local.set $i (i32.const 2))
   (loop $each
    (if (i32.eqz (i32.load8_u (local.get $i))) (then
     (local.set $found (i32.add (local.get $found) (i32.const 1)))
     (local.set $j (i32.add (local.get $i) (local.get $i)))
     (block $done (loop $strike
      (br_if $done (i32.ge_u (local.get $j) (local.get $below)))
      (i32.store8 (local.get $j) (i32.const 1))
      (local.set $j (i32.add (local.get $j) (local.get $i)))
      (br $strike)))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $each (i32.lt_u (local.get $i) (local.get $below))))
   (local.get $found)))
 (core instance $i (instantiate $m))
 (func (export "primes") (param "below" u32) (result u32) (canon lift (core func $i "primes"))))"""

UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Guest:
    """A component and the call that is timed.

    Attributes:
        name: how the page calls it.
        data: the component.
        function: full name of an exported function.
        argument: what it is given.
        calls: so many calls are one measurement, so that it is long enough.
    """

    name: str
    data: bytes
    function: str
    argument: object
    calls: int


def caller(guest: Guest, *, epochs: bool, fuel: bool) -> Callable[[int], object]:
    """Return what makes the calls of one measurement, with the checks that are asked for and never strike."""
    config = wasmtime.Config()
    config.epoch_interruption = epochs
    config.consume_fuel = fuel
    engine = wasmtime.Engine(config)
    component = stock.Component(engine, guest.data)
    store = wasmtime.Store(engine)
    if epochs:
        store.set_epoch_deadline(UNLIMITED)
    if fuel:
        store.set_fuel(UNLIMITED)
    ours = Engine()
    linker = stock_linker(engine, ours.load(ours.compile(guest.data)).types)
    interface, _, name = guest.function.rpartition("#")
    parent = component.get_export_index(interface) if interface else None
    index = component.get_export_index(name, parent)
    if index is None:
        raise SystemExit(f"{guest.name} exports no {guest.function}")
    function = linker.instantiate(store, component).get_func(store, index)
    if function is None:
        raise SystemExit(f"{guest.function} is not a function")

    def call(_round: int) -> None:
        for _ in range(guest.calls):
            function(store, guest.argument)

    return call


def measure(rounds: int) -> None:
    """Time every guest with each kind of checks against itself without."""
    agent = (COMPONENTS / "context-agent" / "context_agent.wasm").read_bytes()
    for guest in (
        Guest("100 calls of the context-agent", agent, HANDLE_DATA, REFUSED, 100),
        Guest(f"primes below {NUMBERS:,}", wasm(SIEVE), "primes", NUMBERS, 1),
    ):
        plain = caller(guest, epochs=False, fuel=False)
        compare(f"{guest.name}, epochs", caller(guest, epochs=True, fuel=False), plain, rounds)
        compare(f"{guest.name}, epochs and fuel", caller(guest, epochs=True, fuel=True), plain, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    measure(parser.parse_args().rounds)
