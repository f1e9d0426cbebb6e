"""The queue of one agent against a model of what each policy promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.runner.job_queue import JobQueue
from fleet.model import QueuePolicy

steps = st.lists(st.sampled_from(("offer", "offer-waited", "take")), max_size=60)


@given(st.integers(1, 5), st.sampled_from(QueuePolicy), steps)
def test_every_job_leaves_once_and_in_order(capacity, policy, script):
    queue = JobQueue[int](capacity, policy)
    inside, out, gone = [], [], []
    for number, step in enumerate(script):
        if step == "take":
            taken = queue.take()
            assert taken == (inside.pop(0) if inside else None)
            out += [] if taken is None else [taken]
            continue
        waited = step == "offer-waited"
        places = capacity * (2 if policy is QueuePolicy.BLOCK and not waited else 1)
        had_room = len(inside) < places
        victim = queue.offer(number, waited=waited)
        if had_room:
            assert victim is None
        elif policy is QueuePolicy.DROP_OLDEST:
            assert victim == inside.pop(0)
        else:
            assert victim == number
        gone += [] if victim is None else [victim]
        inside += [] if victim == number else [number]
        assert len(queue) == len(inside) <= capacity * (2 if policy is QueuePolicy.BLOCK else 1)
        assert queue.has_room is (len(inside) < capacity)
    assert queue.dropped == len(gone)
    assert queue.drain() == inside
    assert out == sorted(out)
    assert (len(queue), queue.take()) == (0, None)


@pytest.mark.parametrize(
    ("policy", "kept", "refused"),
    [
        (QueuePolicy.REJECT, [1, 2], [3, 4]),
        (QueuePolicy.DROP_OLDEST, [3, 4], [1, 2]),
        (QueuePolicy.BLOCK, [1, 2, 3, 4], []),
    ],
)
def test_what_four_jobs_meet_in_a_queue_for_two(policy, kept, refused):
    queue = JobQueue[int](2, policy)
    assert [victim for job in (1, 2, 3, 4) if (victim := queue.offer(job)) is not None] == refused
    assert queue.drain() == kept


def test_sources_that_hold_back_by_themselves_never_take_each_others_room():
    queue = JobQueue[str](2, QueuePolicy.BLOCK)
    assert [queue.offer("thread", waited=True) for _ in range(3)] == [None, None, "thread"]
    assert [queue.offer("supervisor") for _ in range(3)] == [None, None, "supervisor"]
