"""Several calls in flight in one instance: they do not hold each other up, and everybody gets what is theirs.

Time is the test's own, except where the engine itself must stop a guest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from edge_agent.runner.engine.in_flight import CANCEL_SECONDS, MAX_WAITS
from edge_agent.runner.engine.shim.calls import MAX_CALLS
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import BYTES, Err, FuncType, Ok, Primitive, Some, WitType, WitValue
from tests.fakes.asynchronous import waiter
from tests.fakes.components import echo, ticking
from tests.fakes.overlapping import ASK, CLOCK, can_ask, overlapping
from tests.fakes.wit_strategies import TYPES, values

SECOND = 1_000_000_000


class Clock:
    """Monotonic seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


CLOCKED = Clock()
ENGINE = Engine(clock=CLOCKED)
REAL = Engine()


@dataclass
class Answer:
    """What is there at `at`; None: once somebody says so."""

    at: float | None
    value: WitValue = None
    there: bool = False
    failure: Exception | None = None

    def left_ns(self) -> int | None:
        if self.at is None:
            return 0 if self.there else None
        return max(0, math.ceil((self.at - CLOCKED.now) * SECOND))

    def result(self) -> WitValue:
        if self.failure is not None:
            raise self.failure
        return self.value


@dataclass
class Call:
    function: str
    arguments: tuple[WitValue, ...]
    seconds: float = 60.0
    results: list[tuple[str, object]] = field(default_factory=list)
    name: str = ""

    def returned(self, value: WitValue) -> None:
        self.results.append((self.name, value))

    def failed(self, error: FleetError | Trap) -> None:
        self.results.append((self.name, error))


class Source:
    """Calls, some of which come only after so many waits."""

    def __init__(self, *calls: Call, later: tuple[Call, ...] = (), limit: int = 64) -> None:
        self.calls = list(calls)
        self.later = list(later)
        self.limit = limit
        self.most = 0
        self.waits: list[float] = []
        self.ends: list[float] = []
        self.on_wait: list[object] = []

    def next(self, in_flight: int) -> Call | None:
        self.most = max(self.most, in_flight)
        return self.calls.pop(0) if self.calls and in_flight < self.limit else None

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.on_wait:
            self.on_wait.pop(0)()
        elif self.later:
            self.calls.append(self.later.pop(0))
        else:
            assert seconds < math.inf
            CLOCKED.now += seconds

    def until(self, end: float) -> None:
        self.ends.append(end)


def hosts(kind: WitType, ask=lambda value: value, later=None) -> list[HostInterface]:
    def wait(nanoseconds: int) -> None:
        CLOCKED.now += nanoseconds / SECOND

    clock = HostFunction(
        parse_signature("func(how-long: u64)"), wait, later=lambda length: Answer(CLOCKED.now + length / SECOND)
    )
    return [
        HostInterface("wasi:clocks/types@0.3.0", {}),
        HostInterface(CLOCK, {"wait-for": clock}),
        HostInterface(ASK, {"ask": HostFunction(FuncType((("value", kind),), kind), ask, later=later)}),
    ]


@lru_cache(maxsize=32)
def component(kind: WitType, *, stubborn: bool = False, engine: Engine = ENGINE):
    return engine.load(engine.compile(overlapping(kind, stubborn=stubborn)))


def guest(kind: WitType = Primitive.STRING, ask=lambda value: value, later=None, **options) -> Instance:
    return Instance(component(kind, **options), hosts(kind, ask, later), Limits(memories=2))


def calls(*given: tuple[str, tuple[WitValue, ...]], seconds: float = 60.0) -> tuple[list, list[Call]]:
    results: list[tuple[str, object]] = []
    names = "ABCDEFGH"
    return results, [
        Call(function, arguments, seconds, results, names[at]) for at, (function, arguments) in enumerate(given)
    ]


def test_a_call_that_waits_does_not_hold_up_another():
    instance = guest()
    results, both = calls(("later", ("slow", 30 * SECOND)), ("later", ("quick", SECOND)))
    source = Source(*both)
    instance.serve(source)
    assert results == [("B", "quick"), ("A", "slow")]
    assert source.most == 2
    assert source.waits == pytest.approx([1.0, 29.0])
    instance.close()


def test_a_call_that_comes_while_others_are_in_flight_joins_them():
    instance = guest()
    results, (first, second) = calls(("later", ("slow", 30 * SECOND)), ("later", ("quick", SECOND)))
    source = Source(first, later=(second,))
    instance.serve(source)
    assert results == [("B", "quick"), ("A", "slow")]
    assert source.waits == pytest.approx([30.0, 1.0, 29.0])
    instance.close()


def test_one_after_the_other_in_the_same_instance_and_calls_by_themselves_too():
    instance = guest()
    for _ in range(3):
        results, both = calls(("later", ("a", SECOND)), ("later", ("b", SECOND)))
        instance.serve(Source(*both))
        assert sorted(results) == [("A", "a"), ("B", "b")]
        assert instance.call("later", "alone", SECOND) == "alone"
    instance.serve(Source())
    assert set(instance.concurrent) == {"later", "spin", "break", "asked"}
    instance.close()


VALUES = {
    "string": ["", "one", "zwölf" * 1000],
    "list<u8>": [b"", bytes(range(256)), b"\x00" * 3000],
    "record { x: s8, name: string, maybe: option<f64>, flag: bool }": [
        {"x": -1, "name": "a", "maybe": None, "flag": True},
        {"x": 127, "name": "", "maybe": 1.5, "flag": False},
    ],
    "result<list<string>, u64>": [Ok(["a", ""]), Err(2**64 - 1), Ok([])],
    "result<f32, s64>": [Ok(0.5), Err(-1)],
    "option<option<char>>": [None, Some(None), Some("ß")],
    "tuple<u8, u16, u32, u64, s8, s16, s32, s64, f32, f64, char, bool, string, string, string>": [
        (1, 2, 3, 4, -1, -2, -3, -4, 0.5, 0.25, "x", True, "a", "b", "c")
    ],
    "s16": [-1, 0, 32767],
}


@pytest.mark.parametrize("text", VALUES)
def test_every_caller_gets_its_own_value(text):
    kind = parse_type(text)
    asks = []

    def later(value: WitValue) -> Answer:
        asks.append(value)
        return Answer(CLOCKED.now + len(asks), value)

    instance = guest(kind, later=later)
    functions = ["later", "asked"] if can_ask(kind) else ["later"]
    wanted = [
        (function, (value, (7 - at) * SECOND) if function == "later" else (value,))
        for function in functions
        for at, value in enumerate(VALUES[text])
    ]
    results, given = calls(*wanted)
    instance.serve(Source(*given))
    found = dict(results)
    assert [found[call.name] for call in given] == [call.arguments[0] for call in given]
    instance.close()


@settings(max_examples=12)
@given(st.data())
def test_values_of_any_type(data):
    kind = data.draw(TYPES)
    some = data.draw(st.lists(values(kind), min_size=1, max_size=3))
    instance = Instance(ENGINE.load(ENGINE.compile(overlapping(kind))), hosts(kind), Limits(memories=2))
    alone = [instance.call("later", value, 1) for value in some]
    functions = ["later", "asked"] if can_ask(kind) else ["later"]
    for function in functions:
        results, given = calls(*((function, (value, 1) if function == "later" else (value,)) for value in some))
        instance.serve(Source(*given))
        assert repr([dict(results)[call.name] for call in given]) == repr(alone)
    instance.close()


def test_what_the_host_answers_at_once_needs_no_wait():
    instance = guest(ask=lambda value: value.upper())
    results, given = calls(("asked", ("a",)), ("asked", ("b",)))
    source = Source(*given)
    instance.serve(source)
    assert results == [("A", "A"), ("B", "B")]
    assert source.waits == []
    assert instance.call("asked", "c") == "C"
    instance.close()


def test_an_answer_comes_when_the_host_says_so():
    answers: dict[str, Answer] = {}

    def later(value: WitValue) -> Answer:
        return answers.setdefault(value, Answer(None, f"{value}!"))

    def arrive(name: str):
        return lambda: setattr(answers[name], "there", True)

    instance = guest(later=later)
    results, given = calls(("asked", ("a",)), ("asked", ("b",)))
    source = Source(*given)
    source.on_wait = [lambda: None, arrive("b"), arrive("a")]
    instance.serve(source)
    assert results == [("B", "b!"), ("A", "a!")]
    assert source.waits == pytest.approx([60.0] * 3)
    instance.close()


def test_bad_arguments_never_reach_the_guest():
    instance = guest()
    results, given = calls(("later", (5, 1)), ("later", ("x",)), ("later", ("fine", 1)))
    instance.serve(Source(*given))
    refused = dict(results)
    assert refused["C"] == "fine"
    assert [refused[name].code for name in "AB"] == [Code.VALUE_INVALID] * 2
    assert refused["A"].detail["place"] == "value"
    instance.close()


def test_a_call_at_its_deadline_is_cancelled_alone():
    instance = guest()
    results, given = calls(("later", ("late", 30 * SECOND)), ("later", ("fine", 20 * SECOND)))
    given[0].seconds = 10.0
    source = Source(*given)
    instance.serve(source)
    (first, error), second = results
    assert (first, error.code) == ("A", Code.DEADLINE_EXCEEDED)
    assert second == ("B", "fine")
    assert source.waits == pytest.approx([10.0, 10.0])
    results, given = calls(("later", ("again", 1)))
    instance.serve(Source(*given))
    assert results == [("A", "again")]
    instance.close()


def test_one_that_takes_no_cancellation_ends_the_agent_with_all():
    instance = guest(stubborn=True)
    results, given = calls(("later", ("late", 30 * SECOND)), ("later", ("fine", 20 * SECOND)))
    given[0].seconds = 10.0
    with pytest.raises(Trap) as caught:
        instance.serve(Source(*given))
    assert caught.value.cause is ExitCause.DEADLINE
    assert [name for name, _ in results] == ["A", "B"]
    assert all(error is caught.value for _, error in results)
    assert not instance.alive


def test_code_that_runs_on_ends_the_agent_with_all():
    kind = Primitive.U8
    instance = Instance(
        component(kind, engine=REAL),
        [
            HostInterface("wasi:clocks/types@0.3.0", {}),
            HostInterface(
                CLOCK,
                {"wait-for": HostFunction(parse_signature("func(how-long: u64)"), lambda _: None, later=_Never)},
            ),
            hosts(kind)[2],
        ],
        Limits(memories=2),
    )
    results, given = calls(("later", (1, 1)), ("spin", ()))
    given[1].seconds = 0.05
    with ticking(REAL.for_asynchronous), pytest.raises(Trap) as caught:
        instance.serve(Source(*given))
    assert caught.value.cause is ExitCause.DEADLINE
    assert [name for name, _ in results] == ["A", "B"]
    assert all(error is caught.value for _, error in results)


class _Never(Answer):
    def __init__(self, _: int) -> None:
        super().__init__(None)


def test_a_trap_ends_all_with_the_same_cause():
    instance = guest()
    results, given = calls(("later", ("a", SECOND)), ("later", ("b", SECOND)), ("break", ()))
    with pytest.raises(Trap) as caught:
        instance.serve(Source(*given))
    assert caught.value.cause is ExitCause.UNREACHABLE
    assert [name for name, _ in results] == ["A", "B", "C"]
    assert {id(error) for _, error in results} == {id(caught.value)}
    with pytest.raises(FleetError) as after:
        instance.serve(Source())
    assert after.value.code is Code.AGENT_NOT_RUNNING


def test_an_interrupt_ends_all():
    instance = guest()
    results, given = calls(("later", ("a", SECOND)), ("later", ("b", SECOND)))
    source = Source(*given)
    source.on_wait = [instance.interrupt]
    with pytest.raises(Trap) as caught:
        instance.serve(source)
    assert caught.value.cause is ExitCause.STOPPED
    assert [error for _, error in results] == [caught.value] * 2


@pytest.mark.parametrize("when", ["begin", "result"])
def test_what_the_host_raises_ends_all(when):
    def later(_: WitValue) -> Answer:
        if when == "begin":
            raise OSError("broken pipe")
        return Answer(CLOCKED.now + 1, failure=OSError("broken pipe"))

    instance = guest(later=later)
    results, given = calls(("later", ("a", 5 * SECOND)), ("asked", ("b",)))
    with pytest.raises(Trap, match="OSError: broken pipe") as caught:
        instance.serve(Source(*given))
    assert caught.value.cause is ExitCause.HOST_ERROR
    assert [error for _, error in results] == [caught.value] * 2


def test_no_more_are_in_flight_than_there_is_room_for():
    instance = guest()
    results: list[tuple[str, object]] = []
    many = [Call("later", (str(at), SECOND), 60.0, results, str(at)) for at in range(MAX_CALLS + 40)]
    source = Source(*many, limit=10_000)
    instance.serve(source)
    assert source.most == MAX_CALLS - 1
    assert sorted(results) == sorted((str(at), str(at)) for at in range(MAX_CALLS + 40))
    instance.close()


def test_a_guest_has_a_limit_of_answers_that_it_waits_for(monkeypatch):
    monkeypatch.setattr("edge_agent.runner.engine.in_flight.MAX_WAITS", 3)
    assert MAX_WAITS > 3
    instance = guest()
    _, given = calls(*[("later", ("x", SECOND))] * 4)
    with pytest.raises(Trap, match="its limit") as caught:
        instance.serve(Source(*given))
    assert caught.value.cause is ExitCause.QUOTA


def test_a_guest_that_yields_is_not_left_waiting():
    """The thread sleeps only when nothing of the guest can run."""
    instance = Instance(ENGINE.load(ENGINE.compile(waiter())), [], Limits())
    results, given = calls(("turns", (500,)))
    source = Source(*given)
    instance.serve(source)
    assert results == [("A", 7)]
    assert source.waits == []
    instance.close()


def test_one_thread_and_not_within_a_call():
    instance = guest(ask=lambda _: instance.serve(Source()))
    with pytest.raises(Trap, match="one thread at a time"):
        instance.call("asked", "x")


def test_components_without_asynchronous_exports_have_no_part_in_it():
    loaded = ENGINE.load(ENGINE.compile(echo(BYTES)))
    assert not loaded.moved.calls
    assert loaded.concurrent.exports == {}
    assert CANCEL_SECONDS < 1


def test_instructions_are_counted_for_one_call_at_a_time():
    engine = Engine(fuel=True)
    loaded = engine.load(engine.compile(overlapping(Primitive.U8)))
    assert loaded.concurrent.exports == {}
