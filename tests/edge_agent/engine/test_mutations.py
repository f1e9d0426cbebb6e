"""Damaged components: refused or run, never a crash of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.fusion import Wire
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from fleet.errors import FleetError
from fleet.wit_text import parse_type
from fleet.wit_types import FuncType, Ok, Primitive, Variant
from tests.fakes.asynchronous import PIPE, receiver, sender, waiter
from tests.fakes.components import ECHO_INTERFACE, echo, ticking

KIND = parse_type(
    "record { a: option<string>, b: result<list<u8>, string>, c: variant { x(string), y }, d: list<tuple<u8, f64>> }"
)
VALUE = {"a": "text", "b": Ok(b"bytes"), "c": Variant("y"), "d": [(1, 2.0)]}
ENGINE = Engine()
WHOLE = echo(KIND)
INTERFACES = [HostInterface(ECHO_INTERFACE, {"echo": HostFunction(FuncType((("v", KIND),), KIND), lambda v: v)})]
ASYNCHRONOUS = (waiter(), ENGINE.fuse([("p/receiver", receiver()), ("p/sender", sender())], [Wire(0, PIPE, 1)]))
LIMITS = Limits(memory_bytes=4 << 20, memories=4, call_seconds=0.2)
EDITS = st.lists(st.tuples(st.integers(8, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=3)


def run(component: bytes) -> None:
    """Do with a component what a runner does; every refusal and every trap is a `FleetError`."""
    instance = Instance(ENGINE.load(ENGINE.compile(component)), INTERFACES, LIMITS)
    try:
        for function, kind in instance.exports.items():
            value = 3 if kind.params and kind.params[0][1] is Primitive.U32 else VALUE
            instance.call(function, *[value] * len(kind.params))
    finally:
        instance.close()


@pytest.fixture(scope="module", autouse=True)
def ticks() -> Iterator[None]:
    """Damage may make an endless loop."""
    with ticking(ENGINE), ticking(ENGINE.for_asynchronous):
        yield


def test_undamaged() -> None:
    run(WHOLE)


@settings(deadline=None, max_examples=150)
@given(EDITS)
def test_changed_bytes(edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for place, value in edits:
        damaged[place] = value
    with suppress(FleetError):
        run(bytes(damaged))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(WHOLE) - 1))
def test_cut_short(length: int) -> None:
    """What is left may still be a component, of fewer parts."""
    with suppress(FleetError):
        run(WHOLE[:length])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(ASYNCHRONOUS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_of_asynchronous_components(whole: bytes, edits: list[tuple[float, int]]) -> None:
    damaged = bytearray(whole)
    for place, value in edits:
        damaged[8 + int(place * (len(whole) - 9))] = value
    with suppress(FleetError):
        run(bytes(damaged))
