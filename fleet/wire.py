"""Protobuf messages to and from the nouns of `fleet.model`.

Owns: both directions for what nodes and coordinator exchange, with strict validation of everything received. Besides
the gRPC doors this is the only module that imports `fleet.v1`; past it, a value is well-formed. Text that this side
sends is cut to the limits that the other side enforces, so that one long trap message never costs a whole report.
Unknown protobuf fields are passed over: they are how a newer release talks to an older one.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from google.protobuf.message import DecodeError

from fleet.assignment import MAX_AGENTS, MAX_ENVELOPE
from fleet.checkpoint import MAX_NOTE
from fleet.crash import ID as CRASH_ID
from fleet.crash import CrashSummary
from fleet.errors import Code, FleetError
from fleet.grants import OwnCeiling, hear_ceiling
from fleet.health import MAX_INTERFACES, Vitals
from fleet.merkle import MAX_PROOF, MAX_SIZE
from fleet.model import (
    DesiredState,
    Event,
    Exit,
    ExitCause,
    LogLine,
    ObservedAgent,
    ObservedState,
    Phase,
    Refusal,
)
from fleet.names import is_agent_name, is_digest, is_name
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.v1 import model_pb2
from fleet.wit import is_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

MAX_TEXT = 8 * 1024
"""UTF-8 bytes of a message, remedy or log line."""

MAX_WORD = 256
"""UTF-8 bytes of a short text: an error code, a log context, a detail's key."""

MAX_OUTPUT = 512
"""UTF-8 bytes of an agent's last output."""

MAX_DETAIL = 32
"""Entries of an event's detail."""

LEVELS = ("trace", "debug", "info", "warn", "error", "critical")
"""Log levels, in the words of wasi:logging."""

_KIND = re.compile(r"[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]+")

_PHASES: Mapping[int, Phase] = MappingProxyType(
    {model_pb2.Phase.Value(f"PHASE_{phase.name}"): phase for phase in Phase}
)


def to_pb_desired(desired: DesiredState) -> model_pb2.DesiredState:
    """Write a desired state."""
    return model_pb2.DesiredState(
        assignment=desired.envelope, proof=desired.proof, base=desired.base, consistency=desired.consistency
    )


def from_pb_desired(message: model_pb2.DesiredState) -> DesiredState:
    """Read a desired state; `fleet.assignment.open_assignment` verifies it.

    Raises:
        FleetError: MESSAGE_INVALID with the field.
    """
    if not 0 < len(message.assignment) <= MAX_ENVELOPE:
        _fail("desired.assignment", f"expected 1 to {MAX_ENVELOPE} bytes")
    if not 0 < len(message.proof) <= MAX_NOTE:
        _fail("desired.proof", f"expected 1 to {MAX_NOTE} bytes")
    if message.base > MAX_SIZE or len(message.consistency) > MAX_PROOF:
        _fail("desired.consistency", f"expected at most {MAX_PROOF} hashes")
    return DesiredState(message.assignment, message.proof, message.base, tuple(message.consistency))


def to_pb_observed(observed: ObservedState) -> model_pb2.ObservedState:
    """Write an observed state."""
    return model_pb2.ObservedState(
        generation=observed.generation,
        digest=observed.digest,
        at_ms=to_ms(observed.at),
        agents=[to_pb_observed_agent(agent) for agent in observed.agents],
        trust_digest=observed.trust_digest,
    )


def from_pb_observed(message: model_pb2.ObservedState) -> ObservedState:
    """Read an observed state.

    Raises:
        FleetError: MESSAGE_INVALID with the field.
    """
    if len(message.agents) > MAX_AGENTS:
        _fail("observed.agents", f"{len(message.agents)} agents, the limit is {MAX_AGENTS}")
    agents = tuple(
        from_pb_observed_agent(agent, f"observed.agents[{number}]") for number, agent in enumerate(message.agents)
    )
    if len({agent.name for agent in agents}) != len(agents):
        _fail("observed.agents", "an agent occurs twice")
    return ObservedState(
        generation=message.generation,
        digest=_word(message.digest, "observed.digest", is_digest, optional=True),
        at=_moment(message.at_ms, "observed.at_ms"),
        agents=agents,
        trust_digest=_word(message.trust_digest, "observed.trust_digest", is_digest, optional=True),
    )


def encode_observed(observed: ObservedState) -> bytes:
    """Write an observed state as bytes to keep."""
    return to_pb_observed(observed).SerializeToString(deterministic=True)


def decode_observed(data: bytes) -> ObservedState:
    """Read what `encode_observed` wrote.

    Raises:
        FleetError: MESSAGE_INVALID.
    """
    try:
        return from_pb_observed(model_pb2.ObservedState.FromString(data))
    except DecodeError as error:
        raise FleetError(Code.MESSAGE_INVALID, "not an observed state") from error


def to_pb_observed_agent(agent: ObservedAgent) -> model_pb2.ObservedAgent:
    """Write one agent of an observed state."""
    return model_pb2.ObservedAgent(
        name=agent.name,
        phase=f"PHASE_{agent.phase.name}",
        bundle_digest=agent.bundle_digest,
        grant_digest=agent.grant_digest,
        restarts=agent.restarts,
        last_exit=None if agent.last_exit is None else _to_pb_exit(agent.last_exit),
        next_attempt_at_ms=_to_optional_ms(agent.next_attempt_at),
        running_since_ms=_to_optional_ms(agent.running_since),
        calls=agent.calls,
        errors=agent.errors,
        memory_bytes=agent.memory_bytes,
        last_output=_cut(agent.last_output, MAX_OUTPUT),
        refusal=None if agent.refusal is None else _to_pb_refusal(agent.refusal),
        vitals=_to_pb_vitals(agent.vitals),
    )


def from_pb_observed_agent(message: model_pb2.ObservedAgent, place: str) -> ObservedAgent:
    """Read one agent of an observed state.

    Raises:
        FleetError: MESSAGE_INVALID with the field below `place`.
    """
    if message.phase not in _PHASES:
        _fail(f"{place}.phase", f"unknown phase {message.phase}")
    return ObservedAgent(
        name=_word(message.name, f"{place}.name", is_agent_name),
        phase=_PHASES[message.phase],
        bundle_digest=_word(message.bundle_digest, f"{place}.bundle_digest", is_digest, optional=True),
        grant_digest=_word(message.grant_digest, f"{place}.grant_digest", is_digest, optional=True),
        restarts=message.restarts,
        last_exit=_from_pb_exit(message.last_exit, f"{place}.last_exit") if message.HasField("last_exit") else None,
        next_attempt_at=_optional_moment(message.next_attempt_at_ms, f"{place}.next_attempt_at_ms"),
        running_since=_optional_moment(message.running_since_ms, f"{place}.running_since_ms"),
        calls=message.calls,
        errors=message.errors,
        memory_bytes=message.memory_bytes,
        last_output=_text(message.last_output, f"{place}.last_output", MAX_OUTPUT),
        refusal=_from_pb_refusal(message.refusal, f"{place}.refusal") if message.HasField("refusal") else None,
        vitals=_from_pb_vitals(message.vitals, f"{place}.vitals"),
    )


def to_pb_event(event: Event) -> model_pb2.Event:
    """Write an event."""
    return model_pb2.Event(
        sequence=event.sequence,
        at_ms=to_ms(event.at),
        node=event.node,
        agent=event.agent,
        kind=event.kind,
        message=_cut(event.message, MAX_TEXT),
        detail={_cut(key, MAX_WORD): _cut(value, MAX_TEXT) for key, value in [*event.detail.items()][:MAX_DETAIL]},
    )


def from_pb_event(message: model_pb2.Event) -> Event:
    """Read an event; node and agent are empty for what concerns neither.

    Raises:
        FleetError: MESSAGE_INVALID with the field.
    """
    if len(message.detail) > MAX_DETAIL:
        _fail("event.detail", f"{len(message.detail)} entries, the limit is {MAX_DETAIL}")
    detail = {
        _text(key, "event.detail", MAX_WORD): _text(value, f"event.detail.{key[:MAX_WORD]}", MAX_TEXT)
        for key, value in message.detail.items()
    }
    return Event(
        at=_moment(message.at_ms, "event.at_ms"),
        node=_word(message.node, "event.node", is_name, optional=True),
        agent=_word(message.agent, "event.agent", is_agent_name, optional=True),
        kind=_word(message.kind, "event.kind", _is_kind),
        message=_text(message.message, "event.message", MAX_TEXT),
        detail=MappingProxyType(detail),
        sequence=message.sequence,
    )


def to_pb_log_line(line: LogLine) -> model_pb2.LogLine:
    """Write a log line."""
    return model_pb2.LogLine(
        at_ms=to_ms(line.at),
        node=line.node,
        agent=line.agent,
        level=line.level,
        context=_cut(line.context, MAX_WORD),
        message=_cut(line.message, MAX_TEXT),
    )


def from_pb_log_line(message: model_pb2.LogLine) -> LogLine:
    """Read a log line.

    Raises:
        FleetError: MESSAGE_INVALID with the field.
    """
    return LogLine(
        at=_moment(message.at_ms, "log.at_ms"),
        node=_word(message.node, "log.node", is_name, optional=True),
        agent=_word(message.agent, "log.agent", is_agent_name),
        level=_word(message.level, "log.level", LEVELS.__contains__),
        context=_text(message.context, "log.context", MAX_WORD),
        message=_text(message.message, "log.message", MAX_TEXT),
    )


def to_pb_crash(crash: CrashSummary, node: str) -> model_pb2.Crash:
    """Encode one line about a crash report of `node`."""
    return model_pb2.Crash(
        id=crash.id,
        node=node,
        agent=crash.agent,
        cause=crash.cause,
        message=_cut(crash.message, MAX_TEXT),
        at_ms=crash.at_ms,
        bundle_digest=crash.bundle,
        component_digest=crash.component,
        recorded=crash.recorded,
        complete=crash.complete,
    )


def from_pb_crash(message: model_pb2.Crash) -> CrashSummary:
    """Decode one line about a crash report.

    Raises:
        FleetError: MESSAGE_INVALID.
    """
    return CrashSummary(
        id=_word(message.id, "crash.id", lambda text: CRASH_ID.match(text) is not None),
        node=_word(message.node, "crash.node", is_name, optional=True),
        agent=_word(message.agent, "crash.agent", is_agent_name),
        cause=_word(message.cause, "crash.cause", set(ExitCause).__contains__),
        message=_text(message.message, "crash.message", MAX_TEXT),
        at_ms=to_ms(_moment(message.at_ms, "crash.at_ms")),
        bundle=_word(message.bundle_digest, "crash.bundle_digest", is_digest),
        component=_word(message.component_digest, "crash.component_digest", is_digest),
        recorded=message.recorded,
        complete=message.complete,
    )


def _to_pb_exit(end: Exit) -> model_pb2.Exit:
    return model_pb2.Exit(cause=end.cause, message=_cut(end.message, MAX_TEXT), at_ms=to_ms(end.at))


def _from_pb_exit(message: model_pb2.Exit, place: str) -> Exit:
    return Exit(
        cause=ExitCause(_word(message.cause, f"{place}.cause", set(ExitCause).__contains__)),
        message=_text(message.message, f"{place}.message", MAX_TEXT),
        at=_moment(message.at_ms, f"{place}.at_ms"),
    )


def _to_pb_refusal(refusal: Refusal) -> model_pb2.Refusal:
    return model_pb2.Refusal(
        code=_cut(refusal.code, MAX_WORD),
        message=_cut(refusal.message, MAX_TEXT),
        remedy=_cut(refusal.remedy, MAX_TEXT),
    )


def _from_pb_refusal(message: model_pb2.Refusal, place: str) -> Refusal:
    return Refusal(
        code=_text(message.code, f"{place}.code", MAX_WORD),
        message=_text(message.message, f"{place}.message", MAX_TEXT),
        remedy=_text(message.remedy, f"{place}.remedy", MAX_TEXT),
    )


def _to_pb_vitals(vitals: Vitals) -> model_pb2.Vitals:
    return model_pb2.Vitals(
        healthy=vitals.healthy,
        ready=vitals.ready,
        reason=_cut(vitals.reason, MAX_OUTPUT),
        dropped=vitals.dropped,
        p50_us=vitals.p50_us,
        p99_us=vitals.p99_us,
        memory_peak_bytes=vitals.memory_peak_bytes,
        queue=vitals.queue,
        host_calls=vitals.host_calls,
    )


def _from_pb_vitals(message: model_pb2.Vitals, place: str) -> Vitals:
    """Read them; from a release that does not send any, nothing is known."""
    if len(message.host_calls) > MAX_INTERFACES:
        _fail(f"{place}.host_calls", f"{len(message.host_calls)} interfaces, the limit is {MAX_INTERFACES}")
    return Vitals(
        healthy=message.healthy if message.HasField("healthy") else None,
        ready=message.ready if message.HasField("ready") else None,
        reason=_text(message.reason, f"{place}.reason", MAX_OUTPUT),
        dropped=message.dropped,
        p50_us=message.p50_us,
        p99_us=message.p99_us,
        memory_peak_bytes=message.memory_peak_bytes,
        queue=message.queue,
        host_calls=MappingProxyType(
            {_word(name, f"{place}.host_calls", is_interface): calls for name, calls in message.host_calls.items()}
        ),
    )


def to_pb_ceiling(own: OwnCeiling) -> model_pb2.NodeCeiling:
    """Write what a node says of its own ceiling."""
    return model_pb2.NodeCeiling(digest=own.digest, document=own.document)


def from_pb_ceiling(message: model_pb2.NodeCeiling) -> OwnCeiling:
    """Read it.

    Raises:
        FleetError: MESSAGE_INVALID (`fleet.grants.hear_ceiling`).
    """
    return hear_ceiling(message.digest, message.document)


def _to_optional_ms(at: datetime | None) -> int:
    return 0 if at is None else to_ms(at)


def _moment(ms: int, place: str) -> datetime:
    if not 0 < ms <= MAX_MS:
        _fail(place, "not a time")
    return from_ms(ms)


def _optional_moment(ms: int, place: str) -> datetime | None:
    return None if ms == 0 else _moment(ms, place)


def _word(text: str, place: str, is_valid: Callable[[str], bool], *, optional: bool = False) -> str:
    if not is_valid(text) and not (optional and not text):
        _fail(place, f"{text[:64]!r} is malformed")
    return text


def _text(text: str, place: str, limit: int) -> str:
    if len(text.encode()) > limit:
        _fail(place, f"more than {limit} bytes")
    return text


def _is_kind(text: str) -> bool:
    return len(text) <= MAX_WORD and _KIND.fullmatch(text) is not None


def _cut(text: str, limit: int) -> str:
    """Cut to `limit` UTF-8 bytes without splitting a character; what is not Unicode text becomes question marks."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _fail(place: str, message: str) -> NoReturn:
    raise FleetError(Code.MESSAGE_INVALID, message, place=place)
