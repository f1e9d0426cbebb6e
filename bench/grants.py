"""What one grant decision costs a host call: asked before, and asked for the first time.

The grant is of the size that a person still reads: ten interfaces, some with several rules. The reference is what
nobody can be faster than: one lookup of the same question in a plain dict, in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from bench.measure import Row, emit
from fleet.documents import dump_json
from fleet.grants import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

CAPABILITIES = {
    "wasi:keyvalue/store": [
        {"buckets": ["frames", "cfg-*"], "ops": ["get", "set", "exists"], "max_bytes": "50MiB"},
        {"buckets": ["shared-*"], "ops": ["get"]},
        {"buckets": ["context"], "ops": ["get", "set", "delete"]},
    ],
    "wasi:http/outgoing-handler": [
        {"hosts": ["api.example.com"], "ports": ["443"], "methods": ["GET", "POST"], "paths": ["/v1/*"], "max_rps": 5},
        {"hosts": ["*.obj.example.com"], "ports": ["443"], "methods": ["PUT"], "max_rps": 2},
    ],
    "wasi:messaging/producer": [{"topics": ["site/oslo/*", "alerts"], "max_rps": 50}],
    "wasi:config/store": [{"keys": ["detector.*"]}],
    "wasi:nn/graph": [{"models": ["anomaly", "second"], "devices": ["cpu"]}],
    "fleet:sensors/reader": [{"sources": ["roof", "level-*"]}],
    **{name: [{}] for name in ("wasi:logging/logging", "wasi:random/random", "wasi:nn/tensor", "wasi:nn/inference")},
}

HTTP = {
    "host": "cam7.obj.example.com",
    "method": "PUT",
    "scheme": "https",
    "port": "443",
    "path": "/x/1",
    "network": "8.8.8.8",
}

QUESTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "key-value bucket, allowed": ("wasi:keyvalue/store", {"bucket": "context", "op": "set"}),
    "key-value bucket, denied": ("wasi:keyvalue/store", {"bucket": "secret", "op": "set"}),
    "message topic": ("wasi:messaging/producer", {"topic": "site/oslo/line-3/alerts"}),
    "request to a host": ("wasi:http/outgoing-handler", HTTP),
    "interface without constraints": ("wasi:logging/logging", {}),
}


def per_call(call: Callable[[], object], calls: int) -> float:
    """Microseconds of one call."""
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) * 1e6 / calls


def compared(name: str, ours: Callable[[], object], reference: Callable[[], object], calls: int, rounds: int) -> None:
    """Time both in turns and print their medians."""
    pairs = [(per_call(ours, calls), per_call(reference, calls)) for _ in range(rounds)]
    emit(Row(name, "us", statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)))


def measure(calls: int, rounds: int) -> None:
    document = {"schema": "fleet.authority/v1", "capabilities": CAPABILITIES, "limits": {}}
    data = dump_json(document)
    authority = Authority.decode(data)
    for name, (interface, request) in QUESTIONS.items():
        plain = {(interface, *request.values()): authority.allows(interface, **request)}
        compared(
            f"decision asked before: {name}",
            lambda interface=interface, request=request: authority.allows(interface, **request),
            lambda interface=interface, request=request, plain=plain: plain[interface, *request.values()],
            calls,
            rounds,
        )
    new = [f"bucket-{i}" for i in range(calls)]
    asked = iter(new * (rounds + 1))
    plain = {("wasi:keyvalue/store", bucket, "get"): False for bucket in new}
    again = iter(new * (rounds + 1))
    compared(
        "decision never asked before: key-value bucket",
        lambda: authority.allows("wasi:keyvalue/store", bucket=next(asked), op="get"),
        lambda: plain["wasi:keyvalue/store", next(again), "get"],
        calls,
        rounds,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    measure(arguments.calls, arguments.rounds)
