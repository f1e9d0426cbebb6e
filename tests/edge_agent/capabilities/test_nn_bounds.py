"""Models that take too long or too much: the call ends, the process does not."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.capabilities.base import EndAgentError
from edge_agent.capabilities.nn_tensor import Tensor, TensorType
from edge_agent.inference import MIN_MEMORY, Inference
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node
from tests.fakes.inference import Guest, model_file
from tests.fakes.onnx_models import ElementType, chain, loop, made_up, one_operator, outside

SIDE = 32
ENDLESS = 1 << 40
SMALL = Inference(memory_bytes=MIN_MEMORY)
FILL = one_operator("ConstantOfShape", ElementType.I64, ["n"], result=ElementType.FP32)
OUTER = one_operator("Add", ElementType.FP32, ["n", "m"], inputs=("a", "b"))


def after(seconds: float, cause: ExitCause = ExitCause.DEADLINE) -> Callable[[], EndAgentError | None]:
    until = time.monotonic() + seconds
    return lambda: EndAgentError(cause, "late") if time.monotonic() >= until else None


def times(guest: Guest, count: int) -> list[tuple[str, int]]:
    """Inputs of `loop`."""
    number = guest.new_tensor([1], "I64", struct.pack("<q", count))
    return [("n", number), ("x", guest.new_tensor([SIDE, SIDE], "FP32", bytes(SIDE * SIDE * 4)))]


@pytest.mark.parametrize("cause", [ExitCause.DEADLINE, ExitCause.STOPPED])
def test_an_inference_ends_with_its_call(node: Node, tmp_path: Path, cause: ExitCause) -> None:
    models = {"m": model_file(tmp_path, loop(SIDE))}
    guest = Guest(node, models, overdue=after(0.3, cause))
    context = guest.context()
    began = time.monotonic()
    with pytest.raises(EndAgentError) as ended:
        guest.compute(context, times(guest, ENDLESS))
    assert ended.value.cause is cause
    assert time.monotonic() - began < 60
    other = Guest(node, models)
    ((_, found),) = other.compute(other.context(), times(other, 3)).value
    assert other.dimensions(found) == [SIDE, SIDE], "the shared session works on"


def test_loading_ends_with_its_call(node: Node, tmp_path: Path) -> None:
    models = {"m": model_file(tmp_path, chain(100_000))}
    guest = Guest(node, models, overdue=after(0.05))
    began = time.monotonic()
    with pytest.raises(EndAgentError) as ended:
        guest.load_by_name("m")
    assert ended.value.cause is ExitCause.DEADLINE
    assert time.monotonic() - began < 60


def shape(guest: Guest, size: int) -> list[tuple[str, int]]:
    return [("x", guest.new_tensor([1], "I64", struct.pack("<q", size)))]


@pytest.mark.parametrize("size", [MIN_MEMORY, 1 << 34, 1 << 61, (1 << 63) - 1])
def test_memory_beyond_the_bound_is_an_error_value(node: Node, tmp_path: Path, size: int) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, FILL)}, inference=SMALL)
    context = guest.context()
    before = peak_kib()
    code, text = guest.fault(guest.compute(context, shape(guest, size)))
    assert code in ("too-large", "runtime-error")
    assert text
    assert peak_kib() - before < MIN_MEMORY // 1024
    ((_, found),) = guest.compute(context, shape(guest, 4)).value
    assert guest.data(found) == bytes(16), "the context works on"


def test_what_is_computed_in_between_counts(node: Node, tmp_path: Path) -> None:
    guest = Guest(node, {"m": model_file(tmp_path, OUTER)}, inference=SMALL)
    side = 4096
    inputs = [("a", guest.floats([0.0] * side, side, 1)), ("b", guest.floats([0.0] * side, 1, side))]
    code, text = guest.fault(guest.compute(guest.context(), inputs))
    assert (code, f"{MIN_MEMORY} bytes" in text) == ("too-large", True)


def test_a_bound_is_shared_by_all_that_is_held(node: Node, tmp_path: Path) -> None:
    """Outputs that a guest keeps are memory of ONNX Runtime, and count."""
    guest = Guest(node, {"m": model_file(tmp_path, FILL)}, inference=SMALL)
    context = guest.context()
    kept = [guest.compute(context, shape(guest, 1 << 18)) for _ in range(MIN_MEMORY // (1 << 20) + 1)]
    full = [answer for answer in kept if isinstance(answer, Err)]
    assert full
    assert guest.fault(full[0])[0] == "too-large"
    for answer in kept:
        if isinstance(answer, Ok):
            for _, handle in answer.value:
                guest.drop["tensor"](handle)
    ((_, found),) = guest.compute(context, shape(guest, 1 << 18)).value
    assert len(guest.data(found)) == 1 << 20


@pytest.mark.parametrize("place", ["/etc/passwd", "../../../../../etc/passwd", "secret.bin", "./secret.bin", ""])
def test_nothing_is_read_but_the_model(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secretsecretsecret")
    monkeypatch.chdir(tmp_path)
    guest = Guest(node, {"m": model_file(tmp_path, outside(place))})
    code, text = guest.fault(guest.load_by_name("m"))
    assert code == "unsupported-operation"
    assert "secretsecret" not in text


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


HOSTILE = """
import resource
from pathlib import Path
from edge_agent.capabilities.nn_session import Session
from edge_agent.inference import CPU_PROVIDER, MIN_MEMORY, Device, Inference, Placement
from fleet.errors import FleetError
import sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
try:
    data = Path(sys.argv[1]).read_bytes()
    settings = Inference(memory_bytes=MIN_MEMORY)
    session = Session(data, "sha256:0", Placement(Device.CPU, CPU_PROVIDER), settings, lambda: None)
    session.run([], lambda: None)
    print("ran")
except FleetError as error:
    print(error.code)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_weights_that_a_model_makes_up_are_bounded(tmp_path: Path) -> None:
    """A model of some bytes whose constants have gigabytes, when they are worked out while it is loaded."""

    path = tmp_path / "model.onnx"
    for size in (1 << 30, 1 << 36):
        path.write_bytes(made_up(size))
        ran = subprocess.run(
            [sys.executable, "-c", HOSTILE, str(path)], check=True, timeout=90, capture_output=True, text=True
        )
        outcome, peak = ran.stdout.split()
        assert outcome in ("LIMIT_EXCEEDED", "MODEL_INVALID")
        assert int(peak) < 1_000_000


@pytest.mark.parametrize("kind", TensorType)
@pytest.mark.parametrize(("given", "found"), [((), (1,)), ((1,), (1,)), ((0,), (0,)), ((2, 0, 3), (2, 0, 3))])
def test_single_values_and_empty_tensors(
    node: Node, tmp_path: Path, kind: TensorType, given: tuple[int, ...], found: tuple[int, ...]
) -> None:
    dimensions = ["n"] * len(given) if 0 in given else []
    model = one_operator("Identity", ElementType[kind.name], dimensions)
    guest = Guest(node, {"m": model_file(tmp_path, model)})
    size = 0 if 0 in given else {"FP16": 2, "BF16": 2, "FP32": 4, "I32": 4, "U8": 1}.get(kind, 8)
    data = bytes(range(1, size + 1))
    assert guest.run(guest.context(), {"x": Tensor(given, kind, data)}) == {"y": Tensor(found, kind, data)}
