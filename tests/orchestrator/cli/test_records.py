"""Records for programs: exact, typed, with null for what is not there; cells for people beside them."""

from __future__ import annotations

import json

from fleet.v1 import control_pb2 as pb
from fleet.v1 import model_pb2
from orchestrator.cli.records import agent_row, deployment_row, event_row, node_row

NOW = 1_767_225_600_000
DIGEST = "sha256:" + "ab" * 32


def agent(**fields: object) -> pb.AgentOnNode:
    observed = model_pb2.ObservedAgent(name="climate/context", phase=model_pb2.PHASE_RUNNING, **fields)  # type: ignore[arg-type]
    return pb.AgentOnNode(node="n1", agent=observed, desired=True, bundle="context-agent@0.1.0", grant_revision=2)


def test_a_node_is_told_in_numbers_and_times() -> None:
    node = pb.Node(
        name="n1", labels={"b": "2", "a": "1"}, state="online", desired_generation=3, observed_generation=2,
        last_seen_ms=NOW - 5000, agents=2, healthy=1,
    )  # fmt: skip
    row = node_row(node, NOW)
    assert row.record["labels"] == {"a": "1", "b": "2"}
    assert (row.record["agents"], row.record["healthy"]) == (2, 1)
    assert row.record["last_seen"] == "2025-12-31T23:59:55.000Z"
    assert row.record["certificate_expires"] is None
    assert [row.cell(key) for key in ("agents", "generation", "last_seen", "labels")] == ["1/2", "2/3", "5s", "a=1,b=2"]


def test_an_agent_that_never_ended_has_no_last_exit() -> None:
    row = agent_row(agent(), NOW)
    assert [row.record[key] for key in ("last_exit", "refusal", "next_attempt", "running_since")] == [None] * 4
    assert [row.cell(key) for key in ("last_exit", "next_attempt")] == ["", ""]


def test_the_last_exit_is_an_object_for_programs_and_a_phrase_for_people() -> None:
    row = agent_row(agent(last_exit=model_pb2.Exit(cause="quota", message="out", at_ms=NOW - 2000)), NOW)
    assert row.record["last_exit"] == {"cause": "quota", "message": "out", "at": "2025-12-31T23:59:58.000Z"}
    assert row.cell("last_exit") == "quota, 2s ago"


def test_a_refusal_comes_before_the_last_exit_and_carries_its_remedy() -> None:
    refusal = model_pb2.Refusal(code="GRANT_EXPIRED", message="too late", remedy="fleetctl grant approve")
    row = agent_row(agent(refusal=refusal, last_exit=model_pb2.Exit(cause="trap", at_ms=NOW)), NOW)
    assert row.record["refusal"] == {"code": "GRANT_EXPIRED", "message": "too late", "remedy": "fleetctl grant approve"}
    assert row.cell("last_exit") == "refused: GRANT_EXPIRED"


def test_digests_bytes_and_outputs_are_whole_for_programs() -> None:
    row = agent_row(agent(bundle_digest=DIGEST, memory_bytes=1536, last_output='"a\\"b"'), NOW)
    keys = ("bundle_digest", "memory_bytes", "grant_revision", "last_output")
    assert [row.record[key] for key in keys] == [DIGEST, 1536, 2, '"a\\"b"']
    assert [row.cell(key) for key in ("memory_bytes", "grant_revision", "last_output")] == ["1.5 KiB", "r2", 'a"b']


def test_health_is_null_where_a_node_does_not_tell_and_counters_are_exact_for_programs() -> None:
    row = agent_row(agent(), NOW)
    assert [row.record[key] for key in ("healthy", "ready", "host_calls", "p99_us")] == [None, None, {}, 0]
    assert [row.cell(key) for key in ("ready", "p50_us", "p99_us")] == ["", "", ""]
    vitals = model_pb2.Vitals(
        healthy=False, ready=False, reason="no network", dropped=3, p50_us=640, p99_us=12_340,
        memory_peak_bytes=2048, queue=4, host_calls={"wasi:logging/logging@0.1.0-draft": 9, "a:b/c": 1},
    )  # fmt: skip
    row = agent_row(agent(vitals=vitals), NOW)
    keys = ("healthy", "ready", "reason", "dropped", "p50_us", "p99_us", "memory_peak_bytes", "queue")
    assert [row.record[key] for key in keys] == [False, False, "no network", 3, 640, 12_340, 2048, 4]
    assert row.record["host_calls"] == {"a:b/c": 1, "wasi:logging/logging@0.1.0-draft": 9}
    cells = ("ready", "p50_us", "p99_us", "memory_peak_bytes", "queue")
    assert [row.cell(key) for key in cells] == ["no", "640 us", "12.3 ms", "2.0 KiB", 4]
    assert agent_row(agent(vitals=model_pb2.Vitals(ready=True, p50_us=2_500_000)), NOW).cell("p50_us") == "2.5 s"


def test_a_deployment_counts_its_healthy_waves() -> None:
    waves = [pb.Wave(number=1, nodes=["n1"], state="healthy"), pb.Wave(number=2, nodes=["n2"], state="failed")]
    row = deployment_row(pb.Deployment(id="d", state="rolled-back", waves=waves, created_ms=NOW), NOW)
    assert row.cell("waves") == "1/2"
    assert row.record["waves"] == [
        {"number": 1, "state": "healthy", "nodes": ["n1"]},
        {"number": 2, "state": "failed", "nodes": ["n2"]},
    ]


def test_every_record_is_json() -> None:
    rows = [
        node_row(pb.Node(name="n1"), NOW),
        agent_row(agent(), NOW),
        deployment_row(pb.Deployment(id="d"), NOW),
        event_row(model_pb2.Event(sequence=7, at_ms=NOW, kind="a:b:c"), NOW),
    ]
    for row in rows:
        assert json.loads(json.dumps(row.record)) == row.record
