"""Tensors of `wasi:nn` and what a model expects of them.

Owns: element types, their names in ONNX Runtime and in NumPy, and the check of a tensor against the input that it is
for, before native code sees it. Never runs anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_RANK = 16
"""Dimensions of a tensor."""


class TensorType(StrEnum):
    """Element types by their names in `wasi:nn`."""

    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    U8 = "U8"
    I32 = "I32"
    I64 = "I64"


# NumPy has no bfloat16: its bits travel as u16. wasi:nn data is little-endian whatever the host.
DTYPES: dict[TensorType, np.dtype[np.generic]] = {
    TensorType.FP16: np.dtype("<f2"),
    TensorType.FP32: np.dtype("<f4"),
    TensorType.FP64: np.dtype("<f8"),
    TensorType.BF16: np.dtype("<u2"),
    TensorType.U8: np.dtype("u1"),
    TensorType.I32: np.dtype("<i4"),
    TensorType.I64: np.dtype("<i8"),
}

ONNX_NAMES = {
    "tensor(float16)": TensorType.FP16,
    "tensor(float)": TensorType.FP32,
    "tensor(double)": TensorType.FP64,
    "tensor(bfloat16)": TensorType.BF16,
    "tensor(uint8)": TensorType.U8,
    "tensor(int32)": TensorType.I32,
    "tensor(int64)": TensorType.I64,
}
"""Types of a model's inputs and outputs that `wasi:nn` can express, as ONNX Runtime names them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements in row-major order, little-endian. Whether the parts agree is checked where a tensor is used.

    The data of an output is a view of ONNX Runtime's own memory: copying it again can cost as much as the inference.
    """

    dimensions: tuple[int, ...]
    type: TensorType
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model; a dimension that may vary is None."""

    name: str
    type: TensorType
    dimensions: tuple[int | None, ...]

    def array(self, tensor: Tensor) -> NDArray[np.generic]:
        """Look at a tensor's bytes as what this input expects.

        ONNX Runtime does not tell an input without dimensions from one whose number of dimensions may vary: such an
        input takes any, and the model answers for the rest.

        Raises:
            FleetError: VALUE_INVALID.
        """
        if tensor.type is not self.type:
            raise FleetError(Code.VALUE_INVALID, f"input {self.name!r} takes {self.type}, given was {tensor.type}")
        dtype = DTYPES[self.type]
        given, size = len(tensor.data), math.prod(tensor.dimensions) * dtype.itemsize
        if size != given:
            raise FleetError(
                Code.VALUE_INVALID,
                f"input {self.name!r}: {list(tensor.dimensions)} of {self.type} is {size} bytes, given were {given}",
            )
        # wasi:nn writes a single value with the dimensions [1]; ONNX knows it without any.
        dimensions = () if not self.dimensions and tensor.dimensions == (1,) else tensor.dimensions
        if self.dimensions and not _fits(dimensions, self.dimensions):
            expected = ", ".join("?" if size is None else str(size) for size in self.dimensions)
            raise FleetError(
                Code.VALUE_INVALID,
                f"input {self.name!r} has the dimensions [{expected}], given were {list(dimensions)}",
            )
        array: NDArray[np.generic] = np.frombuffer(tensor.data, dtype).reshape(dimensions)
        return array


def arrays(ports: Sequence[Port], inputs: Sequence[tuple[str, Tensor]]) -> dict[str, NDArray[np.generic]]:
    """Look at all inputs of an inference as what the model expects.

    Raises:
        FleetError: VALUE_INVALID for a name that is missing, unknown or given twice, and as `Port.array`.
    """
    given = dict(inputs)
    names = [port.name for port in ports]
    if len(given) != len(inputs) or given.keys() != set(names):
        raise FleetError(
            Code.VALUE_INVALID, f"the model's inputs are {names}, given were {[name for name, _ in inputs]}"
        )
    return {port.name: port.array(given[port.name]) for port in ports}


def _fits(given: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(given) == len(expected) and all(
        size is None or size == number for size, number in zip(expected, given, strict=True)
    )
