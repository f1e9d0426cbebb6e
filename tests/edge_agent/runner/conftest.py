import gc
import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentStart
from fleet.grants import Authority, Limits
from fleet.grants.constraints import Literals, Patterns
from fleet.grants.rules import Rule
from fleet.health import HealthPolicy
from tests.fakes.guests import guest
from tests.fakes.programs import Loaded


@dataclass(frozen=True)
class Component:
    path: Path
    digest: str

    def start(self, name, limits=None, capabilities=None, **parts):
        authority = Authority(capabilities or {}, limits or Limits())
        settings = {"state_dir": self.path.parent / "state", **parts}
        return AgentStart(name, self.path, self.digest, authority.encode(), **settings)


def component(path, data):
    path.write_bytes(data)
    return Component(path, f"sha256:{hashlib.sha256(data).hexdigest()}")


OFTEN = HealthPolicy(every_ms=50, deadline_ms=400)


@dataclass(frozen=True)
class Sickly:
    """The sickly-agent, which says what it was told about how it does."""

    component: Component

    def start(self, name, health=OFTEN):
        store = Rule({"buckets": Patterns(frozenset({"sickly"})), "ops": Literals(frozenset({"get", "set"}))})
        granted = {"wasi:keyvalue/store": (store,), "wasi:logging/logging": (Rule({}),)}
        return self.component.start(name, capabilities=granted, health=health)

    @staticmethod
    def told(state):
        """The call that makes it `sick`, `stuck` or anything else, which is well."""
        return f'handle-data({{source: "{state}", value: 0, timestamp: 0}})'


@pytest.fixture
def sickly(tmp_path):
    built = Path(__file__).parents[3] / "components/sickly-agent/sickly_agent.wasm"
    return Sickly(component(tmp_path / built.name, built.read_bytes()))


@pytest.fixture
def tiny(tmp_path):
    return component(tmp_path / "tiny.wasm", guest())


@pytest.fixture
def paths(tmp_path):
    return RunnerPaths(tmp_path / "run/zygote.sock", tmp_path / "cache/compiled", tmp_path / "keys/cache.key")


@pytest.fixture(scope="session")
def zygotes():
    """Zygotes within milliseconds instead of a third of a second."""
    zygotes = Loaded("edge_agent.runner.zygote", environment={"LANG": "C.UTF-8"})
    yield zygotes
    zygotes.close()


@pytest.fixture
async def host(paths, zygotes):
    """A real host over a zygote of its own; when it is closed no process and no descriptor of it is left."""
    before = descriptors()
    paths.socket.parent.mkdir(mode=0o700, parents=True)
    zygote = zygotes.start(str(paths.socket), environment={"LANG": "C.UTF-8"}, cwd=Path.cwd())
    host = RunnerHost(paths, node="node-1", clock=SystemClock(), spawn_zygote=False)
    await host.open()
    yield host
    below = psutil.Process(zygote.pid).children(recursive=True)
    await host.close()
    assert zygote.wait(20) == 0
    assert not any(child.is_running() for child in below)
    assert descriptors() <= before


@pytest.fixture
async def spawning_host(paths):
    """The same with a zygote that the host starts itself, and starts again when it has ended."""
    before, others = descriptors(), psutil.Process().children(recursive=True)
    host = RunnerHost(paths, node="node-1", clock=SystemClock())
    await host.open()
    yield host
    await host.close()
    assert psutil.Process().children(recursive=True) == others
    assert descriptors() <= before


def descriptors():
    """Sockets, memory files and process handles that this process holds."""
    gc.collect()  # components of runners that other tests had in this process keep their files
    held = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(str(entry.readlink()))
    return {name for name in held if name.startswith(("socket:", "/memfd:", "anon_inode:[pidfd]"))}


def small(**limits):
    return replace(Limits(), **limits)
