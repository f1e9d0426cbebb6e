"""What the README of a scaffold says, done line by line by fleetctl on a fleet of real processes."""

from __future__ import annotations

import re
import shlex

import pytest

from fleet.bundle import Language, parse_bundle_manifest
from orchestrator.building import build_component, scaffold
from tests.languages import toolchains
from tests.languages.test_matrix import WORLD, Sample, logged, take

pytestmark = pytest.mark.slow

ANSWERS = {("grant", "approve"): ["--yes"]}
"""What a person would answer at the prompt."""


def commands(readme: str) -> list[list[str]]:
    """The lines of a README that are typed into a shell, without `fleetctl`."""
    return [shlex.split(line, comments=True) for line in re.findall(r"^ {4}fleetctl (.*)$", readme, re.MULTILINE)]


@pytest.mark.parametrize("language", [Language.C, Language.RUST])
def test_every_line_of_the_readme_is_true(fleet, tmp_path, language) -> None:
    fleet.join("n1")
    project = tmp_path / "roof-watch"
    fleet.ctl("bundle", "new", "roof-watch", "--lang", language.value, "--dir", str(project))
    lines = commands((project / "README.md").read_text())
    assert [line[0] for line in lines] == ["bundle", "bundle", "grant", "grant", "deploy", "call"]
    for line in lines:
        done = fleet.ctl(*line, *ANSWERS.get((line[0], line[1]), ()), cwd=project)
    assert done.stdout.strip() == 'ok({source: "roof", count: 1, score: 0.0})'
    (agent,) = fleet.agents("roof-watch")
    assert (agent["agent"], agent["phase"], agent["restarts"]) == ("roof-watch/readings", "running", 0)


async def test_c_prints_into_its_log_once_nowasi_is_gone(host, tmp_path) -> None:
    folder = tmp_path / "roof-watch"
    scaffold("roof-watch", Language.C, folder)
    (folder / "nowasi.c").unlink()
    source = (folder / "agent.c").read_text()
    begin = source.index("{", source.index("bool exports_fleet_sample_readings_take(")) + 1
    (folder / "agent.c").write_text(f'#include <stdio.h>\n{source[:begin]}\n  puts("taken");\n{source[begin:]}')
    manifest = parse_bundle_manifest((folder / "bundle.yaml").read_bytes(), "bundle.yaml")
    built = build_component(folder, manifest, toolchains.tools())
    sample = Sample(Language.C, built.read_bytes(), tmp_path)
    await host.start(sample.start({**WORLD, "wasi:clocks/wall-clock": [{}]}))
    assert await take(host, "roof", "4.5") == ("roof", 1, 0.0)
    assert await logged(host, 2) == [("info", "stdout", "taken"), ("info", "agent", "reading 1 of roof")]
