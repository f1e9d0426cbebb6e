"""Counts the readings of each source, keeps the newest, and asks a model how far it is from the one before."""

import math
import struct

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.readings import Failure, Reading, Verdict
from wit_world.imports import atomics, batch, store
from wit_world.imports.graph import load_by_name
from wit_world.imports.logging import Level, log
from wit_world.imports.tensor import Tensor, TensorType

BUCKET = "readings"
MODEL = "distance"


class Readings(exports.Readings):
    """What the world exports; an `Err` that is raised is the error of the result."""

    def take(self, reading: Reading) -> Verdict:
        """Take one reading."""
        if not 1 <= len(reading.source.encode()) <= 64:
            raise Err("source must have 1 to 64 bytes")
        if not math.isfinite(reading.value):
            raise Err("value must be finite")
        try:
            with store.open(BUCKET) as bucket:
                count, score = record(bucket, reading)
        except Err as error:
            raise Err(explain(error.value)) from error
        log(Level.INFO, "agent", f"reading {count} of {reading.source}")
        return Verdict(reading.source, count, score)

    def fail(self, how: Failure) -> None:
        """Fail as asked."""
        taken = []
        if how is Failure.TRAP:
            raise RuntimeError("asked to fail")
        while True:
            if how is Failure.MEMORY:
                taken.append(bytes(1 << 20))


def record(bucket: store.Bucket, reading: Reading) -> tuple[int, float]:
    """Count a reading and keep it."""
    stored = bucket.get(f"last/{reading.source}")
    before = struct.unpack("<f", stored)[0] if stored else reading.value
    score = distance(reading.value, before)
    count = atomics.increment(bucket, f"count/{reading.source}", 1)
    pairs = {"last": reading.value, "score": score}
    batch.set_many(bucket, [(f"{key}/{reading.source}", struct.pack("<f", value)) for key, value in pairs.items()])
    return count, score


def distance(value: float, before: float) -> float:
    """Ask the model; `with` gives each handle of the host back at once."""
    with load_by_name(MODEL) as graph, graph.init_execution_context() as context:
        pair = Tensor([1, 2], TensorType.FP32, struct.pack("<2f", value, before))
        ((_, output),) = context.compute([("pair", pair)])
        with output:
            (score,) = struct.unpack("<f", output.data())
    return score


def explain(error: object) -> str:
    """Say in words what the store or the model answered."""
    match error:
        case str():
            return error
        case store.Error_NoSuchStore():
            return f"bucket {BUCKET}: no such store"
        case store.Error_AccessDenied():
            return f"bucket {BUCKET}: access denied"
        case store.Error_Other(text):
            return f"bucket {BUCKET}: {text}"
    with error:
        return f"model {MODEL}: {error.data()}"
