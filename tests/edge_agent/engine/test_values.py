"""Every WIT type, both ways across the boundary: guest arguments and results, host arguments and results."""

from __future__ import annotations

import array
import math
from enum import IntEnum
from functools import lru_cache

import pytest
from hypothesis import given, settings

from edge_agent.runner.engine import Component, Engine, HostFunction, HostInterface, Instance, Limits, Trap
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_type
from fleet.wit_types import Err, FuncType, Numbers, Ok, Some, Variant, WitType, WitValue
from tests.fakes.components import ECHO_INTERFACE, echo
from tests.fakes.wit_strategies import TYPED_VALUES

ENGINE = Engine()


class Level(IntEnum):
    """A subclass of int, as authors of capabilities use it."""

    HIGH = 2


@lru_cache(maxsize=64)
def _component(kind: WitType) -> Component:
    return ENGINE.load(ENGINE.compile(echo(kind)))


class Echo:
    """An instance whose host function remembers what it got and answers with it, or with something else."""

    def __init__(self, kind: WitType) -> None:
        self.got: list[WitValue] = []
        self.answer: list[WitValue] = []
        function = HostFunction(FuncType((("v", kind),), kind), self._echo)
        self.instance = Instance(_component(kind), [HostInterface(ECHO_INTERFACE, {"echo": function})], Limits())

    def _echo(self, value: WitValue) -> WitValue:
        self.got.append(value)
        return self.answer[-1] if self.answer else value

    def __call__(self, value: WitValue) -> WitValue:
        return self.instance.call("echo", value)


@settings(deadline=None, max_examples=150)
@given(TYPED_VALUES)
def test_values_of_any_type_come_back_unchanged(pair: tuple[WitType, WitValue]) -> None:
    kind, value = pair
    echo_value = Echo(kind)
    try:
        assert echo_value(value) == value
        assert echo_value(value) == value
        assert echo_value.got == [value, value]
    finally:
        echo_value.instance.close()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", True),
        ("s8", -128),
        ("u8", 255),
        ("s16", -(1 << 15)),
        ("u16", (1 << 16) - 1),
        ("s32", -(1 << 31)),
        ("u32", (1 << 32) - 1),
        ("s64", -(1 << 63)),
        ("u64", (1 << 64) - 1),
        ("f32", 0.5),
        ("f64", -math.inf),
        ("char", "\U0001f4a9"),
        ("string", ""),
        ("string", "é\0" * 3000),
        ("list<u8>", b""),
        ("list<u8>", bytes(range(256)) * 100),
        ("list<string>", ["a", "", "b" * 5000]),
        ("list<u32>", Numbers("I")),
        ("list<u64>", Numbers("Q", [0, (1 << 64) - 1] * 500)),
        ("list<s16>", Numbers("h", [-1, 1])),
        ("list<f32>", Numbers("f", [0.5, -2.0])),
        ("list<bool>", [True, False]),
        ("list<char>", ["a", "☃"]),
        ("list<list<u8>>", [b"a", b""]),
        ("list<tuple<u8, string>>", [(1, "a")] * 300),
        ("record { a-b: u8, c: record { d: string } }", {"a-b": 1, "c": {"d": "x"}}),
        ("tuple<u8, f64, string>", (1, 2.5, "x")),
        ("variant { a(u32), b(bool), c }", Variant("b", True)),
        ("variant { a(u32), b(bool), c }", Variant("c")),
        ("enum { red, green }", "green"),
        ("flags { r, w, x }", frozenset({"r", "x"})),
        ("flags { r, w, x }", frozenset()),
        ("option<u8>", None),
        ("option<u8>", 0),
        ("option<option<u8>>", None),
        ("option<option<u8>>", Some(None)),
        ("option<option<u8>>", Some(0)),
        ("result<string, string>", Ok("same")),
        ("result<string, string>", Err("same")),
        ("result<_, u8>", Ok(None)),
        ("result<option<list<u8>>, variant { gone, other(string) }>", Err(Variant("other", "x"))),
        ("result", Err(None)),
    ],
)
def test_every_type_has_one_python_form(kind: str, value: WitValue) -> None:
    echo_value = Echo(parse_type(kind))
    result = echo_value(value)
    assert result == value
    assert type(result) is type(value)
    assert echo_value.got == [value]
    assert type(echo_value.got[0]) is type(value)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("f64", 2, 2.0),
        ("list<u8>", bytearray(b"ab"), b"ab"),
        ("list<u8>", memoryview(b"abcd")[::2], b"ac"),
        ("list<u16>", (1, 2), [1, 2]),
        ("list<u16>", range(3), [0, 1, 2]),
        ("list<u16>", array.array("I", [7]), [7]),
        ("list<u64>", array.array("L", [7]), [7]),
        ("list<s16>", memoryview(array.array("h", range(6)))[::2], [0, 2, 4]),
        ("list<f32>", array.array("d", [0.5]), [0.5]),
        ("list<f64>", array.array("q", [1]), [1.0]),
        ("list<u8>", array.array("B", [7]), b"\7"),
        ("list<f64>", [1, 2.5], [1.0, 2.5]),
        ("list<string>", ("a",), ["a"]),
        ("flags { r, w }", {"r"}, frozenset({"r"})),
        ("u8", Level.HIGH, 2),
        ("list<u8>", b"", b""),
        ("list<u16>", [Level.HIGH, 1], [2, 1]),
    ],
)
def test_inputs_that_mean_the_same_are_accepted(kind: str, value: WitValue, result: WitValue) -> None:
    assert Echo(parse_type(kind))(value) == result


def test_nan_stays_nan() -> None:
    assert math.isnan(Echo(parse_type("f32"))(math.nan))  # type: ignore[arg-type]


MISTAKES = [
    ("u8", 256, "", "256 is outside 0..255 of u8"),
    ("s64", 1 << 63, "", "outside"),
    ("u32", -1, "", "-1 is outside 0..4294967295 of u32"),
    ("u32", True, "", "expected u32, got bool"),
    ("u32", 1.0, "", "expected u32, got float"),
    ("bool", 1, "", "expected bool, got int"),
    ("f32", 1e39, "", "outside the range of f32"),
    ("f64", 10**400, "", "outside the range of f64"),
    ("f64", "1", "", "expected f64, got str"),
    ("char", "ab", "", "exactly one character"),
    ("char", "\ud800", "", "exactly one character"),
    ("char", 1, "", "expected char"),
    ("string", b"a", "", "expected string, got bytes"),
    ("string", "\ud800", "", "surrogates"),
    ("list<u8>", [1], "", "expected list<u8>, got list"),
    ("list<u16>", "ab", "", "expected list<u16>, got str"),
    ("list<u16>", 1, "", "expected list<u16>, got int"),
    ("list<u16>", [1, 70000], "[1]", "outside"),
    ("list<u16>", array.array("i", [1, -1]), "[1]", "outside"),
    ("list<u16>", array.array("f", [1]), "[0]", "expected u16, got float"),
    ("list<u16>", b"ab", "", "expected list<u16>, got bytes"),
    ("list<u8>", array.array("H", [1]), "", "expected list<u8>, got array"),
    ("list<u16>", [1, True], "[1]", "expected u16, got bool"),
    ("list<f32>", [1.0, 1e39], "[1]", "range of f32"),
    ("list<string>", ["a", 1], "[1]", "expected string, got int"),
    ("list<string>", {"a"}, "", "expected list<string>, got set"),
    ("record { value: u8 }", {"value": 256}, ".value", "outside"),
    ("record { value: u8 }", {}, "", "field 'value' is missing"),
    ("record { value: u8 }", {"wrong": 1}, "", "field 'value' is missing"),
    ("record { value: u8 }", {"value": 1, "extra": 2}, "", "'extra' is not a field"),
    ("record { value: u8 }", 1, "", "expected record"),
    ("record { a: list<tuple<u8, u8>> }", {"a": [(1, 2), (1, 300)]}, ".a[1].1", "outside"),
    ("tuple<u8, u8>", (1,), "", "expected 2 values, got 1"),
    ("tuple<u8, u8>", [1, 2], "", "expected tuple<u8, u8>, got list"),
    ("variant { a(u8), b }", Variant("c"), "", "'c' is not a case"),
    ("variant { a(u8), b }", Variant("a", 256), ".a", "outside"),
    ("variant { a(u8), b }", Variant("b", 1), "", "'b' takes no value"),
    ("variant { a(u8), b }", "b", "", "expected variant"),
    ("enum { a }", "b", "", "'b' is not a case"),
    ("enum { a }", 0, "", "expected enum"),
    ("flags { a }", frozenset({"b"}), "", "'b' is not a flag"),
    ("flags { a }", "a", "", "expected flags"),
    ("option<option<u8>>", 1, "", "expected option<option<u8>>, got int"),
    ("option<u8>", 256, "", "outside"),
    ("result<u8, string>", 1, "", "expected result<u8, string>, got int"),
    ("result<u8, string>", Err(1), ".err", "expected string"),
    ("result<_, string>", Ok(1), "", "'ok' takes no value"),
]


@pytest.mark.parametrize(("kind", "value", "place", "reason"), MISTAKES)
def test_a_wrong_argument_is_refused_before_the_guest_runs(kind: str, value: WitValue, place: str, reason: str) -> None:
    echo_value = Echo(parse_type(kind))
    with pytest.raises(FleetError) as caught:
        echo_value(value)
    assert caught.value.code is Code.VALUE_INVALID
    assert reason in caught.value.private
    assert caught.value.detail["place"] == f"v{place}"
    assert echo_value.got == []
    assert echo_value.instance.alive


@pytest.mark.parametrize(
    ("kind", "value", "wrong", "place"),
    [("u8", 1, 256, ""), ("record { a: list<string> }", {"a": []}, {"a": ["x", 1]}, ".a[1]"), ("bool", True, None, "")],
)
def test_a_wrong_host_result_ends_the_agent_and_names_the_place(
    kind: str, value: WitValue, wrong: WitValue, place: str
) -> None:
    echo_value = Echo(parse_type(kind))
    echo_value.answer.append(wrong)
    with pytest.raises(Trap) as caught:
        echo_value(value)
    assert caught.value.cause is ExitCause.HOST_ERROR
    assert isinstance(caught.value.__cause__, FleetError)
    assert caught.value.__cause__.detail["place"] == f"result{place}"


def test_wrong_number_of_arguments() -> None:
    with pytest.raises(FleetError, match="expected 1 arguments, got 2"):
        Echo(parse_type("u8")).instance.call("echo", 1, 2)


def test_long_lists_of_numbers_pass() -> None:
    numbers = [at * 7 for at in range(20_000)]
    assert Echo(parse_type("list<u32>"))(numbers) == numbers


def test_a_megabyte_of_bytes_passes() -> None:
    data = bytes(range(256)) * 4096
    assert Echo(parse_type("list<u8>"))(data) == data
