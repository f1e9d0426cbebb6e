"""A rate, whatever the clock and the takers do."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.runner.token_bucket import TokenBucket

pauses = st.lists(st.integers(0, 3000).map(lambda milliseconds: milliseconds / 1000), max_size=80)


@given(st.integers(1, 50), pauses)
def test_takers_who_wait_keep_to_the_rate_in_every_window(rate, gaps):
    now, bucket, served = 0.0, TokenBucket(rate, 0.0), []
    for gap in gaps:
        now += gap
        now += bucket.take(now)
        served.append(now)
    for first, began in enumerate(served):
        for last in range(first, len(served)):
            # As many as the bucket holds at once, and the rate from then on.
            assert last - first + 1 <= rate + (served[last] - began) * rate + 1 + 1e-6


@given(st.integers(1, 50), pauses)
def test_nobody_waits_longer_than_the_tokens_before_him_take(rate, gaps):
    now, bucket, full = 0.0, TokenBucket(rate, 0.0), Fraction(rate)
    tokens = full
    for gap in gaps:
        now += gap
        tokens = min(full, tokens + Fraction(gap) * rate) - 1
        assert bucket.take(now) == pytest.approx(max(0.0, float(-tokens / rate)), abs=1e-6)


def test_a_quiet_second_gives_a_full_bucket_and_no_more():
    bucket = TokenBucket(10, 100.0)
    assert [bucket.take(100.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.0) == pytest.approx(0.2)
    assert [bucket.take(3600.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(3600.0) == pytest.approx(0.1)
