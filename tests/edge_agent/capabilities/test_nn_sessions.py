"""Sessions of wasi:nn: shared, placed, counted, and swapped under a running agent."""

from __future__ import annotations

import gc
import struct
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_agent.capabilities import nn, nn_session
from edge_agent.capabilities.base import EndAgentError
from edge_agent.capabilities.nn_session import MAX_SESSIONS, Session, Sessions, Wish
from edge_agent.capabilities.nn_tensor import DTYPES, ONNX_NAMES, Tensor, TensorType
from edge_agent.config import Settings
from edge_agent.inference import CPU_PROVIDER, MOST_DEFAULT_THREADS, Device, Inference, Placement, Provider
from edge_agent.runtime import ModelFile
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Ok
from tests.fakes.agents import Node
from tests.fakes.inference import GRANT, Guest, model_file
from tests.fakes.onnx_models import ElementType, chain, one_operator

NEGATE = one_operator("Neg", ElementType.FP32, [1])
DOUBLE = chain(1)
BROKEN_GPU = Provider("CoreMLExecutionProvider")
CPU = Placement(Device.CPU, CPU_PROVIDER)


def never() -> None:
    """Let every call go on."""


def wish(model: ModelFile, *devices: Device, inference: Inference | None = None) -> Wish:
    return Wish(model, devices or (Device.CPU,), inference or Inference())


def negated(guest: Guest, context: int, value: float) -> float:
    ((_, handle),) = guest.compute(context, [("x", guest.floats([value], 1))]).value
    return struct.unpack("<f", guest.data(handle))[0]


def many(folder: Path, count: int) -> list[ModelFile]:
    """Models that differ."""
    return [
        model_file(folder, one_operator("Neg", ElementType.FP32, [1 + number]), f"{number}.onnx")
        for number in range(count)
    ]


def test_agents_share_a_session_as_long_as_one_holds_it(tmp_path: Path) -> None:
    sessions, model = Sessions(), model_file(tmp_path, NEGATE)
    found: list[Session] = []
    threads = [
        threading.Thread(target=lambda holder=holder: found.append(sessions.open(wish(model), holder, never)))
        for holder in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert found[0].digest == model.digest
    found.clear()
    for holder in range(4):
        assert sessions._open
        sessions.release(holder)
    assert not sessions._open


def test_a_shared_session_runs_in_many_threads(tmp_path: Path) -> None:
    model = model_file(tmp_path, one_operator("Neg", ElementType.I32, ["n"]))
    session = Sessions().open(wish(model, inference=Inference(threads=2)), "agent", never)
    wrong: list[object] = []

    def work(number: int) -> None:
        data = np.full(1000, number, "<i4")
        for _ in range(50):
            ((_, tensor),) = session.run([("x", Tensor((1000,), TensorType.I32, data.tobytes()))], never)
            if tensor.data != (-data).tobytes():
                wrong.append(tensor)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_models_that_nobody_has_a_handle_of_give_way(tmp_path: Path) -> None:
    sessions, models = Sessions(), many(tmp_path, MAX_SESSIONS + 1)
    held = sessions.open(wish(models[0]), "agent", never)
    for model in models[1:]:
        sessions.open(wish(model), "agent", never)
    gc.collect()
    open_now = {digest for digest, _ in sessions._open}
    assert len(open_now) == MAX_SESSIONS
    assert held.digest in open_now, "it is in use"
    assert models[1].digest not in open_now, "asked for longest ago"
    assert sessions.open(wish(models[0]), "other", never) is held


def test_too_many_models_in_use_are_refused(tmp_path: Path) -> None:
    sessions, models = Sessions(), many(tmp_path, MAX_SESSIONS + 1)
    held = [sessions.open(wish(model), "agent", never) for model in models[:-1]]
    with pytest.raises(FleetError) as refused:
        sessions.open(wish(models[-1]), "agent", never)
    assert refused.value.code is Code.LIMIT_EXCEEDED
    held.clear()
    sessions.release("agent")
    assert sessions.open(wish(models[-1]), "agent", never).digest == models[-1].digest


def test_the_bytes_of_models_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn_session, "MAX_SESSIONS_BYTES", 2 * len(NEGATE) + 20)
    sessions, models = Sessions(), many(tmp_path, 3)
    held = [sessions.open(wish(model), "agent", never) for model in models[:2]]
    with pytest.raises(FleetError) as refused:
        sessions.open(wish(models[2]), "agent", never)
    assert refused.value.code is Code.LIMIT_EXCEEDED
    assert held


def test_who_waits_for_the_loading_of_another_has_a_deadline_too(tmp_path: Path) -> None:
    sessions, model = Sessions(), model_file(tmp_path, NEGATE)
    sessions._lock.acquire()
    with pytest.raises(EndAgentError) as ended:
        sessions.open(wish(model), "agent", lambda: EndAgentError(ExitCause.DEADLINE, "late"))
    assert ended.value.cause is ExitCause.DEADLINE
    sessions._lock.release()
    assert sessions.open(wish(model), "agent", never).placement == CPU


# --- devices: this machine has no other than its processor ---


def test_a_device_that_is_not_there_is_reported_with_what_is(node: Node, tmp_path: Path) -> None:
    grant = {**GRANT, "wasi:nn/graph": [{"models": ["*"], "devices": ["tpu", "gpu"]}]}
    guest = Guest(node, {"m": model_file(tmp_path, NEGATE)}, grant, inference=Inference(gpu=(), tpu=()))
    code, text = guest.fault(guest.load_by_name("m"))
    assert code == "unsupported-operation"
    assert "no gpu or tpu" in text
    assert ", ".join(onnxruntime.get_available_providers()) in text
    assert node.lines == []


def test_the_processor_stands_in_where_the_node_allows_it(node: Node, tmp_path: Path) -> None:
    grant = {**GRANT, "wasi:nn/graph": [{"models": ["*"], "devices": ["gpu"]}]}
    settings = Inference(gpu=(), cpu_fallback=True)
    guest = Guest(node, {"m": model_file(tmp_path, NEGATE)}, grant, inference=settings)
    for _ in range(2):
        assert negated(guest, guest.context(), 2.0) == -2.0
    ((level, text),) = [(line.level, line.message) for line in node.lines]
    assert level == "warn"
    assert text == "model m runs on cpu by CPUExecutionProvider: this node has no gpu for it"


def test_the_log_says_where_a_model_runs(node: Node, tmp_path: Path) -> None:
    grant = {**GRANT, "wasi:nn/graph": [{"models": ["*"], "devices": ["cpu", "gpu"]}]}
    guest = Guest(node, {"m": model_file(tmp_path, NEGATE)}, grant, inference=Inference(gpu=()))
    guest.context()
    ((level, text),) = [(line.level, line.message) for line in node.lines]
    assert (level, text) == ("info", "model m runs on cpu by CPUExecutionProvider")


@pytest.mark.filterwarnings("ignore:Specified provider")  # this ONNX Runtime knows that it has none
def test_a_provider_without_its_device_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that ONNX Runtime lists and cannot start: what a CUDA build does on a machine without a driver."""
    there = [BROKEN_GPU.name, CPU_PROVIDER.name]
    monkeypatch.setattr(nn_session.onnxruntime, "get_available_providers", lambda: there)
    model, settings = model_file(tmp_path, NEGATE), Inference(gpu=(BROKEN_GPU,))
    with pytest.raises(FleetError) as refused:
        Sessions().open(wish(model, Device.GPU, inference=settings), "agent", never)
    assert refused.value.code is Code.DEVICE_UNAVAILABLE
    assert BROKEN_GPU.name in refused.value.private
    session = Sessions().open(wish(model, Device.GPU, Device.CPU, inference=settings), "agent", never)
    assert session.placement == CPU


def test_the_guest_asks_for_a_device_with_the_model_itself(node: Node, tmp_path: Path) -> None:
    grant = {**GRANT, "wasi:nn/graph": [{"models": ["*"], "devices": ["cpu", "gpu"]}]}
    guest = Guest(node, {"m": model_file(tmp_path, NEGATE)}, grant, inference=Inference(gpu=()))
    for encoding in ("onnx", "autodetect"):
        graph = guest.load([NEGATE], encoding, "cpu")
        assert isinstance(graph, Ok)
        assert negated(guest, guest.new_context(graph.value).value, 3.0) == -3.0
    assert guest.fault(guest.load([NEGATE], "onnx", "gpu"))[0] == "unsupported-operation"
    assert guest.fault(guest.load([NEGATE], "onnx", "tpu"))[0] == "security"
    assert guest.fault(guest.load([NEGATE], "openvino", "cpu"))[0] == "invalid-encoding"
    for builder in ([], [NEGATE, NEGATE], [DOUBLE]):
        assert guest.fault(guest.load(builder, "onnx", "cpu"))[0] == "security"


# --- a new model for a running agent: a new instance takes over, with models of its own ---


def test_a_model_is_swapped_under_a_running_agent(node: Node, tmp_path: Path) -> None:
    old, new = model_file(tmp_path, NEGATE, "old.onnx"), model_file(tmp_path, DOUBLE, "new.onnx")
    before = Guest(node, {"m": old})
    graph = before.load_by_name("m").value
    running = before.new_context(graph).value
    after = Guest(node, {"m": new})
    context = after.context()
    assert (negated(before, running, 4.0), negated(after, context, 4.0)) == (-4.0, 8.0)
    assert negated(before, before.new_context(graph).value, 4.0) == -4.0, "a graph that is loaded stays what it is"

    def is_open(model: ModelFile) -> bool:
        gc.collect()
        return any(digest == model.digest for digest, _ in nn._SESSIONS._open)

    before.agent.close()
    assert is_open(old), "its contexts still hold it"
    del before, running
    assert not is_open(old)
    assert is_open(new)
    assert negated(after, context, 5.0) == 10.0


def test_threads_are_those_of_the_settings_and_none_spins(tmp_path: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    model = model_file(tmp_path, one_operator("MatMul", ElementType.FP32, [64, 64], inputs=("a", "b")))
    warm = Sessions().open(wish(model, inference=Inference(threads=1)), "agent", never)
    before = threads()
    alone = Sessions().open(wish(model, inference=Inference(threads=1)), "agent", never)
    assert threads() == before, "the calling thread does it all"
    three = Sessions().open(wish(model, inference=Inference(threads=3)), "agent", never)
    assert threads() - before <= 2
    options = nn_session._options(Inference())
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads <= MOST_DEFAULT_THREADS
    assert {warm.digest, alone.digest, three.digest} == {model.digest}


def test_the_document_says_what_is_built() -> None:
    document = (Path(__file__).parents[3] / "docs/inference.md").read_text()
    rows = [
        tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in document.splitlines() if "|" in line
    ]
    for onnx_name, kind in ONNX_NAMES.items():
        assert (kind.value, onnx_name, str(DTYPES[kind].itemsize)) in rows
    limits = {
        "bytes of a model file": nn_session.MAX_MODEL_BYTES,
        "models in use by one runner": MAX_SESSIONS,
        "bytes of the model files in use by one runner": nn_session.MAX_SESSIONS_BYTES,
        "tensors of an agent": nn.MAX_TENSORS,
        "bytes of the tensors of an agent": nn.MAX_TENSOR_BYTES,
        "dimensions of a tensor": nn.MAX_RANK,
        "graphs, and execution contexts, of an agent": nn.MAX_GRAPHS,
    }
    for name, limit in limits.items():
        assert (name, str(limit)) in rows
    settings = {row[0]: row[1] for row in rows if row[0].startswith("inference_")}
    defaults = Settings(Path("/"))
    assert settings == {
        field.name: str(getattr(defaults, field.name)).replace("False", "false")
        for field in fields(Settings)
        if field.name.startswith("inference_")
    }
