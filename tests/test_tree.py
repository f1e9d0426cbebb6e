"""House rules that hold for the whole tree."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from fleet.errors import CATALOG, Code

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    paths = [ROOT / line for line in listed if "/v1/" not in line]
    return [path for path in paths if path.exists()]


SOURCES = _tracked("fleet/**.py", "orchestrator/**.py", "edge_agent/**.py")
EVERYTHING = _tracked("*.py", "*.rs", "*.toml", "*.yaml", "*.md", "*.proto", "Makefile")

pytestmark = pytest.mark.skipif(not SOURCES, reason="needs the git checkout: an unpacked archive lists no files")


def test_no_module_outgrows_its_room() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_nothing_is_postponed_in_the_code() -> None:
    mark = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    postponed = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]
    assert postponed == []


def test_only_the_renderer_prints() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if path.name != "render.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_every_module_says_what_it_owns() -> None:
    silent = [str(p.relative_to(ROOT)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_every_code_has_a_catalog_row_with_text_and_remedy() -> None:
    assert set(CATALOG) == set(Code)
    for code, row in CATALOG.items():
        assert row.public.endswith("."), code
        assert len(row.remedy) > 10, code


def test_every_code_is_raised_by_the_code_and_expected_by_a_test() -> None:
    raised = "\n".join(p.read_text() for p in SOURCES if p != ROOT / "fleet" / "errors.py")
    expected = "\n".join(p.read_text() for p in _tracked("tests/**.py"))
    unused = [code for code in Code if not re.search(rf"Code\.{code}\b", raised)]
    untested = [code for code in Code if not re.search(rf"\b{code}\b", expected)]
    assert (unused, untested) == ([], [])


def test_no_path_of_a_machine_is_committed() -> None:
    assert [p for p in EVERYTHING if re.search(r"/(root|home/\w+|work)/[a-z.]", p.read_text(errors="replace"))] == []
