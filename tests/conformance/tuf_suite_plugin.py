"""A pytest plugin that runs inside of theupdateframework/tuf-conformance: its own keys and a list of what came out.

Runs in the suite's environment, not in this project's; imports nothing but the suite.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tuf_conformance._internal.repository_simulator import RepositorySimulator

if TYPE_CHECKING:
    import pytest

RESULTS = Path(os.environ["TUF_SUITE_RESULTS"])
FOUND: dict[str, dict[str, str]] = {}


def pytest_configure() -> None:
    """Let the repositories of the suite have Ed25519 keys where it names no scheme, if that is asked for."""
    if os.environ.get("TUF_SUITE_KEYS") != "ed25519":
        return
    new_signer = RepositorySimulator.new_signer
    RepositorySimulator.new_signer = lambda self, *scheme: new_signer(self, *(scheme or ("ed25519", "ed25519")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each test's outcome, and the last words of the client where it failed."""
    if report.when == "call" or report.failed:
        words = report.capstderr.strip().splitlines() if report.failed else []
        FOUND[report.nodeid.partition("::")[2]] = {"outcome": report.outcome, "client": words[-1] if words else ""}


def pytest_sessionfinish() -> None:
    """Write the list."""
    RESULTS.write_text(json.dumps(FOUND, indent=1, sort_keys=True))
