"""Lines about crash reports, as they cross the session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.crash import CrashSummary
from fleet.errors import Code, FleetError
from fleet.times import MAX_MS
from fleet.v1 import model_pb2
from fleet.wire import MAX_TEXT, from_pb_crash, to_pb_crash

DIGEST = "sha256:" + "0" * 64
CRASH = CrashSummary("0" * 16, "n1", "app/one", "unreachable", "why", 1, DIGEST, DIGEST, recorded=True, complete=True)


def test_a_line_is_read_as_it_was_written() -> None:
    assert from_pb_crash(to_pb_crash(CRASH, "n1")) == CRASH
    assert from_pb_crash(to_pb_crash(CRASH, "")) == replace(CRASH, node="")
    assert len(to_pb_crash(replace(CRASH, message="x" * 9_000), "n1").message) == MAX_TEXT


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"id": "0" * 15}, "crash.id"),
        ({"node": "N1"}, "crash.node"),
        ({"agent": "one"}, "crash.agent"),
        ({"cause": "bored"}, "crash.cause"),
        ({"message": "x" * (MAX_TEXT + 1)}, "crash.message"),
        ({"at_ms": MAX_MS + 1}, "crash.at_ms"),
        ({"bundle_digest": "sha256:0"}, "crash.bundle_digest"),
        ({"component_digest": ""}, "crash.component_digest"),
    ],
)
def test_a_malformed_line_is_refused(fields: dict[str, object], place: str) -> None:
    message = to_pb_crash(CRASH, "n1")
    message.MergeFrom(model_pb2.Crash(**fields))  # type: ignore[arg-type]
    if fields == {"component_digest": ""}:
        message.component_digest = ""
    with pytest.raises(FleetError) as caught:
        from_pb_crash(message)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.MESSAGE_INVALID, place)
