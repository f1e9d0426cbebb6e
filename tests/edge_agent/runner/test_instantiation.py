"""A grant's memory, shared out over what a component has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.runner.engine import Engine, Instance, Trap
from edge_agent.runner.instantiation import ELEMENT_BYTES, Shares, instantiate
from fleet.grants import Limits
from fleet.model import ExitCause
from tests.fakes.components import wasm

ENGINE = Engine()
MIB = 1 << 20

shares = st.builds(Shares, st.integers(1, 16), st.integers(1, 64), st.integers(0, 1 << 20))


def having(memories, tables, elements=10):
    """A component with so many memories and tables; `grow` grows its first table."""
    more = "".join(f"(memory {1 if number else 2})" for number in range(memories))
    tabled = f"(table {elements} funcref)" + "(table 1 funcref)" * (tables - 1)
    text = f"""(component (core module $m {more} {tabled}
        (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0)))
        (func (export "grow-memory") (param i32) (result i32) (memory.grow (local.get 0))))
      (core instance $i (instantiate $m))
      (func (export "grow") (param "elements" u32) (result s32) (canon lift (core func $i "grow")))
      (func (export "grow-memory") (param "pages" u32) (result s32) (canon lift (core func $i "grow-memory"))))"""
    return ENGINE.load(ENGINE.compile(wasm(text)))


def start(component, **grant):
    return instantiate(lambda limits: Instance(component, [], limits), Limits(**grant))


@given(shares, st.integers(1 << 16, 1 << 32))
def test_all_parts_together_are_within_the_grant(parts, memory_bytes):
    limits = parts.limits(Limits(memory_bytes=memory_bytes))
    tables = limits.tables * limits.table_elements * ELEMENT_BYTES
    if parts.elements * parts.tables * ELEMENT_BYTES <= memory_bytes:
        assert limits.memory_bytes * limits.memories + tables <= memory_bytes
    else:
        assert limits.memory_bytes == 0, "the tables alone are too large, so nothing starts"


@pytest.mark.parametrize("memories", [1, 2, 5])
@pytest.mark.parametrize("tables", [1, 4, 9])
def test_a_component_gets_as_many_as_it_has(memories, tables):
    instance = start(having(memories, tables), memory_bytes=4 * MIB)
    room = (4 * MIB - 4 * MIB // 64) // memories >> 16
    assert instance.call("grow-memory", room - 2) == 2
    assert instance.call("grow-memory", 1) == -1


def test_a_table_cannot_grow_beyond_its_part():
    instance = start(having(1, 1), memory_bytes=4 * MIB)
    part = 4 * MIB // 64 // ELEMENT_BYTES // 4
    assert instance.call("grow", part - 10) == 10
    assert instance.call("grow", 1) == -1


def test_large_tables_leave_less_for_the_memory():
    elements = 4 * MIB // ELEMENT_BYTES // 8  # each of four an eighth of the grant
    instance = start(having(1, 4, elements), memory_bytes=4 * MIB)
    assert instance.call("grow-memory", 2 * MIB // (1 << 16) - 2) == 2
    assert instance.call("grow-memory", 1) == -1


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (having(17, 1), "memory count"),
        (having(1, 65), "table count"),
        (having(1, 1, 1 << 20), "memory limits"),
    ],
)
def test_what_does_not_fit_is_a_quota(component, words):
    with pytest.raises(Trap, match=words) as caught:
        start(component, memory_bytes=4 * MIB)
    assert caught.value.cause is ExitCause.QUOTA
