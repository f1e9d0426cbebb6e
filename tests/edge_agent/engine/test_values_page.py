"""docs/values.md says what the binding does: every value in its table goes through a component and back."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from fleet.wit_text import parse_type
from fleet.wit_types import (
    BorrowType,
    Err,
    FuncType,
    Numbers,
    Ok,
    OwnType,
    Primitive,
    Some,
    Variant,
    WitType,
    WitValue,
)
from tests.fakes.components import ECHO_INTERFACE, echo

ENGINE = Engine()
PAGE = Path(__file__).parents[3] / "docs/values.md"
NAMES = {"Numbers": Numbers, "Variant": Variant, "Some": Some, "Ok": Ok, "Err": Err, "array": array, "np": np}


def _rows() -> list[tuple[str, str, list[str]]]:
    section = PAGE.read_text().partition("## Values")[2].partition("## Lists")[0]
    cells = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    codes = [[re.findall("`([^`]*)`", cell) for cell in row] for row in cells]
    return [(kind[0], value[0], others[0] if others else []) for kind, value, *others in codes]


ROWS = _rows()


def _value(text: str) -> WitValue:
    return eval(text, dict(NAMES))


@pytest.mark.parametrize(("kind", "given", "others"), ROWS)
def test_the_table_is_true(kind: str, given: str, others: list[str]) -> None:
    parsed, expected = parse_type(kind), _value(given)
    seen: list[WitValue] = []

    def call(value: WitValue) -> WitValue:
        seen.append(value)
        return _value(given)

    host = HostInterface(ECHO_INTERFACE, {"echo": HostFunction(FuncType((("v", parsed),), parsed), call)})
    instance = Instance(ENGINE.load(ENGINE.compile(echo(parsed))), [host], Limits())
    for text in (given, *others):
        for result in (instance.call("echo", _value(text)), seen.pop()):
            assert result == expected
            assert type(result) is type(expected)
    instance.close()


def test_the_table_is_complete() -> None:
    kinds = [parse_type(kind) for kind, _, _ in ROWS]
    assert set(Primitive) <= {kind for kind in kinds if isinstance(kind, Primitive)}
    assert {type(kind) for kind in kinds} == set(get_args(WitType)) - {OwnType, BorrowType}
