"""fleetctl as a program: exit codes, output formats, faults, completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fleet.errors import CATALOG, Code, FleetError
from orchestrator.cli.main import fleetctl, main
from orchestrator.cli.render import Column, Format, Output, ago, short_digest, size, when

COLUMNS = (Column("NODE", "node"), Column("STATE", "state"), Column("LABELS", "labels", wide=True))
ROWS: list[dict[str, object]] = [{"node": "n1", "state": "online", "labels": "site=oslo"}]


@pytest.fixture(autouse=True)
def _no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))


def test_without_a_fleet_the_error_names_the_command_that_makes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == CATALOG[Code.NOT_FOUND].exit_code
    error = capsys.readouterr().err
    assert "NOT_FOUND" in error
    assert "fleetctl init" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["deploy"], ["-o", "xml", "nodes"], ["send", "topic"], ["node", "token"]]
)
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def test_a_malformed_manifest_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("schema: fleet.application/v1\napplication: climate\nagents: [\n")
    assert main(["plan", str(file)]) == 1
    error = capsys.readouterr().err
    assert "MANIFEST_INVALID" in error
    assert f"{file}:4:1" in error


def test_an_unreachable_coordinator_is_an_error_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "fleet"
    monkeypatch.setenv("FLEET_HOME", str(home))
    assert main(["init", "--port", "1"]) == 0
    assert main(["nodes"]) == 1
    error = capsys.readouterr().err
    assert "UNAVAILABLE" in error
    assert "fleetctl coordinator up" in error


def test_every_command_has_help() -> None:
    def walk(command: object, path: tuple[str, ...]) -> None:
        result = CliRunner().invoke(fleetctl, [*path, "--help"])
        assert result.exit_code == 0, path
        assert len(result.output.splitlines()) > 3, path
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*path, name))

    walk(fleetctl, ())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    result = CliRunner().invoke(fleetctl, ["completion", shell])
    assert "_FLEETCTL_COMPLETE" in result.output


def test_table_wide_json_and_yaml_show_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.TABLE).rows(COLUMNS, ROWS, "nothing")
    assert "LABELS" not in capsys.readouterr().out
    Output(Format.WIDE).rows(COLUMNS, ROWS, "nothing")
    assert "site=oslo" in capsys.readouterr().out
    Output(Format.JSON).rows(COLUMNS, ROWS, "nothing")
    assert json.loads(capsys.readouterr().out) == ROWS
    Output(Format.YAML).rows(COLUMNS, ROWS, "nothing")
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


def test_an_empty_table_says_so_on_stderr_and_is_an_empty_list_for_machines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(Format.TABLE).rows(COLUMNS, [], "No node has joined.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "No node has joined.\n")
    Output(Format.JSON).rows(COLUMNS, [], "No node has joined.")
    assert json.loads(capsys.readouterr().out) == []


def test_a_long_cell_is_not_cut_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.TABLE).rows((Column("X", "x"),), [{"x": "y" * 300}], "")
    assert "y" * 300 in capsys.readouterr().out


def test_a_fault_shows_code_place_facts_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.TABLE).fault(
        FleetError(Code.IMPORT_NOT_GRANTED, "not granted", place="a.yaml:3", agent="a/b", remedy="fleetctl x")
    )
    assert capsys.readouterr().err.splitlines() == [
        "error IMPORT_NOT_GRANTED: not granted",
        "  at      a.yaml:3",
        "  agent   a/b",
        "  remedy  fleetctl x",
    ]


def test_no_colour_reaches_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", "nodes"], capture_output=True, text=True, check=False
    )
    assert "\x1b[" not in done.stdout + done.stderr


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


def test_times_and_digests_are_short_but_exact() -> None:
    assert when(1_767_225_600_000) == "2026-01-01T00:00:00Z"
    assert when(0) == ""
    assert short_digest("sha256:" + "ab" * 32) == "abababababab"
