"""WAVE: what the specification's examples say, that printing is undone by reading, and that mistakes are named."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from fleet.errors import Code, FleetError
from fleet.wave import MAX_TEXT, Call, parse_call, parse_value
from fleet.wave_print import print_call, print_value
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import Err, Ok, Some, Variant, WitType, WitValue
from tests.fakes.wit_strategies import TYPED_VALUES

HANDLE_DATA = parse_signature("func(data: record { source: string, value: f64, timestamp: u64 }) -> result<_, string>")


@given(TYPED_VALUES)
def test_printed_values_read_back(pair: tuple[WitType, WitValue]) -> None:
    kind, value = pair
    assert parse_value(print_value(value, kind), kind) == value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bool", " true ", True),
        ("bool", "false", False),
        ("s8", "-128", -128),
        ("u64", "18446744073709551615", (1 << 64) - 1),
        ("f64", "3", 3.0),
        ("f64", "-1.5e-3", -0.0015),
        ("f64", "-inf", -math.inf),
        ("f32", "0.1", 0.10000000149011612),
        ("char", r"'\''", "'"),
        ("char", "'☃'", "☃"),
        ("char", r"'\u{2603}'", "☃"),
        ("string", r'"a \"b\" \\ \n\t\r \u{1f4a9}"', 'a "b" \\ \n\t\r \U0001f4a9'),
        ("list<u8>", "[1, 2, 255,]", b"\x01\x02\xff"),
        ("list<string>", "[]", []),
        ("tuple<u8, string>", '(1, "a",)', (1, "a")),
        ("record { a: u8, b: option<u8> }", "{b: some(2), a: 1}", {"a": 1, "b": 2}),
        ("record { a: u8, b: option<u8> }", "{a: 1, // the rest is none\n}", {"a": 1, "b": None}),
        ("record { b: option<u8> }", "{:}", {"b": None}),
        ("variant { a, b(u8), ok }", "a", Variant("a")),
        ("variant { a, b(u8), ok }", "b(3)", Variant("b", 3)),
        ("variant { a, b(u8), ok }", "%ok", Variant("ok")),
        ("enum { red, none }", "%none", "none"),
        ("flags { read, write }", "{write, read}", frozenset({"read", "write"})),
        ("flags { read, write }", "{}", frozenset()),
        ("option<u8>", "none", None),
        ("option<u8>", "7", 7),
        ("option<enum { none, some }>", "%none", "none"),
        ("option<option<u8>>", "some(none)", Some(None)),
        ("option<option<u8>>", "some(some(1))", Some(1)),
        ("option<result<u8>>", "some(ok(1))", Ok(1)),
        ("result<u8, string>", "7", Ok(7)),
        ("result<u8, string>", "ok(7)", Ok(7)),
        ("result<u8, string>", 'err("x")', Err("x")),
        ("result", "ok", Ok(None)),
        ("result", "err", Err(None)),
    ],
)
def test_reads(kind: str, text: str, value: WitValue) -> None:
    assert parse_value(text, parse_type(kind)) == value


def test_nan_reads_and_prints() -> None:
    kind = parse_type("f64")
    assert math.isnan(parse_value("nan", kind))  # type: ignore[arg-type]
    assert print_value(math.nan, kind) == "nan"


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("f64", 3.0, "3"),
        ("f64", -0.0, "-0.0"),
        ("f64", 1e300, "1e+300"),
        ("f64", math.inf, "inf"),
        ("f32", 7, "7"),
        ("string", 'a"\n\\\u0007é\u200b ', r'"a\"\n\\\u{7}é\u{200b} "'),
        ("char", "'", r"'\''"),
        ("record { b: option<u8> }", {"b": None}, "{b: none}"),
        ("record {}", {}, "{:}"),
        ("enum { none }", "none", "%none"),
        ("flags { b, a }", {"a", "b"}, "{b, a}"),
        ("list<u8>", b"\x01\x02", "[1, 2]"),
        ("result<u8>", Err(None), "err"),
    ],
)
def test_prints_one_form(kind: str, value: WitValue, text: str) -> None:
    assert print_value(value, parse_type(kind)) == text


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("u8", "256", "outside 0..255"),
        ("s8", "-129", "outside"),
        ("u8", "1.5", "an integer"),
        ("u8", "01", "an integer"),
        ("u8", "", "an integer"),
        ("f32", "1e39", "range of f32"),
        ("f64", ".5", "a number"),
        ("f64", "infinity", "a number"),
        ("bool", "yes", "'yes' is not a value of bool"),
        ("char", "''", "a character"),
        ("char", "'ab'", "one character"),
        ("char", "a", "expected '"),
        ("string", '"abc', "a character"),
        ("string", '"a\nb"', "a character"),
        ("string", r'"\x"', "invalid escape"),
        ("string", r'"\u{d800}"', "invalid escape"),
        ("string", r'"\u{110000}"', "invalid escape"),
        ("string", '"a" b', "after the end"),
        ("list<u8>", "[1 2]", "expected ]"),
        ("list<u8>", "[1", "expected ]"),
        ("tuple<u8>", "(1, 2)", "too many"),
        ("tuple<u8, u8>", "(1)", "too few"),
        ("record { a: u8 }", "{b: 1}", "'b' is not a field"),
        ("record { a: u8 }", "{a: 1, a: 2}", "given twice"),
        ("record { a: u8 }", "{:}", "'a' of"),
        ("record { a: u8 }", "{: a}", "expected }"),
        ("variant { a }", "b", "'b' is not a value"),
        ("variant { a(u8) }", "a", "expected ("),
        ("flags { a }", "{a, a}", "given twice"),
        ("option<option<u8>>", "1", "expected some"),
        ("option<result<u8>>", "ok(1)", "expected some"),
        ("result<_, u8>", "1", "expected ok or err"),
        ("result<option<u8>>", "1", "expected ok or err"),
        ("own<bucket>", "1", "resource"),
    ],
)
def test_mistakes_are_named(kind: str, text: str, reason: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_value(text, parse_type(kind))
    assert caught.value.code is Code.WAVE_INVALID
    assert reason in caught.value.private
    assert str(caught.value.detail["place"]).startswith("character ")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u8", 256),
        ("u8", True),
        ("bool", 1),
        ("string", 1),
        ("string", "\ud800"),
        ("char", "ab"),
        ("f64", "1"),
        ("f64", True),
        ("list<u8>", "ab"),
        ("list<u8>", 1),
        ("tuple<u8>", (1, 2)),
        ("tuple<u8>", [1]),
        ("record { a: u8 }", {}),
        ("record { a: u8 }", {"b": 1}),
        ("record { a: u8 }", None),
        ("variant { a }", "a"),
        ("variant { a }", Variant("b")),
        ("variant { a }", Variant("a", 1)),
        ("enum { a }", "b"),
        ("enum { a }", 1),
        ("flags { a }", {"b"}),
        ("flags { a }", 1),
        ("option<option<u8>>", 1),
        ("result<u8>", 1),
        ("borrow<bucket>", 1),
    ],
)
def test_values_of_another_type_are_not_printed(kind: str, value: WitValue) -> None:
    with pytest.raises(FleetError) as caught:
        print_value(value, parse_type(kind))
    assert caught.value.code is Code.VALUE_INVALID


def test_calls_read_as_wasmtime_run_invoke_writes_them() -> None:
    text = 'handle-data({source: "a", value: 1.5, timestamp: 3})'
    call = parse_call(text, {"handle-data": HANDLE_DATA}.__getitem__)
    assert call == Call("handle-data", ({"source": "a", "value": 1.5, "timestamp": 3},))
    assert print_call(call, HANDLE_DATA) == text


def test_calls_may_name_the_interface() -> None:
    name = "syuthd:agent-mesh/sensor-handler@0.1.0#handle-data"
    assert parse_call(f"{name}()", lambda _: parse_signature("func()")).function == name


@pytest.mark.parametrize("text", ["", "(1)", "f", "f(", "f(1)", "f() g"])
def test_what_is_not_a_call_is_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_call(text, lambda _: parse_signature("func()"))
    assert caught.value.code is Code.WAVE_INVALID


def test_calls_with_other_arguments_are_not_printed() -> None:
    with pytest.raises(FleetError) as caught:
        print_call(Call("f", (1,)), parse_signature("func()"))
    assert caught.value.code is Code.VALUE_INVALID


def test_long_texts_are_refused_unread() -> None:
    with pytest.raises(FleetError, match="longer than"):
        parse_value(" " * (MAX_TEXT + 1), parse_type("u8"))
