"""Emergency grants: one failing case for each numbered check, and that a draft of one always passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from fleet.errors import Code, FleetError
from fleet.grants import (
    Authority,
    BreakGlass,
    Grant,
    check_break_glass,
    draft_break_glass,
    parse_break_glass,
    parse_grant,
    subset,
)
from fleet.grants.document import MAX_BREAK_GLASS
from fleet.grants.limits import HIGHEST_LIMITS
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE
from tests.fakes.documents import GRANT
from tests.fakes.grant_strategies import authorities, grants
from tests.fakes.refusals import refusal

POLICY = b"""\
schema: fleet.break-glass/v1
max_validity: 4h
caps:
  wasi:logging/logging: []
  wasi:keyvalue/store: [{buckets: ["*"], ops: [get, set]}]
limits: {memory: 64MiB}
"""
BOUNDS = parse_break_glass(POLICY)
ORDINARY = parse_grant(GRANT.encode(), "grant.yaml")
BUNDLE = replace(ORDINARY.bundle, role="code-vision")
EMERGENCY = draft_break_glass(ORDINARY, BOUNDS, BUNDLE, ORDINARY.not_before, "pump 3 floods")


def refused(grant: Grant, role: str = BREAK_GLASS_ROLE, policy: BreakGlass | None = BOUNDS) -> tuple[object, str]:
    with pytest.raises(FleetError) as caught:
        check_break_glass(grant, role, policy)
    assert caught.value.code is Code.GRANT_NOT_APPLICABLE
    assert "remedy" in caught.value.detail
    return caught.value.detail["condition"], caught.value.private


def test_what_is_within_its_bounds_passes() -> None:
    check_break_glass(EMERGENCY, BREAK_GLASS_ROLE, BOUNDS)
    check_break_glass(ORDINARY, "grants-vision", BOUNDS)
    check_break_glass(ORDINARY, "grants-vision", None)


def test_1_the_mark_and_the_role_go_together() -> None:
    assert refused(EMERGENCY, "grants-vision") == ("break_glass", "grants-vision may not sign emergency grants")
    assert refused(ORDINARY) == ("break_glass", f"{BREAK_GLASS_ROLE} signs emergency grants alone")


def test_2_without_a_policy_there_are_none() -> None:
    condition, message = refused(EMERGENCY, policy=None)
    assert condition == "policy"
    assert BREAK_GLASS_PATH in message


def test_3_it_is_valid_for_no_longer_than_the_policy_allows() -> None:
    longer = replace(EMERGENCY, not_after=EMERGENCY.not_after + timedelta(seconds=1))
    condition, message = refused(longer)
    assert condition == "validity"
    assert message.endswith("allows 4h")


@pytest.mark.parametrize(
    ("change", "beyond"),
    [
        ({"capabilities": ORDINARY.capabilities}, "wasi:nn/graph"),
        ({"limits": replace(EMERGENCY.limits, memory_bytes=65 << 20)}, "limits.memory: 64MiB -> 65MiB"),
    ],
)
def test_4_it_gives_nothing_that_the_policy_does_not_allow(change: dict[str, object], beyond: str) -> None:
    condition, message = refused(replace(EMERGENCY, **change))  # type: ignore[arg-type]  # one field of a grant
    assert condition == "ceiling"
    assert beyond in message


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ((b"fleet.break-glass/v1", b"fleet.ceiling/v1"), "schema"),
        ((b"4h", b"25h"), "max_validity"),
        ((b"4h", b"36500d"), "max_validity"),
        ((b"4h", b"59s"), "max_validity"),
        ((b"4h", b"soon"), "max_validity"),
        ((b"max_validity: 4h\n", b""), "max_validity"),
        ((b"caps:", b"other: 1\ncaps:"), "other"),
        ((b"wasi:logging/logging", b"wasi:logging/nothing"), "caps.wasi:logging/nothing"),
    ],
)
def test_a_policy_that_cannot_be_read_is_never_taken_for_none(change: tuple[bytes, bytes], place: str) -> None:
    assert change[0] in POLICY
    error = refusal(lambda: parse_break_glass(POLICY.replace(*change)))
    assert error is not None
    assert (error.code, error.detail["place"]) == (Code.GRANT_INVALID, f"{BREAK_GLASS_PATH}: {place}")


def test_a_policy_without_limits_bounds_none() -> None:
    policy = parse_break_glass(POLICY.replace(b"limits: {memory: 64MiB}\n", b"").replace(b"4h", b"24h"))
    assert policy.authority.limits == HIGHEST_LIMITS
    assert policy.max_validity == MAX_BREAK_GLASS


@settings(max_examples=60, deadline=None)
@given(grants(), authorities())
def test_a_draft_passes_and_can_be_written_down(grant: Grant, allowed: Authority) -> None:
    policy = BreakGlass(timedelta(hours=2), allowed)
    bundle = replace(grant.bundle, role="code-vision")
    lease = replace(grant.lease, drop=())
    made = draft_break_glass(replace(grant, lease=lease), policy, bundle, grant.not_before, "why")
    check_break_glass(made, BREAK_GLASS_ROLE, policy)
    assert subset(made.authority, grant.authority)
    assert made.not_after - made.not_before == policy.max_validity
