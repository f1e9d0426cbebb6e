"""Agents that say how they do, in real runners: when they are asked, and what becomes of their answers."""

import asyncio

import pytest

from edge_agent.health import Health, Readiness, readiness
from edge_agent.runner.probes import find_health
from edge_agent.runtime import AgentCrashed, AgentExited, AgentHealthChanged, AgentRestored, Probation
from fleet.errors import Code, FleetError
from fleet.health import HealthPolicy
from fleet.model import ExitCause, Phase
from fleet.wit_text import parse_signature
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.components import wasm
from tests.fakes.wait import until

OFTEN = HealthPolicy(every_ms=50, deadline_ms=400, failures=3)
SELDOM = HealthPolicy(every_ms=60_000)
HEALTH = "fleet:agent/health@0.1.0#health"


def signature(text="func() -> result<_, string>"):
    return parse_signature(text)


@pytest.mark.parametrize(
    ("exports", "found"),
    [
        ({}, None),
        ({"health": signature()}, None),
        ({HEALTH: signature(), "run": signature("func()")}, HEALTH),
        ({HEALTH.replace("0.1.0", "0.1.9"): signature()}, HEALTH.replace("0.1.0", "0.1.9")),
        ({HEALTH.replace("0.1.0", "0.2.0"): signature("func()")}, None),
        ({"other:agent/health@0.1.0#health": signature("func()")}, None),
        ({"fleet:agent/health@0.1.0#more": signature("func()")}, None),
    ],
)
def test_the_export_is_found_in_every_compatible_version(exports, found):
    assert find_health(exports) == found


def test_another_type_is_refused():
    with pytest.raises(FleetError) as caught:
        find_health({HEALTH: signature("func() -> bool")})
    assert (caught.value.code, caught.value.detail["place"]) == (Code.COMPONENT_UNSUPPORTED, HEALTH)


@pytest.fixture
async def taken(host):
    """What happens, but what is known of crashes."""
    taken = []

    async def listen():
        while True:
            event = await host.next_event()
            if not isinstance(event, AgentCrashed):
                taken.append(event)

    listener = asyncio.create_task(listen())
    yield taken
    listener.cancel()


def tell(host, sickly, state):
    return host.call("app/a", sickly.told(state))


@pytest.mark.system
async def test_an_agent_is_asked_at_once_and_is_ready_after_its_first_good_answer(host, sickly, taken):
    await host.start(sickly.start("app/a", health=SELDOM))
    stats = host.stats("app/a")
    ready = readiness(Phase.RUNNING, stats.health, stats.queue, stats.queue_limit)
    assert ready in (Readiness.UNASKED, Readiness.READY), "it is not taken for one that says nothing"
    await until(lambda: host.stats("app/a").health is Health.OK, "the first answer")
    assert host.stats("app/a").calls == 0, "a question is no call"
    await until(lambda: AgentHealthChanged("app/a") in taken, "the news")


@pytest.mark.system
async def test_errors_in_a_row_end_it_and_a_good_answer_between_them_does_not(host, sickly, taken):
    start = sickly.start("app/a", health=OFTEN)
    await host.start(start)
    for state, health in (("sick", Health.FAILING), ("well", Health.OK), ("sick", Health.FAILING)):
        await tell(host, sickly, state)
        await until(lambda health=health: host.stats("app/a").health is health, state)
        if health is Health.FAILING:
            assert host.stats("app/a").health_message == "a reading made it sick"
    await until(lambda: any(isinstance(event, AgentExited) for event in taken), "the end")
    (ended,) = (event.exit for event in taken if isinstance(event, AgentExited))
    assert ended.cause is ExitCause.UNHEALTHY
    assert ended.message == 'health answered with an error 3 times in a row: "a reading made it sick"'
    stats = host.stats("app/a")
    assert (stats.calls, stats.errors, stats.health) == (3, 0, Health.UNSERVED)
    assert stats.host_calls["wasi:keyvalue/store@0.2.0-draft2"] >= 3 * 2
    await host.start(start)
    await tell(host, sickly, "well")
    await until(lambda: host.stats("app/a").health is Health.OK, "its recovery")


@pytest.mark.system
async def test_an_answer_that_does_not_come_in_time_ends_it(host, sickly, taken):
    await host.start(sickly.start("app/a", health=OFTEN))
    await tell(host, sickly, "stuck")
    await until(lambda: any(isinstance(event, AgentExited) for event in taken), "the end")
    ended = taken[-1].exit
    assert (ended.cause, ended.message) == (ExitCause.UNHEALTHY, "health did not answer within 0.4 s")


BUSY = """(component
 (core module $m
  (memory (export "memory") 1)
  (global $asked (mut i32) (i32.const 0))
  (func (export "health") (result i32)
    (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
    (i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64))
  (func (export "asked") (result i32) (global.get $asked))
  (func (export "work") (local $n i32)
    (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $n) (i32.const 20000000))))))
 (core instance $i (instantiate $m))
 (func $health (result (result (error string)))
   (canon lift (core func $i "health") (memory (core memory $i "memory"))))
 (component $c (import "health" (func $h (result (result (error string))))) (export "health" (func $h)))
 (instance $agent (instantiate $c (with "health" (func $health))))
 (export "fleet:agent/health@0.1.0" (instance $agent))
 (func (export "asked") (result u32) (canon lift (core func $i "asked")))
 (func (export "work") (canon lift (core func $i "work"))))"""


@pytest.mark.system
async def test_a_busy_agent_is_not_asked_before_its_queue_is_empty(host, tmp_path):
    busy = component(tmp_path / "busy.wasm", wasm(BUSY))
    await host.start(busy.start("app/a", small(queue=40), health=HealthPolicy(every_ms=100)))
    await until(lambda: host.stats("app/a").health is Health.OK, "the first answer")
    work = [host.call("app/a", "work()") for _ in range(20)]
    first, *_, last = await asyncio.gather(host.call("app/a", "asked()"), *work, host.call("app/a", "asked()"))
    assert last.output == first.output, "nobody asked while calls waited"
    stats = host.stats("app/a")
    await until(lambda: host.stats("app/a").p99_us >= 1_000, "the report of the calls")
    assert host.stats("app/a").p50_us <= host.stats("app/a").p99_us
    assert stats.calls == 22
    asked = int(last.output)
    for _ in range(200):
        await asyncio.sleep(0.3)  # the interval, a few times: to look is a call, and puts the question off
        if int((await host.call("app/a", "asked()")).output) > asked:
            return
    raise AssertionError("nobody asked again")


@pytest.mark.system
async def test_a_replacement_that_is_not_well_gives_way(host, sickly, taken):
    await host.start(sickly.start("app/a", health=SELDOM))
    await until(lambda: host.stats("app/a").health is Health.OK, "the first answer")
    await tell(host, sickly, "sick")
    await host.replace(sickly.start("app/a", health=OFTEN), Probation(100, 60_000))
    await until(lambda: any(isinstance(event, AgentRestored) for event in taken), "the return of the older instance")
    (ended,) = (event.exit for event in taken if isinstance(event, AgentRestored))
    assert ended.cause is ExitCause.UNHEALTHY
    await until(lambda: host.stats("app/a").health is Health.OK, "the older instance's last answer")
