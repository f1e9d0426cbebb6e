"""Models on ONNX Runtime: the only module that touches it.

Owns: loading a model into a `Session` on a device, sharing sessions between the agents of a runner, and the bounds on
the threads, the memory and the number of them. Never decides who may use a model, or where: that is `nn.py`.

Importing this module costs tens of megabytes, so `edge_agent.capabilities` does it only for an agent that imports
`wasi:nn`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edge_agent.capabilities.nn_tensor import ONNX_NAMES, Port, Tensor, TensorType, arrays
from edge_agent.capabilities.nn_watch import PERIOD_S, Watch
from edge_agent.disk import read_bounded
from edge_agent.inference import CPU_PROVIDER, Placement, placements, unavailable
from fleet.errors import Code, FleetError
from fleet.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.capabilities.nn_watch import Overdue
    from edge_agent.inference import Device, Inference
    from edge_agent.runtime import ModelFile

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""Bytes of a model file."""

MAX_SESSIONS = 32
"""Sessions of one runner, each with threads of its own where an inference has several."""

MAX_SESSIONS_BYTES = 1024 * 1024 * 1024
"""Sum of the sizes of the model files behind the sessions of one runner."""

_FAULTS = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.ModelLoadCanceled,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,  # what the native code throws without a status of its own
    UnicodeDecodeError,  # a name or a message with bytes of the model that are no text
    MemoryError,
)

_ARENA = "bfc_arena"
"""In the texts of faults of the allocator whose memory is bounded."""

_ONNX_BFLOAT16 = 16
"""`TensorProto.DataType.BFLOAT16` (onnx.proto3)."""

_WATCH = Watch()


class Session:
    """A loaded model; any number of threads may run it at the same time.

    Args:
        model: the model as an ONNX file holds it. What a model keeps in other files is not read.
        digest: `sha256:...` of those bytes.
        placement: where it runs; operators that its provider does not have run on the processor.
        inference: bounds of threads and memory.
        overdue: why the call that loads it must end now, None while it may go on; asked in another thread.

    Raises:
        FleetError: MODEL_INVALID when ONNX Runtime refuses the model, or wasi:nn cannot express its inputs or outputs;
            LIMIT_EXCEEDED when it needs more memory than it may have; DEVICE_UNAVAILABLE when the provider is there
            and its device is not.
        EndAgentError: what `overdue` says.
    """

    def __init__(self, model: bytes, digest: str, placement: Placement, inference: Inference, overdue: Overdue) -> None:
        self.digest = digest
        self.placement = placement
        self.model_bytes = len(model)
        self._memory_bytes = inference.memory_bytes
        _bound_memory(inference.memory_bytes)
        options, provider = _options(inference), placement.provider
        try:
            with _WATCH.watching(overdue, lambda: options.set_load_cancellation_flag(True)):
                # Without the fallback, which would load a broken model a second time and print that it does.
                self._session = onnxruntime.InferenceSession(
                    model, options, providers=[(provider.name, dict(provider.options))], enable_fallback=0
                )
            if provider.name not in self._session.get_providers():
                raise FleetError(Code.DEVICE_UNAVAILABLE, f"{provider} does not work on this machine")
            self.inputs = tuple(_port(node, digest) for node in self._session.get_inputs())
            self.outputs = tuple(_port(node, digest) for node in self._session.get_outputs())
        except _FAULTS as error:
            if _ARENA in str(error):
                raise self._too_much_memory() from error
            raise FleetError(
                Code.MODEL_INVALID, f"ONNX Runtime refuses the model: {_first_line(error)}", place=digest
            ) from error
        self._output_names = [port.name for port in self.outputs]
        self._has_bfloat16 = any(port.type is TensorType.BF16 for port in (*self.inputs, *self.outputs))

    def run(self, inputs: Sequence[tuple[str, Tensor]], overdue: Overdue) -> list[tuple[str, Tensor]]:
        """Run the model once and return its outputs in its own order.

        Args:
            inputs: by name, in any order.
            overdue: as for the session itself.

        Raises:
            FleetError: VALUE_INVALID when the inputs do not fit the model; LIMIT_EXCEEDED when it needs more memory
                than it may have; INTERNAL when ONNX Runtime fails.
            EndAgentError: what `overdue` says.
        """
        given = arrays(self.inputs, inputs)
        options = onnxruntime.RunOptions()
        try:
            with _WATCH.watching(overdue, lambda: setattr(options, "terminate", True)):
                if self._has_bfloat16:
                    return self._run_values(given, options)
                found = self._session.run(self._output_names, given, options)
        except native.InvalidArgument as error:
            raise FleetError(Code.VALUE_INVALID, f"the model refuses its inputs: {_first_line(error)}") from error
        except _FAULTS as error:
            if _ARENA in str(error):
                raise self._too_much_memory() from error
            raise FleetError(Code.INTERNAL, f"the model failed: {_first_line(error)}") from error
        return [
            (port.name, Tensor(array.shape or (1,), port.type, array.reshape(-1).view(np.uint8).data))
            for port, array in zip(self.outputs, found, strict=True)
        ]

    def _run_values(
        self, given: dict[str, NDArray[np.generic]], options: onnxruntime.RunOptions
    ) -> list[tuple[str, Tensor]]:
        """Run on ONNX Runtime's own values, which know the type that NumPy lacks; slower for small models."""
        make = onnxruntime.OrtValue
        values = {
            port.name: make.ortvalue_from_numpy_with_onnx_type(given[port.name], _ONNX_BFLOAT16)
            if port.type is TensorType.BF16
            else make.ortvalue_from_numpy(given[port.name])
            for port in self.inputs
        }
        found = self._session.run_with_ort_values(self._output_names, values, options)
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

    def _too_much_memory(self) -> FleetError:
        return FleetError(
            Code.LIMIT_EXCEEDED, f"the models of this runner may use {self._memory_bytes} bytes", place=self.digest
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What an agent wants to run.

    Attributes:
        model: the admitted file.
        devices: where it may run, the preferred device first.
        inference: what the node's operator decided.
    """

    model: ModelFile
    devices: tuple[Device, ...]
    inference: Inference


class Sessions:
    """Sessions that agents share, by the digest of their model and where it runs.

    A session goes when no agent holds it any more. When there are too many, those go first that an agent loaded and
    has no handle of, the ones that were asked for longest ago before the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[tuple[str, Placement], Session] = WeakValueDictionary()
        self._kept: OrderedDict[tuple[object, str, Placement], Session] = OrderedDict()

    def open(self, wish: Wish, holder: object, overdue: Overdue) -> Session:
        """The session of an admitted model; kept for `holder` as long as there is room. Others wait while one loads.

        Raises:
            FleetError: BLOB_MISSING, LIMIT_EXCEEDED, MODEL_INVALID, DEVICE_UNAVAILABLE; DIGEST_MISMATCH when the file
                changed since the model was admitted.
            EndAgentError: what `overdue` says.
        """
        while not self._lock.acquire(timeout=PERIOD_S):
            if (reason := overdue()) is not None:
                raise reason
        try:
            session = self._opened(wish, overdue)
            key = holder, session.digest, session.placement
            self._kept[key] = session
            self._kept.move_to_end(key)
            return session
        finally:
            self._lock.release()

    def release(self, holder: object) -> None:
        """Keep nothing for `holder` any more."""
        with self._lock:
            for key in [key for key in self._kept if key[0] is holder]:
                del self._kept[key]

    def _opened(self, wish: Wish, overdue: Overdue) -> Session:
        available = onnxruntime.get_available_providers()
        ways = placements(wish.devices, available, wish.inference)
        for placement in ways:
            if (session := self._open.get((wish.model.digest, placement))) is not None:
                return session
        if not ways:
            raise unavailable(wish.devices, available)
        # Read once: what is hashed is what is loaded.
        data = _read(wish.model.path)
        if digest_of(data) != wish.model.digest:
            raise FleetError(Code.DIGEST_MISMATCH, "the model's file is not what was admitted", place=wish.model.digest)
        self._make_room(len(data))
        faults: list[str] = []
        for placement in ways:
            try:
                session = Session(data, wish.model.digest, placement, wish.inference, overdue)
            except FleetError as error:
                # What the processor refuses is no model; another provider may lack its device, or an operator.
                if placement.provider == CPU_PROVIDER or error.code is Code.LIMIT_EXCEEDED:
                    raise
                faults.append(error.private)
            else:
                self._open[wish.model.digest, placement] = session
                return session
        raise unavailable(wish.devices, available, faults)

    def _make_room(self, size: int) -> None:
        while not self._has_room(size):
            if not self._kept:
                raise FleetError(
                    Code.LIMIT_EXCEEDED,
                    f"a runner may have {MAX_SESSIONS} models in use, of {MAX_SESSIONS_BYTES} bytes in sum",
                )
            self._kept.popitem(last=False)

    def _has_room(self, size: int) -> bool:
        sizes = [session.model_bytes for session in self._open.values()]
        return len(sizes) < MAX_SESSIONS and sum(sizes) + size <= MAX_SESSIONS_BYTES


@lru_cache(maxsize=1)
def _bound_memory(limit: int) -> None:
    """Let all sessions that are made from now on share so many bytes of memory on the processor."""
    place = native.OrtMemoryInfo("Cpu", native.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, native.OrtMemType.DEFAULT)
    # Growing by what is asked for, and no more: the limit counts what is taken from the system.
    settings = {"max_mem": limit, "arena_extend_strategy": 1}
    onnxruntime.create_and_register_allocator(place, native.OrtArenaCfg(settings))


def _options(inference: Inference) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = inference.threads_on(len(os.sched_getaffinity(0)))
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Threads that spin for their next work would take processor time from the agents.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise FleetError(Code.BLOB_MISSING, "the model's file cannot be read", place=str(path)) from error


def _port(node: onnxruntime.NodeArg, digest: str) -> Port:
    kind = ONNX_NAMES.get(node.type)
    if kind is None:
        raise FleetError(
            Code.MODEL_INVALID, f"{node.name!r} is a {node.type}, which wasi:nn cannot express", place=digest
        )
    return Port(node.name, kind, tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:256]
