"""Triggers and restart policies read the same wherever they are written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json, load_json, load_yaml
from fleet.errors import Code, FleetError
from fleet.model import (
    EventTrigger,
    MessageTrigger,
    RestartPolicy,
    SensorTrigger,
    TelemetryTrigger,
    TimerTrigger,
)
from fleet.triggers import (
    MAX_EVERY_MS,
    MAX_RESTART_MS,
    MIN_EVERY_MS,
    SOURCES,
    decode_restart,
    decode_trigger,
    encode_restart,
    encode_trigger,
)

CODE = Code.ASSIGNMENT_INVALID

every = st.integers(MIN_EVERY_MS, MAX_EVERY_MS)
functions = st.sampled_from(("run", "handle-data", "a:b/c@0.2.0#d"))
triggers = (
    st.builds(TimerTrigger, every, functions, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    | st.builds(EventTrigger, st.sampled_from(("a", "sensors/temperature", "a-b/c_d/e.1")), functions)
    | st.builds(MessageTrigger, st.sampled_from(("a", "sensors/temperature", "a/*", "a/b/*")))
    | st.builds(SensorTrigger, st.sampled_from(("roof", "line-3")), functions, st.none() | every)
    | st.builds(
        TelemetryTrigger, every, functions, st.lists(st.sampled_from(SOURCES), min_size=1, unique=True).map(tuple)
    )
)
delays = st.tuples(*[st.integers(1, MAX_RESTART_MS)] * 3)


@given(triggers)
def test_triggers_round_trip_through_json(trigger):
    value = load_json(dump_json(encode_trigger(trigger)), CODE, "payload")
    assert decode_trigger(value, CODE, "payload") == trigger


@given(delays)
def test_restart_policies_round_trip(delay):
    policy = RestartPolicy(min(delay[:2]), max(delay[:2]), delay[2])
    assert decode_restart(json.loads(dump_json(encode_restart(policy))), CODE, "payload") == policy


def test_restart_policies_have_defaults():
    assert decode_restart({}, CODE, "payload") == RestartPolicy()


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("timer: {every: 10ms, function: run}", TimerTrigger(10, "run", "")),
        ("event: {topic: a, function: run}", EventTrigger("a", "run")),
        ("message: {topic: site/alerts}", MessageTrigger("site/alerts")),
        ("message: {topic: site/*}", MessageTrigger("site/*")),
        ("sensor: {source: roof, function: run}", SensorTrigger("roof", "run")),
        ("sensor: {source: roof, every: 5s, function: run}", SensorTrigger("roof", "run", 5_000)),
        ("telemetry: {every: 1m, sources: [cpu], function: run}", TelemetryTrigger(60_000, "run", ("cpu",))),
    ],
)
def test_written_by_hand(text, trigger):
    assert decode_trigger(load_yaml(text.encode(), CODE, "a"), CODE, "a") == trigger


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("timer", "a"),
        ("{}", "a"),
        ("cron: {}", "a"),
        ("{timer: {every: 1s, function: run}, event: {topic: a, function: run}}", "a"),
        ("timer: {}", "a: timer.every"),
        ("timer: {every: 1, function: run}", "a: timer.every"),
        ("timer: {every: 9ms, function: run}", "a: timer.every"),
        ("timer: {every: 31d, function: run}", "a: timer.every"),
        ("timer: {every: 1s}", "a: timer.function"),
        ("timer: {every: 1s, function: Run}", "a: timer.function"),
        ("timer: {every: 1s, function: run, arguments: 5}", "a: timer.arguments"),
        (f"timer: {{every: 1s, function: run, arguments: {'x' * 16385}}}", "a: timer.arguments"),
        ("timer: {every: 1s, function: run, topic: a}", "a: timer.topic"),
        ("event: {function: run}", "a: event.topic"),
        ("event: {topic: a/, function: run}", "a: event.topic"),
        ("event: {topic: a/#, function: run}", "a: event.topic"),
        (f"event: {{topic: {'a' * 256}, function: run}}", "a: event.topic"),
        ("message: {topic: a/*/b}", "a: message.topic"),
        ("message: {topic: '*'}", "a: message.topic"),
        ("message: {topic: a, function: run}", "a: message.function"),
        ("sensor: {source: Roof, function: run}", "a: sensor.source"),
        ("sensor: {source: roof}", "a: sensor.function"),
        ("sensor: {source: roof, every: 1ms, function: run}", "a: sensor.every"),
        ("telemetry: {every: 1s, function: run}", "a: telemetry.sources"),
        ("telemetry: {every: 1s, function: run, sources: []}", "a: telemetry.sources"),
        ("telemetry: {every: 1s, function: run, sources: [gpu]}", "a: telemetry.sources"),
        ("telemetry: {every: 1s, function: run, sources: [cpu, cpu]}", "a: telemetry.sources"),
    ],
)
def test_wrong_triggers(text, place):
    with pytest.raises(FleetError) as caught:
        decode_trigger(load_yaml(text.encode(), CODE, "a"), CODE, "a")
    assert (caught.value.code, caught.value.detail["place"]) == (CODE, place)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "a"),
        ({"initial": 5}, "a: initial"),
        ({"initial": "0s"}, "a: initial"),
        ({"cap": "25h"}, "a: cap"),
        ({"initial": "2m"}, "a: cap"),
        ({"tries": 3}, "a: tries"),
    ],
)
def test_wrong_restart_policies(value, place):
    with pytest.raises(FleetError) as caught:
        decode_restart(value, CODE, "a")
    assert (caught.value.code, caught.value.detail["place"]) == (CODE, place)
