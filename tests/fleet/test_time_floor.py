"""Who can move the time of a node, and how far: one test per rule of `fleet.time_floor`."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.time_floor import LEAD, TimeFloor
from tests.fakes.publisher import NOW

FAR = NOW + timedelta(days=40_000)
HOUR = timedelta(hours=1)
moments = st.integers(-(10**5), 10**7).map(lambda minutes: NOW + timedelta(minutes=minutes))


def test_1_the_floor_rises_as_fast_as_time_passes_even_with_a_clock_from_1970() -> None:
    dead = datetime.fromisoformat("1970-01-01T00:00:00Z")
    assert TimeFloor.starting(NOW).passed(dead, NOW, 5 * HOUR).at == NOW + 5 * HOUR


def test_1_the_floor_follows_a_clock_that_is_right() -> None:
    assert TimeFloor.starting(NOW).passed(NOW + 3 * HOUR, NOW, HOUR).at == NOW + 3 * HOUR


def test_1_a_clock_that_jumps_to_the_far_future_moves_the_floor_by_a_day_per_start() -> None:
    floor = TimeFloor.starting(NOW)
    for hours in range(1, 50):
        floor = floor.passed(FAR, NOW, hours * HOUR)
    assert floor.at == NOW + 49 * HOUR + LEAD
    started = floor.agreed
    assert floor.passed(FAR, started, HOUR).at == started + HOUR + LEAD


def test_2_adopting_a_release_moves_the_floor_to_that_moment_and_never_back() -> None:
    floor = TimeFloor.starting(NOW).adopted(NOW + 30 * LEAD)
    assert floor.at == NOW + 30 * LEAD
    assert floor.adopted(NOW) == floor


def test_3_two_signers_together_move_the_floor_as_far_as_both_say() -> None:
    floor = TimeFloor.starting(NOW).signed(timestamp=NOW + 100 * LEAD, director=NOW + 90 * LEAD)
    assert floor.agreed == NOW + 90 * LEAD
    assert floor.at == NOW + 91 * LEAD


def test_4_one_malicious_signer_alone_never_reaches_the_far_future() -> None:
    for signer in ("timestamp", "director"):
        floor = TimeFloor.starting(NOW)
        for days in range(1, 1_000):
            floor = floor.signed(**{signer: NOW + timedelta(days=days)})
        floor = floor.signed(**{signer: FAR})
        assert floor.at == NOW + LEAD
        # and after it was started again and again: a lead is no base for the next
        for _ in range(10):
            floor = floor.passed(NOW, floor.agreed, timedelta()).signed(**{signer: FAR})
        assert floor.at == NOW + LEAD


def test_4_the_honest_signer_corrects_nothing_downwards() -> None:
    floor = TimeFloor.starting(NOW).signed(director=FAR).signed(timestamp=NOW - LEAD)
    assert floor.at == NOW + LEAD


events = st.lists(
    st.tuples(st.sampled_from(("adopted", "timestamp", "director", "passed", "restart")), moments), max_size=30
)


@given(moments, events)
def test_the_floor_never_sinks(start: datetime, steps: list[tuple[str, datetime]]) -> None:
    floor, started = TimeFloor.starting(start), start
    for kind, at in steps:
        before = floor.at
        match kind:
            case "adopted":
                floor = floor.adopted(at)
            case "passed":
                floor = floor.passed(at, started, HOUR)
            case "restart":
                started = floor.agreed
            case _:
                floor = floor.signed(**{kind: at})
        assert floor.at >= before
        assert floor.agreed <= floor.at <= floor.agreed + LEAD


@given(st.sampled_from(("timestamp", "director")), events)
def test_with_one_liar_the_floor_stays_within_a_day_of_what_the_others_said(
    liar: str, steps: list[tuple[str, datetime]]
) -> None:
    floor, honest = TimeFloor.starting(NOW), NOW
    for kind, at in steps:
        if kind == "adopted":
            floor, honest = floor.adopted(at), max(honest, at)
        elif kind == liar:
            floor = floor.signed(**{kind: FAR})
        elif kind in ("timestamp", "director"):
            floor, honest = floor.signed(**{kind: at}), max(honest, at)
        assert floor.at <= honest + LEAD
