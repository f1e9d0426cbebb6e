"""The backend tests of the `onnx` package through wasi:nn: tensors, load-by-name, compute, data.

Each case gives what the standard asks for; or has a type that wasi:nn cannot express, and then is refused with an
error value; or ONNX Runtime itself, called directly, does not do what the standard asks for. The last are listed in
`onnxruntime_gaps.txt`, which has to be exact: a gap that is new, or gone, fails the suite. Nothing may fail for reasons
of ours.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from fleet.wit_types import Err
from tests.conformance.onnx_cases import FOLDERS, Case, file_cases, light_cases, node_cases, to_array, to_tensor
from tests.fakes.agents import Node
from tests.fakes.inference import Guest, model_file

pytestmark = pytest.mark.slow

SUITES = {
    **{folder: partial(file_cases, folder) for folder in FOLDERS},
    "light": light_cases,
    "node": node_cases,
}
LEAST_PASSED = {"simple": 5, "pytorch-operator": 20, "pytorch-converted": 50, "light": 9, "node": 1300}
"""A suite that finds no cases proves nothing."""

GAPS_FILE = Path(__file__).parent / "onnxruntime_gaps.txt"
_BFLOAT16 = 16


def gaps() -> dict[str, str]:
    """Case -> what ONNX Runtime does instead."""
    lines = [line for line in GAPS_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("suite", SUITES)
def test_backend_cases(suite: str, tmp_path: Path, counts: dict[str, Counter[str]]) -> None:
    found_gaps, failures = {}, []
    outcomes = counts.setdefault(suite, Counter())
    for case in SUITES[suite]():
        direct = "" if case.strange else gap(case)
        ours = through_wasi_nn(case, tmp_path)
        if case.strange:
            outcomes["of a type that wasi:nn has not"] += 1
            if ours != "refused":
                failures.append(f"{case.name} has {case.strange} and was {ours or 'passed'}")
        elif direct:
            outcomes["that ONNX Runtime does not pass"] += 1
            found_gaps[case.name] = direct
            if not ours:
                failures.append(f"{case.name} passes here, and not on ONNX Runtime itself")
        elif ours:
            failures.append(f"{case.name}: {ours}")
        else:
            outcomes["passed"] += 1
    assert failures == []
    listed = {name: reason for name, reason in gaps().items() if name.startswith(f"{suite}/")}
    for name, reason in listed.items():
        if reason == "other values" and name not in found_gaps:
            found_gaps[name] = reason  # rounding differs between processors
    assert found_gaps == listed
    assert outcomes["passed"] >= LEAST_PASSED[suite]


def through_wasi_nn(case: Case, folder: Path) -> str:
    """Run a case as an agent does; empty where it gives what the standard asks for."""
    node = Node(folder / "state")
    guest = Guest(node, {"m": model_file(folder, case.model.SerializeToString())})
    try:
        graph = guest.load_by_name("m")
        if isinstance(graph, Err):
            code, text = guest.fault(graph)
            return "refused" if code == "unsupported-operation" else f"{code}: {text}"
        context = guest.new_context(graph.value).value
        for given, expected in case.data:
            inputs = {name: to_tensor(array) for name, array in _present(case.inputs, given)}
            answer = guest.compute(context, guest.tensors(inputs))
            if isinstance(answer, Err):
                return ": ".join(guest.fault(answer))
            arrays = [
                to_array(guest.tensor(handle), array)
                for (_, handle), array in zip(answer.value, expected, strict=True)
                if array is not None
            ]
            if not case.is_close(arrays, expected):
                return "other values"
        return ""
    finally:
        node.close()
        guest.agent.close()


def gap(case: Case) -> str:
    """Run a case on ONNX Runtime itself; empty where it gives what the standard asks for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own have no common base
        return "no operator" if "implementation" in str(error) or "registered" in str(error) else "does not load"
    for given, expected in case.data:
        values = {name: _value(array) for name, array in _present(case.inputs, given)}
        try:
            found = session.run_with_ort_values(None, values)
        except Exception:  # noqa: BLE001 - as above
            return "fails"
        arrays = [_array(value, array) for value, array in zip(found, expected, strict=True) if array is not None]
        if not case.is_close(arrays, expected):
            return "other values"
    return ""


def _present(names: Iterable[str], arrays: Iterable[NDArray | None]) -> list[tuple[str, NDArray]]:
    return [(name, array) for name, array in zip(names, arrays, strict=False) if array is not None]


def _value(array: NDArray) -> onnxruntime.OrtValue:
    if array.dtype.name == "bfloat16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: onnxruntime.OrtValue, like: NDArray) -> NDArray:
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, like.dtype).reshape(value.shape())
