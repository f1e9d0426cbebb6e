"""Sizes and durations as people write them: `50MiB`, `500ms`, `30d`.

Owns: the units and their exact meaning. A size is a whole number of bytes, a duration a whole number of milliseconds;
fractions are refused so that one text has one meaning.
"""

from __future__ import annotations

import re

from fleet.errors import Code, FleetError

SIZE_UNITS = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

MAX_QUANTITY = 1 << 53
"""Bytes or milliseconds; above it JSON readers of other languages lose digits (RFC 8259, section 6)."""

_QUANTITY = re.compile(r"(0|[1-9][0-9]{0,15})([A-Za-z]+)")


def parse_size(text: str, code: Code, place: str) -> int:
    """Return bytes.

    Raises:
        FleetError: `code` at `place`.
    """
    return _parse(text, SIZE_UNITS, "a size such as 50MiB", code, place)


def parse_duration(text: str, code: Code, place: str) -> int:
    """Return milliseconds.

    Raises:
        FleetError: `code` at `place`.
    """
    return _parse(text, DURATION_UNITS, "a duration such as 500ms or 30d", code, place)


def format_size(size: int) -> str:
    """Write bytes in the largest unit that needs no fraction."""
    return _format(size, SIZE_UNITS, "B")


def format_duration(milliseconds: int) -> str:
    """Write milliseconds in the largest unit that needs no fraction."""
    return _format(milliseconds, DURATION_UNITS, "s")


def _parse(text: str, units: dict[str, int], expected: str, code: Code, place: str) -> int:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise FleetError(code, f"{text[:32]!r} is not {expected}", place=place)
    value = int(match[1]) * units[match[2]]
    if value > MAX_QUANTITY:
        raise FleetError(code, f"{text} is too large", place=place)
    return value


def _format(value: int, units: dict[str, int], zero: str) -> str:
    if value == 0:
        return f"0{zero}"
    # The units are ordered from the largest, and the smallest is 1.
    unit = next(unit for unit, factor in units.items() if value % factor == 0)
    return f"{value // units[unit]}{unit}"
