"""How bytes of a source become a number.

Owns: `extract` and `LineBuffer`. Pure. What it reads comes from outside and may be anything.
"""

from __future__ import annotations

import csv
import json
import math
import re
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.sensors.declarations import Form

MAX_PAYLOAD = 64 * 1024
"""Bytes that are looked at for one value: a message, a line, a file."""

MAX_LINE = 4096
"""Bytes of one line of a stream."""

_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")


def extract(payload: bytes, form: Form) -> float:
    """Return the number in a payload.

    Raises:
        FleetError: VALUE_INVALID when there is none.
    """
    if len(payload) > MAX_PAYLOAD:
        raise _malformed(f"{len(payload)} bytes, the limit is {MAX_PAYLOAD}")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise _malformed("is not UTF-8") from error
    if form.pointer is not None:
        number = _in_json(text, form.pointer)
    else:
        number = _from_text(text if form.column is None else _in_column(text, form.column, form.separator))
    value = number * form.factor
    if not math.isfinite(value):
        raise _malformed("is no finite number")
    return value


def _from_text(text: str) -> float:
    text = text.strip()
    if _NUMBER.fullmatch(text) is None:
        raise _malformed(f"{text[:32]!r} is no number")
    return float(text)


def _in_column(text: str, column: int, separator: str) -> str:
    try:
        row = next(csv.reader([text.strip("\r\n")], delimiter=separator), [])
    except csv.Error as error:
        raise _malformed(str(error)) from error
    if len(row) < column:
        raise _malformed(f"{len(row)} columns, the value is in column {column}")
    return row[column - 1]


def _in_json(text: str, pointer: str) -> float:
    """Follow a JSON Pointer (RFC 6901, section 4)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed("is not JSON") from error
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and _is_index(key, len(value)):
            value = value[int(key)]
        else:
            raise _malformed(f"has nothing at {pointer}")
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(f"has no number at {pointer}")
    try:
        return float(value)
    except OverflowError as error:
        raise _malformed("is too large a number") from error


def _is_index(key: str, length: int) -> bool:
    """Whether `key` is an index into an array: digits without a leading zero."""
    return key.isascii() and key.isdigit() and len(key) <= 6 and str(int(key)) == key and int(key) < length


def _malformed(why: str) -> FleetError:
    return FleetError(Code.VALUE_INVALID, why)


class LineBuffer:
    """Cuts a stream into lines of at most `MAX_LINE` bytes; a longer one is passed over up to its end and counted."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False
        self.too_long = 0
        """Lines that were passed over."""

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the lines that they complete, without their ends and without empty ones."""
        *complete, rest = (bytes(self._rest) + data).split(b"\n")
        lines: list[bytes] = []
        for line in complete:
            if self._skipping or len(line) > MAX_LINE:
                self.too_long += not self._skipping
                self._skipping = False
            elif line.strip():
                lines.append(line.rstrip(b"\r"))
        if len(rest) > MAX_LINE or self._skipping:
            self.too_long += not self._skipping
            self._skipping = True
            rest = b""
        self._rest = bytearray(rest)
        return lines
