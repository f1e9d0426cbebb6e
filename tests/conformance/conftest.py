"""Counts of the conformance suites, shown at their end."""

from __future__ import annotations

from collections import Counter

import pytest

COUNTS = pytest.StashKey[dict[str, Counter[str]]]()


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> dict[str, Counter[str]]:
    """Suite -> outcome -> number of cases."""
    return request.config.stash.setdefault(COUNTS, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for suite, outcomes in config.stash.get(COUNTS, {}).items():
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.write_line(f"{suite}: {outcomes.total()} cases, {parts}")
