"""Rollout decisions: a table of situations, and the law that a bad version never spreads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.health import Vitals
from fleet.model import (
    AssignedAgent,
    Exit,
    ExitCause,
    ObservedAgent,
    ObservedState,
    Phase,
    Refusal,
    RolloutPolicy,
    TargetRef,
)
from orchestrator.rollout import (
    Finish,
    Health,
    NodeTarget,
    Observation,
    RollBack,
    StartWave,
    Wait,
    Wave,
    WaveState,
    advance,
    assess,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = RolloutPolicy(waves=(1, 1.0), healthy_for_ms=3_000, deadline_ms=60_000)
HEALTHY_FOR = timedelta(seconds=3)
AGENT = AssignedAgent("app/a", TargetRef("b", "new"), TargetRef("g", "grant"))
TARGET = NodeTarget(2, "app", (AGENT,))


def seen(
    phase: Phase = Phase.RUNNING,
    *,
    ran_s: float = 60,
    generation: int = 2,
    bundle: str = "new",
    online: bool = True,
    **fields: object,
) -> Observation:
    at = NOW + timedelta(hours=5)  # the node's clock is wrong, which must not matter
    since = at - timedelta(seconds=ran_s) if phase is Phase.RUNNING else None
    agents = (ObservedAgent("app/a", phase, bundle, "grant", running_since=since, **fields),)  # type: ignore[arg-type]
    return Observation(ObservedState(generation, "d", at, agents), online)


EXIT = Exit(ExitCause.UNREACHABLE, "m", NOW)

ASSESSMENTS = {
    "runs": (seen(), Health.HEALTHY),
    "ran just long enough": (seen(ran_s=3), Health.HEALTHY),
    "ready": (seen(vitals=Vitals(ready=True)), Health.HEALTHY),
    "not ready": (seen(vitals=Vitals(ready=False)), Health.PENDING),
    "neither ready nor healthy": (seen(vitals=Vitals(healthy=False, ready=False)), Health.PENDING),
    "just started": (seen(ran_s=2.9), Health.PENDING),
    "started in the future": (seen(ran_s=-10), Health.PENDING),
    "an earlier generation": (seen(generation=1), Health.PENDING),
    "a later generation": (seen(generation=3), Health.HEALTHY),
    "the previous version": (seen(bundle="old"), Health.PENDING),
    "starting": (seen(Phase.STARTING), Health.PENDING),
    "first restart": (seen(Phase.BACKOFF, restarts=2, last_exit=EXIT), Health.PENDING),
    "restarts again and again": (seen(Phase.BACKOFF, restarts=3, last_exit=EXIT), Health.FAILED),
    "failed": (seen(Phase.FAILED), Health.FAILED),
    "refused": (seen(Phase.STOPPED, refusal=Refusal("GRANT_EXPIRED", "m", "r")), Health.FAILED),
    "left": (seen(online=False), Health.UNREACHABLE),
    "never seen": (None, Health.UNREACHABLE),
    "agent missing": (
        Observation(ObservedState(2, "d", NOW), online=True),
        Health.PENDING,
    ),
}


@pytest.mark.parametrize("name", ASSESSMENTS)
def test_assessments(name: str) -> None:
    observation, health = ASSESSMENTS[name]
    assert assess(TARGET, observation, HEALTHY_FOR).health is health


@pytest.mark.parametrize(("reason", "message"), [("", "not ready"), ("queue-full", "not ready: queue-full")])
def test_what_keeps_an_agent_from_being_ready_is_told(reason: str, message: str) -> None:
    assessment = assess(TARGET, seen(vitals=Vitals(ready=False, reason=reason)), HEALTHY_FOR)
    assert (assessment.message, assessment.healthy_agents) == (f"app/a is {message}", 0)


def test_a_node_that_shall_run_nothing_is_healthy_once_every_agent_has_ended() -> None:
    empty = NodeTarget(2, "app", ())
    assert assess(empty, seen(Phase.STOPPING), HEALTHY_FOR).health is Health.PENDING
    ended = replace(seen(), state=replace(seen().state, agents=()))
    assert assess(empty, ended, HEALTHY_FOR).health is Health.HEALTHY
    assert assess(NodeTarget(2, "another", ()), seen(), HEALTHY_FOR).health is Health.HEALTHY


@dataclass
class Case:
    """One situation of a deployment with waves n1 and (n2, n3)."""

    states: tuple[str, str]
    observations: dict[str, Observation]
    decision: type | object
    started_s: float = 10
    policy: RolloutPolicy = POLICY
    reason: str = ""
    fields: dict[str, object] = field(default_factory=dict)


RUNNING, HEALTHY, WAITING = "running", "healthy", "waiting"
BAD = seen(Phase.FAILED)
CASES = {
    "nothing began": Case((WAITING, WAITING), {}, StartWave(1)),
    "first wave healthy": Case((RUNNING, WAITING), {"n1": seen()}, StartWave(2)),
    "first wave not yet": Case((RUNNING, WAITING), {"n1": seen(ran_s=1)}, Wait),
    "first wave failed": Case((RUNNING, WAITING), {"n1": BAD}, RollBack),
    "all healthy": Case((HEALTHY, RUNNING), {n: seen() for n in ("n1", "n2", "n3")}, Finish()),
    "second wave partly": Case((HEALTHY, RUNNING), {"n1": seen(), "n2": seen()}, Wait),
    "second wave failed": Case((HEALTHY, RUNNING), {"n1": seen(), "n2": seen(), "n3": BAD}, RollBack),
    "an earlier wave fails later": Case((HEALTHY, RUNNING), {"n1": BAD, "n2": seen(), "n3": seen()}, RollBack),
    "an earlier wave leaves": Case((HEALTHY, RUNNING), {"n2": seen(), "n3": seen()}, Finish()),
    "a tolerated failure": Case(
        (HEALTHY, RUNNING),
        {"n1": seen(), "n2": seen(), "n3": BAD},
        Finish(),
        policy=RolloutPolicy(waves=(1, 1.0), max_failures=1),
    ),
    "never ready": Case((RUNNING, WAITING), {"n1": seen(vitals=Vitals(ready=False))}, RollBack, started_s=60),
    "late": Case((RUNNING, WAITING), {"n1": seen(Phase.STARTING)}, RollBack, started_s=60),
    "nobody answered": Case((RUNNING, WAITING), {}, RollBack, started_s=60),
    "one of two silent": Case((HEALTHY, RUNNING), {"n1": seen(), "n2": seen()}, Finish(("n3",)), started_s=60),
    "silent, not yet late": Case((HEALTHY, RUNNING), {"n1": seen(), "n2": seen()}, Wait, started_s=59.9),
}


@pytest.mark.parametrize("name", CASES)
def test_decisions(name: str) -> None:
    case = CASES[name]
    started = NOW - timedelta(seconds=case.started_s)
    waves = [
        Wave(number, nodes, WaveState(state), None if state == WAITING else started)
        for number, (nodes, state) in enumerate(zip([("n1",), ("n2", "n3")], case.states, strict=True), 1)
    ]
    targets = {name: TARGET for wave in waves if wave.state is not WaveState.WAITING for name in wave.nodes}
    decision = advance(case.policy, waves, targets, case.observations, NOW)
    if isinstance(case.decision, type):
        assert isinstance(decision, case.decision)
    else:
        assert decision == case.decision


def test_time_without_a_report_proves_no_health() -> None:
    waves = [Wave(1, ("n1",), WaveState.RUNNING, NOW)]
    later = NOW + timedelta(seconds=59)
    young = advance(POLICY, waves, {"n1": TARGET}, {"n1": seen(ran_s=1)}, later)
    assert young == Wait(NOW + timedelta(seconds=60), "n1: runs, not long enough yet")


def test_waiting_ends_at_the_deadline() -> None:
    waves = [Wave(1, ("n1",), WaveState.RUNNING, NOW)]
    unforeseen = advance(POLICY, waves, {"n1": TARGET}, {"n1": seen(Phase.STARTING)}, NOW)
    assert unforeseen == Wait(NOW + timedelta(seconds=60), "n1: app/a is starting")


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    outcomes=st.lists(st.sampled_from(["good", "bad", "slow", "silent"]), min_size=20, max_size=20),
    tolerated=st.integers(0, 2),
)
def test_a_bad_version_never_takes_more_than_one_wave(sizes: list[int], outcomes: list[str], tolerated: int) -> None:
    """Play a whole rollout: however nodes turn out, unavailable ones never exceed what the begun waves allow."""
    policy = RolloutPolicy(waves=(1.0,), healthy_for_ms=0, deadline_ms=60_000, max_failures=tolerated)
    names = iter(f"n{i:02}" for i in range(20))
    groups = [tuple(next(names) for _ in range(size)) for size in sizes]
    outcome = dict(zip((name for group in groups for name in group), outcomes, strict=False))
    reports = {"good": seen(), "bad": BAD, "slow": seen(Phase.STARTING), "silent": seen(online=False)}
    waves = [Wave(number, group, WaveState.WAITING) for number, group in enumerate(groups, 1)]
    now = NOW
    for _ in range(4 * len(groups) + 4):
        begun = [wave for wave in waves if wave.state is not WaveState.WAITING]
        targets = {name: TARGET for wave in begun for name in wave.nodes}
        observations = {name: reports[outcome[name]] for name in targets}
        # At most one wave is unproven at any time, and each earlier one lost no more online nodes than tolerated.
        assert sum(wave.state is WaveState.RUNNING for wave in begun) <= 1
        for wave in begun[:-1]:
            assert sum(outcome[name] in {"bad", "slow"} for name in wave.nodes) <= tolerated
        decision = advance(policy, waves, targets, observations, now)
        match decision:
            case StartWave(number):
                waves = [
                    Wave(w.number, w.nodes, WaveState.RUNNING, now)
                    if w.number == number
                    else Wave(w.number, w.nodes, WaveState.HEALTHY if w in begun else w.state, w.started)
                    for w in waves
                ]
            case Wait(until):
                assert until > now
                now = until
            case _:
                break
    else:
        raise AssertionError("the rollout does not end")
    if isinstance(decision, Finish):
        assert len(begun) == len(waves)
