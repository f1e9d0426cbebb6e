"""wasi:nn: real models on ONNX Runtime, grants, and guests that send nonsense."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from onnxruntime.datasets import get_example

from edge_agent.capabilities import nn, nn_session
from edge_agent.capabilities.nn import MAX_ERRORS, MAX_GRAPHS, MAX_TENSOR_BYTES, MAX_TENSORS
from edge_agent.capabilities.nn_tensor import MAX_RANK, TensorType
from edge_agent.runtime import ModelFile
from fleet.errors import Code, FleetError
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node
from tests.fakes.inference import GRANT, MODEL_RULE, Guest, admitted, model_file
from tests.fakes.onnx_models import ElementType, one_operator

SIGMOID = admitted(Path(get_example("sigmoid.onnx")))


def test_sigmoid(node: Node) -> None:
    guest = Guest(node, {"m": SIGMOID})
    values = [i / 10 - 3 for i in range(60)]
    answer = guest.compute(guest.context(), [("x", guest.floats(values, 3, 4, 5))])
    ((name, tensor),) = answer.value
    assert (name, guest.dimensions(tensor), guest.ty(tensor)) == ("y", [3, 4, 5], "FP32")
    found = struct.unpack("<60f", guest.data(tensor))
    assert found == pytest.approx([1 / (1 + math.exp(-value)) for value in values], rel=1e-5)


@pytest.mark.parametrize("kind", TensorType)
def test_every_tensor_type_passes_bit_for_bit(node: Node, tmp_path: Path, kind: TensorType) -> None:
    path = model_file(tmp_path, one_operator("Identity", ElementType[kind.name], ["n", 2]))
    guest = Guest(node, {"m": path})
    size = {"FP16": 2, "BF16": 2, "FP32": 4, "I32": 4, "U8": 1}.get(kind, 8)
    data = bytes(range(6 * size))
    tensor = guest.new_tensor([3, 2], kind.value, data)
    assert (guest.dimensions(tensor), guest.ty(tensor), guest.data(tensor)) == ([3, 2], kind.value, data)
    ((_, found),) = guest.compute(guest.context(), [("x", tensor)]).value
    assert (guest.dimensions(found), guest.ty(found), guest.data(found)) == ([3, 2], kind.value, data)


def test_dimensions_that_vary(node: Node, tmp_path: Path) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, one_operator("Relu", ElementType.FP32, ["batch", 2]))})
    context = guest.context()
    for batch in (1, 5, 0):
        ((_, found),) = guest.compute(context, [("x", guest.floats([-1.0] * batch * 2, batch, 2))]).value
        assert guest.dimensions(found) == [batch, 2]
        assert guest.data(found) == bytes(8 * batch)


@pytest.mark.parametrize("dimensions", [[], [1]])
def test_single_value(node: Node, tmp_path: Path, dimensions: list[int]) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, one_operator("Neg", ElementType.FP32, []))})
    ((_, found),) = guest.compute(guest.context(), [("x", guest.floats([1.5], *dimensions))]).value
    assert (guest.dimensions(found), guest.data(found)) == ([1], struct.pack("<f", -1.5))


def test_inputs_go_by_name(node: Node, tmp_path: Path) -> None:
    path = model_file(tmp_path, one_operator("Sub", ElementType.FP32, [1], inputs=("a", "b")))
    guest = Guest(node, {"m": path})
    inputs = [("b", guest.floats([1.0], 1)), ("a", guest.floats([5.0], 1))]
    ((_, found),) = guest.compute(guest.context(), inputs).value
    assert guest.data(found) == struct.pack("<f", 4.0)


BAD_INPUTS = {
    "unknown name": ([("z", [6], "FP32", 24)], "inputs are"),
    "no input": ([], "inputs are"),
    "same input twice": ([("x", [3, 2], "FP32", 24)] * 2, "inputs are"),
    "extra input": ([("x", [3, 2], "FP32", 24), ("y", [3, 2], "FP32", 24)], "inputs are"),
    "other type": ([("x", [3, 2], "I32", 24)], "takes FP32"),
    "too little data": ([("x", [3, 2], "FP32", 23)], "24 bytes"),
    "too much data": ([("x", [3, 2], "FP32", 25)], "24 bytes"),
    "no data": ([("x", [3, 2], "FP32", 0)], "24 bytes"),
    "huge dimensions": ([("x", [0xFFFFFFFF] * MAX_RANK, "FP32", 24)], "bytes"),
    "other rank": ([("x", [6], "FP32", 24)], "dimensions [?, 2]"),
    "other size": ([("x", [2, 3], "FP32", 24)], "dimensions [?, 2]"),
    "no dimensions": ([("x", [], "FP32", 4)], "dimensions [?, 2]"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_are_error_values(node: Node, tmp_path: Path, case: str) -> None:
    tensors, words = BAD_INPUTS[case]
    guest = Guest(node, {"m": model_file(tmp_path, one_operator("Relu", ElementType.FP32, ["n", 2]))})
    context = guest.context()
    inputs = [(name, guest.new_tensor(dimensions, kind, bytes(size))) for name, dimensions, kind, size in tensors]
    code, text = guest.fault(guest.compute(context, inputs))
    assert code == "invalid-argument"
    assert words in text
    ((_, found),) = guest.compute(context, [("x", guest.floats([1.0, 2.0], 1, 2))]).value
    assert guest.data(found) == struct.pack("<2f", 1.0, 2.0), "the context works on"


def test_a_model_that_fails_while_running(node: Node, tmp_path: Path) -> None:
    model = one_operator("Add", ElementType.FP32, ["n"], inputs=("a", "b"))
    guest = Guest(node, {"m": model_file(tmp_path, model)})
    inputs = [("a", guest.floats([1.0] * 2, 2)), ("b", guest.floats([1.0] * 3, 3))]
    code, text = guest.fault(guest.compute(guest.context(), inputs))
    assert code == "runtime-error"
    assert text


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(b"junk", id="no model"),
        pytest.param(b"", id="empty"),
        pytest.param(one_operator("NoSuchOperator", ElementType.FP32, [1]), id="unknown operator"),
        pytest.param(one_operator("Identity", ElementType.BOOL, [1]), id="type without a name in wasi:nn"),
        pytest.param(Path(get_example("logreg_iris.onnx")).read_bytes(), id="output that is no tensor"),
    ],
)
def test_models_that_cannot_be_used(node: Node, tmp_path: Path, model: bytes) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, model)})
    assert guest.fault(guest.load_by_name("m"))[0] == "unsupported-operation"


def test_model_file_that_is_gone_or_too_large(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(node, {"gone": ModelFile(tmp_path / "gone", "sha256:" + "0" * 64), "m": SIGMOID})
    code, text = guest.fault(guest.load_by_name("gone"))
    assert code == "not-found"
    assert str(tmp_path) not in text
    monkeypatch.setattr(nn_session, "MAX_MODEL_BYTES", 100)
    assert guest.fault(guest.load_by_name("m"))[0] == "too-large"


def test_a_model_that_changed_since_admission_is_not_used(node: Node, tmp_path: Path) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, one_operator("Neg", ElementType.FP32, [1]))})
    model_file(tmp_path, one_operator("Abs", ElementType.FP32, [1]))
    code, text = guest.fault(guest.load_by_name("m"))
    assert code == "security"
    assert "admitted" in text
    assert str(tmp_path) not in text


def test_what_is_shared_is_what_each_agent_was_admitted_with(node: Node, tmp_path: Path) -> None:
    def run(guest: Guest) -> bytes:
        ((_, found),) = guest.compute(guest.context(), [("x", guest.floats([-2.0], 1))]).value
        return guest.data(found)

    before = model_file(tmp_path, one_operator("Identity", ElementType.FP32, [1]))
    first = Guest(node, {"m": before})
    assert run(first) == struct.pack("<f", -2.0)
    after = model_file(tmp_path, one_operator("Neg", ElementType.FP32, [1]))
    assert run(Guest(node, {"m": after})) == struct.pack("<f", 2.0), "the same file, other bytes"
    assert run(Guest(node, {"m": before})) == struct.pack("<f", -2.0), "the first agent still holds what was admitted"


def test_a_model_that_is_right_again_can_be_loaded(node: Node, tmp_path: Path) -> None:
    right = one_operator("Neg", ElementType.FP32, [1])
    model = model_file(tmp_path, right)
    guest = Guest(node, {"m": model})
    model.path.write_bytes(right[:-1] + b"!")
    assert guest.fault(guest.load_by_name("m"))[0] == "security"
    model.path.write_bytes(right)
    assert isinstance(guest.load_by_name("m"), Ok)


def test_a_model_of_the_guest_is_refused(node: Node) -> None:
    guest = Guest(node)
    model = SIGMOID.path.read_bytes()
    code, text = guest.fault(guest.load([model], "onnx", "cpu"))
    assert code == "security"
    assert "load-by-name" in text


@pytest.mark.parametrize(
    ("models", "asked", "code"),
    [
        (["m"], "m", None),
        (["*"], "m", None),
        ([SIGMOID.digest], "m", None),
        (["other"], "m", "security"),
        (["sha256:" + "0" * 64], "m", "security"),
        (["other"], "absent", "security"),
        (["*"], "absent", "not-found"),
    ],
)
def test_grants_name_models(node: Node, models: list[str], asked: str, code: str | None) -> None:
    capabilities = {**GRANT, "wasi:nn/graph": [{"models": models, "devices": ["cpu"]}]}
    guest = Guest(node, {"m": SIGMOID}, capabilities)
    answer = guest.load_by_name(asked)
    assert isinstance(answer, Ok) if code is None else guest.fault(answer)[0] == code


def test_nothing_works_without_a_grant(node: Node) -> None:
    guest = Guest(node, {"m": SIGMOID}, {})
    assert guest.fault(guest.load_by_name("m"))[0] == "security"
    with pytest.raises(FleetError) as refused:
        guest.floats([1.0], 1)
    assert refused.value.code is Code.CALL_DENIED
    only_load = Guest(node, {"m": SIGMOID}, {"wasi:nn/graph": [MODEL_RULE]})
    assert only_load.fault(only_load.compute(only_load.context(), []))[0] == "security"


def test_inferences_per_second_are_bounded(node: Node) -> None:
    guest = Guest(node, {"m": SIGMOID}, {**GRANT, "wasi:nn/inference": [{"max_rps": 2}]})
    context = guest.context()

    def compute() -> object:
        return guest.compute(context, [("x", guest.floats([0.0] * 60, 3, 4, 5))])

    assert isinstance(compute(), Ok)
    assert isinstance(compute(), Ok)
    assert guest.fault(compute())[0] == "security"
    node.clock.advance(1)
    assert isinstance(compute(), Ok)


def test_tensors_are_bounded_in_number_bytes_and_rank(node: Node) -> None:
    for tensors in (
        [([], 0)] * (MAX_TENSORS + 1),
        [([1], MAX_TENSOR_BYTES), ([1], 1)],
        [([1] * (MAX_RANK + 1), 1)],
    ):
        guest = Guest(node)
        *fitting, (dimensions, size) = tensors
        for fitting_dimensions, fitting_size in fitting:
            guest.new_tensor(fitting_dimensions, "U8", bytes(fitting_size))
        with pytest.raises(FleetError) as refused:
            guest.new_tensor(dimensions, "U8", bytes(size))
        assert refused.value.code is Code.LIMIT_EXCEEDED


def test_an_output_beyond_the_limit_is_an_error_value(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn, "MAX_TENSOR_BYTES", 32)
    model = one_operator("Add", ElementType.FP32, ["n", "m"], inputs=("a", "b"))
    guest = Guest(node, {"m": model_file(tmp_path, model)})
    inputs = [("a", guest.floats([1.0] * 4, 4, 1)), ("b", guest.floats([1.0] * 4, 1, 4))]
    assert guest.fault(guest.compute(guest.context(), inputs))[0] == "too-large"


def test_tensors_given_to_compute_are_gone(node: Node) -> None:
    guest = Guest(node, {"m": SIGMOID})
    context = guest.context()
    for _ in range(MAX_TENSORS + 1):
        refused = guest.compute(context, [("wrong", guest.floats([1.0], 1))])
        assert guest.fault(refused)[0] == "invalid-argument"
        guest.drop["error"](refused.value)
    tensor = guest.floats([0.0] * 60, 3, 4, 5)
    guest.compute(context, [("x", tensor)])
    with pytest.raises(KeyError):
        guest.data(tensor)


def test_graphs_contexts_and_errors_are_bounded(node: Node) -> None:
    guest = Guest(node, {"m": SIGMOID})
    graphs = [guest.load_by_name("m").value for _ in range(MAX_GRAPHS)]
    assert guest.fault(guest.load_by_name("m"))[0] == "too-large"
    contexts = [guest.new_context(graphs[0]).value for _ in range(MAX_GRAPHS)]
    assert guest.fault(guest.new_context(graphs[0]))[0] == "too-large"
    guest.drop["graph"](graphs[0])
    guest.drop["graph-execution-context"](contexts[0])
    assert isinstance(guest.new_context(guest.load_by_name("m").value), Ok)
    hoarder = Guest(node)
    for _ in range(MAX_ERRORS):
        assert isinstance(hoarder.load_by_name("m"), Err)
    with pytest.raises(FleetError) as refused:
        hoarder.load_by_name("m")
    assert refused.value.code is Code.LIMIT_EXCEEDED


def test_onnxruntime_is_loaded_only_for_agents_that_import_wasi_nn() -> None:
    program = """
import sys
from pathlib import Path
from edge_agent.capabilities import SERVED, interfaces_for
from tests.fakes.agents import Node
context = Node(Path("none")).agent({})
interfaces_for([name for name in SERVED if "wasi:nn" not in name], context)
before = {"onnxruntime", "numpy"} & set(sys.modules)
interfaces_for(["wasi:nn/graph@0.2.0-rc-2024-10-28"], context)
sys.exit(0 if not before and "onnxruntime" in sys.modules else 1)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
