"""Replay a series of readings the way the agent sees them.

`Source` mirrors `../src/state.rs`: same window, same usual step, same treatment of anomalies. It is used to make
training windows and to measure models; the agent itself never runs this.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DATA = Path(__file__).parents[1] / "data"

WINDOW = 8
WARM_UP = 16
NEW_LEVEL_AFTER = 4
FORGET = 1 / 64
BOUND = 16.0


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


class Part(StrEnum):
    """The parts every series is cut into, in the order of time."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SHARES = {Part.TRAIN: (0.0, 0.6), Part.VALIDATION: (0.6, 0.8), Part.TEST: (0.8, 1.0)}


def read_series() -> dict[str, list[float]]:
    """All shipped series by source."""
    values: dict[str, list[float]] = defaultdict(list)
    for file in sorted(DATA.glob("*.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                values[row["source"]].append(float(row["value"]))
    return dict(values)


def cut(series: list[float], part: Part) -> list[float]:
    """One part of a series; no reading belongs to two."""
    begin, end = (round(share * len(series)) for share in SHARES[part])
    return series[begin:end]


def windows(series: list[float]) -> tuple[Array, Array]:
    """Every window [n, 8] of a series taken to be without anomalies, and the usual step [n, 1] at that moment."""
    source = Source()
    found: list[list[float]] = []
    steps: list[list[float]] = []
    for value in series:
        window = source.window(value)
        if window is not None:
            found.append(window)
            steps.append([source.step])
        source.record(value, anomaly=False)
    return np.array(found), np.array(steps)
