"""Models on ONNX Runtime: the only module that touches it.

Owns: loading a model into a `Session`, sharing sessions between the agents of a runner, and checking tensors against
what the model expects before the native code sees them. Never decides who may use a model: that is `nn.py`.

Importing this module costs tens of megabytes, so `edge_agent.capabilities` does it only for an agent that imports
`wasi:nn`.
"""

from __future__ import annotations

import ctypes
import math
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from fleet.errors import Code, FleetError
from fleet.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.runtime import ModelFile

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""Bytes of a model file."""

MAX_RANK = 16
"""Dimensions of a tensor."""

_FAULTS = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,  # what the native code throws without a status of its own
    UnicodeDecodeError,  # a name or a message with bytes of the model that are no text
    MemoryError,
)


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
_DTYPES: dict[TensorType, np.dtype[np.generic]] = {
    TensorType.FP16: np.dtype("<f2"),
    TensorType.FP32: np.dtype("<f4"),
    TensorType.FP64: np.dtype("<f8"),
    TensorType.BF16: np.dtype("<u2"),
    TensorType.U8: np.dtype("u1"),
    TensorType.I32: np.dtype("<i4"),
    TensorType.I64: np.dtype("<i8"),
}

_ONNX_NAMES = {
    "tensor(float16)": TensorType.FP16,
    "tensor(float)": TensorType.FP32,
    "tensor(double)": TensorType.FP64,
    "tensor(bfloat16)": TensorType.BF16,
    "tensor(uint8)": TensorType.U8,
    "tensor(int32)": TensorType.I32,
    "tensor(int64)": TensorType.I64,
}

_ONNX_BFLOAT16 = 16
"""`TensorProto.DataType.BFLOAT16` (onnx.proto3)."""


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


class Session:
    """A loaded model; any number of threads may run it at the same time.

    Args:
        model: the model as an ONNX file holds it.
        digest: `sha256:...` of those bytes.

    Raises:
        FleetError: MODEL_INVALID when ONNX Runtime refuses the model, or wasi:nn cannot express its inputs or outputs.
    """

    def __init__(self, model: bytes, digest: str) -> None:
        self.digest = digest
        options = onnxruntime.SessionOptions()
        # An agent has one thread, and no model may take more of the node than that.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            # Without the fallback, which would load a broken model a second time and print that it does.
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            self.inputs = tuple(_port(node, digest) for node in self._session.get_inputs())
            self.outputs = tuple(_port(node, digest) for node in self._session.get_outputs())
        except _FAULTS as error:
            raise FleetError(
                Code.MODEL_INVALID, f"ONNX Runtime refuses the model: {_first_line(error)}", place=digest
            ) from error
        self._output_names = [port.name for port in self.outputs]
        self._has_bfloat16 = any(port.type is TensorType.BF16 for port in (*self.inputs, *self.outputs))

    def run(self, inputs: Sequence[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        """Run the model once and return its outputs in its own order.

        Raises:
            FleetError: VALUE_INVALID when the inputs do not fit the model; INTERNAL when ONNX Runtime fails.
        """
        arrays = self._arrays(inputs)
        try:
            if self._has_bfloat16:
                return self._run_values(arrays)
            found = self._session.run(self._output_names, arrays)
        except native.InvalidArgument as error:
            raise FleetError(Code.VALUE_INVALID, f"the model refuses its inputs: {_first_line(error)}") from error
        except _FAULTS as error:
            raise FleetError(Code.INTERNAL, f"the model failed: {_first_line(error)}") from error
        return [
            (port.name, Tensor(array.shape or (1,), port.type, array.reshape(-1).view(np.uint8).data))
            for port, array in zip(self.outputs, found, strict=True)
        ]

    def _arrays(self, inputs: Sequence[tuple[str, Tensor]]) -> dict[str, NDArray[np.generic]]:
        given = dict(inputs)
        names = [port.name for port in self.inputs]
        if len(given) != len(inputs) or given.keys() != set(names):
            raise FleetError(
                Code.VALUE_INVALID, f"the model's inputs are {names}, given were {[name for name, _ in inputs]}"
            )
        return {port.name: _array(port, given[port.name]) for port in self.inputs}

    def _run_values(self, arrays: dict[str, NDArray[np.generic]]) -> list[tuple[str, Tensor]]:
        """Run on ONNX Runtime's own values, which know the type that NumPy lacks; slower for small models."""
        make = onnxruntime.OrtValue
        values = {
            port.name: make.ortvalue_from_numpy_with_onnx_type(arrays[port.name], _ONNX_BFLOAT16)
            if port.type is TensorType.BF16
            else make.ortvalue_from_numpy(arrays[port.name])
            for port in self.inputs
        }
        found = self._session.run_with_ort_values(self._output_names, values)
        return [
            (
                port.name,
                Tensor(
                    tuple(value.shape()) or (1,),
                    port.type,
                    ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()),
                ),
            )
            for port, value in zip(self.outputs, found, strict=True)
        ]


class Sessions:
    """Sessions that agents share, by the digest of their model. A session goes when no agent holds it any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()

    def open(self, model: ModelFile) -> Session:
        """The session of an admitted model. Others wait while one loads.

        Raises:
            FleetError: BLOB_MISSING, LIMIT_EXCEEDED, MODEL_INVALID; DIGEST_MISMATCH when the file changed since the
                model was admitted.
        """
        with self._lock:
            session = self._open.get(model.digest)
            if session is None:
                # Read once: what is hashed is what is loaded.
                data = _read(model.path)
                if digest_of(data) != model.digest:
                    raise FleetError(
                        Code.DIGEST_MISMATCH, "the model's file is not what was admitted", place=model.digest
                    )
                session = Session(data, model.digest)
                self._open[model.digest] = session
            return session


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            model = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise FleetError(Code.BLOB_MISSING, "the model's file cannot be read", place=str(path)) from error
    if len(model) > MAX_MODEL_BYTES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a model may have {MAX_MODEL_BYTES} bytes")
    return model


def _port(node: onnxruntime.NodeArg, digest: str) -> Port:
    kind = _ONNX_NAMES.get(node.type)
    if kind is None:
        raise FleetError(
            Code.MODEL_INVALID, f"{node.name!r} is a {node.type}, which wasi:nn cannot express", place=digest
        )
    return Port(node.name, kind, tuple(size if isinstance(size, int) else None for size in node.shape))


def _array(port: Port, tensor: Tensor) -> NDArray[np.generic]:
    """Look at the tensor's bytes as what the port expects."""
    if tensor.type is not port.type:
        raise FleetError(Code.VALUE_INVALID, f"input {port.name!r} takes {port.type}, given was {tensor.type}")
    dtype = _DTYPES[port.type]
    given, size = len(tensor.data), math.prod(tensor.dimensions) * dtype.itemsize
    if size != given:
        raise FleetError(
            Code.VALUE_INVALID,
            f"input {port.name!r}: {list(tensor.dimensions)} of {port.type} is {size} bytes, given were {given}",
        )
    # wasi:nn writes a single value with the dimensions [1]; ONNX knows it without any.
    dimensions = () if not port.dimensions and tensor.dimensions == (1,) else tensor.dimensions
    if len(dimensions) != len(port.dimensions) or any(
        size is not None and size != given for size, given in zip(port.dimensions, dimensions, strict=True)
    ):
        expected = ", ".join("?" if size is None else str(size) for size in port.dimensions)
        raise FleetError(
            Code.VALUE_INVALID, f"input {port.name!r} has the dimensions [{expected}], given were {list(dimensions)}"
        )
    array: NDArray[np.generic] = np.frombuffer(tensor.data, dtype).reshape(dimensions)
    return array


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:256]
