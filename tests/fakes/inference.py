"""What tests of `wasi:nn` share: an agent's view of the package, and models as the node admits them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.capabilities import nn
from edge_agent.capabilities.nn_tensor import Tensor, TensorType
from edge_agent.runtime import ModelFile
from fleet.oci import digest_of
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Capabilities, Node, functions

MODEL_RULE = {"models": ["*"], "devices": ["cpu"]}
GRANT: Capabilities = {"wasi:nn/graph": [MODEL_RULE], "wasi:nn/tensor": [{}], "wasi:nn/inference": [{}]}


class Guest:
    """An agent's view of the package; `changes` are fields of its context."""

    def __init__(
        self,
        node: Node,
        models: Mapping[str, ModelFile] | None = None,
        capabilities: Capabilities | None = None,
        **changes: Any,
    ) -> None:
        agent = node.agent(GRANT if capabilities is None else capabilities, models=models)
        self.agent = replace(agent, **changes)
        offered = nn.interfaces(self.agent)
        self.drop = {name: drop for interface in offered for name, drop in interface.resources.items()}
        calls: dict[str, Callable[..., Any]] = {}
        for name in (nn.TENSOR, nn.GRAPH, nn.INFERENCE, nn.ERRORS):
            calls |= functions(offered, name)
        self.new_tensor = calls["[constructor]tensor"]
        self.dimensions = calls["[method]tensor.dimensions"]
        self.ty = calls["[method]tensor.ty"]
        self.data = calls["[method]tensor.data"]
        self.load = calls["load"]
        self.load_by_name = calls["load-by-name"]
        self.new_context = calls["[method]graph.init-execution-context"]
        self.compute = calls["[method]graph-execution-context.compute"]
        self.code = calls["[method]error.code"]
        self.error_data = calls["[method]error.data"]

    def context(self, model: str = "m") -> int:
        graph = self.load_by_name(model)
        assert isinstance(graph, Ok), self.fault(graph)
        return self.new_context(graph.value).value

    def run(self, context: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the tensors, compute, and read what comes out."""
        answer = self.compute(context, self.tensors(inputs))
        assert isinstance(answer, Ok), self.fault(answer)
        return {name: self.tensor(handle) for name, handle in answer.value}

    def tensors(self, inputs: Mapping[str, Tensor]) -> list[tuple[str, int]]:
        """Make the tensors of an inference."""
        return [
            (name, self.new_tensor(list(tensor.dimensions), tensor.type.value, tensor.data))
            for name, tensor in inputs.items()
        ]

    def tensor(self, handle: int) -> Tensor:
        """Read a tensor and drop it."""
        kind = TensorType(self.ty(handle))
        found = Tensor(tuple(self.dimensions(handle)), kind, bytes(self.data(handle)))
        self.drop["tensor"](handle)
        return found

    def floats(self, values: Sequence[float], *dimensions: int) -> int:
        return self.new_tensor(list(dimensions), "FP32", struct.pack(f"<{len(values)}f", *values))

    def fault(self, answer: object) -> tuple[str, str]:
        assert isinstance(answer, Err), answer
        return self.code(answer.value), self.error_data(answer.value)


def admitted(path: Path) -> ModelFile:
    return ModelFile(path, digest_of(path.read_bytes()))


def model_file(folder: Path, model: bytes, name: str = "model.onnx") -> ModelFile:
    path = folder / name
    path.write_bytes(model)
    return admitted(path)
