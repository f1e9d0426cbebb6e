"""The committed model does what its card says, on the shipped data."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

MODEL_DIR = Path(__file__).parents[2] / "components" / "context-agent" / "model"
CARD = (MODEL_DIR / "MODEL_CARD.md").read_text()
MODEL = MODEL_DIR / "context.onnx"


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(MODEL_DIR))
        return importlib.import_module("evaluate")


@pytest.fixture(scope="module")
def replay(evaluate: ModuleType) -> ModuleType:
    return sys.modules[evaluate.Source.__module__]


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def judge(session: onnxruntime.InferenceSession, readings: list[float], step: float) -> tuple[float, float]:
    inputs = {"readings": np.array([readings], np.float32), "step": np.array([[step]], np.float32)}
    score, threshold = session.run(["score", "threshold"], inputs)
    assert score.shape == threshold.shape == (1, 1)
    return float(score[0, 0]), float(threshold[0, 0])


def test_card_names_the_committed_file() -> None:
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in CARD
    assert MODEL.stat().st_size < 10_000


def test_metrics_are_those_on_the_card(evaluate: ModuleType, replay: ModuleType) -> None:
    model, threshold = evaluate.committed()
    usual_steps = evaluate.limit(evaluate.baseline)
    assert f"constant {threshold:.4f};" in CARD
    assert f"*k* = {usual_steps:.4f}," in CARD
    columns = [
        evaluate.measure(model, threshold, replay.Part.VALIDATION),
        evaluate.measure(model, threshold, replay.Part.TEST),
        evaluate.measure(evaluate.baseline, usual_steps, replay.Part.TEST),
    ]
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", CARD, re.MULTILINE)
    for i, column in enumerate(columns, 1):
        assert column == pytest.approx({row[0]: float(row[i]) for row in rows}, abs=0.004), "one reading may tip over"


def test_threshold_comes_from_the_validation_part(evaluate: ModuleType) -> None:
    model, threshold = evaluate.committed()
    assert evaluate.limit(model) == pytest.approx(threshold, abs=0.001)


def test_parts_of_a_series_follow_each_other_without_overlap(replay: ModuleType) -> None:
    for series in replay.read_series().values():
        parts = [replay.cut(series, part) for part in replay.Part]
        assert [value for part in parts for value in part] == series
        assert [round(len(part) / len(series), 2) for part in parts] == [0.6, 0.2, 0.2]


def test_45_degrees_are_an_anomaly_after_the_first_240_readings(evaluate: ModuleType, replay: ModuleType) -> None:
    """What examples/demo.py shows on every node."""
    model, threshold = evaluate.committed()

    def anomaly(value: float) -> bool:
        window = source.window(value)
        if window is None:
            return False
        return bool(model(np.array([window]), np.array([[source.step]]))[0] > threshold)

    source = replay.Source()
    series = replay.read_series()["noaa-seattle"][:240]
    for value in series:
        source.record(value, anomaly=anomaly(value))
    assert not anomaly(series[-1])
    assert anomaly(45.0)


def test_inputs_and_outputs_are_those_the_agent_uses(session: onnxruntime.InferenceSession) -> None:
    described = [(item.name, item.shape, item.type) for item in (*session.get_inputs(), *session.get_outputs())]
    assert described == [
        ("readings", [1, 8], "tensor(float)"),
        ("step", [1, 1], "tensor(float)"),
        ("score", [1, 1], "tensor(float)"),
        ("threshold", [1, 1], "tensor(float)"),
    ]


@pytest.mark.parametrize("factor", [0.001, 1.0, 1000.0])
def test_verdict_does_not_depend_on_the_unit(session: onnxruntime.InferenceSession, factor: float) -> None:
    readings = [20.1, 20.4, 20.2, 20.5, 20.3, 20.6, 20.4, 26.0]
    reference, threshold = judge(session, readings, 0.25)
    scaled, _ = judge(session, [factor * value for value in readings], factor * 0.25)
    assert reference > threshold
    assert scaled == pytest.approx(reference, rel=0.02)


@pytest.mark.parametrize("level", [0.0, 1e-6, -40.0, 100.0, 1e9])
def test_a_source_that_stands_still_is_normal_and_finite(session: onnxruntime.InferenceSession, level: float) -> None:
    score, threshold = judge(session, [level] * 8, 0.0)
    assert 0 <= score < threshold


@pytest.mark.parametrize("value", [1e9, -1e9])
def test_scores_stay_finite_at_the_ends_of_the_valid_range(session: onnxruntime.InferenceSession, value: float) -> None:
    score, threshold = judge(session, [-value] * 7 + [value], 0.0)
    assert threshold < score < float("inf")


def test_recorded_values_are_plausible(evaluate: ModuleType, replay: ModuleType) -> None:
    series = replay.read_series()
    assert set(series) == {case.source for case in evaluate.CASES}
    for source in ("host-cpu", "host-memory"):
        assert 0 <= min(series[source]) <= max(series[source]) <= 100
    assert len(series["noaa-seattle"]) == 4 * 365 + 1, "every day of 2012 to 2015"
    assert -10 < min(series["noaa-seattle"]) < max(series["noaa-seattle"]) < 40
