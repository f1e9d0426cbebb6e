"""Quantiles of durations against the exact ones."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.runner.latencies import MAX_US, WINDOW_S, Histogram, RecentLatencies

durations = st.lists(st.one_of(st.integers(0, 200), st.integers(0, MAX_US)), min_size=1, max_size=60)


def counted(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations, st.integers(1, 100))
def test_a_quantile_is_never_too_short_and_less_than_an_eighth_too_long(values, share):
    exact = sorted(values)[math.ceil(len(values) * share / 100) - 1]
    found = counted(values).quantile(share)
    assert exact <= found
    assert found < exact * 9 / 8 or found == exact
    if exact < 16:
        assert found == exact


@given(durations, durations, st.integers(1, 100))
def test_two_histograms_make_one(left, right, share):
    both = counted(left) + counted(right)
    assert both.total == len(left) + len(right)
    assert both.quantile(share) == counted(left + right).quantile(share)


def test_nothing_has_no_quantile_and_what_is_out_of_range_counts_as_its_end():
    assert Histogram().quantile(50) == 0
    assert counted([-5]).quantile(100) == 0
    assert counted([MAX_US * 9]).quantile(100) == MAX_US


def test_the_past_is_forgotten_after_one_to_two_windows():
    recent = RecentLatencies()
    recent.add(10, 0.0)
    assert recent.quantiles(WINDOW_S - 1, 50, 99) == (10, 10)
    recent.add(15, WINDOW_S)
    assert recent.quantiles(WINDOW_S + 1, 50, 99) == (10, 15), "the window before still counts"
    assert recent.quantiles(2 * WINDOW_S, 50, 99) == (15, 15)
    assert recent.quantiles(4 * WINDOW_S, 50, 99) == (0, 0)
