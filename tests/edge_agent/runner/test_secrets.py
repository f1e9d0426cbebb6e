"""Secrets in a real runner: given to whom they belong, and in nothing that leaves it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.held_secret import HeldSecret
from edge_agent.runtime import AgentCrashed, AgentLogged
from fleet.errors import Code, FleetError
from fleet.grants.constraints import Patterns
from fleet.grants.rules import Rule
from fleet.sealing import SecretKind
from tests.edge_agent.runner.conftest import component
from tests.fakes.memory import environment_of, memory_of
from tests.fakes.secret_guest import NOT_FOUND, NOT_GRANTED, secret_guest

pytestmark = pytest.mark.system

VALUE = "correct horse battery staple"


@pytest.fixture
def keeper(tmp_path: Path):
    return component(tmp_path / "secrets.wasm", secret_guest())


def rules(store: str = "api-*", reveal: str = "api-*") -> dict[str, tuple[Rule, ...]]:
    return {
        "fleet:secrets/store": (Rule({"names": Patterns(frozenset({store}))}),),
        "fleet:secrets/reveal": (Rule({"names": Patterns(frozenset({reveal}))}),),
        "wasi:logging/logging": (Rule({}),),
    }


def unsealing(**secrets: str):
    """What a node's store would do."""
    return lambda _: {
        name.replace("_", "-"): HeldSecret(SecretKind.TEXT, bytearray(value.encode()))
        for name, value in secrets.items()
    }


async def answer(host, agent: str, invocation: str) -> int:
    async with asyncio.timeout(60):
        return int((await host.call(agent, invocation)).output)


async def test_an_agent_is_told_its_secret_and_no_other(host, keeper) -> None:
    host.unseal = unsealing(api_token=VALUE, other="theirs")
    await host.start(keeper.start("app/one", capabilities=rules()))
    assert await answer(host, "app/one", 'sum("api-token")') == sum(VALUE.encode())
    assert await answer(host, "app/one", 'sum("other")') == NOT_GRANTED
    assert await answer(host, "app/one", 'hold("api-none")') == NOT_FOUND
    await host.stop("app/one", 0)


async def test_holding_is_not_knowing(host, keeper) -> None:
    host.unseal = unsealing(api_token=VALUE)
    await host.start(keeper.start("app/one", capabilities=rules(reveal="nothing")))
    assert await answer(host, "app/one", 'hold("api-token")') == 0
    assert await answer(host, "app/one", 'sum("api-token")') == NOT_GRANTED
    await host.stop("app/one", 0)


async def test_what_the_supervisor_held_is_overwritten_once_it_is_sent(host, keeper) -> None:
    held = unsealing(api_token=VALUE)(None)
    host.unseal = lambda _: held
    await host.start(keeper.start("app/one", capabilities=rules()))
    assert all(not secret.data for secret in held.values())
    await host.stop("app/one", 0)


async def test_logs_and_crash_reports_do_not_have_it(host, keeper) -> None:
    """The guest writes its secret to its log and crashes: whoever reads about it reads nothing of it."""
    host.unseal = unsealing(api_token=VALUE, other=VALUE.upper())
    await host.start(keeper.start("app/one", capabilities=rules()))
    with pytest.raises(FleetError) as caught:
        await answer(host, "app/one", 'spill("api-token")')
    assert caught.value.code is Code.AGENT_TRAPPED
    events = []
    async with asyncio.timeout(60):
        while not any(isinstance(event, AgentCrashed) for event in events):
            events.append(await host.next_event())
    (crash,) = [event for event in events if isinstance(event, AgentCrashed)]
    assert "reveal" in crash.recording
    assert "wasi:logging/logging" in crash.recording, "the positive control: the call is there"
    assert "<confidential>" in crash.recording
    for told in (str(caught.value), str(events)):
        assert "correct horse" not in told
    logged = [event.line.message for event in events if isinstance(event, AgentLogged)]
    assert logged in ([], ["<confidential>"])


async def test_a_log_line_is_masked(host, keeper) -> None:
    host.unseal = unsealing(api_token=VALUE)
    await host.start(keeper.start("app/one", capabilities=rules()))
    async with asyncio.timeout(60):
        await host.call("app/one", 'write("api-token")')
        while not isinstance(event := await host.next_event(), AgentLogged):
            pass
    assert event.line.message == "<confidential>"
    await host.stop("app/one", 0)


async def test_a_value_is_in_the_memory_of_its_runner_and_of_no_other(spawning_host, keeper, tiny) -> None:
    """Neither the zygote nor the runner of another application ever has it; not in its environment, nor in any file."""
    spawning_host.unseal = lambda start: unsealing(api_token=VALUE)(start) if start.name == "app/one" else {}
    await spawning_host.start(tiny.start("other/agent"))
    await spawning_host.start(keeper.start("app/one", capabilities=rules()))
    await answer(spawning_host, "app/one", 'sum("api-token")')
    assert VALUE.encode() in memory_of(spawning_host.runner_pid("app")), "the positive control"
    assert VALUE.encode() not in memory_of(spawning_host.runner_pid("other"))
    assert VALUE.encode() not in memory_of(spawning_host.zygote_pid)
    assert VALUE.encode() not in environment_of(spawning_host.runner_pid("app"))
    for name in ("app/one", "other/agent"):
        await spawning_host.stop(name, 0)
