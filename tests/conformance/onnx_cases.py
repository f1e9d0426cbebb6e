"""The test cases of the `onnx` package: models, inputs, and the outputs that the standard asks for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from edge_agent.capabilities.nn_tensor import DTYPES, Tensor, TensorType

DATA = Path(onnx.backend.test.__file__).parent / "data"
FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")

TYPES = {
    TensorProto.FLOAT16: TensorType.FP16,
    TensorProto.FLOAT: TensorType.FP32,
    TensorProto.DOUBLE: TensorType.FP64,
    TensorProto.BFLOAT16: TensorType.BF16,
    TensorProto.UINT8: TensorType.U8,
    TensorProto.INT32: TensorType.I32,
    TensorProto.INT64: TensorType.I64,
}
"""Element types of ONNX that wasi:nn has."""

_NAMES = {
    "float16": TensorType.FP16,
    "float32": TensorType.FP32,
    "float64": TensorType.FP64,
    "bfloat16": TensorType.BF16,
    "uint8": TensorType.U8,
    "int32": TensorType.I32,
    "int64": TensorType.I64,
}


@dataclass(frozen=True)
class Case:
    """A model, and what comes out of it for what goes in. Values that are no arrays are None."""

    name: str
    model: ModelProto
    data: tuple[tuple[tuple[NDArray | None, ...], tuple[NDArray | None, ...]], ...]
    relative: float = 1e-3
    absolute: float = 1e-7

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs that a caller gives."""
        return [value.name for value in self.model.graph.input if value.name not in self._weights]

    @property
    def _weights(self) -> set[str]:
        return {tensor.name for tensor in self.model.graph.initializer}

    @property
    def strange(self) -> set[str]:
        """Types of inputs and outputs that wasi:nn cannot express."""
        given = [value for value in self.model.graph.input if value.name not in self._weights]
        return {_type_name(value.type) for value in (*given, *self.model.graph.output)} - {
            TensorProto.DataType.Name(number).lower() for number in TYPES
        }

    def is_close(self, found: Sequence[NDArray], expected: Sequence[NDArray | None]) -> bool:
        """Whether outputs are what the standard asks for, a single value with the dimensions [1] or none."""
        return len(found) == len(expected) and all(
            there is not None and self._is_close(here, there) for here, there in zip(found, expected, strict=True)
        )

    def _is_close(self, found: NDArray, expected: NDArray) -> bool:
        if (found.shape or (1,)) != (expected.shape or (1,)) or found.dtype != expected.dtype:
            return False
        relative = self.relative
        if found.dtype.name == "bfloat16":
            relative = max(relative, 2**-6)
            found, expected = found.astype(np.float32), expected.astype(np.float32)
        return np.allclose(found.reshape(-1), expected.reshape(-1), relative, self.absolute, equal_nan=True)


def _type_name(kind: onnx.TypeProto) -> str:
    if kind.WhichOneof("value") == "tensor_type":
        return TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()
    return str(kind.WhichOneof("value")).removesuffix("_type")


def file_cases(folder: str) -> Iterator[Case]:
    """The cases that are files."""
    for path in sorted((DATA / folder).iterdir()):
        if (path / "model.onnx").is_file():
            sets = sorted(path.glob("test_data_set_*"))
            data = tuple((_protos(one, "input"), _protos(one, "output")) for one in sets)
            yield Case(f"{folder}/{path.name}", onnx.load(path / "model.onnx"), data)


def light_cases() -> Iterator[Case]:
    """Well-known networks with made-up weights, and numbers from 0 to 1 as their input, as the package's runner has."""
    for path in sorted((DATA / "light").glob("light_*.onnx")):
        model = onnx.load(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        given = []
        for value in model.graph.input:
            if value.name not in weights:
                shape = [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
                count = int(np.prod(shape))
                given.append((np.arange(count).reshape(shape) / count).astype(np.float32))
        expected = _protos(path.parent, f"{path.stem}_output")
        yield Case(f"light/{path.stem}", model, ((tuple(given), expected),))


def node_cases() -> Iterator[Case]:
    """Cases of single operators, which the package makes up in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they divide by zero, and the like
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415

        collected = collect_testcases()
    for case in collected:
        data = tuple((tuple(map(_array, given)), tuple(map(_array, out))) for given, out in case.data_sets)
        yield Case(f"node/{case.name}", case.model, data, case.rtol, case.atol)


def _array(value: object) -> NDArray | None:
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    return None


def _protos(folder: Path, kind: str) -> tuple[NDArray | None, ...]:
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda path: int(re.findall(r"\d+", path.name)[-1]))
    return tuple(_tensor_of(path.read_bytes()) for path in files)


def _tensor_of(data: bytes) -> NDArray | None:
    tensor = TensorProto()
    try:
        tensor.ParseFromString(data)
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError, onnx.onnx_cpp2py_export.checker.ValidationError):
        return None  # a sequence, or another thing that is no tensor


def to_tensor(array: NDArray) -> Tensor:
    """An array as a guest gives it."""
    return Tensor(array.shape, _NAMES[array.dtype.name], np.ascontiguousarray(array).tobytes())


def to_array(tensor: Tensor, like: NDArray) -> NDArray:
    """An array as a guest has it, of the type that was expected where the bits are those of that type."""
    dtype = like.dtype if _NAMES.get(like.dtype.name) is tensor.type else DTYPES[tensor.type]
    return np.frombuffer(tensor.data, dtype).reshape(tensor.dimensions)
