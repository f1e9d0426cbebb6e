"""Asynchronous functions of agents in Python and JavaScript, as their own tools make them: WASI 0.3's binary form."""

from __future__ import annotations

import time

import pytest

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from edge_agent.runner.linking import link
from fleet.errors import FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node, authority
from tests.fakes.components import ticking
from tests.languages import toolchains

pytestmark = pytest.mark.slow

SOURCE, TASKS = "test:asynchronous/source@0.1.0", "test:asynchronous/tasks@0.1.0"


@pytest.fixture(scope="module")
def component():
    engine = Engine()
    return engine.load(engine.compile(toolchains.asynchronous().read_bytes()))


@pytest.fixture
def asked():
    return []


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.close()


@pytest.fixture
def guest(component, node, asked):
    def slow(number):
        asked.append(number)
        return number * number

    def named(names):
        return Ok(" ".join(names).encode()) if names else Err("no names")

    source = HostInterface(
        SOURCE,
        {
            "slow": HostFunction(parse_signature("func(x: u32) -> u32"), slow),
            "named": HostFunction(parse_signature("func(names: list<string>) -> result<list<u8>, string>"), named),
        },
    )
    granted = {"wasi:clocks/wall-clock": [{}], "wasi:random/random": [{}]}
    served = link(component, node.agent(granted), authority(granted), ())
    instance = Instance(component, [source, *served], Limits())
    with ticking(component.engine):
        yield instance
    instance.close()


def call(guest, function, *arguments, **options):
    return guest.call(f"{TASKS}#{function}", *arguments, **options)


def test_asynchronous_exports_await_and_return(guest):
    assert [call(guest, "double", number) for number in range(10)] == [2 * number for number in range(10)]
    assert call(guest, "plain", "text") == "TEXT"


def test_many_imports_are_awaited_at_once(guest, asked):
    assert call(guest, "gather", 20) == sum(number * number for number in range(20))
    assert sorted(asked) == list(range(20))


def test_errors_of_asynchronous_imports_are_raised(guest):
    assert call(guest, "named", ["a", "b"]) == Ok("a b")
    assert call(guest, "named", []) == Err("the source says: no names")


def test_it_waits_with_the_clock_of_0_3(guest):
    before = time.monotonic()
    assert call(guest, "wait", 50) >= 50
    assert time.monotonic() - before < 5


def test_an_exception_is_a_trap(guest):
    with pytest.raises(Trap) as caught:
        call(guest, "fail")
    assert caught.value.cause is ExitCause.UNREACHABLE
    with pytest.raises(FleetError):
        call(guest, "double", 1)


class Call:
    def __init__(self, ended, name, function, *arguments, seconds=60.0):
        self.function, self.arguments, self.seconds = f"{TASKS}#{function}", arguments, seconds
        self.name, self.ended = name, ended

    def returned(self, value):
        self.ended.append((self.name, value))

    def failed(self, error):
        self.ended.append((self.name, error))


class Source:
    """Calls; time passes when all of them wait."""

    def __init__(self, node, *calls):
        self.clock, self.calls = node.clock, list(calls)

    def next(self, _in_flight):
        return self.calls.pop(0) if self.calls else None

    def wait(self, seconds):
        self.clock.wait(int(seconds * 1e9) + 1)

    def until(self, _end):
        pass


def test_a_call_that_awaits_holds_up_no_other_and_every_caller_gets_its_own(guest, node):
    reading = {"label": "a", "value": 0.5, "raw": b"\x00\xff", "note": "ü"}
    ended = []
    calls = [
        Call(ended, "slow", "later-text", "slow", 3_000),
        Call(ended, "bytes", "later-bytes", bytes(range(256)), 30),
        Call(ended, "reading", "later-reading", reading, 20),
        Call(ended, "error", "later-reading", {**reading, "label": "", "note": None}, 10),
        Call(ended, "now", "double", 4),
        Call(ended, "asked", "gather", 10),
    ]
    guest.serve(Source(node, *calls))
    assert ended[-1] == ("slow", "slow")
    assert dict(ended) == {
        "slow": "slow",
        "bytes": bytes(range(256)),
        "reading": Ok(reading),
        "error": Err("no label"),
        "now": 8,
        "asked": sum(number * number for number in range(10)),
    }


def test_many_calls_at_a_time(guest, node):
    ended = []
    guest.serve(Source(node, *(Call(ended, at, "later-text", str(at), at % 7) for at in range(100))))
    assert sorted(ended) == [(at, str(at)) for at in range(100)]


def test_an_exception_ends_all_calls(guest, node):
    ended = []
    with pytest.raises(Trap) as caught:
        guest.serve(Source(node, Call(ended, "a", "later-text", "a", 60_000), Call(ended, "b", "fail")))
    assert caught.value.cause is ExitCause.UNREACHABLE
    assert ended == [("a", caught.value), ("b", caught.value)]


def test_python_takes_no_cancellation_so_that_a_deadline_ends_all_calls(guest, node):
    """componentize-py 0.25.1 aborts when a call is cancelled; one that does not needs another row in the page."""
    ended = []
    calls = [Call(ended, "late", "later-text", "a", 50, seconds=0.0), Call(ended, "fine", "later-text", "b", 10)]
    with pytest.raises(Trap) as caught:
        guest.serve(Source(node, *calls))
    assert caught.value.cause is ExitCause.DEADLINE
    assert "wit_dylib_export_async_callback" in caught.value.backtrace
    assert sorted(ended) == [("fine", caught.value), ("late", caught.value)]


def test_javascript_awaits_in_its_exports(tmp_path):
    engine, node = Engine(), Node(tmp_path)
    component = engine.load(engine.compile(toolchains.awaiting().read_bytes()))
    granted = {"wasi:clocks/wall-clock": [{}], "wasi:random/insecure-seed": [{}], "wasi:random/random": [{}]}
    guest = Instance(component, link(component, node.agent(granted), authority(granted), ()), Limits())
    with ticking(component.engine):
        assert [guest.call("test:awaiting/tasks@0.1.0#double", number) for number in range(10)] == list(range(0, 20, 2))
        with pytest.raises(Trap) as caught:
            guest.call("test:awaiting/tasks@0.1.0#fail")
    assert caught.value.cause is ExitCause.UNREACHABLE
    node.close()
