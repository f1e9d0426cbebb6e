"""Bundles among the Bytecode Alliance's own client, `wkg`, and the CNCF's registry: each reads what the other wrote.

Apart from `tests/interop`, since building `wkg` takes minutes: it has to be there already.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from fleet.oci import digest_of
from orchestrator.building.tools import program
from orchestrator.cli.layout import Layout
from orchestrator.cli.main import main
from tests.interop.programs import REGISTRY, go_program
from tests.interop.test_oci import COMPONENT, SAMPLE, serving

pytestmark = pytest.mark.slow

INSTALL = "Build it: `cargo install wkg --locked --version 0.16.1`, and put it on the PATH."


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    go_program(REGISTRY)  # before there is a home without what was built before
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path) as address:
        yield address


def wkg(registry: str, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("wkg", INSTALL), "oci", verb, "--insecure", registry, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def ok(*arguments: str) -> None:
    assert main(["-q", *arguments, "--insecure-no-tls"]) == ExitCode.OK


def test_wkg_pulls_the_component_of_a_bundle(registry: str) -> None:
    assert main(["-q", "bundle", "build", str(SAMPLE), "--to", "built"]) == ExitCode.OK
    place = f"{registry}/team/context"
    ok("bundle", "push", "built", "--to", f"oci://{place}:0.1.0")
    wasm = json.loads(Layout(Path("built")).index())["manifests"][0]["digest"]
    done = wkg(registry, "pull", "-o", "out.wasm", f"{place}@{wasm}")
    assert done.returncode == 0, done.stderr
    assert Path("out.wasm").read_bytes() == COMPONENT
    # An index is a choice of platforms to it; docs/bundles.md says so.
    assert "platform" in wkg(registry, "pull", "-o", "tag.wasm", f"{place}:0.1.0").stderr


def test_what_wkg_pushed_becomes_a_bundle(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("component.wasm").write_bytes(COMPONENT)
    done = wkg(registry, "push", f"{registry}/theirs/thing:2.0.0", "component.wasm")
    assert done.returncode == 0, done.stderr
    capsys.readouterr()
    named = ("--name", "thing", "--version", "2.0.0", "--to", "thing")
    ok("-o", "json", "bundle", "import", f"oci://{registry}/theirs/thing:2.0.0", *named)
    assert json.loads(capsys.readouterr().out)["component"]["digest"] == digest_of(COMPONENT)
