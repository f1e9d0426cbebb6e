"""Run theupdateframework/tuf-conformance against the node's TUF client, and compare with what is expected.

    python -m tests.conformance.tuf_suite FOLDER [--publish]

FOLDER is a checkout of the suite, which no package registry has; what it needs itself (python-tuf and pytest, in the
versions that it pins) is installed from PyPI into an environment of its own, build/tuf-conformance. It runs twice:

    tuf     the client workflow alone, with the suite's own keys (RSA, ECDSA, Ed25519)
    fleet   as a node verifies, with Ed25519 keys wherever a test asks for no other scheme

Ends with 0 when every outcome is the one in tuf_expected.json, where each failure stands with its reason and the
client's own last words; an unexpected success is as wrong as an unexpected failure. `--publish` writes
docs/tuf-conformance.md. Some tests need Debian's `faketime`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
import venv
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).with_name("tuf_expected.json")
PAGE = ROOT / "docs" / "tuf-conformance.md"
ENVIRONMENT = ROOT / "build" / "tuf-conformance"
RUNS = {"tuf": "", "fleet": "ed25519"}
"""Rules of the client and keys of the repositories; the suite's own where none are named."""

TIMEOUT_S = 3600

DESCRIBED = {
    "tuf": "the client workflow alone (`fleet.metadata`); the suite's keys: RSA, ECDSA, Ed25519",
    "fleet": "as a node verifies (`fleet.trust` over that workflow); Ed25519 keys where a test names no scheme",
}

INTRODUCTION = """# Conformance of the node's TUF client

Written by `make tuf-conformance SUITE=FOLDER PUBLISH=1` on {day:%Y-%m-%d}: theupdateframework/tuf-conformance {suite},
python-tuf {tuf}, Python {python}.

The suite drives a client as a program (`init`, `refresh`, `download`) against repositories that it makes up: rollback,
freeze, mix-and-match, fast-forward, rotation of keys, thresholds, delegation graphs, strange names, repositories of
others. The client is `tests/conformance/tuf_client.py` over the modules that a node runs. No package registry has the
suite, so it runs from a checkout. Every outcome is compared with `tests/conformance/tuf_expected.json`, where each
failure has its reason and the client's own last words.

| run | client | tests | pass | fail, each expected |
|---|---|---|---|---|
{runs}

## What a node refuses, or does otherwise, that TUF would allow

| tests | reason |
|---|---|
{reasons}
"""


@dataclass(frozen=True)
class Failure:
    """A test that fails, on purpose: a word that `reasons` explains, and the client's last words."""

    reason: str
    client: str


@dataclass(frozen=True)
class Expected:
    """The committed expectations; tests that are not named pass.

    Attributes:
        total: tests of the suite.
        reasons: word to explanation.
        failures: run to test to failure.
    """

    total: int
    reasons: dict[str, str]
    failures: dict[str, dict[str, Failure]]

    @classmethod
    def load(cls) -> Expected:
        """Read tuf_expected.json."""
        tree = json.loads(EXPECTED.read_text())
        failures = {
            run: {test: Failure(*told) for test, told in tests.items()} for run, tests in tree["failures"].items()
        }
        return cls(tree["total"], tree["reasons"], failures)

    def deviations(self, run: str, found: dict[str, dict[str, str]]) -> list[str]:
        """What is otherwise than expected, in words; empty when nothing is."""
        wanted = self.failures[run]
        told = [] if len(found) == self.total else [f"{run}: {len(found)} tests, expected {self.total}"]
        told += [f"{run}: {test} is not in the suite" for test in sorted(wanted.keys() - found.keys())]
        for test, result in sorted(found.items()):
            failure = wanted.get(test)
            if failure is None and result["outcome"] != "passed":
                told.append(f"{run}: {test} {result['outcome']} unexpectedly: {result['client']}")
            elif failure is not None and result["outcome"] == "passed":
                told.append(f"{run}: {test} passed unexpectedly; it is listed for: {failure.reason}")
            elif failure is not None and result["client"] != failure.client:
                told.append(f"{run}: {test} failed otherwise: {result['client']!r}, expected {failure.client!r}")
        return told


def prepare(suite: Path) -> Path:
    """Return the interpreter of the suite's environment, made when it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        wanted = tomllib.loads((suite / "pyproject.toml").read_text())["project"]["dependencies"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, timeout=TIMEOUT_S)
    return python


def run_suite(python: Path, suite: Path, rules: str, keys: str) -> dict[str, dict[str, str]]:
    """Run every test of the suite; returns test to outcome and the client's last words."""
    results = ENVIRONMENT / f"{rules}.json"
    results.unlink(missing_ok=True)
    client = f"{sys.executable} -m tests.conformance.tuf_client --rules {rules}"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}",
        "TUF_SUITE_RESULTS": str(results),
        "TUF_SUITE_KEYS": keys,
    }
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "tuf_suite_plugin",
    ]
    subprocess.run(
        [*command, "--entrypoint", client, "tuf_conformance"],
        cwd=suite, env=environment, check=False, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = json.loads(results.read_text())
    return found


def page(expected: Expected, found: dict[str, dict[str, dict[str, str]]], suite: str) -> str:
    """The results as a page of docs/."""
    runs = []
    for run, results in found.items():
        passed = sum(result["outcome"] == "passed" for result in results.values())
        runs.append(f"| {run} | {DESCRIBED[run]} | {len(results)} | {passed} | {len(results) - passed} |")
    counts = Counter(failure.reason for failure in expected.failures["fleet"].values())
    return INTRODUCTION.format(
        day=datetime.now(UTC),
        suite=suite,
        tuf=version("tuf"),
        python=platform.python_version(),
        runs="\n".join(runs),
        reasons="\n".join(f"| {counts[word]} | {text} |" for word, text in expected.reasons.items()),
    )


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="The TUF conformance suite against the node's client.")
    parser.add_argument("suite", type=Path, help="a checkout of theupdateframework/tuf-conformance")
    parser.add_argument("--publish", action="store_true", help="write docs/tuf-conformance.md")
    options = parser.parse_args()
    suite = options.suite.resolve()
    if not (suite / "tuf_conformance").is_dir() or shutil.which("faketime") is None:
        sys.stderr.write("needs a checkout of theupdateframework/tuf-conformance, and the program faketime\n")
        return 2
    python, expected = prepare(suite), Expected.load()
    found = {rules: run_suite(python, suite, rules, keys) for rules, keys in RUNS.items()}
    deviations = [line for run, results in found.items() for line in expected.deviations(run, results)]
    for run, results in found.items():
        outcomes = Counter(result["outcome"] for result in results.values())
        sys.stdout.write(f"{run}: {', '.join(f'{count} {word}' for word, count in sorted(outcomes.items()))}\n")
    sys.stdout.write("".join(f"{line}\n" for line in deviations) or "every outcome is the expected one\n")
    if options.publish and not deviations:
        lines = (suite / "tuf_conformance" / "__init__.py").read_text().splitlines()
        (release,) = [line.partition("=")[2].strip(' "') for line in lines if line.startswith("__version__")]
        PAGE.write_text(page(expected, found, release))
    return 1 if deviations else 0


if __name__ == "__main__":
    sys.exit(main())
