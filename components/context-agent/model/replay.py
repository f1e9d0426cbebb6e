"""Replay a series of readings the way the agent sees them, and measure a model on it.

`Source` mirrors `../src/state.rs`: same window, same usual step, same treatment of anomalies. It is used to make
training windows and to measure the committed model; the agent itself never runs this.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Series = NDArray[np.float32]
    Judge = Callable[[list[float], float], bool]

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
MODEL = HERE / "context.onnx"

WINDOW = 8
WARM_UP = 16
NEW_LEVEL_AFTER = 4
FORGET = 1 / 64
BOUND = 16.0
HELD_OUT = 0.3
"""Share of every series, at its end, that training never sees."""


@dataclass(slots=True)
class Source:
    """What the agent remembers of one source."""

    count: int = 0
    square: float = 0.0
    steps: int = 0
    streak: int = 0
    recent: list[float] = field(default_factory=list)

    @property
    def step(self) -> float:
        """The usual step: root mean square of the steps from the last normal reading, older ones fading."""
        return math.sqrt(self.square)

    def window(self, value: float) -> list[float] | None:
        """The readings the model judges, `value` last; None while warming up."""
        if self.count < WARM_UP or len(self.recent) < WINDOW - 1:
            return None
        return [*self.recent, value]

    def record(self, value: float, *, anomaly: bool) -> None:
        """Take in a reading together with its verdict."""
        self.count += 1
        if self.recent:
            self.steps += 1
            square = (value - self.recent[-1]) ** 2
            if anomaly:
                square = min(square, BOUND * self.square)
            self.square += (square - self.square) * max(1 / self.steps, FORGET)
        if anomaly:
            self.streak += 1
            if self.streak >= NEW_LEVEL_AFTER:
                self.streak = 0
                self.recent.clear()
            return
        self.streak = 0
        self.recent = [*self.recent, value][-(WINDOW - 1) :]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the model card: a series and how far an injected anomaly jumps, in the unit of the series."""

    name: str
    unit: str
    jumps: tuple[float, ...]
    repeats: int
    """Runs with the anomalies at other places; a short series needs more of them."""
    weather: float = 0.0
    """Size of the weather added, which the NOAA series lacks."""


CASES = (
    Case("noaa-seattle", "°C", (3.0, 5.0, 8.0), repeats=1, weather=0.3),
    Case("host-cpu", "points", (25.0, 50.0), repeats=4),
    Case("host-memory", "points", (2.0, 5.0), repeats=4),
)


def read_series() -> dict[str, Series]:
    """All shipped series by source."""
    values: dict[str, list[float]] = defaultdict(list)
    for file in sorted(DATA.glob("*.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                values[row["source"]].append(float(row["value"]))
    return {source: np.array(found, np.float32) for source, found in values.items()}


def add_weather(series: Series, size: float, rng: np.random.Generator) -> Series:
    """Add slow random deviations to a series: AR(1), `size` being the spread of one step."""
    deviation = 0.0
    result = series.copy()
    for i, shock in enumerate(rng.normal(0, size, len(series))):
        deviation = 0.9 * deviation + shock
        result[i] += deviation
    return result


def split(series: Series) -> tuple[Series, Series]:
    """The part to train on and the part held out."""
    end = int(len(series) * (1 - HELD_OUT))
    return series[:end], series[end:]


def windows(series: Series) -> Iterator[tuple[list[float], float]]:
    """Every window of a series without anomalies, with the usual step at that moment."""
    source = Source()
    for value in series.tolist():
        window = source.window(value)
        if window is not None:
            yield window, source.step
        source.record(value, anomaly=False)


def flags(series: Series, judge: Judge) -> list[bool | None]:
    """The verdict on each reading; None while warming up."""
    source = Source()
    result: list[bool | None] = []
    for value in series.tolist():
        window = source.window(value)
        verdict = None if window is None else judge(window, source.step)
        source.record(value, anomaly=bool(verdict))
        result.append(verdict)
    return result


def onnx_judge(model: Path = MODEL) -> Judge:
    """Judge with an ONNX model, one window at a time as the agent does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def judge(window: list[float], step: float) -> bool:
        score, threshold = session.run(
            ["score", "threshold"], {"readings": np.array([window], np.float32), "step": np.array([[step]], np.float32)}
        )
        return bool(score[0, 0] > threshold[0, 0])

    return judge


def inject(series: Series, jump: float, start: int, rng: np.random.Generator) -> tuple[Series, list[int]]:
    """Move every hundredth reading from `start` on by `jump` up or down; returns the new series and the places."""
    result = series.copy()
    places = list(range(start, len(series), 100))
    for place in places:
        result[place] += jump * rng.choice([-1.0, 1.0])
    return result, places


def measure(judge: Judge) -> dict[str, float]:
    """False alarm rate per series, and detection rate per series and jump, on the held-out parts."""
    found: dict[str, float] = {}
    for case in CASES:
        rng = np.random.default_rng(2)
        held_out = split(read_series()[case.name])[1]
        if case.weather:
            held_out = add_weather(held_out, case.weather, rng)
        judged = [flag for flag in flags(held_out, judge) if flag is not None]
        found[f"{case.name}, false alarms"] = sum(judged) / len(judged)
        for jump in case.jumps:
            hits: list[bool] = []
            for start in np.linspace(2 * WARM_UP, 99, case.repeats).astype(int).tolist():
                shifted, places = inject(held_out, jump, start, rng)
                verdicts = flags(shifted, judge)
                hits += [flag for flag in (verdicts[place] for place in places) if flag is not None]
            found[f"{case.name}, detected ±{jump:g} {case.unit}"] = sum(hits) / len(hits)
    return found
