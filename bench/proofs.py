"""Two proofs about the engine binding, as long as one likes: that calls leak nothing, and that threads share nothing.

    python -m bench.proofs [--calls 1000000] [--seconds 60] [--threads 8] [--write]

Leaks: so many calls of every shape of value, each of which crosses four times (into the guest, on to a host function,
back, and out again), and starts of instances; the resident memory before and after tells what is left of a call.

Storm: threads that each start agents of their own, call them, move bytes and resources through them, and end them in
every way there is: by a trap, by an exception and by an interrupt in a host function, by closing them. Every agent
checks that it got its own results, that the exception that ended it is the very object that its own host function
raised, and that every resource that it ever held was destroyed.

`--write` writes bench/PROOFS.md. Exits with 1 when something leaked, was wrong, or was lost.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench import overlaps
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from edge_agent.runner.engine.malloc import keep_large_blocks
from edge_agent.runner.engine.slots import slots
from fleet.model import ExitCause
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import FuncType, Numbers, Ok, Some, Variant
from tests.fakes.components import ALLOCATOR, ECHO_INTERFACE, OPTIONS, echo, ticking, wasm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleet.wit_types import WitValue

PAGE = Path(__file__).parent / "PROOFS.md"

MAX_BYTES_PER_CALL = 1.0
NOISE_BYTES = 2 << 20
"""What resident memory may grow by without a leak: caches of the interpreter and of the C library."""

SHAPES: tuple[tuple[str, WitValue], ...] = (
    ("u32", 7),
    ("string", "a" * 50),
    ("record { a: string, b: f64, c: u64, d: bool }", {"a": "b" * 20, "b": 1.5, "c": 2, "d": True}),
    ("tuple<char, enum { x, y }, flags { p, q }>", ("c", "y", frozenset({"p", "q"}))),
    ("result<option<string>, variant { a(u8), b }>", Ok("c" * 20)),
    ("variant { a(list<string>), b }", Variant("a", ["d" * 20] * 4)),
    ("option<option<list<bool>>>", Some([True, False])),
    ("list<u8>", bytes(range(256))),
    ("list<f32>", Numbers("f", range(50))),
    ("list<tuple<u16, list<u64>>>", [(1, Numbers("Q", [1, 2]))] * 3),
)

HOST = "test:proofs/host"
GUEST = wasm(f"""(component
 (import "{HOST}" (instance $host
   (export "thing" (type $t (sub resource)))
   (export "make" (func (param "n" u32) (result (own $t))))
   (export "[method]thing.number" (func (param "self" (borrow $t)) (result u32)))
   (export "call" (func (param "n" u32) (result u32)))
   (export "bytes" (func (param "b" (list u8)) (result (list u8))))))
 (alias export $host "thing" (type $t))
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core func $make (canon lower (func $host "make")))
 (core func $number (canon lower (func $host "[method]thing.number")))
 (core func $call (canon lower (func $host "call")))
 (core func $bytes (canon lower (func $host "bytes") {OPTIONS}))
 (core func $drop (canon resource.drop $t))
 (type $own' (resource (rep i32)))
 (core func $new (canon resource.new $own'))
 (core module $m
  (import "a" "memory" (memory 1)) (import "a" "reset" (func $reset))
  (import "h" "make" (func $make (param i32) (result i32)))
  (import "h" "number" (func $number (param i32) (result i32)))
  (import "h" "call" (func $call (param i32) (result i32)))
  (import "h" "bytes" (func $bytes (param i32 i32 i32)))
  (import "h" "drop" (func $drop (param i32)))
  (import "h" "new" (func $new (param i32) (result i32)))
  (func (export "use") (param i32) (result i32) (local $t i32) (local $n i32)
   (local.set $t (call $make (local.get 0)))
   (local.set $n (call $number (local.get $t)))
   (call $drop (local.get $t)) (local.get $n))
  (func (export "keep") (param i32) (drop (call $make (local.get 0))))
  (func (export "die") (param i32) (drop (call $make (local.get 0))) unreachable)
  (func (export "call") (param i32) (result i32) (call $call (local.get 0)))
  (func (export "own") (param i32) (result i32) (call $new (local.get 0)))
  (func (export "own-number") (param i32) (result i32) (local.get 0))
  (func (export "bytes") (param i32 i32) (result i32)
   (call $bytes (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
  (func (export "done") (param i32) (call $reset)))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
   (export "make" (func $make)) (export "number" (func $number)) (export "call" (func $call))
   (export "bytes" (func $bytes)) (export "drop" (func $drop)) (export "new" (func $new))))))
 (export $own "item" (type $own'))
 (func (export "use") (param "n" u32) (result u32) (canon lift (core func $i "use")))
 (func (export "keep") (param "n" u32) (canon lift (core func $i "keep")))
 (func (export "die") (param "n" u32) (canon lift (core func $i "die")))
 (func (export "call") (param "n" u32) (result u32) (canon lift (core func $i "call")))
 (func (export "own") (param "n" u32) (result (own $own)) (canon lift (core func $i "own")))
 (func (export "own-number") (param "item" (borrow $own)) (result u32) (canon lift (core func $i "own-number")))
 (func (export "bytes") (param "b" (list u8)) (result (list u8))
  (canon lift (core func $i "bytes") {OPTIONS} (post-return (core func $i "done")))))""")


class Interrupted(BaseException):
    """What no `except Exception` may catch, as `KeyboardInterrupt`."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What is left of so many calls, in resident bytes."""

    shape: str
    calls: int
    grown: int

    @property
    def bytes_per_call(self) -> float:
        """What is left of one call."""
        return self.grown / self.calls

    @property
    def found(self) -> bool:
        """More is left than the interpreter may keep."""
        return self.grown > NOISE_BYTES + MAX_BYTES_PER_CALL * self.calls


@dataclass(slots=True)
class Storm:
    """What the threads saw."""

    seconds: float
    threads: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Agent:
    """One instance with host functions of its own, which know what they handed out and what they raised."""

    _numbers = itertools.count(1)

    def __init__(self, start: Callable[[Iterable[HostInterface]], Instance]) -> None:
        self.number = next(self._numbers)
        self.things: dict[int, int] = {}
        self.raised: BaseException | None = None
        self.failing: type[BaseException] | None = None
        functions: dict[str, tuple[str, Callable[..., WitValue]]] = {
            "make": ("func(n: u32) -> own<thing>", self._make),
            "[method]thing.number": ("func(self: borrow<thing>) -> u32", lambda thing: self.things[thing]),
            "call": ("func(n: u32) -> u32", self._call),
            "bytes": ("func(b: list<u8>) -> list<u8>", lambda data: data[::-1]),
        }
        made = {name: HostFunction(parse_signature(text), call) for name, (text, call) in functions.items()}
        self.instance = start([HostInterface(HOST, made, {"thing": self._drop})])

    def _make(self, number: int) -> int:
        thing = len(self.things) + self.number % 1000 * 1000
        self.things[thing] = number
        return thing

    def _drop(self, thing: int) -> None:
        del self.things[thing]

    def _call(self, number: int) -> int:
        if self.failing is not None:
            self.raised = self.failing(self.number, number)
            raise self.raised
        return number ^ self.number & 0xFFFF


def leaks(calls: int) -> Iterable[Leak]:
    """Call every shape so often."""
    engine = Engine()
    for text, value in SHAPES:
        kind = parse_type(text)
        component = engine.load(engine.compile(echo(kind)))
        same = HostFunction(FuncType((("v", kind),), kind), lambda given: given)
        instance = Instance(component, [HostInterface(ECHO_INTERFACE, {"echo": same})], Limits())
        if instance.call("echo", value) != value:
            raise SystemExit(f"{text} does not come back as it was")
        yield _leak(text, calls, partial(instance.call, "echo", value))
        instance.close()
    component = engine.load(engine.compile(GUEST))
    agent = Agent(lambda interfaces: Instance(component, interfaces, Limits()))
    yield _leak("a resource of the host: own, borrow, drop", calls, lambda: agent.instance.call("use", 7))
    yield _leak("a resource of the guest: own, borrow, drop", calls, lambda: _own(agent, 7))
    agent.instance.close()

    overlapping = overlaps.agent()
    outcomes = [str(call.outcome).partition(":")[0] for call in overlaps.burst(overlapping)]
    if outcomes != ["a" * 50] * 4 + ["b" * 50] * 3 + ["DEADLINE_EXCEEDED"]:
        raise SystemExit(f"the calls in flight ended otherwise: {outcomes}")
    shape = "eight calls in flight, one of them cancelled"
    yield _leak(shape, max(1, calls // 8), partial(overlaps.burst, overlapping))
    overlapping.close()

    def start() -> None:
        short = Agent(lambda interfaces: Instance(component, interfaces, Limits()))
        short.instance.call("keep", 7)
        short.instance.close()

    yield _leak("an instance: start, call, close", max(1, calls // 50), start)


def _own(agent: Agent, number: int) -> WitValue:
    with agent.instance.call("own", number) as item:  # type: ignore[attr-defined]  # a GuestResource
        return agent.instance.call("own-number", item)


def _leak(shape: str, calls: int, call: Callable[[], object]) -> Leak:
    process = psutil.Process()
    for _ in range(min(calls, 5000)):
        call()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(calls):
        call()
    gc.collect()
    return Leak(shape, calls, process.memory_info().rss - before)


def storm(seconds: float, threads: int) -> Storm:
    """Let the threads rage for so long."""
    result = Storm(seconds, threads)
    engine = Engine()
    component = engine.load(engine.compile(GUEST))
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def rage(seed: int) -> None:
        draw = random.Random(seed)
        counts: Counter[str] = Counter()
        wrong: list[str] = []
        while time.monotonic() < end:
            agent = Agent(lambda interfaces: Instance(component, interfaces, Limits(memory_bytes=4 << 20)))
            for check in draw.choices((_calls, _uses, _owns, _bytes), k=draw.randrange(12)):
                counts[check.__name__.strip("_")] += 1
                _note(wrong, agent, check(agent, draw))
            ending = draw.choice(_ENDINGS)
            counts[f"ended by {ending}"] += 1
            _note(wrong, agent, _end(agent, ending))
            if agent.things:
                wrong.append(f"agent {agent.number} ended by {ending} still holds {len(agent.things)} things")
        with lock:
            result.counts += counts
            result.wrong += wrong

    workers = [threading.Thread(target=rage, args=(seed,)) for seed in range(threads)]
    with ticking(engine):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if len(workers) * sum(result.counts.values()) == 0:
        result.wrong.append("nothing was done")
    return result


def _note(wrong: list[str], agent: Agent, fault: str | None) -> None:
    if fault is not None:
        wrong.append(f"agent {agent.number}: {fault}")


def _calls(agent: Agent, draw: random.Random) -> str | None:
    number = draw.getrandbits(16)
    result = agent.instance.call("call", number)
    return None if result == number ^ agent.number & 0xFFFF else f"{result} for {number}"


def _uses(agent: Agent, draw: random.Random) -> str | None:
    number = draw.getrandbits(32)
    if draw.random() < 0.3:
        agent.instance.call("keep", number)
    result = agent.instance.call("use", number)
    return None if result == number else f"{result} for thing {number}"


def _owns(agent: Agent, draw: random.Random) -> str | None:
    number = draw.getrandbits(16)
    result = _own(agent, number)
    return None if result == number else f"{result} for own {number}"


def _bytes(agent: Agent, draw: random.Random) -> str | None:
    data = draw.randbytes(draw.choice((0, 1, 17, 1000, 70_000)))
    return None if agent.instance.call("bytes", data) == data[::-1] else f"other bytes than {len(data)} given"


_ENDINGS = ("trap", "exception", "interrupt", "stop", "close")


def _end(agent: Agent, ending: str) -> str | None:
    instance = agent.instance
    if ending == "close":
        instance.close()
        return None
    if ending == "stop":
        instance.interrupt()
    agent.failing = {"exception": ValueError, "interrupt": Interrupted}.get(ending)
    expected = {"trap": ExitCause.UNREACHABLE, "exception": ExitCause.HOST_ERROR}.get(ending)
    try:
        if ending == "stop":
            instance.close()
            return None
        instance.call("die" if ending == "trap" else "call", 1)
    except Interrupted as caught:
        return None if caught is agent.raised else "the interrupt of another agent"
    except Trap as trap:
        if trap.cause is not expected:
            return f"ended by {ending}, told as {trap.cause}"
        return None if trap.__cause__ is agent.raised else f"the cause is {trap.__cause__!r}, not {agent.raised!r}"
    return f"{ending} was lost"


def page(found: list[Leak], seen: Storm) -> str:
    """The results as a page."""
    lines = [
        "# Proofs of the engine binding",
        "",
        "Written by `make hammer` with `--write`; do not edit. What is proved, and how: the docstring of `proofs.py`.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {sys.version.split()[0]}, {os.cpu_count()} processors.",
        "",
        "## Calls leak nothing",
        "",
        "| shape | calls | resident memory, KiB | bytes for each |",
        "| --- | ---: | ---: | ---: |",
        *(f"| `{leak.shape}` | {leak.calls} | {leak.grown >> 10:+} | {leak.bytes_per_call:.3f} |" for leak in found),
        "",
        "## Threads share nothing",
        "",
        f"{seen.threads} threads for {seen.seconds:g} s: {len(seen.wrong)} wrong or lost.",
        "",
        "| what | times |",
        "| --- | ---: |",
        *(f"| {what} | {times} |" for what, times in sorted(seen.counts.items())),
    ]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove that calls leak nothing and threads share nothing.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} beside this module")
    options = parser.parse_args()
    keep_large_blocks()
    found = list(leaks(options.calls))
    seen = storm(options.seconds, options.threads)
    text = page(found, seen)
    print(text)
    for fault in seen.wrong[:20]:
        print(fault)
    if options.write:
        PAGE.write_text(text)
    return 1 if seen.wrong or slots or any(leak.found for leak in found) else 0


if __name__ == "__main__":
    sys.exit(main())
