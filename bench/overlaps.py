"""Bursts of calls in flight in one agent: what they cost, and (in `proofs`) that nothing of them stays.

    python -m bench.overlaps

Prints microseconds per call: alone, and beside others that wait.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from fleet.wit_text import parse_signature
from fleet.wit_types import FuncType, Primitive
from tests.fakes.overlapping import ASK, CLOCK, overlapping

if TYPE_CHECKING:
    from edge_agent.runner.engine import GuestCall
    from edge_agent.runner.engine.traps import Trap
    from fleet.errors import FleetError
    from fleet.wit_types import WitValue


class Answer:
    """What is there when the guest has nothing else to do."""

    def __init__(self, value: WitValue) -> None:
        self._value = value
        self._asked = False

    def left_ns(self) -> int:
        """Say no once, so that the guest has to wait."""
        left, self._asked = (0 if self._asked else 1), True
        return left

    def result(self) -> WitValue:
        """The value."""
        return self._value


class Call:
    """One call, and what became of it."""

    def __init__(self, function: str, *arguments: WitValue, seconds: float = 60.0) -> None:
        self.function, self.arguments, self.seconds = function, arguments, seconds
        self.outcome: object = None

    def returned(self, value: WitValue) -> None:
        """Keep the result."""
        self.outcome = value

    def failed(self, error: FleetError | Trap) -> None:
        """Keep why there is none."""
        self.outcome = error


class Burst:
    """Calls that are begun at once; no time passes."""

    def __init__(self, *calls: Call) -> None:
        self._calls = list(calls)

    def next(self, _in_flight: int) -> GuestCall | None:
        """The next one."""
        return self._calls.pop(0) if self._calls else None

    def wait(self, seconds: float) -> None:
        """Wait for nothing."""

    def until(self, end: float) -> None:
        """Nobody else waits in the host."""


def agent() -> Instance:
    """An instance of the guest for strings."""
    engine = Engine()
    text, wait = Primitive.STRING, parse_signature("func(how-long: u64)")
    ask = HostFunction(FuncType((("value", text),), text), lambda value: value, later=Answer)
    return Instance(
        engine.load(engine.compile(overlapping(text))),
        [
            HostInterface("wasi:clocks/types@0.3.0", {}),
            HostInterface(CLOCK, {"wait-for": HostFunction(wait, lambda _: None, later=lambda _: Answer(None))}),
            HostInterface(ASK, {"ask": ask}),
        ],
        Limits(memories=2),
    )


def burst(instance: Instance) -> list[Call]:
    """Eight calls at a time, which wait for a clock or for the host; one is cancelled at its deadline."""
    calls = [
        *(Call("later", "a" * 50, 1) for _ in range(4)),
        *(Call("asked", "b" * 50) for _ in range(3)),
        Call("later", "c", 1, seconds=0.0),
    ]
    instance.serve(Burst(*calls))
    return calls


def main() -> None:
    """Print the figures."""
    instance = agent()
    for title, count in (("alone", 1), ("two in flight", 2), ("sixteen in flight", 16), ("a hundred in flight", 100)):
        times = []
        for _ in range(300):
            calls = [Call("later", "hello world", 1) for _ in range(count)]
            before = time.perf_counter()
            instance.serve(Burst(*calls))
            times.append((time.perf_counter() - before) / count)
        print(f"{title}: {statistics.median(times) * 1e6:.1f} us per call")
    times = []
    for _ in range(300):
        before = time.perf_counter()
        instance.call("later", "hello world", 1)
        times.append(time.perf_counter() - before)
    print(f"by itself, without the dispatcher: {statistics.median(times) * 1e6:.1f} us")
    instance.close()


if __name__ == "__main__":
    main()
