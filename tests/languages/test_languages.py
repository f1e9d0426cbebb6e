"""Agents in other languages, built by their own tools and run like any other agent.

`make languages` runs this; it needs npm, and both package registries the first time.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from edge_agent.capabilities.keyvalue import MAX_BUCKETS
from edge_agent.runtime import AgentExited, AgentLogged
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import check_imports
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component
from tests.fakes.agents import authority
from tests.languages import toolchains

pytestmark = pytest.mark.slow

AGENT = "app/sensor"
CAPABILITIES = {
    "wasi:logging/logging": [{}],
    "wasi:keyvalue/store": [{"buckets": ["readings"], "ops": ["get", "set"]}],
}
RUNTIME_NEEDS = {
    "javascript": {"wasi:clocks/wall-clock", "wasi:random/insecure-seed"},
    "python": {"wasi:clocks/wall-clock", "wasi:random/random"},
}
"""What the language's runtime imports beyond the baseline, so that its agents need a rule for it."""


class Language:
    """One agent, and how to start it."""

    def __init__(self, name: str, folder) -> None:
        self.name = name
        self.data = getattr(toolchains, name)().read_bytes()
        self._component = component(folder / f"{name}.wasm", self.data)

    def capabilities(self, **changes) -> dict:
        return {**CAPABILITIES, **{interface: [{}] for interface in RUNTIME_NEEDS[self.name]}, **changes}

    def start(self, capabilities=None, **limits):
        granted = authority(capabilities or self.capabilities(), memory="64MiB", **limits)
        return self._component.start(AGENT, granted.limits, granted.capabilities)


@pytest.fixture(params=["javascript", "python"])
def language(request, tmp_path):
    return Language(request.param, tmp_path)


@pytest.fixture
def python(tmp_path):
    return Language("python", tmp_path)


async def read(host, source: str, value: float = 21.5) -> str:
    result = await host.call(AGENT, f'handle-data({{source: "{source}", value: {value}, timestamp: 1}})')
    return json.loads(result.output)


async def logged(host, count: int) -> list[tuple[str, str, str]]:
    lines = []
    async with asyncio.timeout(20):
        while len(lines) < count:
            event = await host.next_event()
            if isinstance(event, AgentLogged):
                lines.append((event.line.level, event.line.context, event.line.message))
    return lines


async def ended(host) -> list[tuple[str, str, str]]:
    """What the agent logged until it ended by itself."""
    lines = []
    async with asyncio.timeout(20):
        while not isinstance(event := await host.next_event(), AgentExited):
            lines.append((event.line.level, event.line.context, event.line.message))
    return lines


def test_it_needs_no_more_than_said(language) -> None:
    imports = read_component(language.data).imports
    decision = check_imports(imports, authority(language.capabilities()), (), AGENT, "sensor@1.0.0")
    assert decision.unused == ()
    assert decision.deny_stubs == ()


async def test_it_counts_logs_prints_and_remembers(host, language) -> None:
    await host.start(language.start())
    assert await read(host, "room") == "room: 1"
    assert await read(host, "room", 22.5) == "room: 2"
    assert await read(host, "hall") == "hall: 1"
    assert await logged(host, 6) == [
        ("info", "sensor", "reading 1 of room"),
        ("info", "stdout", "value 21.5"),
        ("info", "sensor", "reading 2 of room"),
        ("info", "stdout", "value 22.5"),
        ("info", "sensor", "reading 1 of hall"),
        ("info", "stdout", "value 21.5"),
    ]
    await host.stop(AGENT, 1000)
    await host.start(language.start())
    assert await read(host, "room") == "room: 3"


async def test_its_handles_do_not_run_out(host, language) -> None:
    await host.start(language.start(log_per_minute="1KiB"))
    for number in range(1, MAX_BUCKETS + 2):
        assert await read(host, "room") == f"room: {number}"


async def test_a_language_that_sleeps_is_ended_by_its_deadline(host, python) -> None:
    await host.start(python.start(deadline="500ms"))
    assert await read(host, "room") == "room: 1"
    before = time.monotonic()
    with pytest.raises(FleetError) as caught:
        await read(host, "sleep", 60.0)
    assert caught.value.detail["cause"] == ExitCause.DEADLINE
    assert time.monotonic() - before < 1.5
    await ended(host)
    await host.start(python.start())
    assert await read(host, "sleep", 0.01) == "sleep: 1"


async def test_a_language_finds_nothing_around_it(host, python) -> None:
    await host.start(python.start())
    assert await read(host, "reach") == (
        "env {}; argv []; stdin ''; read refused; write refused; list refused; socket refused; lookup refused"
    )
    assert 0 <= float(await read(host, "random")) < 1


async def test_an_exception_ends_the_agent_and_shows_where(host, python) -> None:
    """A bucket without a rule is an error value, which Python raises; nobody catches it."""
    other = {"wasi:keyvalue/store": [{"buckets": ["other"], "ops": ["get"]}]}
    await host.start(python.start(python.capabilities(**other)))
    with pytest.raises(FleetError) as caught:
        await read(host, "room")
    assert caught.value.code is Code.AGENT_TRAPPED
    lines = await ended(host)
    assert ("error", "stderr", "Traceback (most recent call last):") in lines
    assert any("app.py" in message and "in count" in message for _, _, message in lines)
