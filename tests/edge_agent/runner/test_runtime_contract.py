"""What every `Runtime` promises, held against the real one and the scripted one."""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from edge_agent.health import Health
from edge_agent.runtime import (
    AgentConfirmed,
    AgentCrashed,
    AgentExited,
    AgentHealthChanged,
    AgentLogged,
    AgentReplaced,
    AgentRestored,
    AgentStart,
    AgentStats,
    BusMessage,
    Probation,
    RunnerLost,
    Runtime,
)
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until

WORK, TRAP = "count()", "trap()"


@dataclass(frozen=True)
class Case:
    """One runtime: how to describe agents to it, how its runners are lost, and how agents fall ill."""

    runtime: Runtime
    agent: Callable[[str], AgentStart]
    lose_runner: Callable[[str], None]
    talker: Callable[[str], AgentStart]
    """Describes an agent that says how it does."""
    sicken: Callable[[str], Awaitable[object]]
    """Makes it say that it is not well until it ends."""


async def code_of(awaitable):
    with pytest.raises(FleetError) as caught:
        await awaitable
    return caught.value.code


async def next_event(runtime):
    """What happens next; crash reports, news of health and log lines have tests of their own."""
    async with asyncio.timeout(60):
        while isinstance(event := await runtime.next_event(), AgentCrashed | AgentHealthChanged | AgentLogged):
            pass
        return event


class RuntimeContract(ABC):
    @pytest.fixture
    @abstractmethod
    def case(self): ...

    async def test_an_agent_is_called_only_while_it_runs(self, case):
        runtime = case.runtime
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING
        await runtime.start(case.agent("app/a"))
        result = await runtime.call("app/a", WORK)
        assert result.output
        assert result.duration_ms >= 0
        await runtime.stop("app/a", 100)
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING

    async def test_a_message_is_delivered_only_while_the_agent_runs(self, case):
        runtime, message = case.runtime, BusMessage("t", b"x")
        assert await code_of(runtime.deliver("app/a", message)) is Code.AGENT_NOT_RUNNING
        runtime.answer("app/a", 1, message)  # nobody waits, and nobody is disturbed
        await runtime.start(case.agent("app/a"))
        runtime.answer("app/a", 1, message)
        runtime.answer("app/a", 1, ())
        assert (await runtime.call("app/a", WORK)).output
        await runtime.stop("app/a", 100)
        assert await code_of(runtime.deliver("app/a", message)) is Code.AGENT_NOT_RUNNING

    async def test_an_agent_runs_once(self, case):
        await case.runtime.start(case.agent("app/a"))
        assert await code_of(case.runtime.start(case.agent("app/a"))) is Code.ALREADY_EXISTS
        assert (await case.runtime.call("app/a", WORK)).output

    async def test_preparing_is_idempotent_and_no_condition_for_starting(self, case):
        agent = case.agent("app/a")
        await case.runtime.start(agent)
        await case.runtime.prepare(agent.component, agent.component_digest)
        await case.runtime.prepare(agent.component, agent.component_digest)

    async def test_a_trap_ends_one_agent_and_is_told_twice(self, case):
        """Told by the call that caused it, and by an event for those who did not call."""
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.start(case.agent("app/b"))
        with pytest.raises(FleetError) as caught:
            await runtime.call("app/a", TRAP)
        assert caught.value.code is Code.AGENT_TRAPPED
        assert caught.value.detail["cause"] == ExitCause.UNREACHABLE
        event = await next_event(runtime)
        assert isinstance(event, AgentExited)
        assert (event.agent, event.exit.cause) == ("app/a", ExitCause.UNREACHABLE)
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING
        assert (await runtime.call("app/b", WORK)).output
        await runtime.start(case.agent("app/a"))
        assert (await runtime.call("app/a", WORK)).output

    async def test_a_new_instance_takes_over_and_is_confirmed_by_its_work(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.call("app/a", WORK)
        await runtime.replace(case.agent("app/a"), Probation(2, 60_000))
        assert await next_event(runtime) == AgentReplaced("app/a")
        for _ in range(2):
            assert (await runtime.call("app/a", WORK)).output
        assert await next_event(runtime) == AgentConfirmed("app/a")
        assert runtime.stats("app/a").calls == 3, "counters go on"
        await code_of(runtime.call("app/a", TRAP))
        assert isinstance(await next_event(runtime), AgentExited)

    async def test_a_new_instance_that_ends_on_probation_gives_way_to_the_old_one(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.replace(case.agent("app/a"), Probation(2, 60_000))
        assert await code_of(runtime.call("app/a", TRAP)) is Code.AGENT_TRAPPED
        assert (await runtime.call("app/a", WORK)).output
        assert await next_event(runtime) == AgentReplaced("app/a"), "whoever hears knows which instance ended"
        event = await next_event(runtime)
        assert isinstance(event, AgentRestored)
        assert (event.agent, event.exit.cause) == ("app/a", ExitCause.UNREACHABLE)
        assert (runtime.stats("app/a").calls, runtime.stats("app/a").errors) == (2, 1)
        await code_of(runtime.call("app/a", TRAP))
        assert isinstance(await next_event(runtime), AgentExited), "there is nothing left to go back to"

    async def test_without_probation_there_is_no_way_back(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.replace(case.agent("app/a"), Probation(0, 0))
        assert await next_event(runtime) == AgentReplaced("app/a")
        assert await next_event(runtime) == AgentConfirmed("app/a")
        await code_of(runtime.call("app/a", TRAP))
        assert isinstance(await next_event(runtime), AgentExited)

    async def test_only_what_runs_can_be_replaced_and_a_stop_ends_both(self, case):
        runtime = case.runtime
        assert await code_of(runtime.replace(case.agent("app/a"), Probation(1, 1))) is Code.AGENT_NOT_RUNNING
        await runtime.start(case.agent("app/a"))
        await runtime.replace(case.agent("app/a"), Probation(2, 60_000))
        await runtime.stop("app/a", 100)
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING
        await runtime.start(case.agent("app/a"))
        assert (await runtime.call("app/a", WORK)).output

    async def test_totals_outlive_restarts_and_end_with_stop(self, case):
        runtime = case.runtime
        assert runtime.stats("app/a") == AgentStats()
        await runtime.start(case.agent("app/a"))
        await runtime.call("app/a", WORK)
        await code_of(runtime.call("app/a", TRAP))
        await next_event(runtime)
        stats = runtime.stats("app/a")
        assert (stats.calls, stats.errors, stats.memory_bytes) == (2, 1, 0)
        await runtime.start(case.agent("app/a"))
        await runtime.call("app/a", WORK)
        stats = runtime.stats("app/a")
        assert (stats.calls, stats.errors) == (3, 1)
        await runtime.stop("app/a", 100)
        assert runtime.stats("app/a") == AgentStats()

    async def test_an_agent_that_says_it_is_not_well_ends_as_unhealthy_and_may_start_again(self, case):
        runtime, start = case.runtime, case.talker("app/a")
        assert runtime.stats("app/a").health is Health.UNSERVED
        await runtime.start(start)
        assert runtime.stats("app/a").health in (Health.UNASKED, Health.OK)
        async with asyncio.timeout(60):
            assert await runtime.next_event() == AgentHealthChanged("app/a")
        await case.sicken("app/a")
        event = await next_event(runtime)
        assert isinstance(event, AgentExited)
        assert (event.agent, event.exit.cause) == ("app/a", ExitCause.UNHEALTHY)
        stats = runtime.stats("app/a")
        assert (stats.health, stats.returned, stats.errors) == (Health.UNSERVED, 0, 0)
        await runtime.start(start)
        assert runtime.stats("app/a").health is not Health.UNSERVED

    async def test_calls_that_return_are_counted_for_this_instance(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.call("app/a", WORK)
        await until(lambda: runtime.stats("app/a").returned == 1, "the report of the call")
        await code_of(runtime.call("app/a", TRAP))
        await next_event(runtime)
        assert runtime.stats("app/a").returned == 0

    async def test_stopping_is_quiet_and_may_be_repeated(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.start(case.agent("app/b"))
        await runtime.stop("app/a", 100)
        await runtime.stop("app/a", 100)
        await runtime.stop("app/unknown", 100)
        await code_of(runtime.call("app/b", TRAP))
        event = await next_event(runtime)
        assert isinstance(event, AgentExited)
        assert event.agent == "app/b", "the stop of app/a left no event"

    async def test_a_lost_runner_ends_its_application_only(self, case):
        runtime = case.runtime
        for name in ("app/a", "app/b", "other/c"):
            await runtime.start(case.agent(name))
        case.lose_runner("app")
        event = await next_event(runtime)
        assert isinstance(event, RunnerLost)
        assert (event.application, sorted(event.agents)) == ("app", ["app/a", "app/b"])
        assert event.exit.cause is ExitCause.ENGINE_CRASH
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING
        assert (await runtime.call("other/c", WORK)).output
        for name in ("app/a", "app/b"):
            await runtime.start(case.agent(name))
            assert (await runtime.call(name, WORK)).output

    async def test_closing_ends_everything_and_may_be_repeated(self, case):
        runtime = case.runtime
        await runtime.start(case.agent("app/a"))
        await runtime.close()
        await runtime.close()
        assert await code_of(runtime.call("app/a", WORK)) is Code.AGENT_NOT_RUNNING


class TestScriptedRuntime(RuntimeContract):
    @pytest.fixture
    def case(self, tiny):
        runtime = ScriptedRuntime(traps={TRAP}, unwell={"app/a": 0})

        async def sicken(agent):
            while agent in runtime.running:
                runtime.answer_health(agent, "x")

        def plain(name):
            runtime.unwell.pop(name, None)
            return tiny.start(name)

        return Case(runtime, plain, runtime.lose_runner, tiny.start, sicken)


@pytest.mark.system
class TestRunnerHost(RuntimeContract):
    @pytest.fixture
    def case(self, host, tiny, sickly):
        def lose(application):
            os.kill(host.runner_pid(application), signal.SIGABRT)

        return Case(host, tiny.start, lose, sickly.start, lambda agent: host.call(agent, sickly.told("sick")))
