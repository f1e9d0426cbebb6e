"""Train the model of the context agent and write context.onnx.

    pip install -e '.[node,model]' && python components/context-agent/model/train.py

The model is an autoencoder: eight readings, scaled, pass through a few tanh units and are rebuilt from them. Half of
the windows it trains on have their newest reading moved at random, and it must rebuild the unmoved one; so it learns
not to repeat an odd reading. The score is how far the newest reading lies from its rebuilt value, compared with how
well the seven before it were rebuilt.

Training is plain numpy with fixed seeds. Several networks learn from the training part; which one becomes the model,
and its threshold, is decided on the validation part. This script never reads the test part; evaluate.py does.
"""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import onnx
from evaluate import CASES, MODEL, Scorer, limit, measure
from onnx import TensorProto, helper, numpy_helper
from replay import WINDOW, Array, Part, cut, read_series, windows

SIZES = (2, 3, 4)
"""Numbers of hidden units to choose from."""
SEEDS = (1, 2, 3, 4)
PER_SERIES = 3000
"""Windows taken from each series, so that none outweighs the others."""
EPOCHS = 600
RATE = 0.01
NEWEST = 4.0
"""Weight of the newest reading in the loss; the others weigh 1."""
LEAST_STEP = 0.005
"""The scale is at least this share of the reading itself: a sensor that stood still may start to move."""
TINY = 1e-6
REACH = 10.0
"""What the network sees is cut off at so many scales."""

Parameters = dict[str, Array]


def scaled(readings: Array, steps: Array) -> Array:
    """What the graph computes from its inputs: the readings [n, 8] as seen from the mean of the seven earlier ones."""
    earlier = readings[:, :-1]
    center = earlier.mean(axis=1, keepdims=True)
    spread = np.abs(earlier - center).mean(axis=1, keepdims=True)
    scale = np.maximum(np.maximum(steps, spread), np.maximum(LEAST_STEP * np.abs(center), TINY))
    result: Array = (readings - center) / scale
    return result


def collect(rng: np.random.Generator) -> Array:
    """Scaled training windows, the same number from each series, each also upside down."""
    series = read_series()
    found = []
    for case in CASES:
        inputs = scaled(*windows(cut(series[case.source], Part.TRAIN)))
        found.append(inputs[rng.choice(len(inputs), PER_SERIES)])
    both = np.vstack(found)
    return np.clip(np.vstack([both, -both]), -REACH, REACH)


def train(clean: Array, size: int, rng: np.random.Generator) -> Parameters:
    """Fit by Adam on the weighted absolute error, whole batch, the rate falling to a tenth."""
    p: Parameters = {
        "w1": rng.normal(0, 0.3, (WINDOW, size)),
        "b1": np.zeros((1, size)),
        "w2": rng.normal(0, 0.3, (size, WINDOW)),
        "b2": np.zeros((1, WINDOW)),
    }
    weight = np.array([[1.0] * (WINDOW - 1) + [NEWEST]])
    weight /= weight.sum() * len(clean)
    mean = {name: np.zeros_like(value) for name, value in p.items()}
    square = {name: np.zeros_like(value) for name, value in p.items()}
    for epoch in range(1, EPOCHS + 1):
        inputs = clean.copy()
        jump = rng.uniform(-REACH, REACH, len(clean)) * (rng.random(len(clean)) < 0.5)
        inputs[:, -1] = np.clip(inputs[:, -1] + jump, -REACH, REACH)
        hidden = np.tanh(inputs @ p["w1"] + p["b1"])
        slope = np.sign(hidden @ p["w2"] + p["b2"] - clean) * weight
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
            p[name] = p[name] - RATE * (1 - 0.9 * epoch / EPOCHS) * step
    return p


def scorer(p: Parameters) -> Scorer:
    """The same sum the graph does."""

    def score(readings: Array, steps: Array) -> Array:
        inputs = scaled(readings, steps)
        rebuilt = np.tanh(np.clip(inputs, -REACH, REACH) @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
        error = np.abs(inputs - rebuilt)
        found: Array = error[:, -1] / (1 + error[:, :-1].mean(axis=1))
        return found

    return score


def graph(p: Parameters, threshold: float) -> onnx.ModelProto:
    """Scaling, network, score and threshold as one ONNX graph."""
    node = helper.make_node
    nodes = [
        node("Slice", ["readings", "first", "newest", "axis"], ["earlier"]),
        node("ReduceMean", ["earlier", "axis"], ["center"], keepdims=1),
        node("Sub", ["earlier", "center"], ["deviation"]),
        node("Abs", ["deviation"], ["distance"]),
        node("ReduceMean", ["distance", "axis"], ["spread"], keepdims=1),
        node("Abs", ["center"], ["level"]),
        node("Mul", ["level", "least_step"], ["floor"]),
        node("Max", ["step", "spread", "floor", "tiny"], ["scale"]),
        node("Sub", ["readings", "center"], ["centered"]),
        node("Div", ["centered", "scale"], ["scaled"]),
        node("Clip", ["scaled", "reach_low", "reach_high"], ["seen"]),
        node("Gemm", ["seen", "w1", "b1"], ["before"]),
        node("Tanh", ["before"], ["hidden"]),
        node("Gemm", ["hidden", "w2", "b2"], ["rebuilt"]),
        node("Sub", ["scaled", "rebuilt"], ["off"]),
        node("Abs", ["off"], ["error"]),
        node("Slice", ["error", "newest", "end", "axis"], ["newest_error"]),
        node("Slice", ["error", "first", "newest", "axis"], ["earlier_errors"]),
        node("ReduceMean", ["earlier_errors", "axis"], ["earlier_error"], keepdims=1),
        node("Add", ["earlier_error", "one"], ["usual_error"]),
        node("Div", ["newest_error", "usual_error"], ["score"]),
        node("Identity", ["limit"], ["threshold"]),
    ]
    constants = {"least_step": LEAST_STEP, "tiny": TINY, "reach_low": -REACH, "reach_high": REACH, "one": 1.0}
    initializers = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(value.astype(np.float32), name) for name, value in p.items()]
    initializers.append(numpy_helper.from_array(np.array([[threshold]], np.float32), "limit"))
    for name, value in {"first": 0, "newest": WINDOW - 1, "end": WINDOW, "axis": 1}.items():
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
    """Train, choose, and write the model; prints what the choice was made from."""
    best = -1.0
    for size, seed in itertools.product(SIZES, SEEDS):
        rng = np.random.default_rng(seed)
        candidate = train(collect(rng), size, rng)
        limit_found = limit(scorer(candidate))
        shares = measure(scorer(candidate), limit_found, Part.VALIDATION)
        detected = float(np.mean([share for name, share in shares.items() if "detected" in name]))
        print(f"{size} hidden units, seed {seed}: threshold {limit_found:.4f}, detected on average {detected:.4f}")
        if detected > best:
            best, parameters, threshold = detected, candidate, limit_found
    MODEL.write_bytes(graph(parameters, threshold).SerializeToString(deterministic=True))
    print(f"chosen: {parameters['w1'].shape[1]} hidden units, threshold {threshold:.4f}")
    print(f"sha256 {hashlib.sha256(MODEL.read_bytes()).hexdigest()}, {MODEL.stat().st_size} bytes")


if __name__ == "__main__":
    main()
