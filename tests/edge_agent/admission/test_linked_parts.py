"""Admission of agents that call each other: what links need, and what fused parts may together."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from edge_agent.fusion import Wire
from fleet.errors import Code
from fleet.grants import (
    Authority,
)
from fleet.model import Isolation, Link
from fleet.oci import digest_of
from tests.edge_agent.admission.conftest import KEYVALUE, LOGGING, NAME, STORE_CAPS, TWO, Case, Make, add_part, refusal
from tests.fakes.fleet import component
from tests.fakes.publisher import NOW

SCORE = "acme:pipeline/score@0.1.0"


ALERT = "acme:pipeline/alert@0.1.0"
SCORE_CAPS = "{'acme:pipeline/score': [{agents: [app/two]}], 'wasi:logging/logging': []}"


def linked(make: Make, isolation: Isolation, caps: str = SCORE_CAPS) -> Case:
    case = make(SCORE, LOGGING, caps=caps)
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, isolation),))
    return case


async def test_5_a_link_is_handed_over_under_the_name_of_the_import(make: Make) -> None:
    case = linked(make, Isolation.STORE)
    case.spec = replace(case.spec, links=(Link("acme:pipeline/score", TWO),))
    start = (await case.admit()).start
    assert start.links == {SCORE: TWO}
    assert start.fusion is None


async def test_5_a_captured_coordinator_links_to_no_agent_that_the_grant_does_not_name(make: Make) -> None:
    case = linked(make, Isolation.STORE)
    case.spec = replace(case.spec, links=(Link(SCORE, "app/other"),))
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED
    case = linked(make, Isolation.STORE, "{'wasi:logging/logging': []}")
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED


async def test_the_parts_of_a_whole_are_handed_over(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, KEYVALUE, ALERT, links=(Link(ALERT, "app/three"),), caps=PART_CAPS, model="m")
    start = (await case.admit()).start
    assert start.fusion is not None
    assert [part.agent for part in start.fusion.parts] == [NAME, TWO]
    assert [part.component.read_bytes() for part in start.fusion.parts] == [
        component(SCORE, LOGGING),
        component(KEYVALUE, ALERT),
    ]
    assert start.fusion.wires == (Wire(0, SCORE, 1),)
    assert start.links == {ALERT: "app/three"}
    assert start.models["anomaly"].digest == digest_of(b"m")
    authority = Authority.decode(start.authority)
    assert authority.allows("wasi:logging/logging")
    assert authority.allows("wasi:keyvalue/store", bucket="two", op="get")


PART_CAPS = (
    "{'wasi:keyvalue/store': [{buckets: [two, one], ops: [get]}], 'acme:pipeline/alert': [{agents: [app/three]}]}"
)


async def test_what_two_parts_import_is_what_both_may_do(make: Make) -> None:
    case = make(
        SCORE, KEYVALUE, caps=f"{SCORE_CAPS[:-1]}, 'wasi:keyvalue/store': [{{buckets: [one], ops: [get, set]}}]}}"
    )
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, Isolation.NONE),))
    add_part(case, KEYVALUE, caps="{'wasi:keyvalue/store': [{buckets: [one, two], ops: [get]}]}")
    authority = Authority.decode((await case.admit()).start.authority)
    allowed = {
        (bucket, op)
        for bucket in ("one", "two")
        for op in ("get", "set")
        if authority.allows("wasi:keyvalue/store", bucket=bucket, op=op)
    }
    assert allowed == {("one", "get")}


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"caps": "{}"}, Code.IMPORT_NOT_GRANTED),
        ({"agent": "app/other", "caps": STORE_CAPS}, Code.GRANT_NOT_APPLICABLE),
        ({"labels": "{site: oslo}", "caps": STORE_CAPS}, Code.GRANT_NOT_APPLICABLE),
    ],
)
async def test_a_part_needs_a_grant_of_its_own(make: Make, terms: dict[str, str], code: Code) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, KEYVALUE, **terms)
    assert (await refusal(case)).code is code


async def test_a_part_that_no_role_signed_is_refused(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case)
    case.world.publisher.remove(case.spec.fused[0].bundle.path)
    case.world.publisher.publish()
    assert (await refusal(case)).code is Code.TARGET_UNSIGNED


async def test_the_earliest_end_of_all_grants_ends_the_whole(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, lease="{max_stale: 1d, on_lapse: stop}")
    assert (await case.admit()).valid_until == NOW + timedelta(days=1)


async def test_parts_with_different_models_of_one_name_are_refused(make: Make) -> None:
    case = make(SCORE, models={"anomaly": b"one"}, caps=SCORE_CAPS)
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, Isolation.NONE),))
    add_part(case, model="two")
    error = await refusal(case)
    assert (error.code, error.detail["model"]) == (Code.LINK_INVALID, "anomaly")


async def test_a_part_does_not_call_for_another_that_may_not(make: Make) -> None:
    case = make(SCORE, ALERT, caps=f"{SCORE_CAPS[:-1]}, 'acme:pipeline/alert': [{{agents: ['*']}}]}}")
    part_link = (Link(ALERT, "app/three"),)
    links = Link(SCORE, TWO, Isolation.NONE), Link(ALERT, "app/four")
    case.spec = replace(case.spec, links=links)
    add_part(case, ALERT, links=part_link, caps=PART_CAPS)
    assert (await refusal(case)).code is Code.LINK_INVALID
    case.spec = replace(case.spec, links=(links[0], Link(ALERT, "app/three")))
    assert (await case.admit()).start.links == {ALERT: "app/three"}
