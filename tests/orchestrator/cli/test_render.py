"""What fleetctl prints: tables for people, exact values for programs, and nothing that drives a terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.wave_print import print_value
from fleet.wit_types import Primitive
from orchestrator.cli.render import (
    Column,
    Format,
    Output,
    Row,
    ago,
    exact,
    printable,
    result_text,
    short_digest,
    size,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = (
    Column("NODE", "node"),
    Column("STATE", "state"),
    Column("SEEN", "seen", right=True),
    Column("MESSAGE", "message", fold=True),
    Column("LABELS", "labels", wide=True),
)
ROWS = [
    Row(
        {"node": "n1", "state": "online", "seen": 12, "message": "", "labels": {"site": "oslo"}},
        {"labels": "site=oslo"},
    ),
    Row({"node": "n22", "state": "offline", "seen": 1, "message": "word " * 12, "labels": {}}, {"seen": "1s"}),
]

Captured = pytest.CaptureFixture[str]


def plain_lines(text: str) -> list[str]:
    """Lines without the marks for bold text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make stdout a terminal of some width, without colours."""

    def resize(width: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stdout for a terminal
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))

    return resize


def test_a_table_on_a_pipe_has_no_rules_no_trailing_blanks_and_no_cut(capsys: Captured) -> None:
    Output(Format.TABLE).rows((*COLUMNS, Column("X", "x")), [Row({**ROWS[0].record, "x": "y" * 300})], "nothing")
    heading, line = capsys.readouterr().out.splitlines()
    assert heading == "NODE  STATE   SEEN  MESSAGE  X"
    assert line == f"n1    online    12  -        {'y' * 300}"


def test_wide_shows_more_columns(capsys: Captured) -> None:
    Output(Format.TABLE).rows(COLUMNS, ROWS, "nothing")
    assert "LABELS" not in capsys.readouterr().out
    Output(Format.WIDE).rows(COLUMNS, ROWS, "nothing")
    assert "site=oslo" in capsys.readouterr().out


def test_programs_read_records_not_cells(capsys: Captured) -> None:
    records = [row.record for row in ROWS]
    Output(Format.JSON).rows(COLUMNS, ROWS, "nothing")
    assert json.loads(capsys.readouterr().out) == records
    Output(Format.YAML).rows(COLUMNS, ROWS, "nothing")
    assert yaml.safe_load(capsys.readouterr().out) == records


def test_a_stream_for_programs_is_one_line_or_one_document_each(capsys: Captured) -> None:
    items = [{"a": [1, 2]}, {"a": None}]
    for form in (Format.JSON, Format.YAML):
        output = Output(form)
        for item in items:
            output.item(item)
        printed = capsys.readouterr().out
        if form is Format.JSON:
            assert [json.loads(line) for line in printed.splitlines()] == items
        else:
            assert list(yaml.safe_load_all(printed)) == items


def test_in_a_terminal_only_folding_columns_fold(capsys: Captured, terminal: Callable[[int], None]) -> None:
    terminal(45)
    Output(Format.TABLE).rows(COLUMNS, ROWS, "nothing")
    lines = plain_lines(capsys.readouterr().out)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["NODE", "n1", "n22"]
    assert len(lines) > 3
    assert all(len(line) <= 45 and line == line.rstrip() for line in lines)
    assert " ".join(lines).count("word") == 12


def test_a_terminal_too_narrow_for_the_table_shows_blocks(capsys: Captured, terminal: Callable[[int], None]) -> None:
    terminal(20)
    Output(Format.TABLE).rows(COLUMNS, ROWS[:1] * 2, "nothing")
    block = ["NODE     n1", "STATE    online", "SEEN     12", "MESSAGE  -"]
    assert plain_lines(capsys.readouterr().out) == [*block, "", *block]


def test_an_empty_table_says_so_on_stderr_and_is_an_empty_list_for_machines(capsys: Captured) -> None:
    Output(Format.TABLE).rows(COLUMNS, [], "No node has joined.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "No node has joined.\n")
    Output(Format.JSON).rows(COLUMNS, [], "No node has joined.")
    assert json.loads(capsys.readouterr().out) == []


FAULT = FleetError(Code.IMPORT_NOT_GRANTED, "not granted", place="a.yaml:3", deployment="a/b", remedy="fleetctl x")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_fault_shows_code_place_facts_and_remedy(quiet: bool, capsys: Captured) -> None:
    Output(Format.TABLE, quiet=quiet).fault(FAULT)
    assert capsys.readouterr().err.splitlines() == [
        "error IMPORT_NOT_GRANTED: not granted",
        "  at          a.yaml:3",
        "  deployment  a/b",
        "  remedy      fleetctl x",
    ]


def test_an_internal_fault_shows_the_id_to_look_for_in_the_log(capsys: Captured) -> None:
    Output(Format.TABLE).fault(FleetError(Code.INTERNAL, "unexpected", request_id="42ab"))
    assert "request  42ab" in capsys.readouterr().err


def test_quiet_keeps_progress_away_and_results(capsys: Captured) -> None:
    output = Output(Format.TABLE, quiet=True)
    output.note("a note")
    output.step("a step")
    output.text("a result")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "")


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202ex\r\x9b1m"


def test_nothing_that_an_agent_says_drives_the_terminal(capsys: Captured) -> None:
    output = Output(Format.TABLE)
    output.rows((Column("X", "x"),), [Row({"x": HOSTILE + "\nsecond"})], "")
    output.line((HOSTILE, ""))
    output.text(HOSTILE)
    output.note(HOSTILE)
    output.fault(FleetError(Code.INTERNAL, HOSTILE, fact=HOSTILE))
    captured = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in captured.out + captured.err)
    assert captured.out.splitlines()[1].endswith(r"\nsecond")


@given(st.text())
def test_printable_text_is_left_alone_and_the_rest_made_so(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert printable(shown) == shown


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_string_result_is_shown_without_quotes_and_escapes(text: str) -> None:
    assert result_text(print_value(text, Primitive.STRING)) == text


@pytest.mark.parametrize("output", ["", "42", "ok(1)", '{a: "b"}', '"cut', '"a" "b"'])
def test_any_other_result_is_shown_as_wave(output: str) -> None:
    assert result_text(output) == output


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (64 * 1024**2, "64.0 MiB"), (5 * 1024**3, "5.0 GiB")],
)
def test_size(value: int, expected: str) -> None:
    assert size(value) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"), [(0, ""), (99_000, "1s"), (1, "99s"), (-100_000, "3m"), (-10_000_000, "2h")]
)
def test_ago(milliseconds: int, expected: str) -> None:
    assert ago(milliseconds, 100_000) == expected


def test_times_and_digests_are_short_for_people_and_exact_for_programs() -> None:
    assert when(1_767_225_600_007) == "2026-01-01T00:00:00Z"
    assert exact(1_767_225_600_007) == "2026-01-01T00:00:00.007Z"
    assert (when(0), exact(0)) == ("", None)
    assert short_digest("sha256:" + "ab" * 32) == "abababababab"
