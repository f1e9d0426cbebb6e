"""The recorded stories come out as they are written; `RECORD_STORIES=1 pytest tests/simulation` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulation.story import told

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    recorded = path.read_text()
    now = told(recorded)
    if os.environ.get("RECORD_STORIES"):
        path.write_text(now)
        pytest.skip("recorded")
    assert now == recorded


def test_a_story_is_the_same_every_time() -> None:
    script = (SCRIPTS[0].parent / "power_cut_while_adopting.txt").read_text()
    assert told(script) == told(script)
