"""What links make of an application's agents, and what is refused before anything is stored."""

from __future__ import annotations

import pytest

from fleet.errors import Code, FleetError
from fleet.links import MAX_FUSED
from fleet.model import AssignedAgent, FusedAgent, Isolation, Link, TargetRef, TimerTrigger
from fleet.oci import digest_of
from fleet.targets import bundle_path, grant_path
from orchestrator.composition import Component, check_neighbours, fuse
from orchestrator.planner import NodeChange, Plan

SCORE = "acme:pipeline/score@0.1.0"
ALERT = "acme:pipeline/alert@0.1.0"
BUNDLE = TargetRef(bundle_path("b", "1.0.0"), digest_of(b"index"))
FUSED = Isolation.NONE


def agent(name: str, *links: Link, **changes: object) -> AssignedAgent:
    return AssignedAgent(
        f"p/{name}", BUNDLE, TargetRef(grant_path(f"p/{name}", 1), digest_of(b"g")), links=links, **changes
    )


def pipeline(isolation: Isolation, *, exports: tuple[str, ...] = (SCORE,), **scorer: object) -> tuple[Component, ...]:
    return (
        Component(agent("ingest", Link(SCORE, "p/scorer", isolation)), (SCORE,), ()),
        Component(agent("scorer", Link(ALERT, "p/alerter"), **scorer), (ALERT,), exports),
        Component(agent("alerter"), (), (ALERT,)),
    )


def part(whole: AssignedAgent) -> FusedAgent:
    return FusedAgent(whole.name, whole.bundle, whole.grant, whole.links)


def test_agents_that_are_kept_apart_stay_as_they_are():
    components = pipeline(Isolation.STORE)
    composed = fuse(components)
    assert composed.agents == tuple(component.agent for component in components)
    assert composed.warnings == ()


def test_a_part_runs_only_in_its_agent():
    ingest, scorer, alerter = (component.agent for component in pipeline(FUSED))
    composed = fuse(pipeline(FUSED))
    assert [found.name for found in composed.agents] == [ingest.name, alerter.name]
    assert composed.agents[0].fused == (part(scorer),)
    assert composed.warnings == ("p/scorer runs as a part of p/ingest and not by itself",)


def test_a_part_with_a_trigger_runs_by_itself_as_well():
    composed = fuse(pipeline(FUSED, triggers=(TimerTrigger(1000, "f", ""),)))
    assert [found.name for found in composed.agents] == ["p/ingest", "p/scorer", "p/alerter"]
    assert composed.agents[0].fused[0].name == "p/scorer"
    assert composed.warnings == ()


def refusal(components):
    with pytest.raises(FleetError) as caught:
        fuse(components)
    return caught.value


def test_an_export_that_is_missing_is_named_with_both_agents():
    error = refusal(pipeline(Isolation.STORE, exports=("acme:pipeline/score@0.2.0",)))
    assert error.code is Code.LINK_INVALID
    assert "p/ingest imports acme:pipeline/score@0.1.0, and p/scorer exports acme:pipeline/score@0.2.0" in error.private


def test_a_part_has_no_configuration_of_its_own():
    error = refusal(pipeline(FUSED, config={"threshold": "1"}))
    assert error.code is Code.LINK_INVALID
    assert "config" in error.remedy


def test_parts_are_counted():
    names = [f"a{i}" for i in range(MAX_FUSED + 2)]
    imports = [f"acme:x/i{i}" for i in range(len(names))]
    chain = [
        Component(
            agent(name, *([Link(imports[i + 1], f"p/{names[i + 1]}", FUSED)] if i + 1 < len(names) else [])),
            tuple(imports[i + 1 : i + 2]),
            (imports[i],),
        )
        for i, name in enumerate(names)
    ]
    assert refusal(chain).code is Code.LIMIT_EXCEEDED
    assert len(fuse(chain[1:]).agents[0].fused) == MAX_FUSED


def test_linked_agents_share_their_nodes():
    agents = fuse(pipeline(FUSED)).agents
    check_neighbours(Plan("p", (NodeChange("n1", (), agents, 1),), (("n1",),)))
    with pytest.raises(FleetError) as caught:
        check_neighbours(Plan("p", (NodeChange("n2", (), agents[:1], 1),), (("n2",),)))
    assert caught.value.code is Code.LINK_INVALID
    assert "p/ingest is placed on n2, and p/alerter, which it is linked to, is not" in caught.value.private
    assert "placement" in caught.value.remedy
