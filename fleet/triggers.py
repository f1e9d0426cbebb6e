"""Reading and writing of triggers and of restart, swap, queue and health policies, in fleet.yaml and in assignments.

Owns: their document form, which holds in YAML and JSON alike, so that what an operator writes is what a node reads.
Whether a trigger's function exists is checked against the component by the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.documents import Reader, Value
from fleet.errors import Code, FleetError
from fleet.health import HealthPolicy
from fleet.model import (
    EventTrigger,
    MessageTrigger,
    QueuePolicy,
    RestartPolicy,
    SensorTrigger,
    SwapPolicy,
    TelemetryTrigger,
    TimerTrigger,
    Trigger,
)
from fleet.names import is_name, is_topic
from fleet.quantities import format_duration, parse_duration
from fleet.wit import is_function

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = ("cpu", "memory", "temperature")
"""What a telemetry trigger can read of its host."""

MIN_EVERY_MS = 10
MAX_EVERY_MS = 30 * 86_400_000
MAX_RESTART_MS = 86_400_000
MIN_HEALTH_MS = 100
"""Most often that an agent is asked how it does."""
MAX_HEALTH_MS = 86_400_000
MAX_HEALTH_FAILURES = 1_000
MAX_SWAP_CALLS = 1_000_000
MAX_ARGUMENTS = 16 * 1024
"""Characters of WAVE text in one trigger."""

STOP_FIRST = "restart"
"""How documents write that an older version is stopped before the newer one starts."""

BELOW = "/*"
"""How a message trigger writes all topics below one."""


def encode_trigger(trigger: Trigger) -> dict[str, Value]:
    """Return a trigger as documents write it: a mapping with the kind as its only key."""
    if isinstance(trigger, TimerTrigger):
        return {
            "timer": {
                "every": format_duration(trigger.every_ms),
                "function": trigger.function,
                "arguments": trigger.arguments,
            }
        }
    if isinstance(trigger, EventTrigger):
        return {"event": {"topic": trigger.topic, "function": trigger.function}}
    if isinstance(trigger, MessageTrigger):
        return {"message": {"topic": trigger.topic}}
    if isinstance(trigger, SensorTrigger):
        every: dict[str, Value] = {} if trigger.every_ms is None else {"every": format_duration(trigger.every_ms)}
        return {"sensor": {"source": trigger.source, **every, "function": trigger.function}}
    return {
        "telemetry": {
            "every": format_duration(trigger.every_ms),
            "function": trigger.function,
            "sources": list(trigger.sources),
        }
    }


def decode_trigger(value: Value, code: Code, place: str) -> Trigger:
    """Read one trigger.

    Raises:
        FleetError: `code` with the place.
    """
    with Reader(value, code, place) as reader:
        kinds = reader.names()
        if len(kinds) != 1 or kinds[0] not in _PARSERS:
            raise FleetError(code, f"expected exactly one of {', '.join(_PARSERS)}", place=place)
        return reader.section(kinds[0], _PARSERS[kinds[0]])


def encode_restart(policy: RestartPolicy) -> dict[str, Value]:
    """Return a restart policy as documents write it."""
    return {
        "initial": format_duration(policy.initial_ms),
        "cap": format_duration(policy.cap_ms),
        "stable": format_duration(policy.stable_ms),
    }


def parse_restart(reader: Reader) -> RestartPolicy:
    """Read a restart policy; what is absent has its default.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    default = RestartPolicy()
    policy = RestartPolicy(
        initial_ms=take_duration(reader, "initial", 1, MAX_RESTART_MS, default.initial_ms),
        cap_ms=take_duration(reader, "cap", 1, MAX_RESTART_MS, default.cap_ms),
        stable_ms=take_duration(reader, "stable", 1, MAX_RESTART_MS, default.stable_ms),
    )
    if policy.initial_ms > policy.cap_ms:
        reader.fail("cap", "is shorter than the initial delay")
    return policy


def decode_restart(value: Value, code: Code, place: str) -> RestartPolicy:
    """Read a restart policy from its document form.

    Raises:
        FleetError: `code` with the place.
    """
    with Reader(value, code, place) as reader:
        return parse_restart(reader)


def encode_swap(policy: SwapPolicy | None) -> Value:
    """Return a swap policy as documents write it."""
    if policy is None:
        return STOP_FIRST
    within: dict[str, Value] = {} if policy.within_ms is None else {"within": format_duration(policy.within_ms)}
    return {"calls": policy.calls, **within}


def parse_swap(reader: Reader) -> SwapPolicy | None:
    """Read how a newer version takes over; the default is to swap, None is to stop the older one first.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    if not reader.has("swap"):
        return SwapPolicy()
    value = reader.take("swap")
    if isinstance(value, str):
        if value != STOP_FIRST:
            reader.fail("swap", f"{value[:64]!r} is neither {STOP_FIRST} nor `{{calls: N, within: DURATION}}`")
        return None
    with Reader(value, reader.code, reader.at("swap")) as swap:
        within = take_duration(swap, "within", 1, MAX_RESTART_MS) if swap.has("within") else None
        return SwapPolicy(swap.integer("calls", 1, MAX_SWAP_CALLS, SwapPolicy().calls), within)


def parse_queue_policy(reader: Reader) -> QueuePolicy:
    """Read what an agent's full queue does; the default is to refuse.

    Raises:
        FleetError: the code of the document, at the key.
    """
    if not reader.has("on_full_queue"):
        return QueuePolicy.REJECT
    text = reader.text("on_full_queue")
    if text not in set(QueuePolicy):
        reader.fail("on_full_queue", f"{text[:64]!r} is none of {', '.join(QueuePolicy)}")
    return QueuePolicy(text)


def encode_health(policy: HealthPolicy) -> dict[str, Value]:
    """Return a health policy as documents write it."""
    return {
        "every": format_duration(policy.every_ms),
        "deadline": format_duration(policy.deadline_ms),
        "failures": policy.failures,
    }


def parse_health(reader: Reader) -> HealthPolicy:
    """Read the health policy under the key `health`; what is absent has its default.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    return reader.section("health", _parse_health) if reader.has("health") else HealthPolicy()


def take_duration(reader: Reader, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
    """Return milliseconds within bounds (inclusive).

    Raises:
        FleetError: the code of the document, at the key.
    """
    if default is not None and not reader.has(key):
        return default
    value = parse_duration(reader.text(key), reader.code, reader.at(key))
    if not minimum <= value <= maximum:
        bounds = f"{format_duration(minimum)} and {format_duration(maximum)}"
        reader.fail(key, f"{format_duration(value)} is not between {bounds}")
    return value


def _parse_timer(reader: Reader) -> TimerTrigger:
    arguments = reader.text("arguments", "")
    if len(arguments) > MAX_ARGUMENTS:
        reader.fail("arguments", f"{len(arguments)} characters, the limit is {MAX_ARGUMENTS}")
    return TimerTrigger(_every(reader), _function(reader), arguments)


def _parse_event(reader: Reader) -> EventTrigger:
    topic = reader.text("topic")
    if not is_topic(topic):
        reader.fail("topic", f"{topic[:64]!r} is not a topic such as sensors/temperature")
    return EventTrigger(topic, _function(reader))


def _parse_message(reader: Reader) -> MessageTrigger:
    topic = reader.text("topic")
    if not is_topic(topic.removesuffix(BELOW)):
        reader.fail("topic", f"{topic[:64]!r} is not a topic such as sensors/temperature or sensors/*")
    return MessageTrigger(topic)


def _parse_sensor(reader: Reader) -> SensorTrigger:
    source = reader.text("source")
    if not is_name(source):
        reader.fail("source", f"{source[:64]!r} is not the name of a source, such as roof-temperature")
    return SensorTrigger(source, _function(reader), _every(reader) if reader.has("every") else None)


def _parse_telemetry(reader: Reader) -> TelemetryTrigger:
    sources = reader.texts("sources", len(SOURCES))
    if not sources or len(set(sources)) < len(sources) or not set(sources) <= set(SOURCES):
        reader.fail("sources", f"expected some of {', '.join(SOURCES)}, each once")
    return TelemetryTrigger(_every(reader), _function(reader), sources)


def _parse_health(reader: Reader) -> HealthPolicy:
    default = HealthPolicy()
    return HealthPolicy(
        every_ms=take_duration(reader, "every", MIN_HEALTH_MS, MAX_HEALTH_MS, default.every_ms),
        deadline_ms=take_duration(reader, "deadline", 1, MAX_HEALTH_MS, default.deadline_ms),
        failures=reader.integer("failures", 1, MAX_HEALTH_FAILURES, default.failures),
    )


def _every(reader: Reader) -> int:
    return take_duration(reader, "every", MIN_EVERY_MS, MAX_EVERY_MS)


def _function(reader: Reader) -> str:
    function = reader.text("function")
    if not is_function(function):
        reader.fail("function", f"{function[:64]!r} is not the name of a function")
    return function


_PARSERS: dict[str, Callable[[Reader], Trigger]] = {
    "timer": _parse_timer,
    "event": _parse_event,
    "telemetry": _parse_telemetry,
    "message": _parse_message,
    "sensor": _parse_sensor,
}
