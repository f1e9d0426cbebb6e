"""Cost of wasi:nn inference against a direct ONNX Runtime call with the same session options.

    python -m bench.nn

Rows "by a guest" call through a component, so they hold what it costs to cross into the guest and back; the others
call the host functions. One inference is: make the input tensor, compute, read the output, drop it. Prints rows
(`bench.measure`).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from bench import guests
from bench.measure import compare
from edge_agent.capabilities import nn
from edge_agent.capabilities.base import AgentContext
from edge_agent.runtime import ModelFile
from fleet.grants import Authority
from fleet.grants.rules import Rule
from fleet.oci import digest_of
from tests.fakes.onnx_models import ElementType, one_operator

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = (
    ("relu 1x8", "Relu", [1, 8], 3000),
    ("relu 224x224x3", "Relu", [1, 3, 224, 224], 300),
    ("softmax 224x224x3", "Softmax", [1, 3, 224, 224], 200),
    ("erf 4 MiB", "Erf", [1024, 1024], 100),
    ("matmul 256x256", "MatMul", [256, 256], 300),
    ("matmul 768x768", "MatMul", [768, 768], 60),
)
BY_GUEST = (("Relu", 8, 300), ("MatMul", 256, 20), ("MatMul", 768, 5))


def granted(model: ModelFile) -> AgentContext:
    """What an agent that may use the model works with."""
    everything = {f"wasi:nn/{name}": (Rule({}),) for name in ("graph", "tensor", "inference", "errors")}
    return AgentContext(
        "app/agent",
        "app",
        Authority(everything),
        {},
        Path("none"),
        {"m": model},
        lambda _line: None,
        time,
        lambda _: None,
        os.urandom,
    )


def functions(context: AgentContext) -> tuple[dict[str, Callable[..., Any]], Callable[[int], None]]:
    """Host functions as plain callables, and the destructor of tensors."""
    offered = nn.interfaces(context)
    calls = {name: function.call for interface in offered for name, function in interface.functions.items()}
    (drop,) = (interface.resources["tensor"] for interface in offered if "tensor" in interface.resources)
    return calls, drop


def direct(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measure(scratch: Path, name: str, operator: str, dimensions: list[int], rounds: int) -> None:
    inputs = ("a", "b") if operator == "MatMul" else ("a",)
    model = one_operator(operator, ElementType.FP32, dimensions, inputs=inputs)
    path = scratch / f"{operator}-{'x'.join(map(str, dimensions))}.onnx"
    path.write_bytes(model)
    calls, drop = functions(granted(ModelFile(path, digest_of(model))))
    context = calls["[method]graph.init-execution-context"](calls["load-by-name"]("m").value).value
    session = direct(model)
    array = np.random.default_rng(1).standard_normal(dimensions, np.float32)
    data = array.tobytes()

    def ours(_i: int) -> bytes:
        given = [(name, calls["[constructor]tensor"](dimensions, "FP32", data)) for name in inputs]
        ((_, found),) = calls["[method]graph-execution-context.compute"](context, given).value
        result = calls["[method]tensor.data"](found)
        drop(found)
        return result

    def reference(_i: int) -> np.ndarray:
        return session.run(None, dict.fromkeys(inputs, array))[0]

    if not np.array_equal(np.frombuffer(ours(0), "<f4"), reference(0).ravel()):
        raise SystemExit(f"{name}: results differ")
    compare(name, ours, reference, rounds)


def measure_by_guest(scratch: Path, operator: str, side: int, rounds: int) -> None:
    """Run a model on squares from inside a component, against ONNX Runtime on the same zeros."""
    inputs = ("a", "b") if operator == "MatMul" else ("a",)
    model = one_operator(operator, ElementType.FP32, [side, side], inputs=inputs)
    path = scratch / f"{operator}-{side}.onnx"
    path.write_bytes(model)
    agent = guests.start(guests.NN, granted(ModelFile(path, digest_of(model))))
    session = direct(model)
    given = dict.fromkeys(inputs, np.zeros((side, side), np.float32))
    if agent.call("infer", side, len(inputs)) != side * side * 4:
        raise SystemExit(f"{operator} by a guest: no result")
    compare(
        f"{operator.lower()} {side}x{side}, by a guest",
        lambda _i: agent.call("infer", side, len(inputs)),
        lambda _i: session.run(None, given),
        rounds,
    )
    agent.close()


def main(scratch: Path) -> None:
    for case in CASES:
        measure(scratch, *case)
    for by_guest in BY_GUEST:
        measure_by_guest(scratch, *by_guest)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
