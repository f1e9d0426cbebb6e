"""docs/threats.md says what the code does: its tests exist, and they assert the codes beside them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fleet.errors import Code

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threats.md"
ATTACKS = 37
CODES = {str(code) for code in Code}


@dataclass(frozen=True)
class Row:
    """One attack."""

    number: int
    attack: str
    defence: str
    tests: tuple[str, ...]
    codes: tuple[str, ...]


def rows() -> list[Row]:
    """The table."""
    found = []
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| \d+ \|", line):
            number, attack, defence, proof, codes = (cell.strip() for cell in line.strip("|").split("|"))
            tests, names = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in (proof, codes))
            assert tests or proof == "not proven", f"{number}: a row has tests, or says that it is not proven"
            assert names or codes == "none", f"{number}: a row has codes, or says that there is none"
            found.append(Row(int(number), attack, defence, tests, names))
    return found


@cache
def functions(path: Path) -> dict[str, str]:
    """Name and source, decorators included, of the test functions of a file that pytest would collect."""
    source = path.read_text()
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def source_of(test: str) -> str:
    path, name = test.split("::")
    assert Path(path).name.startswith("test_"), test
    assert path.startswith("tests/"), test
    found = functions(ROOT / path)
    assert name in found, f"there is no {test}"
    return found[name]


def test_every_attack_has_a_row() -> None:
    assert [row.number for row in rows()] == list(range(1, ATTACKS + 1))
    assert all(row.attack and row.defence for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.number}")
def test_the_named_tests_exist_and_assert_the_codes(row: Row) -> None:
    sources = [source_of(test) for test in row.tests]
    for code in row.codes:
        assert code in CODES, code
        assert any(re.search(rf"\b{code}\b", source) for source in sources), f"no test of the row asserts {code}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.number}")
def test_each_named_test_asserts_a_code_of_its_row_or_needs_none(row: Row) -> None:
    """A test without an error code shows that something goes on, or does not happen; most have one."""
    with_code = [test for test in row.tests if any(re.search(rf"\b{code}\b", source_of(test)) for code in row.codes)]
    assert with_code or not row.codes


def test_the_attacks_of_this_folder_are_all_on_the_page() -> None:
    named = {test for row in rows() for test in row.tests}
    here = functions(ROOT / "tests/threats/test_attacks.py")
    assert {f"tests/threats/test_attacks.py::{name}" for name in here} <= named


@pytest.mark.slow
def test_everything_on_the_page_is_collected_and_passes() -> None:
    tests = sorted({test for row in rows() for test in row.tests})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "slow or not slow",
        "-p",
        "no:cacheprovider",
        "--no-header",
        *tests,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
