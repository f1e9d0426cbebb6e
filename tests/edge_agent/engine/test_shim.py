"""The shim for lists of numbers: every one arrives, whatever it is wrapped in."""

from __future__ import annotations

import math
import os
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.runner.engine.shim.moved import HEX, as_hex, marks, restored
from fleet.errors import FleetError
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import (
    BYTES,
    NUMBER_FORMATS,
    FuncType,
    ListType,
    Numbers,
    OptionType,
    Primitive,
    RecordType,
    TupleType,
    WitType,
    WitValue,
)
from tests.fakes.components import ECHO_INTERFACE
from tests.fakes.shim_guest import component_of, echoing
from tests.fakes.wit_strategies import TYPES, values

ECHO = f"{ECHO_INTERFACE}#echo"
SIZES = [*range(70), 255, 256, 257, 4095, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20, (2 << 20) - 1, 2 << 20]


def test_every_size_and_every_byte_arrives() -> None:
    instance, got = echoing(BYTES)
    for size in SIZES:
        data = bytes(range(256)) * (size // 256) + os.urandom(size % 256)
        assert instance.call("echo", data) == data
        assert got.pop() == data
    assert component_of(BYTES).moved.imports == {ECHO: "BB"}
    assert component_of(BYTES).moved.exports == {"#echo": "BB"}


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_arrive(data: bytes) -> None:
    instance, got = echoing(BYTES)
    assert instance.call("echo", data) == data
    assert got == [data]
    instance.close()


NUMBERS = [element for element in NUMBER_FORMATS if element is not Primitive.U8]


def _numbers(element: Primitive, count: int) -> Numbers[int] | Numbers[float]:
    """Random numbers of every pattern of bits but those that are no number."""
    code = NUMBER_FORMATS[element]
    found = Numbers(code, os.urandom(count * struct.calcsize(f"<{code}")))
    return Numbers(code, [0.5 if math.isnan(number) else number for number in found]) if code in "fd" else found


@pytest.mark.parametrize("element", NUMBERS)
def test_every_length_of_every_list_of_numbers_arrives(element: Primitive) -> None:
    kind = ListType(element)
    instance, got = echoing(kind)
    for count in [*range(35), 4095, 65536, 131_073]:
        numbers = _numbers(element, count)
        result = instance.call("echo", numbers)
        assert result == numbers == got.pop()
        assert isinstance(result, Numbers)
        assert instance.call("echo", numbers.tolist()) == numbers
    assert instance.call("echo", np.asarray(numbers)) == numbers
    assert np.asarray(got.pop()).dtype == np.asarray(numbers).dtype
    code = NUMBER_FORMATS[element]
    assert component_of(kind).moved.imports == {ECHO: code * 2}
    assert component_of(kind).moved.exports == {"#echo": code * 2}


def test_not_a_number_keeps_its_bits() -> None:
    instance, got = echoing(parse_type("list<f32>"))
    raw = struct.pack("<4I", 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x80000000)
    assert bytes(instance.call("echo", Numbers("f", raw))) == raw  # type: ignore[call-overload]
    assert bytes(got.pop()) == raw  # type: ignore[call-overload]


@st.composite
def _typed_with_bytes(draw: st.DrawFn) -> tuple[WitType, WitValue]:
    """A type that holds bytes and numbers somewhere among other types, and a value of it."""
    around = draw(TYPES | st.sampled_from(NUMBERS).map(ListType))
    kind = draw(
        st.sampled_from(
            [
                RecordType((("first", around), ("second", BYTES))),
                TupleType((BYTES, around, OptionType(BYTES))),
                parse_type(f"list<tuple<{around}, list<u8>>>"),
                parse_type(f"variant {{ a({around}), b(list<u8>), c(u64), d(f64) }}"),
                parse_type(f"result<option<list<list<u8>>>, {around}>"),
            ]
        )
    )
    return kind, draw(values(kind))


@settings(deadline=None, max_examples=120)
@given(_typed_with_bytes())
def test_bytes_arrive_from_anywhere_within_a_value(pair: tuple[WitType, WitValue]) -> None:
    kind, value = pair
    instance, got = echoing(kind)
    assert ECHO in component_of(kind).moved.imports
    assert "#echo" in component_of(kind).moved.exports
    for _ in range(2):
        assert instance.call("echo", value) == value
        assert got.pop() == value
    instance.close()


@pytest.mark.parametrize(
    "kind",
    [
        "variant { a(list<u8>), b(f32), c(list<f64>) }",
        "variant { a(f64), b(list<u8>), c(variant { d(list<u8>), e(u64) }) }",
        "record { a: u8, b: option<list<u8>>, c: u64, d: list<u8>, e: bool, f: list<list<u8>> }",
        "tuple<list<u8>, list<u8>, list<u8>, list<u8>, list<u8>, list<u8>, list<u8>, list<u8>, string>",
        "result<list<option<tuple<string, list<u8>>>>, variant { gone, other(string) }>",
    ],
)
def test_the_types_of_the_component_stay_what_they_were(kind: str) -> None:
    parsed = parse_type(kind)
    types = component_of(parsed).types
    assert types.imports[ECHO_INTERFACE].functions["echo"].result == parsed
    assert types.exports[""].functions["echo"].params == (("v", parsed),)


@given(TYPES)
def test_marks_undo_the_replacement(kind: WitType) -> None:
    function = FuncType((("v", kind),), BYTES)

    def seen(text: str) -> FuncType:
        return parse_signature(re.sub("list<([su]8|[suf](16|32|64))>", "string", text))

    assert restored(seen(str(function)), marks(function)) == function
    assert as_hex(function).result is HEX[Primitive.U8]
    with pytest.raises(FleetError):
        restored(seen(str(function)), marks(function) + "1")
