"""The tables of liveness and readiness, complete."""

import itertools

import pytest

from edge_agent.health import AgentStats, Health, Liveness, Readiness, liveness, readiness, vitals
from fleet.health import Vitals
from fleet.model import Phase


@pytest.mark.parametrize(
    ("phase", "health", "returned", "expected"),
    [
        (Phase.RUNNING, Health.UNSERVED, 0, Liveness.UNKNOWN),
        (Phase.RUNNING, Health.UNSERVED, 1, Liveness.ALIVE),
        (Phase.RUNNING, Health.UNASKED, 9, Liveness.UNKNOWN),
        (Phase.RUNNING, Health.OK, 0, Liveness.ALIVE),
        (Phase.RUNNING, Health.FAILING, 9, Liveness.FAILING),
    ],
)
def test_an_agent_that_runs_lives_by_its_word_or_its_last_call(phase, health, returned, expected):
    assert liveness(phase, health, returned) is expected


def test_an_agent_that_does_not_run_is_dead_only_when_it_ended_or_was_refused():
    for phase, health, returned in itertools.product(set(Phase) - {Phase.RUNNING}, Health, (0, 1)):
        dead = phase in (Phase.BACKOFF, Phase.FAILED)
        assert liveness(phase, health, returned) is (Liveness.DEAD if dead else Liveness.UNKNOWN)


@pytest.mark.parametrize(
    ("health", "queue", "limit", "expected"),
    [
        (Health.UNSERVED, 0, 4, Readiness.READY),
        (Health.UNSERVED, 3, 4, Readiness.READY),
        (Health.UNSERVED, 4, 4, Readiness.QUEUE_FULL),
        (Health.UNSERVED, 5, 4, Readiness.QUEUE_FULL),
        (Health.UNSERVED, 0, 0, Readiness.READY),
        (Health.OK, 0, 4, Readiness.READY),
        (Health.OK, 4, 4, Readiness.QUEUE_FULL),
        (Health.UNASKED, 0, 4, Readiness.UNASKED),
        (Health.FAILING, 0, 4, Readiness.FAILING),
        (Health.FAILING, 4, 4, Readiness.FAILING),
    ],
)
def test_an_agent_that_runs_is_ready_with_room_and_a_good_word(health, queue, limit, expected):
    assert readiness(Phase.RUNNING, health, queue, limit) is expected


def test_only_an_agent_that_runs_is_ever_ready():
    for phase, health in itertools.product(set(Phase) - {Phase.RUNNING}, Health):
        assert readiness(phase, health, 0, 4) is Readiness.NOT_RUNNING


@pytest.mark.parametrize(
    ("phase", "stats", "told"),
    [
        (Phase.PENDING, AgentStats(), Vitals(None, ready=False)),
        (Phase.RUNNING, AgentStats(), Vitals(None, ready=True)),
        (Phase.RUNNING, AgentStats(returned=1), Vitals(healthy=True, ready=True)),
        (Phase.BACKOFF, AgentStats(returned=1), Vitals(healthy=False, ready=False)),
        (
            Phase.RUNNING,
            AgentStats(health=Health.UNASKED),
            Vitals(None, ready=False, reason="it has not said yet how it does"),
        ),
        (
            Phase.RUNNING,
            AgentStats(health=Health.FAILING, health_message="no network"),
            Vitals(healthy=False, ready=False, reason="no network"),
        ),
        (
            Phase.RUNNING,
            AgentStats(returned=3, queue=2, queue_limit=2, dropped=1, p50_us=5, p99_us=9, memory_peak_bytes=7),
            Vitals(True, False, "its queue is full", 1, 5, 9, 7, 2),
        ),
    ],
)
def test_what_a_node_tells(phase, stats, told):
    assert vitals(phase, stats) == told
