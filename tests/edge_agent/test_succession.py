"""When a newer version may take over from one that runs, and when that one must stop first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.admission import AdmittedAgent
from edge_agent.runtime import AgentStart
from edge_agent.succession import SERVED, HinderedError, Succession
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Limits, Rule
from fleet.grants.constraints import Literals, Patterns
from fleet.model import AssignedAgent, Link, QueuePolicy, SwapPolicy, TargetRef

REF = TargetRef("p", "sha256:" + "0" * 64)
OLDER = AssignedAgent("app/one", REF, REF)
NEWER = replace(OLDER, config={"version": "2"})
STORE = "wasi:keyvalue/store"


def buckets(*names: str) -> Authority:
    return Authority({STORE: (Rule({"buckets": Patterns(frozenset(names)), "ops": Literals(frozenset({"get"}))}),)})


def admitted(authority: Authority, *exports: str) -> AdmittedAgent:
    start = AgentStart("app/one", Path("/c"), "sha256:0", authority.encode(), Path("/state"))
    return AdmittedAgent(start, None, exports)


async def prepare(
    had: AdmittedAgent,
    has: AdmittedAgent | FleetError,
    given: Authority | FleetError | None = None,
    newer: AssignedAgent = NEWER,
) -> AdmittedAgent:
    async def admit(_: AssignedAgent) -> AdmittedAgent:
        if isinstance(has, FleetError):
            raise has
        return has

    async def granted(_: AssignedAgent) -> Authority:
        if given is None or isinstance(given, FleetError):
            raise given or FleetError(Code.INTERNAL, "not to be asked")
        return given

    return await Succession(admit, granted).prepare(OLDER, had, newer)


@pytest.mark.parametrize("has", [buckets("a"), buckets("a", "b")])
async def test_the_same_authority_or_more_takes_over(has: Authority) -> None:
    assert await prepare(admitted(buckets("a")), admitted(has)) == admitted(has)


@pytest.mark.parametrize(
    "has",
    [buckets("b"), Authority({}), Authority(buckets("a").capabilities, Limits(memory_bytes=1 << 20))],
)
async def test_less_authority_in_anything_stops_the_older_one_first(has: Authority) -> None:
    with pytest.raises(HinderedError, match="narrows"):
        await prepare(admitted(buckets("a")), admitted(has))


REFUSED = FleetError(Code.IMPORT_NOT_GRANTED, "secret")


async def test_the_older_one_may_run_on_beside_a_refused_one_that_was_granted_no_less() -> None:
    with pytest.raises(FleetError) as caught:
        await prepare(admitted(buckets("a")), REFUSED, buckets("a", "b"))
    assert caught.value is REFUSED


async def test_what_is_taken_away_ends_although_the_newer_one_is_refused() -> None:
    with pytest.raises(HinderedError, match="narrows"):
        await prepare(admitted(buckets("a", "b")), REFUSED, buckets("a"))


async def test_a_grant_that_does_not_hold_gives_nothing() -> None:
    expired = FleetError(Code.GRANT_EXPIRED, "secret")
    with pytest.raises(HinderedError, match=r"nothing is known to be granted .*GRANT_EXPIRED"):
        await prepare(admitted(Authority({})), expired, expired)


@pytest.mark.parametrize(
    ("newer", "reason"),
    [
        (replace(NEWER, swap=None), "swap: restart"),
        (replace(NEWER, links=(Link("a:b/c", "app/two"),)), "links change"),
        (replace(NEWER, on_full_queue=QueuePolicy.BLOCK), "full queue"),
    ],
)
async def test_what_both_would_share_does_not_change_while_both_exist(newer: AssignedAgent, reason: str) -> None:
    with pytest.raises(HinderedError, match=reason):
        await prepare(admitted(Authority({})), admitted(Authority({})), newer=newer)


def served(port: str) -> Authority:
    return Authority(
        {SERVED: (Rule({"addresses": Literals(frozenset({"127.0.0.1"})), "ports": Literals(frozenset({port}))}),)}
    )


async def test_an_address_is_served_by_all_instances_alike() -> None:
    both = Authority({SERVED: (*served("80").capabilities[SERVED], *served("81").capabilities[SERVED])})
    with pytest.raises(HinderedError, match="addresses or ports"):
        await prepare(admitted(served("80")), admitted(both))
    with pytest.raises(HinderedError, match="exports"):
        await prepare(admitted(served("80"), f"{SERVED}@0.2.0"), admitted(served("80")))
    assert await prepare(admitted(served("80"), SERVED), admitted(served("80"), SERVED))


async def test_another_probation_is_no_reason_to_stop() -> None:
    assert await prepare(admitted(buckets("a")), admitted(buckets("a")), newer=replace(NEWER, swap=SwapPolicy(9)))
