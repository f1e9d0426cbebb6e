"""A fleet of real processes in a temporary directory, driven through fleetctl as a user would.

Nothing is faked: coordinator, supervisors, zygotes and runners are processes, certificates come from join tokens, the
network is loopback. Waiting is polling with a deadline; `close` ends every process that was started here, by id.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes.ports import free_port
from tests.fakes.programs import Loaded

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 180.0
COMMAND_TIMEOUT_S = 600.0
"""Longest that one command may take: builds run in it."""

CAPABILITIES: dict[str, list[object]] = {
    "wasi:logging/logging": [],
    "wasi:config/store": [{"keys": ["*"]}],
    "wasi:keyvalue/store": [{"buckets": ["context", "restless", "sickly"], "ops": ["get", "set"]}],
    "wasi:keyvalue/atomics": [{"buckets": ["restless"], "ops": ["increment"]}],
    "wasi:keyvalue/watcher": [{"buckets": ["restless"]}],
    "wasi:messaging/producer": [{"topics": ["site/*"]}],
    "wasi:messaging/request-reply": [{"topics": ["site/*"]}],
    "wasi:messaging/incoming-handler": [{"topics": ["site/*"]}],
    "fleet:sensors/reader": [{"sources": ["roof", "level"]}],
    "fleet:sensors/handler": [{"sources": ["roof", "level"]}],
    "wasi:random/random": [],
    "wasi:nn/graph": [{"models": ["context"], "devices": ["cpu"]}],
    "wasi:nn/tensor": [],
    "wasi:nn/inference": [],
}
"""What grants of these tests give, per interface."""

LOG = ("wasi:logging/logging",)
NEEDS = {
    "context-agent": (
        *LOG,
        "wasi:keyvalue/store",
        "wasi:nn/graph",
        "wasi:nn/tensor",
        "wasi:nn/inference",
    ),
    "restless-agent": (*LOG, "wasi:keyvalue/store", "wasi:keyvalue/atomics", "wasi:random/random"),
    "events-agent": (
        *LOG,
        "wasi:keyvalue/store",
        "wasi:keyvalue/watcher",
        "wasi:messaging/producer",
        "wasi:messaging/request-reply",
        "wasi:messaging/incoming-handler",
        "fleet:sensors/reader",
        "fleet:sensors/handler",
    ),
    "sickly-agent": (*LOG, "wasi:keyvalue/store"),
    "nosy-agent": (*LOG, "wasi:config/store"),
    "hungry-agent": LOG,
    "spinner-agent": LOG,
    "crasher-agent": LOG,
    "ends-agent": LOG,
}
"""What each sample component imports."""


def wait_for(what: str, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain until {what}"
        time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    """Process ids below one process, by /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found += children
        pending += children
    return found


@cache
def _loaded(module: str) -> Loaded:
    loaded = Loaded(module, environment=os.environ)
    atexit.register(loaded.close)
    return loaded


def run(module: str, *arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program of a module in a process of its own, which has the module loaded already."""
    return _loaded(module).run(*arguments, environment=os.environ | environment, cwd=cwd, timeout_s=COMMAND_TIMEOUT_S)


def fleetctl(home: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run fleetctl, whatever its exit code is."""
    return run("orchestrator.cli.main", *arguments, cwd=cwd, FLEET_HOME=str(home))


class RealFleet:
    """One fleet; `home` is what FLEET_HOME names."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.nodes: list[str] = []

    def ctl(self, *arguments: str, expect: int | None = 0, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run fleetctl and check its exit code; None where it may be any."""
        done = fleetctl(self.home, *arguments, cwd=cwd)
        assert expect in {None, done.returncode}, (
            f"fleetctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        return done

    def ask(self, *arguments: str) -> Any:
        """Run fleetctl and return its JSON answer."""
        return json.loads(self.ctl("-o", "json", *arguments).stdout)

    def init(self) -> None:
        self.ctl("init", "--fleet", "test", "--port", str(free_port()), "--enrolment-port", str(free_port()))

    def up(self) -> None:
        self.ctl("coordinator", "up")

    def down(self) -> None:
        self.ctl("coordinator", "down")

    def join(self, *names: str) -> None:
        for name in names:
            self.ctl("node", "join", name, "--label", f"name={name}")
            self.nodes.append(name)
        self.wait_online(*names)

    def wait_online(self, *names: str) -> None:
        def online() -> bool:
            states = {node["node"]: node["state"] for node in self.ask("nodes")}
            return all(states.get(name) == "online" for name in names)

        wait_for(f"{', '.join(names)} online", online)

    def publish(self, *components: str) -> None:
        for name in components:
            folder = self.home / "bundles" / name
            folder.parent.mkdir(exist_ok=True)
            self.ctl("bundle", "build", f"components/{name}", "--to", str(folder))
            self.ctl("bundle", "push", str(folder))

    def approve(self, agent: str, bundle: str, *interfaces: str, **limits: str) -> None:
        """Approve a first grant: what the bundle's component needs, or exactly the `interfaces` that are named."""
        name = bundle.partition("@")[0]
        document = {
            "schema": "fleet.grant/v1",
            "agent": agent,
            "revision": 1,
            "applies_to": {"bundle": {"name": name, "versions": ">=0.1,<0.2"}},
            "validity": {"not_before": "2026-01-01T00:00:00Z", "not_after": "2036-01-01T00:00:00Z"},
            "lease": {"max_stale": "30d", "on_lapse": "stop"},
            "caps": {i: CAPABILITIES[i] for i in interfaces or NEEDS[name]},
            "limits": limits,
        }
        file = self.home / f"{agent.replace('/', '-')}.yaml"
        file.write_text(json.dumps(document))
        self.ctl("grant", "approve", "--yes", str(file))

    def manifest(self, application: str, *agents: dict[str, object], **rollout: object) -> Path:
        """Write a fleet.yaml."""
        document = {
            "schema": "fleet.application/v1",
            "application": application,
            "agents": list(agents),
            "rollout": {"waves": ["100%"], "healthy_for": "500ms", "deadline": "40s", **rollout},
        }
        file = self.home / f"{application}.yaml"
        file.write_text(json.dumps(document))
        return file

    def agents(self, application: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("agents", *([application] if application else []))
        return rows

    def directory(self, name: str) -> Path:
        return self.home / "nodes" / name

    def pid(self, name: str) -> int:
        return int((self.directory(name) / "agent.pid").read_text().split()[0])

    def coordinator_pid(self) -> int:
        return int((self.home / "coordinator" / "coordinator.pid").read_text().split()[0])

    def cut_power(self, name: str) -> None:
        """kill -9 the supervisor and everything below it, all at once."""
        pid = self.pid(name)
        below = descendants(pid)
        for victim in (pid, *below):
            os.kill(victim, signal.SIGSTOP)  # nobody gets to notice that another one died
        for victim in (pid, *below):
            os.kill(victim, signal.SIGKILL)
        wait_for("the processes are gone", lambda: not any(alive(victim) for victim in (pid, *below)), 20)

    def close(self) -> None:
        for name in self.nodes:
            self.ctl("node", "down", name)
        self.ctl("coordinator", "down")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
