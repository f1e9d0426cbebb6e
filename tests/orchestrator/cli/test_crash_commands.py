"""`fleetctl crash replay` over saved reports, and what it says where there is no engine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.crash import encode_report
from orchestrator.cli import crash as module
from orchestrator.cli.context import Overrides
from orchestrator.cli.main import main
from orchestrator.cli.render import Format, Output
from orchestrator.cli.session import Session
from tests.fakes.agents import Node
from tests.fakes.crashes import crash
from tests.fakes.guests import guest

CALLS = ["add(1, 2)", "trap()"]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, ...]:
    """A report and its component as files, and the arguments that replay them."""
    (tmp_path / "r.json").write_bytes(encode_report(crash(Node(tmp_path / "state"), guest(), CALLS)))
    (tmp_path / "c.wasm").write_bytes(guest())
    return ("crash", "replay", str(tmp_path / "r.json"), "--component", str(tmp_path / "c.wasm"))


@pytest.mark.system
def test_a_saved_report_needs_no_fleet(
    saved: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(saved) == 0
    said = capsys.readouterr()
    assert said.out.startswith("trapped at the same place: unreachable in m!")
    assert "Repeated everything since its start: 2 calls." in said.err
    other = replace(crash(Node(tmp_path / "state"), guest(), CALLS), message="another", engine="wasmtime 1")
    Path(saved[2]).write_bytes(encode_report(other))
    assert main(saved) == 1
    said = capsys.readouterr()
    assert "did not end as it had" in said.out
    assert "and was 'another'" in said.out
    assert "the node ran wasmtime 1" in said.err
    assert main([*saved, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["cause"] == "unreachable"


def test_without_an_engine_it_says_what_to_install(
    saved: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert main(saved) == 2
    assert "pip install 'edge-fleet-orchestrator[node]'" in capsys.readouterr().err


def test_a_changed_report_and_another_component_are_refused(
    saved: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    report, component = Path(saved[2]), Path(saved[4])
    text = report.read_bytes()
    report.write_bytes(text.replace(b"node-1", b"node-2"))
    assert main(saved) == 7
    report.write_bytes(text)
    component.write_bytes(guest() + b"\0")
    assert main(saved) == 7
    assert capsys.readouterr().err.count("DIGEST_MISMATCH") == 2


def test_all_calls_that_were_in_flight_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = crash(Node(tmp_path / "state"), guest(), CALLS)
    assert report.recording is not None
    session = Session(tmp_path, Overrides(), Output(Format.TABLE), lambda: datetime.now(UTC))
    module.describe(session, report)
    assert "Call\n  trap()\n" in capsys.readouterr().out
    module.describe(session, replace(report, recording=replace(report.recording, in_flight=2, overlapping=True)))
    assert "Calls in flight\n  add(1, 2)\n  trap()\n" in capsys.readouterr().out
