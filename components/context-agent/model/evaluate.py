"""Measure the committed model and a trivial baseline, as the model card reports them.

    pip install -e '.[node]' && python components/context-agent/model/evaluate.py

Prints the table of the card. Nothing is chosen here: the model comes as train.py wrote it, and the limit of the
baseline comes from the validation part by the rule that also gave the model its threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from replay import Array, Part, Source, cut, read_series, windows

MODEL = Path(__file__).with_name("context.onnx")
FALSE_ALARMS = 0.01
"""Share of readings of the validation part, averaged over the series, that may lie above a limit."""

Scorer = Callable[[Array, Array], Array]
"""From windows [n, 8] and usual steps [n, 1] to scores [n]."""


@dataclass(frozen=True, slots=True)
class Case:
    """A series, and how far an injected anomaly jumps in the unit of the series."""

    source: str
    unit: str
    jumps: tuple[float, ...]
    low: float = -np.inf
    high: float = np.inf
    """What the quantity cannot leave: no anomaly is injected beyond."""


CASES = (
    Case("noaa-seattle", "°C", (8.0, 12.0, 16.0)),
    Case("host-cpu", "points", (25.0, 50.0), 0.0, 100.0),
    Case("host-memory", "points", (2.0, 5.0), 0.0, 100.0),
)


def limit(score: Scorer) -> float:
    """The smallest score that FALSE_ALARMS of the validation part exceeds, every series counting the same."""
    series = read_series()
    scores = [score(*windows(cut(series[case.source], Part.VALIDATION))) for case in CASES]
    above = np.array([[(found > candidate).mean() for found in scores] for candidate in np.concatenate(scores)])
    return float(np.concatenate(scores)[above.mean(axis=1) <= FALSE_ALARMS].min())


def measure(score: Scorer, threshold: float, part: Part) -> dict[str, float]:
    """False alarm rate per series, and detection rate per series and jump.

    The part is replayed with the agent's own bookkeeping, from an empty memory. For every reading that gets a verdict
    it is also asked what that verdict would be, were the reading `jump` higher, or lower; the replay goes on unmoved.
    """
    found: dict[str, float] = {}
    for case in CASES:
        source = Source()
        alarms: list[bool] = []
        detected: dict[float, list[bool]] = {jump: [] for jump in case.jumps}
        for value in cut(read_series()[case.source], part):
            anomaly = False
            window = source.window(value)
            if window is not None:
                asked = [(jump, value + sign * jump) for jump in case.jumps for sign in (-1, 1)]
                asked = [(jump, moved) for jump, moved in asked if case.low <= moved <= case.high]
                readings = np.array([window, *([*window[:-1], moved] for _, moved in asked)])
                verdicts = score(readings, np.full((len(readings), 1), source.step)) > threshold
                anomaly = bool(verdicts[0])
                alarms.append(anomaly)
                for (jump, _), verdict in zip(asked, verdicts[1:], strict=True):
                    detected[jump].append(bool(verdict))
            source.record(value, anomaly=anomaly)
        found[f"{case.source}, false alarms"] = float(np.mean(alarms))
        for jump, hits in detected.items():
            found[f"{case.source}, detected ±{jump:g} {case.unit}"] = float(np.mean(hits))
    return found


def baseline(readings: Array, steps: Array) -> Array:
    """The trivial score: the newest reading's distance from the one before it, in usual steps."""
    last = readings[:, -2]
    distance: Array = np.abs(readings[:, -1] - last) / np.maximum(steps[:, 0], np.maximum(0.005 * np.abs(last), 1e-6))
    return distance


def committed() -> tuple[Scorer, float]:
    """The committed model and its threshold, run window by window as the agent does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    def run(readings: Array, step: Array) -> tuple[float, float]:
        inputs = {"readings": readings.astype(np.float32), "step": step.astype(np.float32)}
        score, threshold = session.run(["score", "threshold"], inputs)
        return float(score[0, 0]), float(threshold[0, 0])

    def score(readings: Array, steps: Array) -> Array:
        return np.array([run(readings[i : i + 1], steps[i : i + 1])[0] for i in range(len(readings))])

    return score, run(np.zeros((1, 8)), np.zeros((1, 1)))[1]


def main() -> None:
    """Print the table of the model card."""
    model, threshold = committed()
    columns = [
        measure(model, threshold, Part.VALIDATION),
        measure(model, threshold, Part.TEST),
        measure(baseline, limit(baseline), Part.TEST),
    ]
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:.4f}' for column in columns)} |")


if __name__ == "__main__":
    main()
