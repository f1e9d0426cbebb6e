"""Cost of wasi:nn inference against a direct ONNX Runtime call with the same session options.

    python -m bench.nn

One inference is: make the input tensor, compute, read the output, drop it. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from bench.measure import compare
from edge_agent.capabilities import nn
from edge_agent.capabilities.base import AgentContext
from fleet.grants import Authority
from fleet.grants.rules import Rule
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


def guest(path: Path) -> tuple[dict[str, Callable], Callable[[int], None]]:
    """Functions of an agent that may use the model, and the destructor of tensors."""
    everything = {f"wasi:nn/{name}": (Rule({}),) for name in ("graph", "tensor", "inference")}
    context = AgentContext(
        "app/agent", "app", Authority(everything), {}, Path("none"), {"m": path}, lambda _line: None, time
    )
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
    calls, drop = guest(path)
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


def main(scratch: Path) -> None:
    for case in CASES:
        measure(scratch, *case)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
