"""Messages, readings and questions on their way to and from agents that run."""

from pathlib import Path

import pytest

from edge_agent.runtime import AgentAskedSensors, AgentPublished, AgentStart, BusMessage
from edge_agent.sensors.declarations import FileSource, Source
from edge_agent.sensors.table import SensorTable
from edge_agent.traffic import Inputs, Traffic
from edge_agent.triggers import Reading
from fleet.errors import Code, FleetError
from fleet.grants import Authority, Rule
from fleet.grants.constraints import Patterns
from fleet.model import AssignedAgent, EventTrigger, MessageTrigger, SensorTrigger, TargetRef
from fleet.wave import parse_call
from fleet.wit_text import parse_signature
from tests.fakes.clock import START, VirtualClock
from tests.fakes.runtime import ScriptedRuntime

NS = int(START.timestamp()) * 1_000_000_000
REF = TargetRef("x", "sha256:0")
READING = parse_signature(
    "func(reading: record { source: string, value: f64, unit: option<string>, timestamp-ns: u64,"
    " quality: enum { good, out-of-range } })",
    {},
)
SHORT = parse_signature("func(data: record { source: string, value: f32, timestamp: u64 })", {})


def granting(**interfaces):
    names = {
        "send": ("wasi:messaging/producer", "topics"),
        "hear": ("wasi:messaging/incoming-handler", "topics"),
        "read": ("fleet:sensors/reader", "sources"),
        "sense": ("fleet:sensors/handler", "sources"),
    }
    return Authority(
        {names[key][0]: (Rule({names[key][1]: Patterns(frozenset(values))}),) for key, values in interfaces.items()}
    )


class NoTelemetry:
    def read(self, sources):
        return tuple(Reading(source, 0.0) for source in sources)


class Bench:
    def __init__(self):
        self.clock, self.runtime, self.told = VirtualClock(), ScriptedRuntime(), []
        sources = [
            Source(name, "file", FileSource("/x", 1_000, last_line=False), unit=unit, max_age_ms=2_000)
            for name, unit in (("roof", "celsius"), ("cellar", ""))
        ]
        self.table = SensorTable(sources, self.clock, lambda *_: None)
        inputs = Inputs(NoTelemetry(), self.table)
        self.traffic = Traffic(self.runtime, inputs, self.clock, lambda *event: self.told.append(event))

    async def run(self, name, authority, *triggers):
        if name not in self.runtime.running:
            await self.runtime.start(AgentStart(name, Path("/c"), "sha256:0", authority.encode(), Path("/state")))
        self.traffic.arm(AssignedAgent(name, REF, REF, triggers=triggers), authority)
        await self.clock.settle()

    async def post(self, topic="t", data=b"x", kind=""):
        self.traffic.hear(AgentPublished("app/sender", BusMessage(topic, data, kind)))
        await self.clock.settle()


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.run("app/sender", granting(send=["*"]))
    yield bench
    bench.traffic.close()


async def test_a_handler_that_refuses_is_told_once(bench):
    await bench.run("app/hearer", granting(hear=["t"]), MessageTrigger("t"))
    bench.runtime.outcomes["app/hearer"] = 'err(other("no"))'
    for _ in range(3):
        await bench.post()
    assert bench.told == [("app/hearer", "agent:message:failed", 't: err(other("no"))')]
    assert bench.traffic.last_output("app/hearer") == 'err(other("no"))'
    bench.runtime.outcomes["app/hearer"] = "ok"
    await bench.post()
    bench.runtime.outcomes["app/hearer"] = 'err(other("no"))'
    await bench.post()
    assert len(bench.told) == 2


@pytest.mark.parametrize(
    ("code", "kinds", "dropped"),
    [
        (Code.AGENT_BUSY, ["agent:message:dropped"], 2),
        (Code.EXPORT_NOT_FOUND, ["agent:message:failed"], 0),
        (Code.AGENT_TRAPPED, [], 0),
    ],
)
async def test_faults_of_a_delivery(bench, code, kinds, dropped):
    await bench.run("app/hearer", granting(hear=["t"]), MessageTrigger("t"))
    bench.runtime.outcomes["app/hearer"] = FleetError(code, "fault")
    await bench.post()
    await bench.post()
    assert [kind for _, kind, _ in bench.told] == kinds
    assert bench.traffic.dropped("app/hearer") == dropped


async def test_what_may_not_be_sent_is_counted_with_its_sender(bench):
    await bench.run("app/sender", granting(send=["other"]))
    await bench.post()
    await bench.post()
    assert [(agent, kind) for agent, kind, _ in bench.told] == [("app/sender", "agent:message:dropped")]
    assert bench.traffic.dropped("app/sender") == 2


async def test_an_operators_event_reaches_functions_and_handlers(bench):
    await bench.run("app/one", granting(hear=["t"]), MessageTrigger("t"), EventTrigger("t", "f"))
    assert await bench.traffic.publish("t", ["1", "2"]) == 4
    assert bench.runtime.calls["app/one"] == ["f(1)", "f(2)"]
    assert [message.data for message in bench.runtime.delivered["app/one"]] == [b"1", b"2"]
    bench.traffic.disarm("app/one")
    assert await bench.traffic.publish("t", ["3"]) == 0


async def test_agents_are_told_of_sources_that_their_grant_names(bench):
    bench.table.take("roof", b"20.5")
    await bench.run("app/reader", granting(read=["roof"]))
    for source in ("roof", "", "cellar", "attic"):
        bench.traffic.hear(AgentAskedSensors("app/reader", 1, source))
    bench.traffic.hear(AgentAskedSensors("app/stranger", 1, "roof"))
    roof = bench.table.states("roof")
    assert bench.runtime.answers == [("app/reader", 1, states) for states in (roof, roof, (), ())]


async def test_a_reading_calls_the_functions_that_wait_for_it(bench):
    whole, short = "fleet:sensors/handler@0.1.0#handle", "handle-data"
    await bench.run("app/one", granting(sense=["roof", "cellar"]), SensorTrigger("roof", whole))
    await bench.run("app/two", granting(sense=["cellar"]), SensorTrigger("cellar", whole), SensorTrigger("roof", short))
    await bench.run("app/three", granting(sense=["roof"]), SensorTrigger("roof", short))
    bench.table.take("roof", b"2e-7")
    bench.table.take("cellar", b"-40")
    await bench.clock.settle()
    (one,), (two,), (three,) = (bench.runtime.calls[f"app/{name}"] for name in ("one", "two", "three"))
    assert parse_call(one, lambda _: READING).arguments == (
        {"source": "roof", "value": 2e-7, "unit": "celsius", "timestamp-ns": NS, "quality": "good"},
    )
    assert parse_call(two, lambda _: READING).arguments[0]["unit"] is None
    assert parse_call(three, lambda _: SHORT).arguments[0]["timestamp"] == NS // 1_000_000_000
    bench.traffic.disarm("app/one")
    bench.table.take("roof", b"3")
    await bench.clock.settle()
    assert len(bench.runtime.calls["app/one"]) == 1


async def test_a_period_samples_the_newest_reading_while_it_is_fresh(bench):
    await bench.run("app/one", granting(sense=["roof"]), SensorTrigger("roof", "f", 1_000))
    await bench.clock.advance(1)
    assert bench.runtime.calls["app/one"] == []
    for value in (b"1", b"2"):
        bench.table.take("roof", value)
    await bench.clock.advance(4)
    assert [call.partition("value: ")[2][:1] for call in bench.runtime.calls["app/one"]] == ["2", "2"]
