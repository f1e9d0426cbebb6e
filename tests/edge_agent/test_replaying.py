"""The command `edge-agent replay` over files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.replaying import replay_files
from fleet.bundle import MAX_COMPONENT
from fleet.crash import MAX_REPORT, CrashReport, encode_report
from fleet.errors import Code, FleetError
from tests.fakes.agents import Node
from tests.fakes.crashes import crash
from tests.fakes.guests import guest


@pytest.fixture
def trapped(tmp_path: Path) -> CrashReport:
    node = Node(tmp_path / "state")
    (tmp_path / "c.wasm").write_bytes(guest())
    return crash(node, guest(), ["trap()"])


def program(tmp_path: Path, report: bytes) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "r.json"
    file.write_bytes(report)
    command = [sys.executable, "-m", "edge_agent.agent", "replay", str(file), "--component", str(tmp_path / "c.wasm")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.system
def test_the_program_says_in_json_whether_it_is_the_same(tmp_path: Path, trapped: CrashReport) -> None:
    done = program(tmp_path, encode_report(trapped))
    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["same"], outcome["report"]) == (0, True, trapped.id)
    assert outcome["frames"][0]["module"] == "m"
    other = program(tmp_path, encode_report(replace(trapped, message="something else")))
    assert (other.returncode, json.loads(other.stdout)["same"]) == (1, False)
    changed = program(tmp_path, encode_report(trapped).replace(b"node-1", b"node-2"))
    assert (changed.returncode, changed.stdout) == (7, "")
    assert "DIGEST_MISMATCH" in changed.stderr


@pytest.mark.parametrize("limit", [MAX_REPORT, MAX_COMPONENT])
def test_files_that_cannot_be_read_or_are_too_large_are_refused(
    tmp_path: Path, trapped: CrashReport, limit: int
) -> None:
    report, component = tmp_path / "r.json", tmp_path / "c.wasm"
    with pytest.raises(FleetError) as caught:
        replay_files(report, component)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.CONFIG_INVALID, str(report))
    report.write_bytes(encode_report(trapped))
    large = report if limit == MAX_REPORT else component
    with large.open("wb") as file:
        file.truncate(limit + 1)
    with pytest.raises(FleetError) as caught:
        replay_files(report, component)
    assert caught.value.code is Code.LIMIT_EXCEEDED
