"""Train the model of the context agent and write context.onnx.

    pip install -e '.[model]' && python components/context-agent/model/train.py

The model forecasts the newest reading from the seven before it, together with how far off such a forecast usually is:
a network with one hidden layer and two outputs, trained with the Laplace likelihood. The score is the distance between
reading and forecast in units of that usual error. Everything is relative to the usual step of the source, so one model
serves temperatures and percentages alike; the scaling is inside the graph. Training is plain numpy with a fixed seed.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from replay import MODEL, WINDOW, add_weather, measure, onnx_judge, read_series, split, windows

SEED = 1
HIDDEN = 8
FEATURES = WINDOW - 1
PER_SERIES = 6000
"""Windows taken from each series, so that none outweighs the others."""
EPOCHS = 400
RATE = 0.01
LEAST_STEP = 0.005
"""The usual step counts as at least this share of the reading itself: a sensor that stood still may start to move."""
TINY = 1e-6
REACH = 20.0
"""Features are cut off at so many usual steps."""
SPREAD = (0.0, 3.0)
"""Bounds of the logarithm of the usual error in usual steps: it is never below one, however calm the source."""
FALSE_ALARMS = 0.005
"""Share of training windows above the threshold."""

Parameters = dict[str, np.ndarray]


def features(readings: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the graph computes from its inputs: features [n, 7], and the newest reading [n, 1] as seen from the last."""
    last = readings[:, -2:-1]
    scale = np.maximum(np.maximum(step, LEAST_STEP * np.abs(last)), TINY)
    past = (readings[:, :-2] - last) / scale
    moves = np.abs(readings[:, 1:-1] - readings[:, :-2]).mean(axis=1, keepdims=True) / scale
    return np.clip(np.hstack([past, moves]), -REACH, REACH), (readings[:, -1:] - last) / scale


def collect(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training windows and their usual steps, the same number from each series."""
    readings, steps = [], []
    for source, whole in sorted(read_series().items()):
        series = split(whole)[0]
        if source.startswith("noaa"):
            variants = [add_weather(series, size, rng) for size in (0.1, 0.3, 0.6)]
        else:
            variants = [series[start::stride] for stride in (1, 2, 5) for start in range(stride)]
        found = [pair for variant in variants for pair in windows(variant)]
        for i in rng.choice(len(found), PER_SERIES):
            readings.append(found[i][0])
            steps.append([found[i][1]])
    return np.array(readings), np.array(steps)


def train(inputs: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Parameters:
    """Fit by Adam on the Laplace likelihood |target - forecast| / b + log b, whole batch."""
    p: Parameters = {
        "w1": rng.normal(0, 0.3, (FEATURES, HIDDEN)),
        "b1": np.zeros((1, HIDDEN)),
        "w2": rng.normal(0, 0.1, (HIDDEN, 2)),
        "b2": np.zeros((1, 2)),
    }
    mean = {name: np.zeros_like(value) for name, value in p.items()}
    square = {name: np.zeros_like(value) for name, value in p.items()}
    for epoch in range(1, EPOCHS + 1):
        hidden = np.tanh(inputs @ p["w1"] + p["b1"])
        out = hidden @ p["w2"] + p["b2"]
        forecast, spread = out[:, :1], np.clip(out[:, 1:], *SPREAD)
        error = (target - forecast) / np.exp(spread)
        inside = (out[:, 1:] > SPREAD[0]) & (out[:, 1:] < SPREAD[1])
        slope = np.hstack([-np.sign(error) / np.exp(spread), (1 - np.abs(error)) * inside]) / len(target)
        back = (slope @ p["w2"].T) * (1 - hidden**2)
        gradient = {
            "w1": inputs.T @ back,
            "b1": back.sum(axis=0, keepdims=True),
            "w2": hidden.T @ slope,
            "b2": slope.sum(axis=0, keepdims=True),
        }
        for name, g in gradient.items():
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g**2
            step = mean[name] / (1 - 0.9**epoch) / (np.sqrt(square[name] / (1 - 0.999**epoch)) + 1e-8)
            p[name] = p[name] - RATE * step
    return p


def scores(p: Parameters, inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The same sum the graph does after scaling."""
    out = np.tanh(inputs @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
    found: np.ndarray = np.abs(target - out[:, :1]) / np.exp(np.clip(out[:, 1:], *SPREAD))
    return found


def graph(p: Parameters, threshold: float) -> onnx.ModelProto:
    """Scaling, network, score and threshold as one ONNX graph."""
    node = helper.make_node
    nodes = [
        node("Slice", ["readings", "i0", "i6", "axis"], ["older"]),
        node("Slice", ["readings", "i6", "i7", "axis"], ["last"]),
        node("Slice", ["readings", "i7", "i8", "axis"], ["newest"]),
        node("Slice", ["readings", "i1", "i7", "axis"], ["shifted"]),
        node("Abs", ["last"], ["size"]),
        node("Mul", ["size", "least_step"], ["floor"]),
        node("Max", ["step", "floor", "tiny"], ["scale"]),
        node("Sub", ["older", "last"], ["past"]),
        node("Sub", ["shifted", "older"], ["move"]),
        node("Abs", ["move"], ["distance"]),
        node("ReduceMean", ["distance", "axis"], ["moves"], keepdims=1),
        node("Concat", ["past", "moves"], ["raw"], axis=1),
        node("Div", ["raw", "scale"], ["scaled"]),
        node("Clip", ["scaled", "reach_low", "reach_high"], ["features"]),
        node("Gemm", ["features", "w1", "b1"], ["before"]),
        node("Tanh", ["before"], ["hidden"]),
        node("Gemm", ["hidden", "w2", "b2"], ["out"]),
        node("Slice", ["out", "i0", "i1", "axis"], ["forecast"]),
        node("Slice", ["out", "i1", "i2", "axis"], ["raw_spread"]),
        node("Clip", ["raw_spread", "spread_low", "spread_high"], ["spread"]),
        node("Exp", ["spread"], ["usual_error"]),
        node("Sub", ["newest", "last"], ["rise"]),
        node("Div", ["rise", "scale"], ["target"]),
        node("Sub", ["target", "forecast"], ["off"]),
        node("Abs", ["off"], ["error"]),
        node("Div", ["error", "usual_error"], ["score"]),
        node("Identity", ["limit"], ["threshold"]),
    ]
    constants = {
        "least_step": LEAST_STEP,
        "tiny": TINY,
        "reach_low": -REACH,
        "reach_high": REACH,
        "spread_low": SPREAD[0],
        "spread_high": SPREAD[1],
    }
    initializers = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(value.astype(np.float32), name) for name, value in p.items()]
    initializers.append(numpy_helper.from_array(np.array([[threshold]], np.float32), "limit"))
    for name, value in {"i0": 0, "i1": 1, "i2": 2, "i6": 6, "i7": 7, "i8": 8, "axis": 1}.items():
        initializers.append(numpy_helper.from_array(np.array([value], np.int64), name))
    single = [1, 1]
    body = helper.make_graph(
        nodes,
        "context",
        [
            helper.make_tensor_value_info("readings", TensorProto.FLOAT, [1, WINDOW]),
            helper.make_tensor_value_info("step", TensorProto.FLOAT, single),
        ],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, single),
            helper.make_tensor_value_info("threshold", TensorProto.FLOAT, single),
        ],
        initializers,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="train.py")
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, write the model, and print what the model card says about it."""
    rng = np.random.default_rng(SEED)
    inputs, target = features(*collect(rng))
    parameters = train(inputs, target, rng)
    threshold = float(np.quantile(scores(parameters, inputs, target), 1 - FALSE_ALARMS))
    MODEL.write_bytes(graph(parameters, threshold).SerializeToString(deterministic=True))
    print(f"threshold {threshold:.4f}")
    print(f"sha256 {hashlib.sha256(MODEL.read_bytes()).hexdigest()}, {MODEL.stat().st_size} bytes")
    for name, value in measure(onnx_judge()).items():
        print(f"| {name} | {value:.4f} |")


if __name__ == "__main__":
    main()
