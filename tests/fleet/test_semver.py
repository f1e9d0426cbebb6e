"""Versions in the order of SemVer 2.0.0, and ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.semver import is_at_least, parse_range, parse_version
from tests.fakes.refusals import refusal


def version(text):
    return parse_version(text, Code.BUNDLE_INVALID, "here")


def inside(text, range_text):
    return version(text) in parse_range(range_text, Code.GRANT_INVALID, "here")


# semver.org, section 11, and a few more.
ASCENDING = (
    "0.0.1",
    "0.1.0",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-11",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-draft2",
    "1.0.0-rc.1",
    "1.0.0-rc-2024-10-28",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
)


def test_precedence():
    keys = [version(text).precedence for text in ASCENDING]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("text", ASCENDING)
def test_versions_are_written_as_they_were_read(text):
    assert str(version(text)) == text


def test_build_metadata_never_decides():
    assert version("1.0.0+a.1") == version("1.0.0+b") == version("1.0.0")


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.02.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+"),
        *("1.2.3-\u00e9", " 1.2.3", "1.2.3\n", "1.2.x", "-1.2.3", "\u0661.2.3"),
        *("1.2.3-" + "a" * 64, "9" * 5000 + ".0.0"),
    ],
)
def test_no_versions(text):
    with pytest.raises(FleetError) as caught:
        version(text)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.BUNDLE_INVALID, "here")


@pytest.mark.parametrize(
    ("range_text", "members", "others"),
    [
        (">=1.4,<2", "1.4.0 1.4.1 1.99.0", "1.3.9 2.0.0 2.0.0-rc.1 1.4.0-rc.1 1.5.0-rc.1"),
        (">=1.4, <2", "1.4.0", "2.0.0"),
        ("=0.1.0", "0.1.0 0.1.0+build", "0.1.1 0.1.0-a"),
        (">1", "1.0.1", "1.0.0"),
        ("<=1.2", "1.2.0 0.0.0", "1.2.1"),
        ("=1.0.0-rc.1", "1.0.0-rc.1", "1.0.0 1.0.0-rc.2"),
        (">=1.0.0-rc.1,<2", "1.0.0-rc.1 1.0.0-rc.2 1.0.0 1.5.0", "1.0.0-alpha 1.1.0-rc.2 2.0.0-a"),
        (">=2,<1", "", "1.0.0 2.0.0"),
    ],
)
def test_ranges(range_text, members, others):
    assert all(inside(text, range_text) for text in members.split())
    assert not any(inside(text, range_text) for text in others.split())


def test_a_range_keeps_its_text():
    assert parse_range(">=1.4, <2", Code.GRANT_INVALID, "here").text == ">=1.4,<2"


@pytest.mark.parametrize(
    "text", ["", "1.4", "*", "^1", "~1.2", ">=1.4 <2", ">=1.4,", "=>1", "==1", ">=1-a", ">=" + "1" * 80]
)
def test_no_ranges(text):
    with pytest.raises(FleetError) as caught:
        parse_range(text, Code.GRANT_INVALID, "here")
    assert caught.value.code is Code.GRANT_INVALID


def test_comparators_are_capped():
    with pytest.raises(FleetError, match="9 comparators"):
        parse_range(",".join([">1"] * 9), Code.GRANT_INVALID, "here")


@given(st.text("0123456789.-+abc<>=, ", max_size=20))
def test_arbitrary_text_raises_nothing_else(text):
    refusal(lambda: version(text))
    refusal(lambda: parse_range(text, Code.GRANT_INVALID, "here"))


@pytest.mark.parametrize(
    ("version", "least", "expected"),
    [
        ("1.2.3", "1.2.3", True),
        ("1.10.0", "1.9.0", True),
        ("1.2.3-rc.1", "1.2.3", False),
        ("1.2.2", "1.2.3", False),
        ("", "0.0.1", False),
        ("newest", "0.0.1", False),
    ],
)
def test_a_reported_version_is_compared_and_an_unreadable_one_is_too_old(
    version: str, least: str, expected: bool
) -> None:
    assert is_at_least(version, least) is expected
