"""`wasi:nn`: inference on the node, with the models of the agent's own bundle.

Owns: what the functions of `tensor`, `graph`, `inference` and `errors` mean, who may load which model, and the limits
on what a guest makes the host hold. Never touches ONNX Runtime: `nn_session.py` does.

- A model is loaded by its name in the bundle, or by its bytes where these are a model of the bundle. One that the guest
  brings itself would be code that nobody signed.
- A rule names a model as the guest does, or by the digest of its file. By name a model runs on the best device that the
  grant allows and the node has (`gpu`, `tpu`, `cpu`), by its bytes on the one that the guest asks for.
- A tensor whose parts disagree is found when it is used: its constructor has no way to answer with an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edge_agent.capabilities.base import HostInterface, LogRecord, Table, bind, declare_functions, declare_types
from edge_agent.capabilities.nn_session import Session, Sessions, Wish
from edge_agent.capabilities.nn_tensor import MAX_RANK, Tensor, TensorType
from edge_agent.capabilities.pace import Pace
from edge_agent.inference import Device
from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.wit_types import Err, Ok, OwnType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.runtime import ModelFile

P = ParamSpec("P")
T = TypeVar("T")

VERSION = "0.2.0-rc-2024-10-28"
TENSOR = f"wasi:nn/tensor@{VERSION}"
GRAPH = f"wasi:nn/graph@{VERSION}"
INFERENCE = f"wasi:nn/inference@{VERSION}"
ERRORS = f"wasi:nn/errors@{VERSION}"

MAX_TENSORS = 1024
"""Tensors of one agent."""

MAX_TENSOR_BYTES = 64 * 1024 * 1024
"""Bytes of all tensors of one agent."""

MAX_GRAPHS = 64
"""Graph handles of one agent, and likewise execution contexts."""

MAX_ERRORS = 256
"""Error handles of one agent."""

_ENCODINGS = ("onnx", "autodetect")
_PREFERENCE = (Device.GPU, Device.TPU, Device.CPU)

_CODES = {
    Code.VALUE_INVALID: "invalid-argument",
    Code.MODEL_INVALID: "unsupported-operation",
    Code.DEVICE_UNAVAILABLE: "unsupported-operation",
    Code.LIMIT_EXCEEDED: "too-large",
    Code.NOT_FOUND: "not-found",
    Code.BLOB_MISSING: "not-found",
    Code.DIGEST_MISMATCH: "security",
    Code.CALL_DENIED: "security",
    Code.INTERNAL: "runtime-error",
}

_TYPES = declare_types(
    {
        "error-code": "enum { invalid-argument, invalid-encoding, timeout, runtime-error, unsupported-operation, "
        "too-large, not-found, security, unknown }",
        "tensor-dimensions": "list<u32>",
        "tensor-type": "enum { FP16, FP32, FP64, BF16, U8, I32, I64 }",
        "tensor-data": "list<u8>",
        "named-tensor": "tuple<string, tensor>",
        "graph-encoding": "enum { openvino, onnx, tensorflow, pytorch, tensorflowlite, ggml, autodetect }",
        "execution-target": "enum { cpu, gpu, tpu }",
        "graph-builder": "list<u8>",
    },
    {name: OwnType(name) for name in ("tensor", "graph", "graph-execution-context", "error")},
)
_TENSOR_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[constructor]tensor": "func(dimensions: tensor-dimensions, ty: tensor-type, data: tensor-data) -> tensor",
        "[method]tensor.dimensions": "func(self: borrow<tensor>) -> tensor-dimensions",
        "[method]tensor.ty": "func(self: borrow<tensor>) -> tensor-type",
        "[method]tensor.data": "func(self: borrow<tensor>) -> tensor-data",
    },
)
_GRAPH_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[method]graph.init-execution-context": "func(self: borrow<graph>) -> result<graph-execution-context, error>",
        "load": "func(builder: list<graph-builder>, encoding: graph-encoding, target: execution-target)"
        " -> result<graph, error>",
        "load-by-name": "func(name: string) -> result<graph, error>",
    },
)
_INFERENCE_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[method]graph-execution-context.compute": "func(self: borrow<graph-execution-context>, "
        "inputs: list<named-tensor>) -> result<list<named-tensor>, error>",
    },
)
_ERRORS_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[method]error.code": "func(self: borrow<error>) -> error-code",
        "[method]error.data": "func(self: borrow<error>) -> string",
    },
)

_SESSIONS = Sessions()
"""Sessions of this process, which runs the agents of one application."""


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The four interfaces for one agent."""
    return _Nn(context).interfaces()


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    data: str


class _EncodingError(Exception):
    """The guest names an encoding that is not served."""


class _Nn:
    """The package for one agent, with the handles that its guest holds."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._authority = context.authority
        self._pace = Pace(context.clock.monotonic_ns)
        self._most_per_second = context.authority.maximum("wasi:nn/inference", "max_rps")
        self._tensors: Table[Tensor] = Table("tensors", MAX_TENSORS, MAX_TENSOR_BYTES)
        self._graphs: Table[Session] = Table("graphs", MAX_GRAPHS)
        self._contexts: Table[Session] = Table("execution contexts", MAX_GRAPHS)
        self._errors: Table[_Error] = Table("errors", MAX_ERRORS)
        self._reported: set[tuple[str, str]] = set()
        context.releases.callback(_SESSIONS.release, self)

    def interfaces(self) -> tuple[HostInterface, ...]:
        return (
            HostInterface(
                TENSOR,
                bind(
                    _TENSOR_FUNCTIONS,
                    {
                        "[constructor]tensor": self._new_tensor,
                        "[method]tensor.dimensions": lambda handle: list(self._tensors.get(handle).dimensions),
                        "[method]tensor.ty": lambda handle: self._tensors.get(handle).type.value,
                        "[method]tensor.data": lambda handle: self._tensors.get(handle).data,
                    },
                ),
                resources={"tensor": self._tensors.drop},
            ),
            HostInterface(
                GRAPH,
                bind(
                    _GRAPH_FUNCTIONS,
                    {
                        "[method]graph.init-execution-context": self._answering(self._new_context),
                        "load": self._answering(self._load),
                        "load-by-name": self._answering(self._load_by_name),
                    },
                ),
                resources={"graph": self._graphs.drop},
                uses={"error": ERRORS, "tensor": TENSOR, "graph-execution-context": INFERENCE},
            ),
            HostInterface(
                INFERENCE,
                bind(_INFERENCE_FUNCTIONS, {"[method]graph-execution-context.compute": self._answering(self._compute)}),
                resources={"graph-execution-context": self._contexts.drop},
                uses={"error": ERRORS, "tensor": TENSOR},
            ),
            HostInterface(
                ERRORS,
                bind(
                    _ERRORS_FUNCTIONS,
                    {
                        "[method]error.code": lambda handle: self._errors.get(handle).code,
                        "[method]error.data": lambda handle: self._errors.get(handle).data,
                    },
                ),
                resources={"error": self._errors.drop},
            ),
        )

    def _answering(self, call: Callable[P, T]) -> Callable[P, Ok[T] | Err[int]]:
        """Give a call the result type of the package: faults become error handles."""

        def answer(*args: P.args, **kwargs: P.kwargs) -> Ok[T] | Err[int]:
            try:
                return Ok(call(*args, **kwargs))
            except _EncodingError:
                return Err(self._errors.insert(_Error("invalid-encoding", f"models here are {_ENCODINGS[0]}")))
            except FleetError as error:
                return Err(self._errors.insert(_Error(_CODES.get(error.code, "unknown"), error.private)))

        return answer

    def _new_tensor(self, dimensions: Sequence[int], kind: str, data: bytes) -> int:
        if not self._authority.allows("wasi:nn/tensor"):
            raise FleetError(Code.CALL_DENIED, "the grant does not include tensors", interface=TENSOR)
        if len(dimensions) > MAX_RANK:
            raise FleetError(Code.LIMIT_EXCEEDED, f"a tensor may have {MAX_RANK} dimensions", interface=TENSOR)
        return self._tensors.insert(Tensor(tuple(dimensions), TensorType(kind), bytes(data)), len(data))

    def _load(self, builder: Sequence[bytes], encoding: str, target: str) -> int:
        if encoding not in _ENCODINGS:
            raise _EncodingError
        digest = digest_of(builder[0]) if len(builder) == 1 else ""
        for name, model in self._context.models.items():
            if model.digest == digest:
                return self._graphs.insert(self._session(name, (Device(target),)))
        raise FleetError(Code.CALL_DENIED, "models come with the agent's bundle: use load-by-name")

    def _load_by_name(self, name: str) -> int:
        return self._graphs.insert(self._session(name, _PREFERENCE))

    def _session(self, name: str, devices: Sequence[Device]) -> Session:
        """The session of a model that the agent may use, on the first of these devices that is granted and there.

        Raises:
            FleetError: CALL_DENIED, NOT_FOUND, and what loading raises.
        """
        model = self._context.models.get(name)
        granted = tuple(device for device in devices if self._allows(name, model, device))
        if not granted:
            raise FleetError(Code.CALL_DENIED, "the grant does not include this model, or not on this device")
        if model is None:
            raise FleetError(Code.NOT_FOUND, "the bundle has no model of this name")
        session = _SESSIONS.open(Wish(model, granted, self._context.inference), self, self._context.overdue)
        self._report(name, session)
        return session

    def _allows(self, name: str, model: ModelFile | None, device: Device) -> bool:
        names = (name,) if model is None else (name, model.digest)
        return any(self._authority.allows("wasi:nn/graph", model=known, device=device) for known in names)

    def _report(self, name: str, session: Session) -> None:
        """Say in the agent's log where a model runs, once for each place."""
        placement = session.placement
        if (key := (name, str(placement))) in self._reported:
            return
        self._reported.add(key)
        missing = placement.instead_of
        instead = "" if missing is None else f": this node has no {missing} for it"
        text = f"model {name} runs on {placement.device} by {placement.provider.name}{instead}"
        level = "info" if missing is None else "warn"
        self._context.log(LogRecord(self._context.clock.time_ns(), level, "wasi:nn", text))

    def _new_context(self, graph: int) -> int:
        return self._contexts.insert(self._graphs.get(graph))

    def _compute(self, context: int, inputs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        # The guest has given its tensors away: they go, whatever happens next.
        tensors = [(name, self._tensors.take(handle)) for name, handle in inputs]
        if not self._pace.take(self._most_per_second):
            raise FleetError(Code.CALL_DENIED, f"the grant allows {self._most_per_second} inferences per second")
        outputs = self._contexts.get(context).run(tensors, self._context.overdue)
        if not self._tensors.has_room(len(outputs), sum(len(tensor.data) for _, tensor in outputs)):
            raise FleetError(
                Code.LIMIT_EXCEEDED, f"the agent's tensors may have {MAX_TENSOR_BYTES} bytes; drop those no longer used"
            )
        return [(name, self._tensors.insert(tensor, len(tensor.data))) for name, tensor in outputs]
