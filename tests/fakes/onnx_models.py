"""Tiny ONNX models written byte by byte, so that tests need no package that builds models.

The field numbers are those of onnx.proto3 (ONNX 1.17, IR version 8).
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise


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
    return _model(graph)


def loop(side: int, times: int | None = None) -> bytes:
    """A model `y = x^(2^n)` of square matrices, which multiplies `n` times: as long as anybody wants.

    With `times` that is `n`, and the one input is called `a`.
    """
    matrix: list[int | str] = [side, side]
    body = _field(1, _field(1, "v") + _field(1, "v") + _field(2, "w") + _field(4, "MatMul"))
    body += _field(1, _field(1, "c") + _field(2, "d") + _field(4, "Identity")) + _field(2, "body")
    inside = (("i", ElementType.I64, []), ("c", ElementType.BOOL, []), ("v", ElementType.FP32, matrix))
    body += b"".join(_field(11, _value(*value)) for value in inside)
    body += _field(12, _value("d", ElementType.BOOL, [])) + _field(12, _value("w", ElementType.FP32, matrix))
    attribute = _field(1, "body") + _field(6, body) + _field(20, 5)
    given = "x" if times is None else "a"
    node = _field(1, "n") + _field(1, "") + _field(1, given) + _field(2, "y") + _field(4, "Loop") + _field(5, attribute)
    graph = _field(1, node) + _field(2, "graph")
    if times is None:
        graph += _field(11, _value("n", ElementType.I64, []))
    else:
        number = _field(2, int(ElementType.I64)) + _field(8, "n") + _field(9, times.to_bytes(8, "little"))
        graph += _field(5, number)
    graph += _field(11, _value(given, ElementType.FP32, matrix)) + _field(12, _value("y", ElementType.FP32, matrix))
    return _model(graph)


def outside(place: str) -> bytes:
    """A model whose output is four numbers that a file at `place` holds."""
    entry = _field(1, "location") + _field(2, place)
    tensor = _field(1, 4) + _field(2, 1) + _field(8, "w") + _field(13, entry) + _field(14, 1)
    graph = _field(1, _field(1, "w") + _field(2, "y") + _field(4, "Identity")) + _field(2, "graph")
    return _model(graph + _field(5, tensor) + _field(12, _value("y", ElementType.FP32, [4])))


def made_up(size: int) -> bytes:
    """A model of some bytes whose output has `size` floats, none of which it holds."""
    tensor = _field(1, 1) + _field(2, int(ElementType.I64)) + _field(8, "s") + _field(9, size.to_bytes(8, "little"))
    graph = _field(1, _field(1, "s") + _field(2, "y") + _field(4, "ConstantOfShape")) + _field(2, "graph")
    return _model(graph + _field(5, tensor) + _field(12, _value("y", ElementType.FP32, ["n"])))


def chain(length: int) -> bytes:
    """A model `y = x * (length + 1)`, one operator after the other."""
    names = ["x", *(f"a{number}" for number in range(length - 1)), "y"]
    nodes = (_field(1, a) + _field(1, "x") + _field(2, b) + _field(4, "Add") for a, b in pairwise(names))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "graph")
    graph += _field(11, _value("x", ElementType.FP32, [1])) + _field(12, _value("y", ElementType.FP32, [1]))
    return _model(graph)


def _model(graph: bytes) -> bytes:
    return _field(1, 8) + _field(8, _field(1, "") + _field(2, 17)) + _field(7, graph)


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
