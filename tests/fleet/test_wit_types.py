"""The value classes of WIT."""

from __future__ import annotations

from array import array

import pytest

from fleet.wit_types import NUMBER_FORMATS, Numbers


def test_numbers_equal_what_holds_the_same_numbers() -> None:
    numbers = Numbers("H", [1, 2])
    assert numbers == [1, 2]
    assert [numbers] == [[1, 2]]
    assert numbers == (1, 2)
    assert numbers == Numbers("I", [1, 2]) == array("q", [1, 2])
    assert numbers != [1, 3]
    assert numbers != [1]
    assert numbers != b"\1\0\2\0"
    assert {"a": [numbers]} == {"a": [[1, 2]]}


def test_numbers_are_a_buffer_and_no_key() -> None:
    assert memoryview(Numbers("f", [0.5])).format == "f"
    with pytest.raises(TypeError):
        hash(Numbers("f"))
    assert all(Numbers(code, b"\0" * 8) == [0] * (8 // Numbers(code).itemsize) for code in NUMBER_FORMATS.values())
