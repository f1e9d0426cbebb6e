"""fleet.yaml: what is read, and what is refused with its place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.grants import decode_narrowing
from fleet.health import HealthPolicy
from fleet.manifest import encode_removal, parse_application
from fleet.model import (
    Application,
    ApplicationAgent,
    EventTrigger,
    Isolation,
    Link,
    Placement,
    QueuePolicy,
    RestartPolicy,
    RolloutPolicy,
    SwapPolicy,
    TelemetryTrigger,
    TimerTrigger,
)
from tests.fakes.documents import APPLICATION
from tests.fakes.refusals import refusal

MINIMAL = """\
schema: fleet.application/v1
application: climate
agents: [{name: context, bundle: context-agent@0.1.0}]
"""


def test_every_field_is_read():
    assert parse_application(APPLICATION.encode()) == Application(
        name="climate",
        agents=(
            ApplicationAgent(
                name="context",
                bundle="context-agent@0.1.0",
                placement=Placement({"site": "oslo"}, 2),
                grant_revision=1,
                config={"unit": "celsius"},
                triggers=(
                    TelemetryTrigger(1_000, "handle-data", ("cpu", "memory", "temperature")),
                    EventTrigger("sensors/temperature", "syuthd:agent-mesh/sensor-handler#handle-data"),
                    TimerTrigger(5_000, "handle-data", '{source: "t", value: 1.0, timestamp: 0}'),
                ),
                restart=RestartPolicy(1_000, 120_000, 180_000),
                on_full_queue=QueuePolicy.DROP_OLDEST,
                health=HealthPolicy(5_000, 200, 2),
            ),
            ApplicationAgent(name="second", bundle="second-agent@1.0.0-rc.1", placement=Placement()),
        ),
        rollout=RolloutPolicy(waves=(1, 0.5, 1.0), healthy_for_ms=5_000, deadline_ms=120_000, max_failures=1),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("swap: restart", None),
        ("swap: {}", SwapPolicy()),
        ("swap: {calls: 10}", SwapPolicy(10)),
        ("swap: {calls: 10, within: 5m}", SwapPolicy(10, 300_000)),
        ("swap: {within: 5m}", SwapPolicy(3, 300_000)),
    ],
)
def test_how_a_newer_version_takes_over_is_read(text: str, policy: SwapPolicy | None):
    assert parse_application(with_agent(text).encode()).agents[0].swap == policy


def test_an_emergency_grant_is_asked_for_by_its_revision():
    (agent,) = parse_application(with_agent("break_glass: 3").encode()).agents
    assert (agent.grant_revision, agent.break_glass) == (3, True)
    (ordinary,) = parse_application(with_agent("grant: 3").encode()).agents
    assert (ordinary.grant_revision, ordinary.break_glass) == (3, False)


def test_little_is_needed():
    assert parse_application(MINIMAL.encode()) == Application(
        "climate", (ApplicationAgent("context", "context-agent@0.1.0", Placement()),)
    )


def with_agent(line):
    return MINIMAL.replace("0.1.0}", f"0.1.0, {line}}}")


def with_rollout(line):
    return f"{MINIMAL}rollout: {{{line}}}\n"


def test_a_manifest_without_agents_removes_the_application_and_says_so_explicitly():
    removal = parse_application((MINIMAL.partition("agents")[0] + "agents: []").encode())
    assert removal == Application("climate", (), RolloutPolicy())
    assert parse_application(encode_removal("climate")) == removal


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[]", ""),
        (MINIMAL.replace("/v1", "/v2"), "schema"),
        (MINIMAL.replace("climate", "Climate"), "application"),
        (MINIMAL + "extra: 1\n", "extra"),
        (MINIMAL.partition("agents")[0], "agents"),
        (MINIMAL.partition("agents")[0] + "agents: {}", "agents"),
        (MINIMAL.partition("agents")[0] + "agents: [a]", "agents[0]"),
        (MINIMAL.replace("name: context", "name: a/b"), "agents[0].name"),
        (MINIMAL.replace("0}]", "0}, {name: context, bundle: b@1.0.0}]"), "agents[1].name"),
        (MINIMAL.replace("@0.1.0", ""), "agents[0].bundle"),
        (MINIMAL.replace("@0.1.0", "@0.1"), "agents[0].bundle"),
        (MINIMAL.replace("@0.1.0", "@0.1.0+build"), "agents[0].bundle"),
        (MINIMAL.replace("context-agent@", "Context@"), "agents[0].bundle"),
        (MINIMAL.replace(", bundle: context-agent@0.1.0", ""), "agents[0].bundle"),
        (with_agent("grant: 0"), "agents[0].grant"),
        (with_agent("grant: newest"), "agents[0].grant"),
        (with_agent("break_glass: true"), "agents[0].break_glass"),
        (with_agent("break_glass: 1, grant: 1"), "agents[0].break_glass"),
        (with_agent("limits: {}"), "agents[0].limits"),
        (with_agent("placement: oslo"), "agents[0].placement"),
        (with_agent("placement: {count: 0}"), "agents[0].placement.count"),
        (with_agent("placement: {labels: {site: 1}}"), "agents[0].placement.labels.site"),
        (with_agent("placement: {node: n1}"), "agents[0].placement.node"),
        (with_agent("config: {unit: 1}"), "agents[0].config.unit"),
        (with_agent("config: {'a b': c}"), "agents[0].config.a b"),
        (with_agent(f"config: {{{'k' * 129}: c}}"), f"agents[0].config.{'k' * 64}"),
        (with_agent(f"config: {{k: {'v' * 4097}}}"), "agents[0].config.k"),
        (with_agent("triggers: [{cron: {}}]"), "agents[0].triggers[0]"),
        (with_agent("triggers: [{event: {topic: a}}]"), "agents[0].triggers[0].event.function"),
        (with_agent("restart: {cap: 1ms}"), "agents[0].restart.cap"),
        (with_agent("on_full_queue: drop"), "agents[0].on_full_queue"),
        (with_agent("health: often"), "agents[0].health"),
        (with_agent("health: {every: 1ms}"), "agents[0].health.every"),
        (with_agent("health: {deadline: 0s}"), "agents[0].health.deadline"),
        (with_agent("health: {failures: 0}"), "agents[0].health.failures"),
        (with_agent("health: {timeout: 1s}"), "agents[0].health.timeout"),
        (with_agent("swap: never"), "agents[0].swap"),
        (with_agent("swap: {calls: 0}"), "agents[0].swap.calls"),
        (with_agent("swap: {within: soon}"), "agents[0].swap.within"),
        (with_agent("swap: {jobs: 1}"), "agents[0].swap.jobs"),
        (with_rollout("waves: []"), "rollout.waves"),
        (with_rollout("waves: [0]"), "rollout.waves[0]"),
        (with_rollout("waves: [true]"), "rollout.waves[0]"),
        (with_rollout("waves: [0%]"), "rollout.waves[0]"),
        (with_rollout("waves: [101%]"), "rollout.waves[0]"),
        (with_rollout("waves: [0.5]"), "rollout.waves[0]"),
        (with_rollout("waves: [50]%"), ""),
        (with_rollout("waves: [1, 50%, 50%]"), "rollout.waves[2]"),
        (with_rollout("waves: [2, 50%, 1]"), "rollout.waves[2]"),
        (with_rollout("healthy_for: 3"), "rollout.healthy_for"),
        (with_rollout("deadline: 8d"), "rollout.deadline"),
        (with_rollout("max_failures: -1"), "rollout.max_failures"),
        (with_rollout("retries: 1"), "rollout.retries"),
    ],
)
def test_what_is_wrong_is_named(text, place):
    with pytest.raises(FleetError) as caught:
        parse_application(text.encode(), "fleet.yaml")
    assert caught.value.code is Code.MANIFEST_INVALID
    if place:
        assert caught.value.detail["place"] == f"fleet.yaml: {place}"
    else:
        assert str(caught.value.detail["place"]).startswith("fleet.yaml")


def test_waves_of_both_kinds_grow_separately():
    waves = parse_application(with_rollout("waves: [1, 1%, 2, 3, 100%]").encode()).rollout.waves
    assert waves == (1, 0.01, 2, 3, 1.0)
    assert [type(wave) for wave in waves] == [int, float, int, int, float]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(APPLICATION)), st.integers(0, 12), st.binary(max_size=6)), min_size=1, max_size=3
    )
)
def test_mutations_raise_nothing_else(edits):
    data = APPLICATION.encode()
    for at, length, garbage in edits:
        data = data[:at] + garbage + data[at + length :]
    error = refusal(lambda: parse_application(data))
    assert error is None or (
        error.code is Code.MANIFEST_INVALID and str(error.detail["place"]).startswith("fleet.yaml")
    )


LINKED = """\
schema: fleet.application/v1
application: pipeline
agents:
  - name: ingest
    bundle: ingest@0.1.0
    links:
      - {import: "acme:pipeline/score@0.1.0", agent: scorer, isolation: none}
      - {import: acme:pipeline/alert, agent: alerter}
  - {name: scorer, bundle: scorer@0.1.0}
  - {name: alerter, bundle: alerter@0.1.0}
"""


def test_links_are_read():
    agents = parse_application(LINKED.encode()).agents
    assert agents[0].links == (
        Link("acme:pipeline/score@0.1.0", "scorer", Isolation.NONE),
        Link("acme:pipeline/alert", "alerter"),
    )
    assert agents[1].links == ()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("agent: alerter}", "agent: nobody}", "agents[0].links[1].agent"),
        ("agent: alerter}", "agent: ingest}", "agents[0].links[1].agent"),
        ("agent: alerter}", "agent: pipeline/alerter}", "agents[0].links[1].agent"),
        ("acme:pipeline/alert,", "acme:pipeline/score,", "agents[0].links[1].import"),
        ("acme:pipeline/alert,", "alert,", "agents[0].links[1].import"),
        ("isolation: none", "isolation: process", "agents[0].links[0].isolation"),
    ],
)
def test_links_that_fit_nothing_are_refused_with_their_place(old, new, place):
    error = refusal(lambda: parse_application(LINKED.replace(old, new).encode()))
    assert (error.code, error.detail["place"]) == (Code.MANIFEST_INVALID, f"fleet.yaml: {place}")


NARROW = "narrow: {caps: {'wasi:keyvalue/store': [{buckets: [a], ops: [get]}]}, deny: ['wasi:random/random']}"


def test_an_agent_may_be_narrowed():
    text = APPLICATION.replace(
        "    bundle: second-agent@1.0.0-rc.1", f"    bundle: second-agent@1.0.0-rc.1\n    {NARROW}"
    )
    first, second = parse_application(text.encode()).agents
    narrowing = decode_narrowing(second.narrow)
    assert narrowing.deny == ("wasi:random/random",)
    assert narrowing.encode() == second.narrow
    assert first.narrow == ""
    wrong = refusal(lambda: parse_application(text.replace("ops: [get]", "ops: [fly]").encode()))
    assert wrong.detail["place"] == "fleet.yaml: agents[1].narrow.caps.wasi:keyvalue/store[0].ops[0]"
    assert refusal(lambda: parse_application(text.replace(NARROW, "narrow: {}").encode())).code is Code.MANIFEST_INVALID
