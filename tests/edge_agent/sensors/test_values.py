"""Bytes become a number or are malformed; nothing else happens, whatever they are."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors.declarations import Form
from edge_agent.sensors.values import MAX_LINE, MAX_PAYLOAD, LineBuffer, extract
from fleet.errors import Code, FleetError


@pytest.mark.parametrize(
    ("payload", "form", "value"),
    [
        (b"21.5", Form(), 21.5),
        (b" -3e2\r\n", Form(), -300.0),
        (b".5", Form(), 0.5),
        (b"48500\n", Form(factor=0.001), 48.5),
        (b"a,21.5,c", Form(column=2), 21.5),
        (b'"a,b";"7"', Form(column=2, separator=";"), 7.0),
        (b'{"a": {"b": [1, 21.5]}}', Form(pointer="/a/b/1"), 21.5),
        (b'{"a/b": {"~": "21.5"}}', Form(pointer="/a~1b/~0"), 21.5),
        (b'{"": 3}', Form(pointer="/"), 3.0),
        (b"7", Form(pointer=""), 7.0),
    ],
)
def test_numbers(payload, form, value):
    assert extract(payload, form) == pytest.approx(value)


@pytest.mark.parametrize(
    ("payload", "form"),
    [
        (b"", Form()),
        (b"warm", Form()),
        (b"1 2", Form()),
        (b"0x10", Form()),
        (b"nan", Form()),
        (b"inf", Form()),
        (b"1e999", Form()),
        (b"\xff", Form()),
        ("٣".encode(), Form()),
        (b"1" * (MAX_PAYLOAD + 1), Form()),
        (b"1", Form(column=2)),
        (b"", Form(column=1)),
        (b"{", Form(pointer="/a")),
        (b"[" * 50_000, Form(pointer="/a")),
        (b'{"a": true}', Form(pointer="/a")),
        (b'{"a": null}', Form(pointer="/a")),
        (b'{"a": NaN}', Form(pointer="/a")),
        (b'{"a": "x"}', Form(pointer="/a")),
        (b'{"a": [1]}', Form(pointer="/a/01")),
        (b'{"a": [1]}', Form(pointer="/a/1")),
        (b'{"a": [1]}', Form(pointer="/a/-")),
        (b'{"a": 1}', Form(pointer="/b")),
        (b'{"a": 1}', Form(pointer="/a/b")),
        (b'{"a": 1' + b"0" * 400 + b"}", Form(pointer="/a")),
        (b"1e308", Form(factor=1e10)),
    ],
)
def test_no_numbers(payload, form):
    with pytest.raises(FleetError) as caught:
        extract(payload, form)
    assert caught.value.code is Code.VALUE_INVALID


forms = st.sampled_from([Form(), Form(column=1), Form(column=3, separator=";"), Form(pointer=""), Form(pointer="/a/0")])
junk = st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", ""]), inner, max_size=3),
).map(lambda value: json.dumps(value).encode())


@given(junk, forms)
def test_anything_is_a_finite_number_or_malformed(payload, form):
    with suppress(FleetError):
        assert math.isfinite(extract(payload, form))


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(1, 40))
def test_lines_are_the_same_however_they_arrive(pieces, size):
    data = b"\n".join(pieces) + b"\n"
    buffer = LineBuffer()
    found = [line for at in range(0, len(data), size) for line in buffer.feed(data[at : at + size])]
    assert found == LineBuffer().feed(data)


def test_a_line_that_is_too_long_is_passed_over_and_counted():
    buffer = LineBuffer()
    lines = buffer.feed(b"a\n" + b"x" * MAX_LINE)
    for _ in range(100):
        lines += buffer.feed(b"y" * 1000)
    lines += buffer.feed(b"z\nb\n" + b"w" * (MAX_LINE + 1) + b"\n" + b"v" * MAX_LINE + b"\nc")
    assert lines == [b"a", b"b", b"v" * MAX_LINE]
    assert buffer.too_long == 2
    assert buffer.feed(b"\r\n\r\n\n") == [b"c"]
