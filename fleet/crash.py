"""Crash reports: what is kept when an agent ends by itself, and how it is written.

Owns: `CrashReport` with everything in it, its one encoding, its identifier, and `read_frames`, which takes an engine's
backtrace apart. The identifier is made of the content, so that a report that was changed is refused. Never decides what
to keep or for how long; never runs a component.

Values inside are WAVE text, with the handle of a resource as a plain number. A value that was not kept is a note in
angle brackets, which no WAVE text begins with: `<confidential>`, `<70000 bytes, sha256:...>`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.documents import Value

T = TypeVar("T")

SCHEMA = "fleet.crash/v1"

MAX_REPORT = 768 * 1024
"""Bytes of one encoded report; what a node says in one message to its coordinator has to hold it."""

MAX_BACKTRACE = 16 * 1024
"""Characters of a backtrace that a report keeps."""

MAX_LOG_LINES = 50
"""Log lines in one report."""

MAX_CALLS = 10_000
"""Calls of either kind, and arguments of one call."""

ID = re.compile(r"[0-9a-f]{16}\Z")
"""How an identifier looks: the first 64 bits of the SHA-256 of the report's content."""

_MAX_INT = (1 << 63) - 1
_CODE = Code.CRASH_INVALID
_FRAME = re.compile(r"^ *\d+: +(?:0x([0-9a-f]+) - )?(.+?)!(.+)$", re.MULTILINE)
_HASH = re.compile(r"::h[0-9a-f]{16}$")


@dataclass(frozen=True, slots=True)
class HostCall:
    """One call of a guest to its host.

    Attributes:
        function: `interface#function`.
        arguments: WAVE texts or notes.
        result: WAVE text or note, "" for no result; what the exception said where one was `raised`.
        raised: name of the exception that the host function raised, "" when it returned.
        cause: the `ExitCause` that the exception gave itself, "" for none.
    """

    function: str
    arguments: tuple[str, ...]
    result: str
    raised: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class GuestCall:
    """One call of the host to a guest, with the calls that the guest made meanwhile.

    Attributes:
        function: `interface#function`, the bare name outside interfaces, "" for the guest's own start.
        arguments: WAVE texts or notes.
        host_calls: oldest first.
        lost: how many of the oldest are not here any more.
    """

    function: str
    arguments: tuple[str, ...] = ()
    host_calls: tuple[HostCall, ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """What an instance did from its start to its end.

    Attributes:
        start: the instantiation.
        calls: what followed, oldest first; the guest ended in the last one, or in `start` when there is none.
        lost: how many calls between `start` and `calls` are not here any more.
        overlapping: several calls ran at a time, so that their order cannot be repeated.
        in_flight: how many of the last calls had not ended when the guest did.
    """

    start: GuestCall
    calls: tuple[GuestCall, ...] = ()
    lost: int = 0
    overlapping: bool = False
    in_flight: int = 1

    @property
    def last(self) -> GuestCall:
        """The call in which the guest ended."""
        return self.calls[-1] if self.calls else self.start

    @property
    def complete(self) -> bool:
        """Whether everything that the guest was told since its start is here."""
        calls = (self.start, *self.calls)
        return not (self.lost or self.overlapping or any(call.lost or _has_notes(call) for call in calls))


@dataclass(frozen=True, slots=True)
class CrashLine:
    """One line of the agent's log; `at_ms` as in `CrashReport`."""

    at_ms: int
    level: str
    context: str
    message: str


@dataclass(frozen=True, slots=True)
class CrashReport:
    """Everything that is known of one end.

    Attributes:
        node: where it happened.
        agent: `application/agent`.
        generation: of the node's desired state then.
        bundle: digest of the bundle.
        grant: digest of the grant.
        component: digest of the component.
        authority: effective authority as `fleet.grants` encodes it, limits included; JSON text.
        engine: name and version of what ran it.
        cause: why it ended.
        message: one line.
        at_ms: when, in milliseconds since the Unix epoch.
        backtrace: the engine's text; names in it were chosen by the guest.
        invocation: WAVE text of the call that ran, as far as it is known without a recording.
        log: last lines, oldest first.
        recording: None when nothing could be kept: the process died, or what it kept was too large.
    """

    node: str
    agent: str
    generation: int
    bundle: str
    grant: str
    component: str
    authority: str
    engine: str
    cause: ExitCause
    message: str
    at_ms: int
    backtrace: str = ""
    invocation: str = ""
    log: tuple[CrashLine, ...] = ()
    recording: Recording | None = None

    @property
    def id(self) -> str:
        """Names this report in the whole fleet."""
        return _identify(_plain(self))

    @property
    def summary(self) -> CrashSummary:
        """The report in one line."""
        return CrashSummary(
            id=self.id,
            node=self.node,
            agent=self.agent,
            cause=str(self.cause),
            message=self.message,
            at_ms=self.at_ms,
            bundle=self.bundle,
            component=self.component,
            recorded=self.recording is not None,
            complete=self.recording is not None and self.recording.complete,
        )


@dataclass(frozen=True, slots=True)
class CrashSummary:
    """A report in one line of a list; the fields are those of `CrashReport`.

    Attributes:
        recorded: something can be replayed.
        complete: everything since the instance's start can.
    """

    id: str
    node: str
    agent: str
    cause: str
    message: str
    at_ms: int
    bundle: str
    component: str
    recorded: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One function of a backtrace; `offset` is its place in the component's code, "" when unknown."""

    module: str
    function: str
    offset: str


def encode_report(report: CrashReport) -> bytes:
    """Write a report with its identifier; what is larger than `MAX_REPORT` loses its recording, then its log."""
    for smaller in (report, replace(report, recording=None), replace(report, recording=None, log=())):
        value = _plain(smaller)
        data = dump_json({**value, "id": _identify(value)})
        if len(data) <= MAX_REPORT:
            return data
    raise FleetError(Code.LIMIT_EXCEEDED, f"a crash report of {len(data)} bytes", limit=MAX_REPORT)


def decode_report(data: bytes, name: str) -> CrashReport:
    """Read a report; `name` is the file's or the node's, for the places of errors.

    Raises:
        FleetError: CRASH_INVALID when it is not what `encode_report` writes; DIGEST_MISMATCH when its identifier does
            not belong to its content; LIMIT_EXCEEDED.
    """
    with Reader(load_json(data, _CODE, name, MAX_REPORT), _CODE, name) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        identifier = top.text("id")
        report = CrashReport(
            node=top.text("node"),
            agent=top.text("agent"),
            generation=_natural(top, "generation"),
            bundle=top.text("bundle"),
            grant=top.text("grant"),
            component=top.text("component"),
            authority=top.text("authority"),
            engine=top.text("engine"),
            cause=_cause(top),
            message=top.text("message"),
            at_ms=_natural(top, "at_ms"),
            backtrace=top.text("backtrace"),
            invocation=top.text("invocation"),
            log=_list(top, "log", MAX_LOG_LINES, _line),
            recording=top.section("recording", _recording) if top.has("recording") else None,
        )
    if identifier != report.id:
        raise FleetError(Code.DIGEST_MISMATCH, f"{name} was changed after it was written", place=name)
    return report


def encode_recording(recording: Recording) -> bytes:
    """Write a recording alone, as a runner hands it to its supervisor."""
    return dump_json(_plain_recording(recording))


def decode_recording(data: bytes) -> Recording:
    """Read what `encode_recording` writes.

    Raises:
        FleetError: CRASH_INVALID, LIMIT_EXCEEDED.
    """
    with Reader(load_json(data, _CODE, "recording", MAX_REPORT), _CODE, "recording") as top:
        return _recording(top)


def is_note(text: str) -> bool:
    """Whether a text stands for a value that was not kept."""
    return text.startswith("<")


def read_frames(backtrace: str) -> tuple[Frame, ...]:
    """Return the functions of an engine's backtrace, innermost first; the hash that Rust adds to names is left out."""
    return tuple(
        Frame("" if module == "<unknown>" else module, _HASH.sub("", function), offset or "")
        for offset, module, function in _FRAME.findall(backtrace)
    )


def _has_notes(call: GuestCall) -> bool:
    return any(map(is_note, call.arguments)) or any(is_note(host.result) for host in call.host_calls)


def _plain(report: CrashReport) -> dict[str, object]:
    value: dict[str, object] = {"schema": SCHEMA, **asdict(report)}
    if report.recording is None:
        del value["recording"]
    else:
        value["recording"] = _plain_recording(report.recording)
    return value


def _plain_recording(recording: Recording) -> dict[str, object]:
    value = asdict(recording)
    if recording.in_flight == 1:
        del value["in_flight"]  # so that reports of before there were several keep their identity
    return value


def _identify(value: dict[str, object]) -> str:
    return sha256(dump_json(value)).hexdigest()[:16]


def _natural(reader: Reader, key: str) -> int:
    return reader.integer(key, 0, _MAX_INT)


def _cause(reader: Reader) -> ExitCause:
    text = reader.text("cause")
    if text not in set(ExitCause):
        reader.fail("cause", f"{text!r} is no cause of an end")
    return ExitCause(text)


def _list(reader: Reader, key: str, maximum: int, parse: Callable[[Reader], T]) -> tuple[T, ...]:
    found: list[T] = []
    for value, place in reader.items(key, maximum):
        found.append(_item(value, place, parse))
    return tuple(found)


def _item(value: Value, place: str, parse: Callable[[Reader], T]) -> T:
    with Reader(value, _CODE, place) as reader:
        return parse(reader)


def _line(reader: Reader) -> CrashLine:
    return CrashLine(_natural(reader, "at_ms"), reader.text("level"), reader.text("context"), reader.text("message"))


def _recording(reader: Reader) -> Recording:
    return Recording(
        start=reader.section("start", _guest_call),
        calls=_list(reader, "calls", MAX_CALLS, _guest_call),
        lost=_natural(reader, "lost"),
        overlapping=reader.flag("overlapping", default=False),
        in_flight=reader.integer("in_flight", 1, MAX_CALLS) if reader.has("in_flight") else 1,
    )


def _guest_call(reader: Reader) -> GuestCall:
    return GuestCall(
        function=reader.text("function"),
        arguments=reader.texts("arguments", MAX_CALLS),
        host_calls=_list(reader, "host_calls", MAX_CALLS, _host_call),
        lost=_natural(reader, "lost"),
    )


def _host_call(reader: Reader) -> HostCall:
    return HostCall(
        function=reader.text("function"),
        arguments=reader.texts("arguments", MAX_CALLS),
        result=reader.text("result"),
        raised=reader.text("raised"),
        cause=reader.text("cause"),
    )
