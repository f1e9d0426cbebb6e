import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.fusion import Wire
from edge_agent.health import Health
from edge_agent.runner.connection import Connection
from edge_agent.runner.message_values import HostCalls, LogEntry, Measures, ModelEntry, PartEntry, Role, SecretEntry
from edge_agent.runner.messages import (
    KINDS,
    AgentEnded,
    AgentMeasured,
    CallAgent,
    CallDone,
    CallFailed,
    ChildExited,
    Compile,
    Counters,
    Fault,
    Fork,
    Kill,
    Logged,
    Message,
    Published,
    StartAgent,
)
from edge_agent.runner.protocol import MAX_FRAME, MAX_MESSAGE, FrameBuffer, decode, encode
from edge_agent.runtime import BusMessage, SensorState
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.health import HealthPolicy
from fleet.model import ExitCause, QueuePolicy
from fleet.sealing import SecretKind

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
naturals = st.integers(0, (1 << 63) - 1)
mappings = st.dictionaries(texts, texts, max_size=4)
counters = st.builds(Counters, naturals, naturals, naturals, naturals)
faults = st.builds(Fault, st.sampled_from(Code), texts, mappings)
entries = st.builds(LogEntry, texts, naturals, texts, texts, texts)
secrets = st.builds(SecretEntry, texts, st.sampled_from(SecretKind), st.binary(max_size=40))
models = st.builds(ModelEntry, texts, texts, texts)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(lambda found: tuple(text for pair in found for text in pair))
bus_messages = st.builds(BusMessage, texts, st.binary(max_size=40), texts, pairs, texts)
states = st.builds(SensorState, texts, texts, texts, texts, texts, naturals, texts)
host_calls = st.dictionaries(st.sampled_from(["a:b/c", "a:b/d@1.0.0", "wasi:io/poll@0.2.12"]), naturals).map(
    lambda found: tuple(HostCalls(*entry) for entry in found.items())
)
numbers = [naturals] * 6
measures = st.builds(Measures, *numbers, st.sampled_from(Health), texts, host_calls)
FIELDS = {
    "str": texts,
    "int": naturals,
    "tuple[str, ...]": st.lists(texts, max_size=4).map(tuple),
    "Mapping[str, str]": mappings,
    "tuple[LogEntry, ...]": st.lists(entries, max_size=4).map(tuple),
    "tuple[ModelEntry, ...]": st.lists(models, max_size=4).map(tuple),
    "tuple[PartEntry, ...]": st.lists(st.builds(PartEntry, texts, texts, naturals), max_size=4).map(tuple),
    "tuple[SecretEntry, ...]": st.lists(secrets, max_size=3).map(tuple),
    "tuple[Wire, ...]": st.lists(st.builds(Wire, naturals, texts, naturals), max_size=4).map(tuple),
    "tuple[SensorState, ...]": st.lists(states, max_size=3).map(tuple),
    "BusMessage": bus_messages,
    "ExitCause": st.sampled_from(ExitCause),
    "QueuePolicy": st.sampled_from(QueuePolicy),
    "Role": st.sampled_from(Role),
    "Fault": faults,
    "HealthPolicy": st.builds(HealthPolicy, naturals, naturals, naturals),
    "Measures": measures,
    "Counters": counters,
}
for nested in (StartAgent, AgentEnded):
    parts = {name: FIELDS[item.type] for name, item in nested.__dataclass_fields__.items() if name != "FDS"}
    FIELDS[nested.__name__] = st.builds(nested, **parts)
messages = st.one_of(
    *(
        st.builds(
            kind, **{name: FIELDS[item.type] for name, item in kind.__dataclass_fields__.items() if name != "FDS"}
        )
        for kind in KINDS.values()
    )
)


def payload(message: Message) -> bytes:
    return encode(message)[4:]


@given(messages)
def test_every_message_survives_the_wire(message):
    assert decode(payload(message)) == message


@given(st.lists(messages, max_size=4), st.data())
def test_frames_do_not_depend_on_how_the_stream_is_cut(sent, data):
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    buffer, seen = FrameBuffer(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer.feed(stream[begin:end])
        while (frame := buffer.next()) is not None:
            seen.append(decode(frame))
    assert seen == sent
    assert buffer.empty


@given(st.binary(max_size=300))
def test_noise_is_refused_with_a_code(data):
    with pytest.raises(FleetError) as caught:
        decode(data)
    assert caught.value.code is Code.MESSAGE_INVALID


@pytest.mark.parametrize(
    "calls",
    [
        (HostCalls("logging", 1),),
        (HostCalls("a:b/c", 1), HostCalls("a:b/c", 2)),
        tuple(HostCalls(f"a:b/c{number}", 1) for number in range(65)),
    ],
)
def test_what_the_coordinator_would_refuse_is_refused_here(calls):
    data = payload(AgentMeasured("app/a", Counters(), Measures(host_calls=calls)))
    assert decoded_or_code(data) is Code.MESSAGE_INVALID


def decoded_or_code(data):
    try:
        return decode(data)
    except FleetError as error:
        return error.code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(messages, st.data())
def test_a_message_with_one_field_replaced_is_refused_or_read_as_what_it_says(message, data):
    value = json.loads(payload(message))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(json_values)
    try:
        encoded = dump_json(value)
    except ValueError:  # NaN and infinities have no JSON
        return
    read = decoded_or_code(encoded)
    assert read is Code.MESSAGE_INVALID or payload(read) == encoded


@pytest.mark.parametrize(
    "text",
    [
        '{"child":1, "type":"Kill"}',  # white space
        '{"type":"Kill","child":1}',  # order
        '{"child":1,"child":1,"type":"Kill"}',
        '{"child":1,"extra":2,"type":"Kill"}',
        '{"type":"Kill"}',
        '{"child":true,"type":"Kill"}',
        '{"child":-1,"type":"Kill"}',
        '{"child":9223372036854775808,"type":"Kill"}',
        '{"child":1.0,"type":"Kill"}',
        '{"child":NaN,"type":"Kill"}',
        '{"child":1,"type":"Fault"}',
        '{"child":1,"type":["Kill"]}',
        '{"fault":{"code":"NOPE","detail":{},"message":""},"type":"CompileFailed"}',
        '{"digest":"\\ud800","type":"Compile"}',
        "[" * 100_000,
        "1",
        "",
    ],
)
def test_only_the_one_encoding_is_read(text):
    with pytest.raises(FleetError) as caught:
        decode(text.encode())
    assert caught.value.code is Code.MESSAGE_INVALID


@pytest.mark.parametrize("size", [0, MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_ends_the_stream(size):
    buffer = FrameBuffer()
    buffer.feed(size.to_bytes(4, "big"))
    with pytest.raises(FleetError) as caught:
        buffer.next()
    assert caught.value.code is Code.MESSAGE_INVALID


def test_the_sender_refuses_what_is_too_large_or_not_unicode():
    with pytest.raises(FleetError) as caught:
        encode(CallDone(1, "app/a", "x" * MAX_FRAME, 1, Counters()))
    assert caught.value.code is Code.LIMIT_EXCEEDED
    with pytest.raises(FleetError) as caught:
        encode(CallAgent(1, "app/a", "\ud800", 1))
    assert caught.value.code is Code.MESSAGE_INVALID


def test_a_fault_is_the_same_error_on_the_other_side():
    error = FleetError(Code.AGENT_TRAPPED, "trapped", cause="quota", limit=3)
    received = decode(payload(CallFailed(1, "app/a", Fault.of(error), Counters())))
    assert isinstance(received, CallFailed)
    again = received.fault.error()
    assert (again.code, again.private, again.detail) == (error.code, "trapped", {"cause": "quota", "limit": "3"})


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def drain(connection):
    while connection.receive() is not None:
        pass


@pytest.fixture
def ends():
    left, right = socket.socketpair()
    pair = Connection(left), Connection(right)
    yield pair
    for end in pair:
        end.close()


def test_descriptors_arrive_with_their_own_message(ends):
    left, right = ends
    files = [os.memfd_create(name) for name in ("one", "two")]
    for file, text in zip(files, (b"one", b"two"), strict=True):
        os.write(file, text)
    start = StartAgent("app/a", "sha256:0", "{}", (), {}, (), "/")
    left.send(Kill(1))
    left.send(Fork(1, Role.RUNNER, "app"), files[:1])
    left.send(Kill(2))
    left.send(start, files[1:])
    seen = [right.receive() for _ in range(4)]
    assert [message for message, _ in seen] == [Kill(1), Fork(1, Role.RUNNER, "app"), Kill(2), start]
    assert [[os.pread(number, 9, 0) for number in numbers] for _, numbers in seen] == [[], [b"one"], [], [b"two"]]
    for number in [*files, *(number for _, numbers in seen for number in numbers)]:
        os.close(number)


@pytest.mark.parametrize(
    ("frame", "descriptors"),
    [
        (encode(Kill(1)), 1),  # a descriptor that no message has
        (encode(Compile("sha256:0", 0)), 0),  # a message without its descriptor
        (encode(Kill(1)), 9),  # more than any message has
        (b"\x00\x00\x00\x02{}", 0),
    ],
)
def test_a_malformed_stream_is_refused_and_leaks_nothing(frame, descriptors):
    before = open_descriptors()
    left, right = socket.socketpair()
    numbers = [os.dup(0) for _ in range(descriptors)]
    with left:
        socket.send_fds(left, [frame], numbers)
    for number in numbers:
        os.close(number)
    connection = Connection(right)
    with pytest.raises(FleetError) as caught:
        drain(connection)
    assert caught.value.code is Code.MESSAGE_INVALID
    connection.close()
    assert open_descriptors() == before


def test_the_end_of_the_stream_is_not_an_error(ends):
    left, right = ends
    left.send(ChildExited(1, 0, 9))
    left.close()
    assert right.receive() == (ChildExited(1, 0, 9), ())
    assert right.receive() is None


def test_log_batches_are_messages_like_others():
    batch = Logged((LogEntry("app/a", 5, "info", "", "hello \x00 \u2028"),), 3)
    assert decode(payload(batch)) == batch


@pytest.mark.parametrize(
    "change",
    [
        {"data": "a"},
        {"data": "QQ=Q"},
        {"data": "QR=="},
        {"data": "QQ==\n"},
        {"data": "Qü=="},
        {"metadata": ["name"]},
        {"metadata": "name"},
    ],
)
def test_a_message_of_the_bus_has_one_form(change):
    value = json.loads(payload(Published("app/a", BusMessage("t", b"A"))))
    assert decode(dump_json(value)) == Published("app/a", BusMessage("t", b"A"))
    value["message"] |= change
    with pytest.raises(FleetError) as caught:
        decode(dump_json(value))
    assert caught.value.code is Code.MESSAGE_INVALID


def test_a_message_of_the_bus_is_bounded():
    decode(payload(Published("app/a", BusMessage("t", bytes(MAX_MESSAGE)))))
    with pytest.raises(FleetError, match="bytes at most"):
        decode(payload(Published("app/a", BusMessage("t", bytes(MAX_MESSAGE + 1)))))
