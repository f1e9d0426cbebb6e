"""Rates that a grant gives."""

from __future__ import annotations

from edge_agent.capabilities.pace import Pace


def test_a_pace_counts_whole_seconds() -> None:
    now = [0]
    pace = Pace(lambda: now[0])
    assert [pace.take(2) for _ in range(3)] == [True, True, False]
    now[0] = 1_000_000_000
    assert pace.take(1)
    assert pace.take(None)
