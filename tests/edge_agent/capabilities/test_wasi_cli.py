"""wasi:cli: nothing around the guest, output as lines under the log's budget, and its own end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.capabilities import log, wasi_cli, wasi_io
from edge_agent.capabilities.base import AgentContext, EndAgentError
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok
from tests.fakes.agents import Node, functions


def write_to(context: AgentContext, name: str = wasi_cli.STDOUT):
    """Get the stream as a guest does, and return what writes to it."""
    (get,) = functions(wasi_cli.interfaces(context), name).values()
    write = functions(wasi_io.interfaces(context), wasi_io.STREAMS)["[method]output-stream.write"]
    handle = get()
    return lambda contents: write(handle, contents)


def messages(node: Node) -> list[str]:
    return [line.message for line in node.lines]


def test_environment_is_empty(node: Node) -> None:
    calls = functions(wasi_cli.interfaces(node.agent({})), wasi_cli.ENVIRONMENT)
    assert calls["get-environment"]() == []
    assert calls["get-arguments"]() == []
    assert calls["initial-cwd"]() is None


@pytest.mark.parametrize(
    ("function", "argument", "code"),
    [("exit", Ok(None), 0), ("exit", Err(None), 1), ("exit-with-code", 0, 0), ("exit-with-code", 255, 255)],
)
def test_exit_ends_the_agent(node: Node, function: str, argument: object, code: int) -> None:
    calls = functions(wasi_cli.interfaces(node.agent({})), wasi_cli.EXIT)
    with pytest.raises(EndAgentError, match=f"status {code}$") as ended:
        calls[function](argument)
    assert ended.value.cause is ExitCause.GUEST_EXIT


@pytest.mark.parametrize(
    ("interface", "function"),
    [
        (wasi_cli.TERMINAL_STDIN, "get-terminal-stdin"),
        (wasi_cli.TERMINAL_STDOUT, "get-terminal-stdout"),
        (wasi_cli.TERMINAL_STDERR, "get-terminal-stderr"),
    ],
)
def test_nothing_is_a_terminal(node: Node, interface: str, function: str) -> None:
    assert functions(wasi_cli.interfaces(node.agent({})), interface)[function]() is None


def test_input_is_a_stream(node: Node) -> None:
    context = node.agent({})
    handle = functions(wasi_cli.interfaces(context), wasi_cli.STDIN)["get-stdin"]()
    assert context.shared(wasi_io.IoHandles).inputs.take(handle).ready()


@pytest.mark.parametrize(
    ("interface", "level", "name"), [(wasi_cli.STDOUT, "info", "stdout"), (wasi_cli.STDERR, "error", "stderr")]
)
def test_a_line_of_output_is_a_log_line(node: Node, interface: str, level: str, name: str) -> None:
    write_to(node.agent({}), interface)(b"hello\n")
    (line,) = node.lines
    assert (line.time_ns, line.level, line.context, line.message) == (node.clock.wall_ns, level, name, "hello")


def test_a_line_waits_for_its_end(node: Node) -> None:
    context = node.agent({})
    write = write_to(context)
    write(b"one\r\ntw")
    assert messages(node) == ["one"]
    write(b"o\n\nrest")
    assert messages(node) == ["one", "two", ""]
    context.close()
    assert messages(node) == ["one", "two", "", "rest"]


def test_handles_of_one_stream_write_to_the_same_line(node: Node) -> None:
    context = node.agent({})
    interfaces = wasi_cli.interfaces(context)
    get = functions(interfaces, wasi_cli.STDOUT)["get-stdout"]
    write = functions(wasi_io.interfaces(context), wasi_io.STREAMS)["[method]output-stream.write"]
    write(get(), b"a")
    write(get(), b"b\n")
    assert messages(node) == ["ab"]


def test_a_line_without_end_is_cut_into_messages(node: Node) -> None:
    context = node.agent({})
    write = write_to(context)
    for _ in range(5):
        write(b"x" * wasi_io.MAX_WRITE)
    assert messages(node) == ["x" * log.MAX_MESSAGE] * 2
    context.close()
    assert sum(map(len, messages(node))) == 5 * wasi_io.MAX_WRITE


def test_bytes_that_are_no_text_are_shown_as_such(node: Node) -> None:
    context = node.agent({})
    write = write_to(context)
    write(b"\xff\x1b[2J \xe2\x82")
    write(b"\xac\n\xe2\x82")
    context.close()
    assert messages(node) == ["\ufffd\\x1b[2J \u20ac", "\ufffd"]


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), st.data())
def test_how_text_is_cut_into_writes_does_not_matter(text: str, data: st.DataObject) -> None:
    node = Node(None)
    write = write_to(node.agent({}))
    rest = f"{text}\n".encode()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        write(rest[:size])
        rest = rest[size:]
    assert messages(node) == [log.clean(text, log.MAX_MESSAGE)]


def test_output_and_log_share_one_budget(node: Node) -> None:
    context = node.agent({"wasi:logging/logging": [{}]}, log_per_minute="1KiB")
    write = write_to(context)
    for _ in range(1000):
        write(b"0123456789\n" * 100)
    assert len(node.lines) == 1024 // (log.LINE_BYTES + len("stdout") + 10) + 1
    assert node.lines[-1].context == log.NOTICE_CONTEXT
    functions(log.interfaces(context), log.INTERFACE)["log"]("critical", "", "unheard")
    assert node.lines[-1].context == log.NOTICE_CONTEXT


def test_streams_are_counted(node: Node) -> None:
    get = functions(wasi_cli.interfaces(node.agent({})), wasi_cli.STDOUT)["get-stdout"]
    for _ in range(wasi_io.MAX_STREAMS):
        get()
    with pytest.raises(FleetError) as refused:
        get()
    assert refused.value.code is Code.LIMIT_EXCEEDED
