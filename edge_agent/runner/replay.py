"""Runs a component again with what its host told it, to see it end again.

Owns: `replay` and `Outcome`. The host functions of a replay answer from the record alone: no capability, no clock, no
store and no network is there, so that it is safe on any machine, and deterministic for a guest that was recorded from
its start. Where the guest asks for something else than it did, the replay stops and says so. Never looks for the
report or the component: who calls has both.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import EndAgentError, HostFunction, HostInterface
from edge_agent.crashes import engine_name
from edge_agent.runner.engine import Engine, Instance, Trap
from edge_agent.runner.instantiation import instantiate
from edge_agent.runner.kept_values import numbered, write_value
from edge_agent.runner.ticker import Ticker
from fleet.crash import is_note, read_frames
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import ExitCause
from fleet.oci import digest_of
from fleet.wave import parse_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Component, InterfaceType, Limits
    from fleet.crash import CrashReport, Frame, GuestCall, HostCall, Recording
    from fleet.wit_types import FuncType, WitValue

PATIENCE = 4
"""How many times its deadline a call may take that did not end by it: this machine may be slower than the node."""

MAX_SHOWN = 200
"""Characters of a value in what a replay says."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a replay.

    Attributes:
        same: the guest ended for the same reason at the same place.
        exact: everything since the instance's start was repeated, not the last call alone.
        calls: how many calls were repeated, the last one included.
        cause: why it ended now, "" when it did not.
        message: one line.
        frames: where, innermost first.
        differences: what is not as it was.
        notes: what limits this answer.
    """

    same: bool
    exact: bool
    calls: int
    cause: str
    message: str
    frames: tuple[Frame, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...]


def replay(report: CrashReport, wasm: bytes) -> Outcome:
    """Run the component of a report until it ends.

    Args:
        report: what happened.
        wasm: the component.

    Raises:
        FleetError: DIGEST_MISMATCH for another component; CRASH_INVALID when nothing was recorded or the record does
            not fit the component; whatever compiling it raises.
    """
    digest = digest_of(wasm)
    if digest != report.component:
        raise FleetError(
            Code.DIGEST_MISMATCH, f"the report is about {report.component}, this component is {digest}", digest=digest
        )
    if report.recording is None:
        raise FleetError(
            Code.CRASH_INVALID,
            f"nothing was recorded: {report.agent} ended by '{report.cause}', or its record was too large",
            remedy="Call the agent again with the invocation that the report shows.",
        )
    limits = Authority.decode(report.authority.encode()).limits
    engine = Engine(fuel=limits.fuel_per_call is not None, stack_bytes=limits.stack_bytes)
    component = engine.load(engine.compile(wasm))
    player = _Player(component)
    calls = report.recording.calls if report.recording.complete else report.recording.calls[-1:]
    seconds = limits.deadline_ms / 1000 * (1 if report.cause is ExitCause.DEADLINE else PATIENCE)

    def make(shared: Limits) -> Instance:
        player.begin(report.recording.start)  # type: ignore[union-attr]  # checked above
        return Instance(component, player.interfaces(), shared)

    trap: Trap | None = None
    done = 0
    with Ticker().running(component.engine):
        try:
            instance = instantiate(make, limits)
            for call in calls:
                done += 1
                player.begin(call)
                instance.call(call.function, *_arguments(component, call), seconds=seconds)
        except Trap as ended:
            trap = ended
    return _judge(report, report.recording, player, trap, done, len(calls))


def _judge(
    report: CrashReport, recording: Recording, player: _Player, trap: Trap | None, done: int, wanted: int
) -> Outcome:
    notes = tuple(_notes(report, recording))
    differences: list[str] = []
    frames = () if trap is None else read_frames(trap.backtrace)
    if player.diverged:
        differences.append(player.diverged)
    elif trap is None:
        differences.append(f"the guest did not end: it returned, after '{report.cause}' then")
    else:
        if done < wanted:
            differences.append(f"the guest ended in call {done} of {wanted}")
        if player.left:
            differences.append(f"the guest ended before {player.left} more host calls that it made then")
        differences += _compare(report, trap, frames)
    return Outcome(
        same=not differences,
        exact=recording.complete,
        calls=done,
        cause="" if trap is None else str(trap.cause),
        message="" if trap is None else trap.message,
        frames=frames,
        differences=tuple(differences),
        notes=notes,
    )


def _compare(report: CrashReport, trap: Trap, frames: tuple[Frame, ...]) -> list[str]:
    if trap.cause is not report.cause:
        return [f"the cause is '{trap.cause}', and was '{report.cause}'"]
    if report.cause is ExitCause.DEADLINE:
        return []  # the clock stops the guest wherever it is then
    found = []
    # The engine cannot be asked how much memory was in use: the number in the message is measured, and may vary.
    if trap.message != report.message and report.cause is not ExitCause.QUOTA:
        found.append(f"the message is '{trap.message}', and was '{report.message}'")
    before = read_frames(report.backtrace)
    shared = min(len(frames), len(before))  # a report keeps the inner end of a long backtrace
    if frames[:shared] != before[:shared] or bool(frames) != bool(before):
        at, was = (f"{f[0].function} at 0x{f[0].offset}" if f else "nowhere" for f in (frames, before))
        found.append(f"the guest ended in {at}, and did in {was}" if at != was else "the functions around it differ")
    return found


def _notes(report: CrashReport, recording: Recording) -> list[str]:
    found = []
    if not recording.complete:
        found.append("the record is not complete: only the last call was repeated, on a fresh instance")
    if recording.lost:
        found.append(f"{recording.lost} earlier calls were not kept")
    if recording.overlapping:
        found.append("several calls ran at a time: their order cannot be repeated")
    missing = [
        f"the result of {host.function} was not kept: {host.result}"
        for call in (recording.start, *recording.calls)
        for host in call.host_calls
        if is_note(host.result)
    ]
    found += sorted(set(missing))
    if report.cause is ExitCause.DEADLINE:
        found.append("a deadline is not deterministic: the clock stops the guest wherever it is then")
    if report.engine != engine_name():
        found.append(f"the node ran {report.engine}, this machine has {engine_name()}")
    return found


def _arguments(component: Component, call: GuestCall) -> tuple[WitValue, ...]:
    kind = component.exports.get(call.function)
    if kind is None or len(kind.params) != len(call.arguments):
        raise FleetError(Code.CRASH_INVALID, f"the component has no '{call.function}' with such arguments")
    for text in call.arguments:
        if is_note(text):
            raise FleetError(Code.CRASH_INVALID, f"an argument of {call.function} was not kept: {text}")
    pairs = zip(call.arguments, kind.params, strict=True)
    return tuple(parse_value(text, numbered(part)) for text, (_, part) in pairs)


class _Player:
    """Answers host calls as they were answered.

    Attributes:
        diverged: what the guest asked for that is not in the record, "" as long as it did as it had done.
    """

    def __init__(self, component: Component) -> None:
        self._component = component
        self._left: deque[HostCall] = deque()
        self.diverged = ""

    @property
    def left(self) -> int:
        """Host calls of the running call that the guest has not made yet."""
        return len(self._left)

    def begin(self, call: GuestCall) -> None:
        """Answer from this call's record from now on."""
        self._left = deque(call.host_calls)

    def interfaces(self) -> list[HostInterface]:
        """Everything that the component imports."""
        return [self._interface(name, declared) for name, declared in self._component.types.imports.items()]

    def _interface(self, name: str, declared: InterfaceType) -> HostInterface:
        own = {resource for resource, origin in declared.resources.items() if origin == f"{name}#{resource}"}
        return HostInterface(
            name,
            {f: HostFunction(kind, self._function(f"{name}#{f}", kind)) for f, kind in declared.functions.items()},
            resources=dict.fromkeys(own, _forget),
            uses={r: origin.rpartition("#")[0] for r, origin in declared.resources.items() if r not in own},
        )

    def _function(self, name: str, kind: FuncType) -> Callable[..., WitValue]:
        def answer(*arguments: WitValue) -> WitValue:
            texts = tuple(write_value(value, part) for value, (_, part) in zip(arguments, kind.params, strict=True))
            if not self._left:
                raise self._diverge(f"the guest calls {name}, which it did not then")
            then = self._left.popleft()
            if then.function != name:
                raise self._diverge(f"the guest calls {name}, and called {then.function} then")
            for text, was, (label, _) in zip(texts, then.arguments, kind.params, strict=False):
                if text != was and not is_note(was):
                    shown = f"{text[:MAX_SHOWN]}, and was {was[:MAX_SHOWN]} then"
                    raise self._diverge(f"'{label}' of {name} is {shown}")
            if then.raised:
                raise _raised(then)
            if is_note(then.result):
                raise self._diverge(f"the result of {name} was not kept: {then.result}")
            return None if kind.result is None else parse_value(then.result, numbered(kind.result))

        return answer

    def _diverge(self, text: str) -> EndAgentError:
        self.diverged = text
        return EndAgentError(ExitCause.HOST_ERROR, text)


def _forget(_: int) -> None:
    """Destructor: behind the handles of a replay there is nothing."""


def _raised(then: HostCall) -> Exception:
    """Return an exception that the engine binding tells like the one of then."""
    if then.cause in set(ExitCause):
        return EndAgentError(ExitCause(then.cause), then.result)
    code, colon, private = then.result.partition(": ")
    if then.raised == FleetError.__name__ and colon and code in set(Code):
        return FleetError(Code(code), private)
    kind: type[Exception] = type(then.raised, (Exception,), {})
    return kind(then.result)
