"""Plans: placement, differences, waves; and the rules that every plan must satisfy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.assignment import MAX_AGENTS
from fleet.errors import Code, FleetError
from fleet.model import AssignedAgent, Placement, RolloutPolicy, TargetRef
from orchestrator.checks import check
from orchestrator.planner import Action, NodeInfo, PlacedAgent, Plan, cut_waves, plan

ALL_AT_ONCE = RolloutPolicy(waves=(1.0,))


def agent(name: str, version: str = "1", application: str = "app") -> AssignedAgent:
    return AssignedAgent(f"{application}/{name}", TargetRef("b", f"{name}{version}"), TargetRef("g", name))


def node(name: str, *agents: AssignedAgent, online: bool = True, **labels: str) -> NodeInfo:
    return NodeInfo(name, labels, online, agents)


def placed(*agents: AssignedAgent, count: int | None = None, **labels: str) -> list[PlacedAgent]:
    return [PlacedAgent(item, Placement(labels, count)) for item in agents]


def actions(result: Plan) -> dict[tuple[str, str], Action]:
    return {(change.node, item.name): action for change in result.nodes for item, action in change.actions()}


def test_every_action() -> None:
    keep, old, new, gone, fresh = agent("keep"), agent("re", "1"), agent("re", "2"), agent("gone"), agent("fresh")
    nodes = [node("n1", keep, old, gone), node("n2")]
    result = plan("app", placed(keep, new, fresh), ALL_AT_ONCE, nodes)
    assert actions(result) == {
        ("n1", "app/keep"): Action.KEEP,
        ("n1", "app/re"): Action.REPLACE,
        ("n1", "app/gone"): Action.STOP,
        ("n1", "app/fresh"): Action.START,
        ("n2", "app/keep"): Action.START,
        ("n2", "app/re"): Action.START,
        ("n2", "app/fresh"): Action.START,
    }
    check(result, nodes)


def test_labels_and_count_choose_nodes_by_name() -> None:
    nodes = [node("n3", site="oslo"), node("n1", site="oslo"), node("n2", site="bergen"), node("n4", site="oslo")]
    result = plan("app", placed(agent("a"), count=2, site="oslo"), ALL_AT_ONCE, nodes)
    assert [change.node for change in result.nodes] == ["n1", "n3"]


def test_no_node_is_an_error_and_too_few_a_warning() -> None:
    with pytest.raises(FleetError) as caught:
        plan("app", placed(agent("a"), site="oslo"), ALL_AT_ONCE, [node("n1", site="bergen")])
    assert caught.value.code is Code.NO_MATCHING_NODES
    assert "site=oslo" in str(caught.value)
    assert plan("app", placed(agent("a"), count=3), ALL_AT_ONCE, [node("n1")]).warnings == (
        "app/a: 3 nodes wanted, 1 match",
    )


def test_a_moved_application_leaves_its_old_nodes_and_touches_no_other() -> None:
    other = agent("x", application="other")
    nodes = [node("n1", agent("a"), other, site="oslo"), node("n2", site="bergen")]
    result = plan("app", placed(agent("a"), site="bergen"), ALL_AT_ONCE, nodes)
    assert actions(result) == {("n1", "app/a"): Action.STOP, ("n2", "app/a"): Action.START}


def test_a_plan_of_what_runs_changes_nothing() -> None:
    result = plan("app", placed(agent("a")), ALL_AT_ONCE, [node("n1", agent("a"))])
    assert not result.changes
    assert result.waves == ()


def test_nodes_without_a_session_come_last() -> None:
    nodes = [node("n1", online=False), node("n2"), node("n3")]
    result = plan("app", placed(agent("a")), RolloutPolicy(waves=(1, 1.0)), nodes)
    assert result.waves == (("n2",), ("n3", "n1"))
    assert "n1" in result.warnings[0]


@pytest.mark.parametrize(
    ("count", "waves", "sizes"),
    [
        (10, (1, 1.0), [1, 9]),
        (10, (1, 0.5, 1.0), [1, 4, 5]),
        (10, (0.25, 1.0), [3, 7]),
        (1, (1, 0.5, 1.0), [1]),
        (3, (5, 1.0), [3]),
        (10, (2,), [10]),
        (10, (5, 2, 1.0), [5, 5]),
        (0, (1, 1.0), []),
    ],
)
def test_waves_are_cumulative(count: int, waves: tuple[int | float, ...], sizes: list[int]) -> None:
    names = [f"n{i}" for i in range(count)]
    assert [len(wave) for wave in cut_waves(names, RolloutPolicy(waves=waves))] == sizes


AGENTS = st.builds(agent, st.sampled_from("abcd"), st.sampled_from("12"), st.sampled_from(["app", "other"]))
NODES = st.lists(
    st.builds(
        NodeInfo,
        name=st.sampled_from([f"n{i}" for i in range(6)]),
        labels=st.fixed_dictionaries({"site": st.sampled_from(["oslo", "bergen"])}),
        online=st.booleans(),
        agents=st.lists(AGENTS, max_size=3, unique_by=lambda item: item.name).map(tuple),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda item: item.name,
)
WANTED = st.lists(
    st.builds(agent, st.sampled_from("abcd"), st.sampled_from("12")), max_size=3, unique_by=lambda item: item.name
)
POLICIES = st.builds(
    RolloutPolicy,
    waves=st.lists(st.integers(1, 6) | st.floats(0.01, 1.0), min_size=1, max_size=4).map(tuple),
)


@given(NODES, WANTED, POLICIES, st.randoms())
def test_laws_of_plans(nodes: list[NodeInfo], wanted: list[AssignedAgent], policy: RolloutPolicy, rng: object) -> None:
    result = plan("app", placed(*wanted), policy, nodes)
    check(result, nodes)  # every plan of the planner satisfies the rules
    shuffled = list(nodes)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan("app", placed(*wanted), policy, shuffled) == result  # deterministic
    after = {change.node: change.after for change in result.nodes}
    done = [
        replace(item, agents=tuple(a for a in item.agents if a.application != "app") + after.get(item.name, ()))
        for item in nodes
    ]
    assert not plan("app", placed(*wanted), policy, done).changes  # fixed point


@given(st.integers(0, 200), POLICIES)
def test_laws_of_waves(count: int, policy: RolloutPolicy) -> None:
    names = [f"n{i:03}" for i in range(count)]
    waves = cut_waves(names, policy)
    assert [name for wave in waves for name in wave] == names
    assert all(waves)
    assert len(waves) <= len(policy.waves)


def broken_plans() -> dict[str, tuple[Plan, list[NodeInfo]]]:
    nodes = [node("n1", agent("a", "1")), node("n2")]
    good = plan("app", placed(agent("a", "2")), ALL_AT_ONCE, nodes)
    first, second = good.nodes
    many = tuple(agent(f"m{i}") for i in range(MAX_AGENTS + 1))
    foreign = replace(second, after=(agent("a", application="other"),))
    return {
        "1 unknown": (good, nodes[:1]),
        "1 doubled": (replace(good, nodes=(first, first)), nodes),
        "2": (good, [node("n1", agent("a", "9")), nodes[1]]),
        "3 foreign": (replace(good, nodes=(first, foreign)), nodes),
        "3 twice": (replace(good, nodes=(first, replace(second, after=second.after * 2))), nodes),
        "4 in two waves": (replace(good, waves=(*good.waves, ("n1",))), nodes),
        "4 in the right wave and another": (
            replace(good, nodes=(replace(first, wave=2), replace(second, wave=2)), waves=(("n1",), ("n1", "n2"))),
            nodes,
        ),
        "4 missing": (replace(good, waves=(("n1",),)), nodes),
        "4 number": (replace(good, nodes=(first, replace(second, wave=2))), nodes),
        "5": (replace(good, waves=(*good.waves, ())), nodes),
        "6": (replace(good, nodes=(first, replace(second, after=many))), nodes),
    }


@pytest.mark.parametrize("name", broken_plans())
def test_a_broken_plan_is_refused_by_its_rule(name: str) -> None:
    result, nodes = broken_plans()[name]
    with pytest.raises(FleetError) as caught:
        check(result, nodes)
    assert caught.value.code is Code.PLAN_INVALID
    assert str(caught.value.detail["rule"]).startswith(name[0])
