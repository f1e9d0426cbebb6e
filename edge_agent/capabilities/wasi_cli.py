"""`wasi:cli` 0.2: what a program expects to find around it, with nothing behind it.

Owns: the empty environment, the end that a guest chooses itself, and standard output and error as log lines. Language
runtimes import all of it whether the agent uses it or not, so none of it needs a grant, and nothing is reached by it.

- No variables, no arguments, no working directory, no terminal; input is at its end.
- Each line of output is a log line of level `info` (stdout) or `error` (stderr), with the stream's name as its
  context, under the same budget as `wasi:logging`. Text waits for the end of its line, whatever is flushed: runtimes
  write a line in pieces. The rest comes when it is longer than a log message may be, or when the agent ends.
- Bytes that are no UTF-8 show as replacement characters.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NoReturn

from edge_agent.capabilities.base import EndAgentError, HostInterface, bind, declare_functions
from edge_agent.capabilities.io_streams import EmptyInput, Sink
from edge_agent.capabilities.log import MAX_MESSAGE, LineLog
from edge_agent.capabilities.wasi_io import STREAMS, IoHandles
from fleet.model import ExitCause
from fleet.wit_types import Ok, OwnType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext
    from fleet.wit_types import Err, WitType

ENVIRONMENT = "wasi:cli/environment@0.2.12"
EXIT = "wasi:cli/exit@0.2.12"
ENVIRONMENT_3 = "wasi:cli/environment@0.3.0"
EXIT_3 = "wasi:cli/exit@0.3.0"
STDIN = "wasi:cli/stdin@0.2.12"
STDOUT = "wasi:cli/stdout@0.2.12"
STDERR = "wasi:cli/stderr@0.2.12"
TERMINAL_INPUT = "wasi:cli/terminal-input@0.2.12"
TERMINAL_OUTPUT = "wasi:cli/terminal-output@0.2.12"
TERMINAL_STDIN = "wasi:cli/terminal-stdin@0.2.12"
TERMINAL_STDOUT = "wasi:cli/terminal-stdout@0.2.12"
TERMINAL_STDERR = "wasi:cli/terminal-stderr@0.2.12"

_RESOURCES: dict[str, WitType] = {
    name: OwnType(name) for name in ("input-stream", "output-stream", "terminal-input", "terminal-output")
}

_ENVIRONMENT_SIGNATURES = declare_functions(
    {},
    {
        "get-environment": "func() -> list<tuple<string, string>>",
        "get-arguments": "func() -> list<string>",
        "initial-cwd": "func() -> option<string>",
    },
)
_ENVIRONMENT_3_SIGNATURES = declare_functions(
    {},
    {
        "get-environment": "func() -> list<tuple<string, string>>",
        "get-arguments": "func() -> list<string>",
        "get-initial-cwd": "func() -> option<string>",
    },
)
_EXIT_SIGNATURES = declare_functions({}, {"exit": "func(status: result)", "exit-with-code": "func(status-code: u8)"})


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """All interfaces of the package that a reactor may import, for one agent."""
    handles = context.shared(IoHandles)
    lines = context.shared(LineLog)
    stdout = _Lines(lambda line: lines.write("info", "stdout", line))
    stderr = _Lines(lambda line: lines.write("error", "stderr", line))
    context.releases.callback(stdout.close)
    context.releases.callback(stderr.close)
    return (
        HostInterface(
            ENVIRONMENT,
            bind(
                _ENVIRONMENT_SIGNATURES,
                {"get-environment": list, "get-arguments": list, "initial-cwd": _none},
            ),
        ),
        HostInterface(
            ENVIRONMENT_3,
            bind(
                _ENVIRONMENT_3_SIGNATURES,
                {"get-environment": list, "get-arguments": list, "get-initial-cwd": _none},
            ),
        ),
        *(
            HostInterface(name, bind(_EXIT_SIGNATURES, {"exit": _exit, "exit-with-code": _exit_with_code}))
            for name in (EXIT, EXIT_3)
        ),
        _getter(STDIN, "get-stdin", "input-stream", lambda: handles.inputs.insert(EmptyInput())),
        _getter(STDOUT, "get-stdout", "output-stream", lambda: handles.outputs.insert(Sink(stdout.write))),
        _getter(STDERR, "get-stderr", "output-stream", lambda: handles.outputs.insert(Sink(stderr.write))),
        HostInterface(TERMINAL_INPUT, {}, resources={"terminal-input": _no_terminal}),
        HostInterface(TERMINAL_OUTPUT, {}, resources={"terminal-output": _no_terminal}),
        _terminal(TERMINAL_STDIN, "get-terminal-stdin", "terminal-input", TERMINAL_INPUT),
        _terminal(TERMINAL_STDOUT, "get-terminal-stdout", "terminal-output", TERMINAL_OUTPUT),
        _terminal(TERMINAL_STDERR, "get-terminal-stderr", "terminal-output", TERMINAL_OUTPUT),
    )


def _getter(name: str, function: str, stream: str, get: Callable[[], int]) -> HostInterface:
    signatures = declare_functions(_RESOURCES, {function: f"func() -> {stream}"})
    return HostInterface(name, bind(signatures, {function: get}), uses={stream: STREAMS})


def _terminal(name: str, function: str, terminal: str, defined_by: str) -> HostInterface:
    signatures = declare_functions(_RESOURCES, {function: f"func() -> option<{terminal}>"})
    return HostInterface(name, bind(signatures, {function: _none}), uses={terminal: defined_by})


class _Lines:
    """Cuts what a stream is given into lines."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    def write(self, contents: bytes) -> None:
        """Emit the lines that end in `contents`, and keep what follows the last of them."""
        self._take(self._decoder.decode(contents))

    def close(self) -> None:
        """Emit what is left."""
        self._take(self._decoder.decode(b"", final=True))
        if self._open:
            self._emit(self._open)
            self._open = ""

    def _take(self, text: str) -> None:
        *lines, rest = (self._open + text).split("\n")
        for line in lines:
            self._emit(self._cut(line).removesuffix("\r"))
        self._open = self._cut(rest)

    def _cut(self, line: str) -> str:
        """Emit as many full messages as the line has; returns the rest."""
        while len(line) > MAX_MESSAGE:
            self._emit(line[:MAX_MESSAGE])
            line = line[MAX_MESSAGE:]
        return line


def _exit(status: Ok[None] | Err[None]) -> NoReturn:
    _exit_with_code(0 if isinstance(status, Ok) else 1)


def _exit_with_code(code: int) -> NoReturn:
    raise EndAgentError(ExitCause.GUEST_EXIT, f"the guest exited with status {code}")


def _none() -> None:
    return None


def _no_terminal(number: int) -> None:
    raise RuntimeError(f"terminal {number} was never made")
