"""Sizes and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.quantities import MAX_QUANTITY, format_duration, format_size, parse_duration, parse_size


def size(text):
    return parse_size(text, Code.GRANT_INVALID, "here")


def duration(text):
    return parse_duration(text, Code.GRANT_INVALID, "here")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("50MiB", 50 << 20), ("2GiB", 2 << 30), ("1TiB", 1 << 40)],
)
def test_sizes(text, value):
    assert size(text) == value
    assert format_size(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0s", 0),
        ("500ms", 500),
        ("3s", 3_000),
        ("90s", 90_000),
        ("2m", 120_000),
        ("5h", 18_000_000),
        ("30d", 2_592_000_000),
    ],
)
def test_durations(text, value):
    assert duration(text) == value
    assert format_duration(value) == text


BAD = [
    "",
    "1",
    "MiB",
    "1.5MiB",
    "-1B",
    "+1B",
    "01B",
    " 1B",
    "1 B",
    "1B\n",
    "1MB",
    "1mib",
    "1e3B",
    "1_0B",
    "\u0661B",
    "9" * 17 + "B",
]


@pytest.mark.parametrize("text", [*BAD, "9999999TiB"])
def test_no_sizes(text):
    with pytest.raises(FleetError) as caught:
        size(text)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.GRANT_INVALID, "here")


@pytest.mark.parametrize("text", ["", "1", "s", "1.5s", "-1s", "1S", "1w", "1h30m", "1000000000d"])
def test_no_durations(text):
    with pytest.raises(FleetError):
        duration(text)


@given(st.integers(0, MAX_QUANTITY))
def test_round_trip(value):
    assert duration(format_duration(value)) == value
    assert size(format_size(value)) == value
