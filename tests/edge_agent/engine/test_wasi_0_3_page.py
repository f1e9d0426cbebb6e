"""docs/wasi-0.3.md says what agents can use of WASI 0.3: each of its rows is here, beside what proves it.

`python -m tests.edge_agent.engine.test_wasi_0_3_page` writes the page.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from wasmtime import _ffi

from edge_agent.capabilities import find
from edge_agent.fusion import Wire
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from fleet.errors import Code, FleetError
from fleet.grants import BASELINE, VOCABULARY
from fleet.wit_text import parse_signature
from fleet.wit_types import Ok
from tests.edge_agent.engine import test_asynchronous, test_in_flight
from tests.fakes.asynchronous import NUMBERS, PIPE, answerer, importer, receiver, sender, waiter
from tests.fakes.components import ticking, wasm

ENGINE = Engine()
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/wasi-0.3.md"

INTRODUCTION = """# WASI 0.3 and asynchronous components

What agents can use of WASI 0.3 and of the component model's asynchronous part. The node's engine is Wasmtime behind its
C API, which has none of WASI 0.3 and knows asynchronous functions only where they are exported; what is possible beyond
that, components do that the node generates around the agent when it compiles it. An agent is built and deployed as any
other: that it is asynchronous shows in its binary, and it is then compiled for an engine with that part switched on.

Every row is a test (`tests/edge_agent/engine/test_wasi_0_3_page.py`), and the page is generated from them.
"""


class Row(NamedTuple):
    feature: str
    possible: str
    how: str


@dataclass(frozen=True)
class Proved:
    row: Row
    proof: Callable[[], None]


PROVED: dict[str, list[Proved]] = {"Functions": [], "Streams and futures": [], "Interfaces": []}


def row(section: str, feature: str, possible: str, how: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(proof: Callable[[], None]) -> Callable[[], None]:
        PROVED[section].append(Proved(Row(feature, possible, how), proof))
        return proof

    return add


def instance_of(component, *interfaces):
    return Instance(ENGINE.load(ENGINE.compile(component)), list(interfaces), Limits(memories=4))


def numbers(slow=lambda x: x * 10):
    def function(signature, call):
        return HostFunction(parse_signature(signature), call)

    return HostInterface(
        NUMBERS,
        {
            "slow": function("func(x: u32) -> u32", slow),
            "named": function("func(names: list<string>) -> result<list<u8>, string>", lambda _: Ok(b"")),
            "quick": function("func(x: u32) -> u32", lambda x: x),
        },
    )


def refused(component) -> str:
    with pytest.raises(FleetError) as caught:
        ENGINE.compile(component)
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED
    return caught.value.private


@row(
    "Functions",
    "Asynchronous exports",
    "yes",
    "Called like any other, with deadline, stop, fuel and crash report. What a guest does after it has returned its "
    "result goes on with its next call.",
)
def asynchronous_exports():
    guest = instance_of(waiter())
    assert guest.call("double", 21) == 42
    assert guest.call("turns", 100) == 7
    with ticking(ENGINE.for_asynchronous), pytest.raises(Trap, match="deadline"):
        guest.call("yielding", 1, seconds=0.05)


@row(
    "Functions",
    "Asynchronous and other exports in one component",
    "yes",
    "Lists of numbers cross item by item in asynchronous exports, without the quick way of other functions.",
)
def mixed_exports():
    guest = instance_of(waiter())
    assert guest.call("plain", 1) == 2
    assert guest.call("double", 1) == 2
    guest.close()
    guest = instance_of(importer(), numbers())
    assert guest.call("named", ["a"]) == Ok(b"")
    guest.close()


@row(
    "Functions",
    "Asynchronous imports",
    "yes, by adapters",
    "The C API has only host functions that answer at once. A generated component around the agent gives it an "
    "asynchronous function that calls the host's; every interface of the node can so be imported asynchronously.",
)
def asynchronous_imports():
    guest = instance_of(importer(), numbers())
    assert guest.call("sum", 4, 5) == 91
    guest.close()
    assert [name for name in dir(_ffi) if "concurrent" in name] == []


@row(
    "Functions",
    "Asynchronous imports answered by another agent (`links:`)",
    "yes",
    "With `isolation: store` the other agent's export may be asynchronous or not. Fused (`isolation: none`), both must "
    "say the same, or the fusion is refused with LINK_INVALID.",
)
def linked_imports():
    other = instance_of(answerer())
    guest = instance_of(importer(), numbers(lambda number: other.call(f"{NUMBERS}#slow", number)))
    assert guest.call("sum", 4, 5) == 19
    wires = [Wire(0, NUMBERS, 1)]
    assert instance_of(ENGINE.fuse([("p/a", importer()), ("p/b", answerer())], wires)).call("sum", 4, 5) == 20
    with pytest.raises(FleetError):  # the runner tests see it as LINK_INVALID: there the compile worker names the parts
        ENGINE.compile(ENGINE.fuse([("p/a", importer()), ("p/b", answerer(asynchronous=False))], wires))


@row(
    "Functions",
    "Asynchronous imports outside interfaces",
    "no",
    "Adapters are put around interfaces. Refused with COMPONENT_UNSUPPORTED when it is compiled.",
)
def imports_outside_interfaces():
    assert "outside interfaces" in refused(wasm('(component (import "slow" (func async)))'))


@row(
    "Functions",
    "Several imports waited for at once",
    "yes, of clocks and of other agents",
    "Waits for a clock, and for another agent (`links:`, `isolation: store`), go on beside each other and beside "
    "everything else of the agent, unless their values hold lists of numbers or resources. Every other function of the "
    "host is answered before anything else of the agent runs.",
)
def imports_at_once():
    test_in_flight.test_an_answer_comes_when_the_host_says_so()
    running, most = [0], [0]

    def slow(number):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1
        return number

    guest = instance_of(importer(), numbers(slow))
    assert guest.call("sum", 4, 5) == 10
    assert most == [1]
    guest.close()


@row(
    "Functions",
    "Several calls in flight in one agent",
    "yes, of asynchronous exports",
    "The C API lends the whole store to one call: that of a generated component, which calls the agent's asynchronous "
    "exports, as many at a time as the grant's `calls_in_flight` says. A call that waits holds up no other. Alone run "
    "calls of functions that are not asynchronous or have resources, streams or futures in their types, messages, "
    "changes to buckets, and all calls of an agent with `fuel_per_call`.",
)
def calls_at_once():
    test_in_flight.test_a_call_that_waits_does_not_hold_up_another()
    guest = instance_of(importer(), numbers())
    assert set(guest.concurrent) == {"sum", "named"}
    guest.close()
    guest = instance_of(waiter())
    assert "plain" not in guest.concurrent
    guest.close()
    test_in_flight.test_instructions_are_counted_for_one_call_at_a_time()


@row(
    "Functions",
    "A second way into an agent that runs",
    "no",
    "Neither another thread nor a host function can call an agent outside of what the generated component does.",
)
def no_second_way():
    refusals = []

    def slow(number):
        def other():
            with pytest.raises(RuntimeError, match="one thread at a time") as caught:
                guest.call("sum", 1, 1)
            refusals.append(caught.value)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return number

    guest = instance_of(importer(), numbers(slow))
    assert guest.call("sum", 4, 5) == 10
    assert len(refusals) == 2
    guest.close()


@row(
    "Functions",
    "A call that ends alone at its deadline",
    "as the guest takes it",
    "It is cancelled (`subtask.cancel`). When the guest ends it within half a second the agent lives on and the caller "
    "gets DEADLINE_EXCEEDED; else the agent ends with all calls in flight, as when its code runs on without waiting. "
    "Guests of componentize-py 0.25.1 abort when they are cancelled.",
)
def cancelled_alone():
    test_in_flight.test_a_call_at_its_deadline_is_cancelled_alone()
    test_in_flight.test_one_that_takes_no_cancellation_ends_the_agent_with_all()


@row(
    "Functions",
    "The end of an agent with several calls in flight",
    "yes",
    "All callers get the same cause, and the message of the end names the calls. The record of such a run has every "
    "call, those in flight last, and says that their order cannot be repeated: a replay repeats the last one alone.",
)
def ends_of_all():
    test_in_flight.test_a_trap_ends_all_with_the_same_cause()


@row(
    "Functions",
    "Asynchronous calls of several agents at once",
    "yes",
    "Each agent has its thread and its store.",
)
def agents_at_once():
    together = threading.Barrier(2, timeout=60)
    component = ENGINE.load(ENGINE.compile(importer()))

    def slow(number):
        together.wait()
        return number

    def run(results):
        guest = Instance(component, [numbers(slow)], Limits())
        results.append(guest.call("sum", 4, 5))
        guest.close()

    results: list[object] = []
    threads = [threading.Thread(target=run, args=(results,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [10, 10]


@row(
    "Functions",
    "Imports that take two borrowed handles, such as `wasi:io/poll#poll` of two pollables",
    "no",
    "In asynchronous components only: Wasmtime 50 traps the call. The agent ends with cause host-error, which says so.",
)
def two_handles():
    test_asynchronous.test_two_handles_at_a_time_end_an_asynchronous_agent()


@row(
    "Streams and futures",
    "Between components that are fused (`isolation: none`)",
    "yes",
    "The host takes no part in it. Both ends must have the same type, or the fusion is refused with LINK_INVALID.",
)
def streams_inside():
    whole = ENGINE.fuse([("p/receiver", receiver()), ("p/sender", sender())], [Wire(0, PIPE, 1)])
    guest = instance_of(whole)
    assert guest.call("total", 10_000) == 20_000
    guest.close()


@row(
    "Streams and futures",
    "In what an agent imports from the node or exports to it, links with `isolation: store` included",
    "no",
    "The C API has no value for them, and the engine ends the process when one crosses. Refused with "
    "COMPONENT_UNSUPPORTED when the component is compiled, before anything runs.",
)
def streams_to_the_host():
    assert "a stream" in refused(sender())
    assert "a stream" in refused(receiver())
    future = wasm('(component (import "a:b/c" (instance (export "f" (func (param "x" (future u8)))))))')
    assert "a future" in refused(future)
    unprotected = subprocess.run([sys.executable, "-c", UNPROTECTED], cwd=ROOT, capture_output=True, check=False)
    assert unprotected.returncode == -signal.SIGABRT


UNPROTECTED = """
from functools import partial
import edge_agent.runner.engine.component as component, edge_agent.runner.engine.engine as engine
from edge_agent.runner.engine import Instance, Limits, types
from edge_agent.runner.engine.lower import lowering
from edge_agent.runner.engine.leaves import template
from fleet.wit_types import Primitive
from tests.fakes.asynchronous import PIPE, sender
component.read_types = engine.read_types = partial(types.read_types, inner=True)
made = engine.Engine()
loaded = made.load(made.compile(sender()))
index = loaded._index(loaded._index(None, PIPE), "open")
kind = loaded.exports[PIPE + "#open"]
count = (("count", lowering(Primitive.U32, {})),)
loaded._plans["open"] = component.ExportPlan(kind, index, count, template(Primitive.U32), lambda *_: None, True)
Instance(loaded, [], Limits()).call("open", 3)
"""
"""Calls what returns a stream, without the check that refuses it."""


def _served(*names: str) -> bool:
    known = {*BASELINE, *VOCABULARY}
    return all(find(f"{name}@0.3.0") == f"{name}@0.3.0" and name in known for name in names)


@row(
    "Interfaces",
    "`wasi:clocks@0.3.0` `monotonic-clock`",
    "yes",
    "`wait-until` and `wait-for` hold up nothing else of the agent in asynchronous exports, and all of it in others. "
    "They end with the call's deadline.",
)
def monotonic_clock():
    assert _served("wasi:clocks/monotonic-clock", "wasi:clocks/types")


@row("Interfaces", "`wasi:clocks@0.3.0` `system-clock`", "yes", "Needs a grant, as `wall-clock` of 0.2 does.")
def system_clock():
    assert _served("wasi:clocks/system-clock")
    assert "wasi:clocks/system-clock" not in BASELINE


@row("Interfaces", "`wasi:random@0.3.0`", "yes", "All three interfaces; each needs a grant, as in 0.2.")
def random():
    assert _served("wasi:random/random", "wasi:random/insecure", "wasi:random/insecure-seed")


@row("Interfaces", "`wasi:cli@0.3.0` `environment` and `exit`", "yes", "As in 0.2: nothing to see, and a way out.")
def environment_and_exit():
    assert _served("wasi:cli/environment", "wasi:cli/exit")


@row(
    "Interfaces",
    "`wasi:cli@0.3.0` `stdout`, `stderr` and `stdin`",
    "no",
    "They are streams to and from the host. A generated component that reads the stream and writes by 0.2 could stand "
    "in between; the node has none. `wasi:cli@0.2` has all three, and a component may import both versions.",
)
def standard_streams():
    text = wasm(
        '(component (import "wasi:cli/stdout@0.3.0" (instance '
        '(export "write-via-stream" (func (param "data" (stream u8)))))))'
    )
    assert "a stream" in refused(text)
    assert find("wasi:cli/stdout@0.3.0") is None
    assert find("wasi:cli/stdout@0.2.0") is not None


@row(
    "Interfaces",
    "`wasi:http@0.3.0`, `wasi:filesystem@0.3.0`, `wasi:sockets@0.3.0`",
    "no",
    "Bodies, files and connections are streams there.",
)
def interfaces_of_streams():
    for name in ("http/handler", "http/client", "filesystem/types", "sockets/types"):
        assert find(f"wasi:{name}@0.3.0") is None


def page() -> str:
    parts = [INTRODUCTION]
    for section, proved in PROVED.items():
        parts.append(f"\n## {section}\n\n| feature | possible | how, or why not |\n|---|---|---|\n")
        parts += [f"| {' | '.join(one.row)} |\n" for one in proved]
    return "".join(parts)


@pytest.mark.parametrize(
    "proved", [one for section in PROVED.values() for one in section], ids=lambda one: one.proof.__name__
)
def test_every_row_is_true(proved: Proved) -> None:
    proved.proof()


def test_the_page_is_what_the_rows_say() -> None:
    assert PAGE.read_text() == page(), f"write it anew: {__doc__}"


if __name__ == "__main__":
    PAGE.write_text(page())
