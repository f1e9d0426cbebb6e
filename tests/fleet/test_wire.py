"""Messages to nouns and back; nothing malformed passes the door, nothing sent is refused at the other side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.assignment import MAX_AGENTS, MAX_ENVELOPE
from fleet.checkpoint import MAX_NOTE
from fleet.errors import Code, FleetError
from fleet.grants import tell_ceiling
from fleet.health import Vitals
from fleet.merkle import MAX_PROOF, MAX_SIZE
from fleet.model import DesiredState, Event, Exit, ExitCause, LogLine, ObservedAgent, ObservedState, Phase, Refusal
from fleet.oci import digest_of
from fleet.times import MAX_MS, from_ms
from fleet.v1 import model_pb2
from fleet.wire import (
    LEVELS,
    MAX_DETAIL,
    MAX_OUTPUT,
    MAX_TEXT,
    MAX_WORD,
    decode_observed,
    encode_observed,
    from_pb_ceiling,
    from_pb_desired,
    from_pb_event,
    from_pb_log_line,
    from_pb_observed,
    from_pb_observed_agent,
    to_pb_ceiling,
    to_pb_desired,
    to_pb_event,
    to_pb_log_line,
    to_pb_observed,
    to_pb_observed_agent,
)
from tests.fakes.publisher import NOW
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

NAMES = st.sampled_from(["a", "climate", "node-1"])
AGENT_NAMES = st.builds("{}/{}".format, NAMES, NAMES)
DIGESTS = st.binary(max_size=3).map(digest_of)
MOMENTS = st.integers(1, MAX_MS).map(from_ms)
COUNTERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
EXITS = st.builds(Exit, st.sampled_from(ExitCause), TEXTS, MOMENTS)
INTERFACES = st.sampled_from(["wasi:logging/logging@0.1.0-draft", "a:b/c", "fleet:sensors/reader@0.1.0"])
VITALS = st.builds(
    Vitals,
    healthy=st.none() | st.booleans(),
    ready=st.none() | st.booleans(),
    reason=TEXTS,
    dropped=COUNTERS,
    p50_us=COUNTERS,
    p99_us=COUNTERS,
    memory_peak_bytes=COUNTERS,
    queue=COUNTERS,
    host_calls=st.dictionaries(INTERFACES, COUNTERS),
)
OBSERVED_AGENTS = st.builds(
    ObservedAgent,
    name=AGENT_NAMES,
    phase=st.sampled_from(Phase),
    bundle_digest=st.just("") | DIGESTS,
    grant_digest=st.just("") | DIGESTS,
    restarts=COUNTERS,
    last_exit=st.none() | EXITS,
    next_attempt_at=st.none() | MOMENTS,
    running_since=st.none() | MOMENTS,
    calls=COUNTERS,
    errors=COUNTERS,
    memory_bytes=COUNTERS,
    last_output=TEXTS,
    refusal=st.none() | st.builds(Refusal, TEXTS, TEXTS, TEXTS),
    vitals=VITALS,
)
OBSERVED = st.builds(
    ObservedState,
    generation=COUNTERS,
    digest=st.just("") | DIGESTS,
    at=MOMENTS,
    agents=st.lists(OBSERVED_AGENTS, max_size=3, unique_by=lambda agent: agent.name).map(tuple),
    trust_digest=st.just("") | DIGESTS,
)
EVENTS = st.builds(
    Event,
    at=MOMENTS,
    node=st.just("") | NAMES,
    agent=st.just("") | AGENT_NAMES,
    kind=st.just("agent:trap:restarted"),
    message=TEXTS,
    detail=st.dictionaries(TEXTS, TEXTS, max_size=3),
    sequence=COUNTERS,
)
LOG_LINES = st.builds(
    LogLine,
    at=MOMENTS,
    node=st.just("") | NAMES,
    agent=AGENT_NAMES,
    level=st.sampled_from(LEVELS),
    context=TEXTS,
    message=TEXTS,
)
AGENT = ObservedAgent(
    "climate/context",
    Phase.BACKOFF,
    last_exit=Exit(ExitCause.QUOTA, "out of memory", NOW),
    refusal=Refusal("X", "message", "remedy"),
)
STATE = ObservedState(3, digest_of(b""), NOW, (AGENT,))
EVENT = Event(NOW, "n1", "climate/context", "agent:trap:restarted", "message", {"key": "value"})
LINE = LogLine(NOW, "n1", "climate/context", "info", "main", "message")


def over_the_wire(message: Message) -> Message:
    return type(message).FromString(message.SerializeToString())


def refused(call: Callable[[], object], place: str) -> None:
    with pytest.raises(FleetError) as caught:
        call()
    assert (caught.value.code, caught.value.detail["place"]) == (Code.MESSAGE_INVALID, place)


@given(OBSERVED)
def test_observed_states_round_trip(observed: ObservedState) -> None:
    assert from_pb_observed(over_the_wire(to_pb_observed(observed))) == observed


@given(OBSERVED)
def test_stored_observed_states_round_trip(observed: ObservedState) -> None:
    assert decode_observed(encode_observed(observed)) == observed


@given(EVENTS)
def test_events_round_trip(event: Event) -> None:
    assert from_pb_event(over_the_wire(to_pb_event(event))) == event


@given(LOG_LINES)
def test_log_lines_round_trip(line: LogLine) -> None:
    assert from_pb_log_line(over_the_wire(to_pb_log_line(line))) == line


@given(st.none() | st.binary(max_size=50))
def test_what_a_node_says_of_its_ceiling_round_trips(document: bytes | None) -> None:
    own = tell_ceiling(document)
    assert from_pb_ceiling(to_pb_ceiling(own)) == own


def test_a_ceiling_that_is_not_what_its_digest_names_is_refused() -> None:
    with pytest.raises(FleetError) as caught:
        from_pb_ceiling(model_pb2.NodeCeiling(digest="sha256:" + "0" * 64, document=b"limits: {}"))
    assert (caught.value.code, caught.value.detail["place"]) == (Code.MESSAGE_INVALID, "ceiling")


@given(st.binary(min_size=1, max_size=50), st.binary(min_size=1, max_size=50))
def test_desired_states_round_trip(envelope: bytes, proof: bytes) -> None:
    for desired in (DesiredState(envelope, proof), DesiredState(envelope, proof, 7, (b"hash", b"other"))):
        assert from_pb_desired(over_the_wire(to_pb_desired(desired))) == desired


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"envelope": b""}, "desired.assignment"),
        ({"envelope": b"x" * (MAX_ENVELOPE + 1)}, "desired.assignment"),
        ({"proof": b""}, "desired.proof"),
        ({"proof": b"x" * (MAX_NOTE + 1)}, "desired.proof"),
        ({"base": MAX_SIZE + 1}, "desired.consistency"),
        ({"consistency": (b"x",) * (MAX_PROOF + 1)}, "desired.consistency"),
    ],
)
def test_a_desired_state_is_complete_and_small(change: dict[str, Any], place: str) -> None:
    message = to_pb_desired(dataclasses.replace(DesiredState(b"e", b"p"), **change))
    refused(lambda: from_pb_desired(message), place)


def test_what_an_older_node_does_not_tell_is_not_known() -> None:
    message = to_pb_observed_agent(AGENT)
    message.ClearField("vitals")
    assert from_pb_observed_agent(message, "agent").vitals == Vitals()


@pytest.mark.parametrize(
    ("vitals", "place"),
    [
        (model_pb2.Vitals(reason="x" * (MAX_OUTPUT + 1)), "agent.vitals.reason"),
        (model_pb2.Vitals(host_calls={"logging": 1}), "agent.vitals.host_calls"),
        (model_pb2.Vitals(host_calls={f"a:b/c{n}": 1 for n in range(65)}), "agent.vitals.host_calls"),
    ],
)
def test_an_agents_vitals(vitals: model_pb2.Vitals, place: str) -> None:
    message = to_pb_observed_agent(AGENT)
    message.vitals.CopyFrom(vitals)
    refused(lambda: from_pb_observed_agent(message, "agent"), place)


def changed(message: Message, /, **fields: object) -> Message:
    for field, value in fields.items():
        setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "context"}, "agent.name"),
        ({"phase": 0}, "agent.phase"),
        ({"phase": 99}, "agent.phase"),
        ({"bundle_digest": "x"}, "agent.bundle_digest"),
        ({"grant_digest": "x"}, "agent.grant_digest"),
        ({"next_attempt_at_ms": -1}, "agent.next_attempt_at_ms"),
        ({"running_since_ms": MAX_MS + 1}, "agent.running_since_ms"),
        ({"last_output": "x" * (MAX_OUTPUT + 1)}, "agent.last_output"),
    ],
)
def test_an_agents_fields(fields: dict[str, object], place: str) -> None:
    message = changed(to_pb_observed_agent(AGENT), **fields)
    refused(lambda: from_pb_observed_agent(message, "agent"), place)


@pytest.mark.parametrize(
    ("part", "fields", "place"),
    [
        ("last_exit", {"cause": "boredom"}, "agent.last_exit.cause"),
        ("last_exit", {"message": "x" * (MAX_TEXT + 1)}, "agent.last_exit.message"),
        ("last_exit", {"at_ms": 0}, "agent.last_exit.at_ms"),
        ("refusal", {"code": "x" * (MAX_WORD + 1)}, "agent.refusal.code"),
        ("refusal", {"message": "x" * (MAX_TEXT + 1)}, "agent.refusal.message"),
        ("refusal", {"remedy": "x" * (MAX_TEXT + 1)}, "agent.refusal.remedy"),
    ],
)
def test_an_agents_exit_and_refusal(part: str, fields: dict[str, object], place: str) -> None:
    message = to_pb_observed_agent(AGENT)
    changed(getattr(message, part), **fields)
    refused(lambda: from_pb_observed_agent(message, "agent"), place)


def test_an_observed_states_fields() -> None:
    message = to_pb_observed(STATE)
    refused(lambda: from_pb_observed(changed(to_pb_observed(STATE), digest="x")), "observed.digest")
    refused(lambda: from_pb_observed(changed(to_pb_observed(STATE), at_ms=0)), "observed.at_ms")
    message.agents.extend([message.agents[0]])
    refused(lambda: from_pb_observed(message), "observed.agents")
    message.agents.extend([message.agents[0]] * MAX_AGENTS)
    refused(lambda: from_pb_observed(message), "observed.agents")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"at_ms": 0}, "event.at_ms"),
        ({"node": "N1"}, "event.node"),
        ({"agent": "context"}, "event.agent"),
        ({"kind": "trap"}, "event.kind"),
        ({"kind": "a:" + "b" * MAX_WORD + ":c"}, "event.kind"),
        ({"message": "x" * (MAX_TEXT + 1)}, "event.message"),
    ],
)
def test_an_events_fields(fields: dict[str, object], place: str) -> None:
    refused(lambda: from_pb_event(changed(to_pb_event(EVENT), **fields)), place)


@pytest.mark.parametrize(
    ("detail", "place"),
    [
        ({str(number): "" for number in range(MAX_DETAIL + 1)}, "event.detail"),
        ({"x" * (MAX_WORD + 1): ""}, "event.detail"),
        ({"key": "x" * (MAX_TEXT + 1)}, "event.detail.key"),
    ],
)
def test_an_events_detail(detail: dict[str, str], place: str) -> None:
    message = to_pb_event(EVENT)
    message.detail.clear()
    message.detail.update(detail)
    refused(lambda: from_pb_event(message), place)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"at_ms": MAX_MS + 1}, "log.at_ms"),
        ({"node": "N1"}, "log.node"),
        ({"agent": ""}, "log.agent"),
        ({"level": "loud"}, "log.level"),
        ({"context": "x" * (MAX_WORD + 1)}, "log.context"),
        ({"message": "x" * (MAX_TEXT + 1)}, "log.message"),
    ],
)
def test_a_log_lines_fields(fields: dict[str, object], place: str) -> None:
    refused(lambda: from_pb_log_line(changed(to_pb_log_line(LINE), **fields)), place)


LONG = "\u20ac" * MAX_TEXT + "\ud800"
"""Longer than every limit, no multiple of one, and not Unicode text at its end."""


def test_what_is_sent_is_never_refused_for_its_length() -> None:
    agent = dataclasses.replace(
        AGENT,
        last_output=LONG,
        last_exit=Exit(ExitCause.KILLED, LONG, NOW),
        refusal=Refusal(LONG, LONG, LONG),
    )
    received = from_pb_observed(over_the_wire(to_pb_observed(dataclasses.replace(STATE, agents=(agent,)))))
    assert received.agents[0].last_output == "\u20ac" * (MAX_OUTPUT // 3)
    detail = {f"{number}{LONG}": LONG for number in range(MAX_DETAIL + 1)}
    assert from_pb_event(over_the_wire(to_pb_event(dataclasses.replace(EVENT, message=LONG, detail=detail)))).detail
    assert from_pb_log_line(over_the_wire(to_pb_log_line(dataclasses.replace(LINE, context=LONG, message="\ud800"))))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (model_pb2.DesiredState, from_pb_desired),
        (model_pb2.ObservedState, from_pb_observed),
        (model_pb2.Event, from_pb_event),
        (model_pb2.LogLine, from_pb_log_line),
    ],
)
def test_an_empty_message_is_refused(kind: type[Message], read: Callable[[Message], object]) -> None:
    assert code_of(read, kind()) is Code.MESSAGE_INVALID


@given(st.data())
def test_no_message_raises_anything_but_a_fleet_error(data: st.DataObject) -> None:
    content = bytearray(to_pb_observed(STATE).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert code_of(decode_observed, bytes(content)) in {None, Code.MESSAGE_INVALID}
