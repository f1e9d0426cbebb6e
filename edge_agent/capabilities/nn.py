"""`wasi:nn`: inference on the node, with the models of the agent's own bundle.

Owns: what the functions of `tensor`, `graph`, `inference` and `errors` mean, who may load which model, and the limits
on what a guest makes the host hold. Never touches ONNX Runtime: `nn_session.py` does.

- Models are loaded by name only. A model that the guest brings itself would be code that nobody signed.
- A rule names a model as the guest does, or by the digest of its file. The one device is `cpu`.
- A tensor whose parts disagree is found when it is used: its constructor has no way to answer with an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edge_agent.capabilities.base import HostInterface, Table, bind, declare_functions, declare_types
from edge_agent.capabilities.nn_session import MAX_RANK, Session, Sessions, Tensor, TensorType
from fleet.errors import Code, FleetError
from fleet.wit_types import Err, Ok, OwnType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext

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

_SECOND_NS = 1_000_000_000

_CODES = {
    Code.VALUE_INVALID: "invalid-argument",
    Code.MODEL_INVALID: "unsupported-operation",
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


class _Nn:
    """The package for one agent, with the handles that its guest holds."""

    def __init__(self, context: AgentContext) -> None:
        self._authority = context.authority
        self._models = context.models
        self._rate = _Rate(context)
        self._tensors: Table[Tensor] = Table("tensors", MAX_TENSORS, MAX_TENSOR_BYTES)
        self._graphs: Table[Session] = Table("graphs", MAX_GRAPHS)
        self._contexts: Table[Session] = Table("execution contexts", MAX_GRAPHS)
        self._errors: Table[_Error] = Table("errors", MAX_ERRORS)
        self._loaded: dict[str, Session] = {}

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
            except FleetError as error:
                return Err(self._errors.insert(_Error(_CODES.get(error.code, "unknown"), error.private)))

        return answer

    def _new_tensor(self, dimensions: Sequence[int], kind: str, data: bytes) -> int:
        if not self._authority.allows("wasi:nn/tensor"):
            raise FleetError(Code.CALL_DENIED, "the grant does not include tensors", interface=TENSOR)
        if len(dimensions) > MAX_RANK:
            raise FleetError(Code.LIMIT_EXCEEDED, f"a tensor may have {MAX_RANK} dimensions", interface=TENSOR)
        return self._tensors.insert(Tensor(tuple(dimensions), TensorType(kind), bytes(data)), len(data))

    def _load(self, _builder: Sequence[bytes], _encoding: str, _target: str) -> int:
        raise FleetError(Code.CALL_DENIED, "models come with the agent's bundle: use load-by-name")

    def _load_by_name(self, name: str) -> int:
        return self._graphs.insert(self._session(name))

    def _session(self, name: str) -> Session:
        """The session of a model that the agent may use; kept until the agent ends, so that it is loaded once.

        Raises:
            FleetError: CALL_DENIED, NOT_FOUND, and what loading raises.
        """
        session = self._loaded.get(name)
        if session is not None:
            return session
        by_name = self._allows(name)
        model = self._models.get(name)
        if not by_name and (model is None or not self._allows(model.digest)):
            raise FleetError(Code.CALL_DENIED, "the grant does not include this model")
        if model is None:
            raise FleetError(Code.NOT_FOUND, "the bundle has no model of this name")
        session = _SESSIONS.open(model)
        self._loaded[name] = session
        return session

    def _allows(self, model: str) -> bool:
        return self._authority.allows("wasi:nn/graph", model=model, device="cpu")

    def _new_context(self, graph: int) -> int:
        return self._contexts.insert(self._graphs.get(graph))

    def _compute(self, context: int, inputs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        # The guest has given its tensors away: they go, whatever happens next.
        tensors = [(name, self._tensors.take(handle)) for name, handle in inputs]
        self._rate.count()
        outputs = self._contexts.get(context).run(tensors)
        if not self._tensors.has_room(len(outputs), sum(len(tensor.data) for _, tensor in outputs)):
            raise FleetError(
                Code.LIMIT_EXCEEDED, f"the agent's tensors may have {MAX_TENSOR_BYTES} bytes; drop those no longer used"
            )
        return [(name, self._tensors.insert(tensor, len(tensor.data))) for name, tensor in outputs]


class _Rate:
    """Inferences per second, as the grant bounds them; counted in whole seconds of the monotonic clock."""

    def __init__(self, context: AgentContext) -> None:
        self._clock = context.clock
        self._most = context.authority.maximum("wasi:nn/inference", "max_rps")
        self._second = 0
        self._count = 0

    def count(self) -> None:
        """Count one inference.

        Raises:
            FleetError: CALL_DENIED when it is one too many, or the agent may not infer at all.
        """
        if self._most is None:
            return
        second = self._clock.monotonic_ns() // _SECOND_NS
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > self._most:
            raise FleetError(Code.CALL_DENIED, f"the grant allows {self._most} inferences per second")
