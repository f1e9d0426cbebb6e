"""JSON forms of WIT values: undone by reading, exact for every reader of JSON, mistakes named by their path."""

from __future__ import annotations

import json
import math
from array import array

import pytest
from hypothesis import given

from fleet.documents import dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.wit_json import (
    MAX_JSON,
    parse_json_call,
    print_json_call,
    print_json_result,
    value_from_json,
    value_to_json,
)
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import Err, Ok, OwnType, Some, Variant, WitType, WitValue
from tests.fakes.wit_strategies import TYPED_VALUES

ADD = parse_signature("func(left: u8, right: option<string>) -> result<u8, string>")


@given(TYPED_VALUES)
def test_written_values_read_back(pair: tuple[WitType, WitValue]) -> None:
    kind, value = pair
    written = value_to_json(value, kind)
    assert value_from_json(written, kind) == value
    assert value_from_json(load_json(dump_json(written), Code.VALUE_INVALID, "v"), kind) == value


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        ("bool", True, True),
        ("s8", -128, -128),
        ("u64", (1 << 53) - 1, (1 << 53) - 1),
        ("u64", 1 << 53, "9007199254740992"),
        ("s64", -(1 << 63), "-9223372036854775808"),
        ("f64", 1.5, 1.5),
        ("f32", 0.1, 0.10000000149011612),
        ("f64", -math.inf, "-inf"),
        ("f64", math.inf, "inf"),
        ("char", "☃", "☃"),
        ("string", 'a "b"', 'a "b"'),
        ("list<u8>", b"\x01\x02\xff", "AQL/"),
        ("list<u16>", [1, 2], [1, 2]),
        ("list<f32>", array("f", [0.5, 2.0]), [0.5, 2.0]),
        ("tuple<u8, string>", (1, "a"), [1, "a"]),
        ("record { a: u8, b: option<u8> }", {"a": 1, "b": None}, {"a": 1, "b": None}),
        ("variant { a, b(u8) }", Variant("a"), "a"),
        ("variant { a, b(u8) }", Variant("b", 3), {"b": 3}),
        ("enum { red, none }", "none", "none"),
        ("flags { read, write, run }", frozenset({"run", "read"}), ["read", "run"]),
        ("option<u8>", None, None),
        ("option<u8>", 7, 7),
        ("option<option<u8>>", Some(None), {"some": None}),
        ("option<option<u8>>", None, None),
        ("result<u8, string>", Ok(7), {"ok": 7}),
        ("result<_, string>", Ok(None), {"ok": None}),
        ("result<u8>", Err(None), {"err": None}),
    ],
)
def test_forms(kind: str, value: WitValue, form: object) -> None:
    parsed = parse_type(kind)
    assert value_to_json(value, parsed) == form
    assert value_to_json(value_from_json(form, parsed), parsed) == form


def test_nan_has_a_word() -> None:
    kind = parse_type("f64")
    assert value_to_json(math.nan, kind) == "nan"
    assert math.isnan(value_from_json("nan", kind))


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        ("f32", 3, 3.0),
        ("u64", "3", 3),
        ("record { a: u8, b: option<u8> }", {"a": 1}, {"a": 1, "b": None}),
        ("flags { read, write }", ["write", "read"], frozenset({"read", "write"})),
    ],
)
def test_what_else_is_understood(kind: str, form: object, value: WitValue) -> None:
    assert value_from_json(form, parse_type(kind)) == value


@pytest.mark.parametrize(
    ("kind", "form", "place"),
    [
        ("bool", 1, "$"),
        ("u8", 256, "$"),
        ("u8", True, "$"),
        ("u8", "3", "$"),
        ("u8", 1.0, "$"),
        ("u64", "-1", "$"),
        ("u64", "9" * 21, "$"),
        ("u64", "1x", "$"),
        ("f64", "1.5", "$"),
        ("f64", True, "$"),
        ("f32", 1e39, "$"),
        ("f64", 10**400, "$"),
        ("char", "ab", "$"),
        ("char", 1, "$"),
        ("string", None, "$"),
        ("list<u8>", [1, 2], "$"),
        ("list<u8>", "A", "$"),
        ("list<u8>", "ä===", "$"),
        ("list<bool>", [True, 0], "$[1]"),
        ("list<bool>", {}, "$"),
        ("tuple<u8, u8>", [1], "$"),
        ("record { a: u8 }", {}, "$.a"),
        ("record { a: u8 }", {"a": 1, "b": 2}, "$.b"),
        ("record { a: u8 }", [], "$"),
        ("record { a: list<record { b: u8 }> }", {"a": [{"b": 1}, {"b": -1}]}, "$.a[1].b"),
        ("variant { a, b(u8) }", "b", "$"),
        ("variant { a, b(u8) }", {"a": None}, "$"),
        ("variant { a, b(u8) }", {"c": 1}, "$"),
        ("variant { a, b(u8) }", {"b": 300}, "$.b"),
        ("variant { a, b(u8) }", {}, "$"),
        ("enum { red }", "blue", "$"),
        ("enum { red }", None, "$"),
        ("flags { read }", ["read", "read"], "$"),
        ("flags { read }", ["run"], "$[0]"),
        ("option<option<u8>>", 3, "$"),
        ("result<u8, string>", {"ok": 1, "err": ""}, "$"),
        ("result<u8>", {"err": 1}, "$.err"),
    ],
)
def test_mistakes_are_named_by_their_path(kind: str, form: object, place: str) -> None:
    with pytest.raises(FleetError) as caught:
        value_from_json(form, parse_type(kind))
    assert caught.value.code is Code.VALUE_INVALID
    assert caught.value.detail["place"] == place


def test_resources_have_no_form() -> None:
    with pytest.raises(FleetError) as caught:
        value_from_json(1, OwnType("bucket"))
    assert caught.value.code is Code.VALUE_INVALID
    with pytest.raises(FleetError):
        value_to_json(1, OwnType("bucket"))


def test_a_value_of_another_type_is_not_written() -> None:
    with pytest.raises(FleetError) as caught:
        value_to_json("text", parse_type("u8"))
    assert caught.value.code is Code.VALUE_INVALID


def test_calls_and_results() -> None:
    text = print_json_call("add", [1, None])
    call = parse_json_call(text, lambda name: {"add": ADD}[name])
    assert (call.function, call.arguments) == ("add", (1, None))
    assert json.loads(print_json_result(Ok(3), ADD.result)) == {"ok": 3}
    assert print_json_result(None, None) == "null"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "call:1:2"),
        ("[]", "call"),
        ('{"function": "add"}', "call"),
        ('{"function": "add", "arguments": [], "more": 1}', "call"),
        ('{"function": 1, "arguments": []}', "call.function"),
        ('{"function": "add", "arguments": {}}', "call.arguments"),
        ('{"function": "add", "arguments": [1]}', "call.arguments"),
        ('{"function": "add", "arguments": [1, 2]}', "call.right"),
        ('{"function": "add", "arguments": [1, "\\ud800"]}', "call"),
        ('{"function": "add", "arguments": [1, "\ud800"]}', "call: byte 38"),
    ],
)
def test_calls_that_are_refused(text: str, place: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_json_call(text, lambda _: ADD)
    assert caught.value.code is Code.VALUE_INVALID
    assert caught.value.detail["place"] == place


def test_a_call_has_a_limit() -> None:
    with pytest.raises(FleetError) as caught:
        parse_json_call(" " * (MAX_JSON + 1), lambda _: ADD)
    assert caught.value.code is Code.LIMIT_EXCEEDED
