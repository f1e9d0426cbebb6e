"""The catalog is complete, and errors show what helps and nothing more."""

import grpc
import pytest

from fleet.errors import CATALOG, Code, ExitCode, FleetError


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_whole_row(code):
    row = CATALOG[code]
    assert code.value == code.name
    assert row.grpc_status in grpc.StatusCode.__members__
    assert row.grpc_status != "OK"
    assert row.exit_code is not ExitCode.OK
    for sentence in (row.public, row.remedy):
        assert sentence == sentence.strip()
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_the_catalog_has_no_other_rows():
    assert set(CATALOG) == set(Code)


def test_statuses_that_mean_retry_are_retryable():
    """A client library retries UNAVAILABLE by itself, so a row may not say that it is useless."""
    assert all(row.retryable for row in CATALOG.values() if row.grpc_status == "UNAVAILABLE")


def test_exit_codes_are_stable():
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "ERROR": 1,
        "USAGE": 2,
        "CHANGES_PENDING": 3,
        "ROLLOUT_FAILED": 4,
        "TIMED_OUT": 5,
        "REFUSED": 6,
        "VERIFICATION_FAILED": 7,
        "NO_NODES": 8,
    }


def test_an_error_carries_its_facts():
    error = FleetError(Code.GRANT_INVALID, "expected text", place="grant.yaml: agent", line=3)
    assert str(error) == "GRANT_INVALID: expected text [place=grant.yaml: agent] [line=3]"
    assert error.row is CATALOG[Code.GRANT_INVALID]
    assert error.detail == {"place": "grant.yaml: agent", "line": 3}


def test_the_public_text_holds_facts_and_nothing_private():
    error = FleetError(Code.GRANT_INVALID, "read from a private place", place="grant.yaml: agent", remedy="do this")
    assert error.public == f"{CATALOG[Code.GRANT_INVALID].public} [place=grant.yaml: agent]"


def test_a_caller_may_read_what_is_wrong_with_its_own_words():
    error = FleetError(Code.WAVE_INVALID, "expected a record", place="character 12")
    assert error.public == f"{CATALOG[Code.WAVE_INVALID].public} expected a record [place=character 12]"


def test_the_specific_remedy_wins():
    general = FleetError(Code.IMPORT_NOT_GRANTED, "no grant")
    assert general.remedy == CATALOG[Code.IMPORT_NOT_GRANTED].remedy
    special = FleetError(Code.IMPORT_NOT_GRANTED, "no grant", remedy="fleetctl grant propose a/b")
    assert special.remedy == "fleetctl grant propose a/b"
    assert "remedy" not in str(special)
