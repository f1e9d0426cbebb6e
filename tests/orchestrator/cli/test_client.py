"""How an error of the coordinator, or of a node behind it, becomes an error of fleetctl again."""

from __future__ import annotations

import pytest

from fleet.errors import Code, FleetError
from fleet.v1 import error_pb2
from orchestrator.cli.client import from_detail

CASES = {
    "what a node adds becomes facts": (
        {"node": "n1", "reason": "Not WAVE. [place=character 13]"},
        {"node": "n1", "place": "character 13"},
    ),
    "facts of the coordinator win": ({"node": "n1", "reason": "Not WAVE. [node=n2]"}, {"node": "n1"}),
    "another reason stays": ({"reason": "out of memory [limit=8]"}, {"limit": "8", "reason": "out of memory"}),
    "a reason that says nothing new goes": ({"reason": "Not WAVE."}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_reason_is_told_once_and_as_facts(case: str) -> None:
    sent, shown = CASES[case]
    detail = error_pb2.ErrorDetail(code="WAVE_INVALID", message="Not WAVE.", detail=sent)
    assert from_detail(detail).detail == shown


def test_code_message_remedy_and_request_come_across() -> None:
    detail = error_pb2.ErrorDetail(code="NOT_FOUND", message="No.", remedy="fleetctl nodes", request_id="42")
    error = from_detail(detail)
    assert (error.code, error.private) == (Code.NOT_FOUND, "No.")
    assert error.detail == {"remedy": "fleetctl nodes", "request_id": "42"}


def test_a_code_of_a_newer_release_is_an_internal_error() -> None:
    error = from_detail(error_pb2.ErrorDetail(code="NEVER_HEARD_OF", message="Odd."))
    assert isinstance(error, FleetError)
    assert error.code is Code.INTERNAL
