"""Each kind of constraint keeps the laws of a lattice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.grants.constraints import Literals, Maximum, Patterns
from tests.fakes.grant_strategies import PATTERNS, WORDS

patterns = st.frozensets(st.sampled_from(PATTERNS), min_size=1, max_size=4).map(Patterns)
literals = st.frozensets(st.sampled_from(WORDS), min_size=1, max_size=4).map(Literals)
maxima = st.integers(0, 5).map(Maximum)
values = st.sampled_from(WORDS) | st.text(max_size=3)


@pytest.mark.parametrize("kind", [patterns, literals], ids=["patterns", "literals"])
def test_meet_allows_what_both_allow(kind):
    @given(kind, kind, values)
    def law(a, b, value):
        both = a.meet(b)
        assert (both is not None and both.allows(value)) == (a.allows(value) and b.allows(value))

    law()


@pytest.mark.parametrize("kind", [patterns, literals, maxima], ids=["patterns", "literals", "maxima"])
def test_within_is_a_preorder_below_which_meet_lies(kind):
    @given(kind, kind, kind)
    def law(a, b, c):
        assert a.within(a)
        if a.within(b) and b.within(c):
            assert a.within(c)
        both = a.meet(b)
        if both is not None:
            assert both.within(a)
            assert both.within(b)
        if a.within(b):
            assert both is not None
            assert a.within(both)

    law()


@pytest.mark.parametrize("kind", [patterns, literals], ids=["patterns", "literals"])
def test_within_is_sound(kind):
    @given(kind, kind, values)
    def law(a, b, value):
        if a.within(b) and a.allows(value):
            assert b.allows(value)

    law()


def test_patterns_within_misses_nothing():
    """For prefixes the check is also complete: whatever is not covered has a witness."""

    @given(patterns, patterns)
    def law(a, b):
        if not a.within(b):
            witnesses = [pattern.rstrip("*") + tail for pattern in a.patterns for tail in ("", "zzz")]
            assert any(a.allows(value) and not b.allows(value) for value in witnesses)

    law()


@pytest.mark.parametrize(
    ("patterns", "value", "allowed"),
    [
        ({"frames"}, "frames", True),
        ({"frames"}, "frames2", False),
        ({"cfg-*"}, "cfg-", True),
        ({"cfg-*"}, "cfg-x", True),
        ({"cfg-*"}, "cfg", False),
        ({"*"}, "", True),
        ({"a"}, "A", False),
        ({"a"}, "*", False),
        ({"a*"}, "*", False),
    ],
)
def test_patterns(patterns, value, allowed):
    assert Patterns(frozenset(patterns)).allows(value) is allowed


def test_texts_are_sorted():
    assert Patterns(frozenset({"b", "a*"})).texts == ("a*", "b")
    assert Literals(frozenset({"set", "get"})).texts == ("get", "set")
    assert Maximum(3).meet(Maximum(2)) == Maximum(2)
