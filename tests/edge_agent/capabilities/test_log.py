"""wasi:logging: budget, caps and clean lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.capabilities import log
from tests.fakes.agents import Node, functions

GRANT = {"wasi:logging/logging": [{}]}


def logger(node: Node, **limits: str):
    return functions(log.interfaces(node.agent(GRANT, **limits)), log.INTERFACE)["log"]


def test_a_line_passes_with_its_time(node: Node) -> None:
    assert logger(node)("info", "sensor", "started") is None
    (line,) = node.lines
    assert (line.time_ns, line.level, line.context, line.message) == (
        node.clock.wall_ns,
        "info",
        "sensor",
        "started",
    )


def test_without_the_grant_lines_go_nowhere(node: Node) -> None:
    functions(log.interfaces(node.agent({})), log.INTERFACE)["log"]("info", "", "hello")
    assert node.lines == []


def test_more_than_the_budget_is_dropped_with_one_notice(node: Node) -> None:
    write = logger(node, log_per_minute="200B")
    for _ in range(50):
        write("info", "c", "x" * 60)
    assert [line.level for line in node.lines] == ["info", "info", "warn"]
    assert node.lines[-1].context == log.NOTICE_CONTEXT
    write("info", "", "")
    assert len(node.lines) == 3, "a shorter line must not slip through after a dropped one"


def test_budget_returns_after_a_minute(node: Node) -> None:
    write = logger(node, log_per_minute="100B")
    write("info", "", "x" * 90)
    node.clock.advance(59.9)
    write("info", "", "short")
    node.clock.advance(0.2)
    write("info", "", "again")
    assert [line.message for line in node.lines[1:]] == ["again"]


def test_empty_lines_use_the_budget_up(node: Node) -> None:
    write = logger(node, log_per_minute="1KiB")
    for _ in range(10_000):
        write("info", "", "")
    assert len(node.lines) == 1024 // log.LINE_BYTES + 1


def test_long_lines_are_cut(node: Node) -> None:
    logger(node)("info", "c" * 10_000, "m" * 1_000_000)
    (line,) = node.lines
    assert (len(line.context), len(line.message)) == (log.MAX_CONTEXT, log.MAX_MESSAGE)
    assert line.message.endswith("m…")


def test_control_characters_are_escaped(node: Node) -> None:
    logger(node)("info", "a\r", "red \x1b[31m\nforged line \u202e\x00")
    (line,) = node.lines
    assert line.context == r"a\r"
    assert line.message == r"red \x1b[31m\nforged line \u202e\x00"


@given(st.text(), st.integers(1, 50))
def test_clean_text_is_one_printable_line(text: str, limit: int) -> None:
    found = log.clean(text, limit)
    assert len(found.splitlines()) <= 1
    assert not any(ord(character) < 32 for character in found)
