"""What waits for the link is bounded, and what does not fit is counted and told."""

from __future__ import annotations

from datetime import timedelta

from edge_agent.journal import MAX_AGENTS, MAX_EVENTS, Journal
from fleet.errors import Code, FleetError
from fleet.model import LogLine
from tests.fakes.clock import START


def line(agent: str, message: str, at_s: int = 0) -> LogLine:
    return LogLine(START + timedelta(seconds=at_s), "", agent, "info", "", message)


async def test_events_wait_until_they_are_taken() -> None:
    journal = Journal("node-1", 10)
    journal.event(START, "app/one", "agent:instance:started", "attempt 1", attempt="1")
    assert journal.pending.is_set()
    (event,) = journal.take_events(10, START)
    assert (event.node, event.agent, event.detail) == ("node-1", "app/one", {"attempt": "1"})
    journal.untake_events((event,))
    assert journal.take_events(10, START) == (event,)
    journal.settle()
    assert not journal.pending.is_set()


async def test_an_error_is_told_by_its_public_words_and_its_code() -> None:
    journal = Journal("node-1", 10)
    journal.error(START, "node:time:unsaved", FleetError(Code.STORAGE_FULL, "12 bytes left"))
    (event,) = journal.take_events(10, START)
    assert (event.agent, event.kind, event.detail) == ("", "node:time:unsaved", {"code": "STORAGE_FULL"})
    assert event.message == FleetError(Code.STORAGE_FULL, "").public


async def test_events_that_do_not_fit_are_counted() -> None:
    journal = Journal("node-1", 10)
    for number in range(MAX_EVENTS + 5):
        journal.event(START, "", "a:b:c", str(number))
    events = journal.take_events(MAX_EVENTS + 10, START)
    assert events[-1].kind == "node:events:lost"
    assert int(events[-1].detail["lost"]) >= 5


async def test_a_listener_gets_the_kept_lines_in_order_and_then_new_ones() -> None:
    journal = Journal("node-1", 2)
    for number in range(4):
        journal.log(line("app/one", f"one {number}", number))
    journal.log(line("app/two", "two", 2))
    assert journal.take_lines(10) == ()
    journal.listen(enabled=True)
    assert [entry.message for entry in journal.take_lines(10)] == ["one 2", "two", "one 3"]
    journal.log(line("app/two", "new"))
    assert [entry.message for entry in journal.take_lines(10)] == ["new"]
    journal.listen(enabled=False)
    journal.log(line("app/two", "unheard"))
    assert journal.take_lines(10) == ()


async def test_lines_of_very_many_agents_do_not_fill_the_memory() -> None:
    journal = Journal("node-1", 1)
    for number in range(MAX_AGENTS + 10):
        journal.log(line(f"app/a{number}", "x"))
    assert journal.lines("app/a0") == ()
    assert len(journal.lines(f"app/a{MAX_AGENTS + 9}")) == 1
