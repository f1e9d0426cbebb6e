"""Tiny ONNX models written byte by byte, so that tests need no package that builds models.

The field numbers are those of onnx.proto3 (ONNX 1.17, IR version 8).
"""

from __future__ import annotations

from enum import IntEnum


class ElementType(IntEnum):
    """`TensorProto.DataType`."""

    FP32 = 1
    U8 = 2
    I8 = 3
    I32 = 6
    I64 = 7
    BOOL = 9
    FP16 = 10
    FP64 = 11
    BF16 = 16


def one_operator(
    operator: str,
    element: ElementType,
    dimensions: list[int | str],
    *,
    inputs: tuple[str, ...] = ("x",),
    result: ElementType | None = None,
) -> bytes:
    """A model `y = operator(inputs...)` whose tensors have the same dimensions; a text dimension may vary."""
    node = b"".join(_field(1, name) for name in inputs) + _field(2, "y") + _field(4, operator)
    graph = _field(1, node) + _field(2, "graph")
    graph += b"".join(_field(11, _value(name, element, dimensions)) for name in inputs)
    graph += _field(12, _value("y", result or element, dimensions))
    operator_set = _field(1, "") + _field(2, 17)
    return _field(1, 8) + _field(8, operator_set) + _field(7, graph)


def _value(name: str, element: ElementType, dimensions: list[int | str]) -> bytes:
    shape = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in dimensions)
    return _field(1, name) + _field(2, _field(1, _field(1, int(element)) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
