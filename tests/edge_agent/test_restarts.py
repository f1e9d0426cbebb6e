"""Delays double up to a cap; restarts have no cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.restarts import after_exit, ceiling_ms
from fleet.model import RestartPolicy

POLICY = RestartPolicy(initial_ms=500, cap_ms=60_000, stable_ms=60_000)
policies = st.builds(
    RestartPolicy,
    initial_ms=st.integers(1, 10**6),
    cap_ms=st.integers(1, 10**9),
    stable_ms=st.integers(1, 10**9),
)


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 500), (2, 1_000), (3, 2_000), (7, 32_000), (8, 60_000), (10**6, 60_000)]
)
def test_the_bound_doubles_up_to_the_cap(failures: int, expected: int) -> None:
    assert ceiling_ms(POLICY, failures) == expected


@pytest.mark.parametrize(("failures", "ran_ms", "counted"), [(0, 0, 1), (4, 59_999, 5), (4, 60_000, 1), (4, 10**9, 1)])
def test_a_stable_period_begins_a_new_count(failures: int, ran_ms: int, counted: int) -> None:
    assert after_exit(POLICY, failures, ran_ms, 0.5).failures == counted


@given(policies, st.integers(0, 10**6), st.floats(0, 1e12), st.floats(0, 1, exclude_max=True))
def test_the_delay_is_always_within_the_cap(policy: RestartPolicy, failures: int, ran_ms: float, jitter: float) -> None:
    restart = after_exit(policy, failures, ran_ms, jitter)
    assert 0 <= restart.delay_ms <= policy.cap_ms
    assert restart.failures >= 1


@given(policies, st.integers(1, 200))
def test_the_bound_never_falls(policy: RestartPolicy, failures: int) -> None:
    assert ceiling_ms(policy, failures) <= ceiling_ms(policy, failures + 1)


def test_jitter_outside_its_range_is_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match="jitter"):
        after_exit(POLICY, 0, 0, 1.0)
