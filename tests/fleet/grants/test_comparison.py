"""What an approver is shown between two revisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import Code
from fleet.grants import (
    VOCABULARY,
    Lease,
    OnLapse,
    Request,
    Risk,
    check_applies,
    check_request,
    diff,
    diff_grants,
    parse_grant,
    review_request,
)
from fleet.semver import parse_range
from tests.fakes.documents import DIGEST, GRANT
from tests.fakes.grant_strategies import grants, reviews
from tests.fakes.refusals import refusal

OLD = parse_grant(GRANT.encode(), "grant.yaml")
OTHER = DIGEST.replace("a", "b")
DAY = 86_400_000


def bundle(**changes):
    return {"bundle": replace(OLD.bundle, **changes)}


def lease(days, action, *drop):
    return {"lease": Lease(days * DAY, action, drop)}


def test_the_first_grant_is_all_new():
    assert diff_grants(None, OLD) == diff(None, OLD.authority)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"agent": "climate/other"}, "agent: climate/context -> climate/other"),
        (bundle(name="other-agent"), "bundle.name: context-agent -> other-agent"),
        (
            bundle(versions=parse_range(">=0.1.0", Code.GRANT_INVALID, "")),
            "bundle.versions: >=0.1.0,<0.2 -> >=0.1.0",
        ),
        (bundle(digests=()), f"bundle.sha256: {DIGEST} -> any"),
        (bundle(digests=(OTHER,)), f"bundle.sha256: {DIGEST} -> {OTHER}"),
        ({"node_labels": {"site": "oslo"}}, "nodes.labels: site=oslo,zone=line-3 -> site=oslo"),
        ({"node_labels": {}}, "nodes.labels: site=oslo,zone=line-3 -> any"),
        (
            {"not_before": datetime(2025, 1, 1, tzinfo=UTC)},
            "validity.not_before: 2026-01-01T00:00:00Z -> 2025-01-01T00:00:00Z",
        ),
        (
            {"not_after": datetime(2028, 1, 1, tzinfo=UTC)},
            "validity.not_after: 2027-01-01T00:00:00Z -> 2028-01-01T00:00:00Z",
        ),
        (lease(31, OnLapse.STOP), "lease: 30d then drop wasi:nn/graph -> 31d then stop"),
        (lease(1, OnLapse.CONTINUE), "lease: 30d then drop wasi:nn/graph -> 1d then continue"),
        (
            lease(30, OnLapse.DROP, "wasi:nn/inference"),
            "lease: 30d then drop wasi:nn/graph -> 30d then drop wasi:nn/inference",
        ),
        ({"risk": Risk.STANDARD}, "risk: high -> standard"),
        ({"break_glass": True}, "break_glass: false -> true"),
    ],
)
def test_widening(changes, line):
    change = diff_grants(OLD, replace(OLD, **changes))
    assert change.widened == (line,)
    assert change.narrowed == ()


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"node_labels": {**OLD.node_labels, "rack": "9"}}, "nodes.labels: "),
        ({"not_before": datetime(2026, 2, 1, tzinfo=UTC)}, "validity.not_before: "),
        ({"not_after": datetime(2026, 2, 1, tzinfo=UTC)}, "validity.not_after: "),
        (lease(30, OnLapse.STOP), "lease: "),
        (lease(29, OnLapse.DROP, "wasi:nn/graph", "wasi:nn/inference"), "lease: "),
    ],
)
def test_narrowing(changes, start):
    change = diff_grants(OLD, replace(OLD, **changes))
    assert change.widened == ()
    assert [line.startswith(start) for line in change.narrowed] == [True]


GRAPH, STORE = "wasi:nn/graph", "wasi:keyvalue/store"
ONE, TWO = review_request([GRAPH]), review_request([GRAPH, STORE])


@pytest.mark.parametrize(
    ("old", "new", "widens"),
    [
        (ONE, None, True),
        (None, ONE, False),
        (ONE, TWO, True),
        (TWO, ONE, False),
        (ONE, review_request([STORE]), True),
        (Request(ONE.digest), ONE, True),
        (ONE, Request(ONE.digest), False),
        (ONE, Request(TWO.digest), True),
        (Request(ONE.digest), TWO, True),
    ],
)
def test_what_a_bundle_may_ask_for(old, new, widens):
    change = diff_grants(replace(OLD, request=old), replace(OLD, request=new))
    shown, other = (change.widened, change.narrowed) if widens else (change.narrowed, change.widened)
    assert [line.startswith("request: ") for line in shown] == [True]
    assert other == ()


def test_less_care_widens_and_more_narrows():
    low = replace(OLD, risk=Risk.LOW)
    assert diff_grants(low, OLD).narrowed == ("risk: low -> high",)
    assert diff_grants(replace(OLD, break_glass=True), OLD).narrowed == ("break_glass: true -> false",)


def test_pinning_narrows():
    loose = replace(OLD, **bundle(digests=()))
    two = replace(OLD, **bundle(digests=(DIGEST, OTHER)))
    assert diff_grants(loose, OLD).widened == ()
    assert diff_grants(two, OLD).widened == ()
    assert diff_grants(OLD, two).widened


@settings(max_examples=40, deadline=None)
@given(grants(), grants())
def test_a_change_of_scope_shows_one_way_or_the_other(old, new):
    change = diff_grants(old, new)
    same = replace(
        new, capabilities=old.capabilities, limits=old.limits, reason=old.reason, proposed_by=old.proposed_by
    )
    if replace(same, revision=old.revision) != old:
        assert change.widened or change.narrowed
    assert diff_grants(new, new) == diff(new.authority, new.authority)


def applies(grant, **facts):
    return refusal(lambda: check_applies(grant, bundle_name="b", **facts)) is None


@settings(max_examples=30, deadline=None)
@given(grants(), grants(), st.sampled_from(("1.4.0", "0.1.0", "2.5.0")), st.sampled_from("0af"), st.booleans())
def test_whatever_applies_anew_is_reported_as_widening(old, new, version, digit, early):
    moment = new.not_before if early else new.not_after - timedelta(seconds=1)
    digest = f"sha256:{digit * 64}"
    facts = {"bundle_version": version, "bundle_digest": digest, "labels": new.node_labels, "now": moment}
    # Mostly alike, so that the one thing that differs is what decides.
    for other in (old, replace(new, bundle=old.bundle), replace(new, node_labels=old.node_labels), new):
        if applies(new, agent=new.agent, **facts) and not applies(other, agent=new.agent, **facts):
            assert diff_grants(other, new).widened


@settings(max_examples=150, deadline=None)
@given(reviews(), reviews(), st.lists(st.sampled_from(sorted(VOCABULARY)[:4]), unique=True))
def test_whatever_may_be_asked_for_anew_is_reported_as_widening(old, new, imports):
    def admits(request):
        return refusal(lambda: check_request(request, imports, imports, OLD.agent, "b@1.0.0")) is None

    if admits(new) and not admits(old):
        assert diff_grants(replace(OLD, request=old), replace(OLD, request=new)).widened
