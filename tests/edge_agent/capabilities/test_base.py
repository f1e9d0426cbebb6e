"""Tables stay within their limits; signatures and callables belong together."""

from __future__ import annotations

import pytest

from edge_agent.capabilities.base import MAX_HANDLE, Table, bind, declare_functions
from fleet.errors import Code, FleetError


def test_table_gives_numbers_and_takes_them_back() -> None:
    table: Table[str] = Table("words", 2, 10)
    first, second = table.insert("a", 4), table.insert("b", 6)
    assert (table.get(first), table.get(second), table.used_bytes, len(table)) == ("a", "b", 10, 2)
    assert table.take(first) == "a"
    table.drop(second)
    assert (len(table), table.used_bytes) == (0, 0)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 3)])
def test_full_table_refuses(sizes: tuple[int, ...]) -> None:
    table: Table[str] = Table("words", 2, 10)
    for size in sizes[:-1]:
        table.insert("x", size)
    assert not table.has_room(1, sizes[-1])
    with pytest.raises(FleetError) as refused:
        table.insert("x", sizes[-1])
    assert refused.value.code is Code.LIMIT_EXCEEDED


def test_numbers_begin_again_after_the_largest_and_skip_those_in_use() -> None:
    table: Table[str] = Table("words", 3)
    first = table.insert("old")
    table._last = MAX_HANDLE
    assert table.insert("new") == first + 1


def test_bind_refuses_a_missing_callable() -> None:
    with pytest.raises(ValueError, match="other"):
        bind(declare_functions({}, {"one": "func()", "other": "func()"}), {"one": lambda: None})
