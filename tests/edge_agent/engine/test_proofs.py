"""The proofs of `make hammer`, short: calls leak nothing, threads share nothing."""

from __future__ import annotations

import pytest

from bench.proofs import leaks, page, storm


@pytest.mark.slow  # `make hammer` proves the same with more calls
def test_calls_leak_nothing_whatever_they_carry() -> None:
    found = list(leaks(2000))
    assert [leak.shape for leak in found if leak.found] == []
    assert len(found) == 14


def test_threads_share_nothing() -> None:
    seen = storm(2.0, 8)
    assert seen.wrong == []
    assert {what for what in seen.counts if what.startswith("ended by")} == {
        "ended by trap",
        "ended by exception",
        "ended by interrupt",
        "ended by stop",
        "ended by close",
    }
    assert "8 threads for 2 s: 0 wrong or lost." in page([], seen)
