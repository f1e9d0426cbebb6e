"""A whole fleet in one process and in virtual time: a coordinator, its nodes, the network, and what happens to them.

Every random decision comes from one seed, so a run is repeated by its seed and its actions. `SimulatedFleet` offers the
actions; `laws` judges every state that they lead to.
"""

from __future__ import annotations

import asyncio
import atexit
import copy
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from edge_agent.identity import Identity
from fleet.errors import FleetError
from fleet.targets import grant_path
from orchestrator.rpc.live import LiveCalls
from orchestrator.server import build
from tests.fakes.fleet_fixture import FleetFixture
from tests.fakes.network import Network
from tests.fakes.publisher import key
from tests.fakes.virtual_loop import VirtualLoop
from tests.simulation.coordinator import SimulatedCoordinator
from tests.simulation.ends import CoordinatorCrashError, is_end
from tests.simulation.laws import Laws
from tests.simulation.node import CRASHING, HICCUP, UNSTARTABLE, NodeClock, SimulatedNode

START = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
AGENT = "context"
HEALTHY_FOR_S = 5
DEADLINE_S = 40

GOOD = "weights"
BEHAVIOURS = (GOOD, HICCUP, CRASHING, UNSTARTABLE)
"""What an agent does; the name of its only model says it."""


NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Version:
    """A published version of an application's only agent."""

    application: str
    number: str
    behaviour: str
    digest: str


class SimulatedFleet:
    """The fleet.

    Attributes:
        story: every action so far, as commands of `tests.simulation.story`, which can repeat them.
        deployments: ids in the order of their making.
    """

    def __init__(self, seed: int) -> None:
        self.story = [f"$ seed {seed}"]
        self.random = Random(seed)
        self.loop = VirtualLoop(Random(self.random.random()))
        asyncio.set_event_loop(self.loop)  # what makes asyncio's events and queues outside of a task asks for it
        self.network = Network(self.loop, Random(self.random.random()))
        self.start_s = START.timestamp()
        self.deadline_s = DEADLINE_S
        self.faults: list[BaseException] = []
        self.deployments: list[str] = []
        self.versions: dict[tuple[str, str], Version] = {}
        self.nodes: dict[str, SimulatedNode] = {}
        self._grants: dict[str, bytes] = {}
        self._folder = Path(mkdtemp(prefix="fleet-"))
        self.publisher = _clone(_template(), self._folder / "coordinator", self.now)
        self.coordinator = SimulatedCoordinator(self.publisher, self.network, self.loop, self.now, self.faults.append)
        self.coordinator.start()
        self.laws = Laws(self)
        self._errors = _Errors(self.faults.append)
        logging.getLogger().addHandler(self._errors)
        self.loop.on_quiet = self.laws.check_nodes

    def now(self) -> datetime:
        """The true time; nodes may think otherwise."""
        return START + timedelta(seconds=self.loop.time())

    def close(self) -> None:
        """End every process and remove every file."""
        self.loop.on_quiet = None
        for node in self.nodes.values():
            if node.running:
                node.kill()
        self.coordinator.close()
        self.loop.run_until_complete(asyncio.sleep(300))  # whatever still waits finds its end
        self.laws.close()
        logging.getLogger().removeHandler(self._errors)
        asyncio.set_event_loop(None)
        self.loop.close()
        shutil.rmtree(self._folder)

    # Actions: what people do

    def add_node(self, name: str, labels: Mapping[str, str]) -> None:
        """Join a node and switch it on."""
        self._tell(" ".join(["add node", name, *(f"{key}={value}" for key, value in labels.items())]))
        bound_key = key(f"bound-{name}")
        issued = self.coordinator.enroll(name, dict(labels), bound_key)
        identity = Identity(
            name, self.publisher.trust.fleet, issued.epoch, issued.sequence, "simulated", "simulated", "00" * 32, labels
        )
        root = self.publisher.files["1.root.json"]
        clock = NodeClock(self.loop, START)
        node = SimulatedNode(
            identity, bound_key, root, self.network, clock, on_start=self.laws.check_start, report=self.faults.append
        )
        self.nodes[name] = node
        node.start()

    def release(self, application: str, number: str, behaviour: str = GOOD) -> None:
        """Publish a version, and the grant of its agent with the first one."""
        self._tell(f"release {application} {number} {behaviour}")
        agent = f"{application}-{AGENT}"
        digest = self.publisher.add_bundle(agent, f"{number}.0.0", models={behaviour: f"{agent} {number}".encode()})
        self.versions[application, number] = Version(application, number, behaviour, digest)
        self.laws.learn_bundle(digest, number, behaviour, f"{agent} {number}".encode())
        if grant_path(f"{application}/{agent}", 1) not in self.listed():
            self.approve(application, publish=False)
        self._ask(self.coordinator.publish)

    def approve(self, application: str, *, publish: bool = True) -> None:
        """Approve the grant of an application's agent."""
        name = f"{application}/{application}-{AGENT}"
        if name in self._grants:
            self.publisher.add(grant_path(name, 1), self._grants[name])
        else:
            digest = self.publisher.add_grant(name)
            self._grants[name] = self.publisher.documents[digest]
            self.laws.learn_grant(digest, self._grants[name])
        if publish:
            self._tell(f"approve {application}")
            self._ask(self.coordinator.publish)

    def withdraw(self, application: str) -> None:
        """Withdraw the grant of an application's agent."""
        self._tell(f"withdraw {application}")
        self.publisher.remove(grant_path(f"{application}/{application}-{AGENT}", 1))
        self._ask(self.coordinator.publish)

    def approved(self, application: str) -> bool:
        """Whether the agent's grant is published."""
        return grant_path(f"{application}/{application}-{AGENT}", 1) in self.listed()

    def deploy(self, application: str, number: str, waves: str = "1, 100%") -> str:
        """Deploy a version to every node, or remove the application with an empty number; return what came of it."""
        self._tell(f"deploy {application} {number} waves {waves}" if number else f"remove {application}")
        answer = self._ask(lambda: self.coordinator.deploy(manifest(application, number, waves)))
        for stored in reversed(self.laws.deployments()):  # also one whose answer was lost in a crash
            if stored.head.id not in self.deployments:
                self.deployments.append(stored.head.id)
        return self.label(answer)

    def cancel(self, deployment: str) -> str:
        """Cancel a deployment."""
        self._tell(f"cancel {self.label(deployment)}")
        return self._ask(lambda: self.coordinator.cancel(deployment))

    # Actions: what happens

    def tick(self, seconds: float) -> None:
        """Let time pass; the coordinator's laws are checked every second."""
        self._tell(f"tick {seconds:g}s")
        end = self.loop.time() + seconds
        while (left := end - self.loop.time()) > 1e-6:
            self.loop.run_until_complete(asyncio.sleep(min(1.0, left)))
            self.check()

    def cut_power(self, name: str, operation: int = 0) -> None:
        """Switch a node off, now or at the n-th write of its disk from now."""
        self._tell(f"cut power {name}" + (f" at write {operation}" if operation else ""))
        if operation:
            self.nodes[name].cut_power_at(operation)
        else:
            self.nodes[name].cut_power()

    def kill(self, name: str) -> None:
        """End a node's process."""
        self._tell(f"kill {name}")
        self.nodes[name].kill()

    def start(self, name: str) -> None:
        """Switch a node on."""
        self._tell(f"start {name}")
        self.nodes[name].start()

    def crash(self, step: int = 0) -> None:
        """End the coordinator's process, now or at the n-th beginning or end of a transaction from now."""
        self._tell("crash coordinator" + (f" at step {step}" if step else ""))
        if step:
            self.coordinator.crash_at(step)
        else:
            self.coordinator.crash()

    def start_coordinator(self) -> None:
        """Start the coordinator's process again."""
        self._tell("start coordinator")
        self.coordinator.start()

    def line(self, name: str, fault: str) -> None:
        """Let a node's line be cut, reset, muted, slow, or replay an order, or heal it."""
        self._tell(f"{fault} {name}")
        if fault == "slow":
            self.network.slow(name, 3.0)
        else:
            getattr(self.network, fault)(name)

    def skew(self, name: str, seconds: int) -> None:
        """Set a node's clock."""
        self._tell(f"skew {name} {seconds}s")
        self.nodes[name].clock.skew = timedelta(seconds=seconds)

    def trap(self, name: str) -> None:
        """Let every agent of a node end by itself, once."""
        self._tell(f"trap {name}")
        self.nodes[name].trap_all()

    def heal(self) -> None:
        """End every fault: everything is switched on and connected, and clocks are right."""
        self._tell("heal")
        if not self.coordinator.running:
            self.coordinator.start()
        self.coordinator.never_crash()
        self._ask(self.coordinator.publish)  # what could not be published for a crash is published again
        for name, node in self.nodes.items():
            node.clock.skew = timedelta()
            node.disk.cut_at = None
            self.network.heal(name)
            if not node.running:
                node.start()

    def check(self) -> None:
        """Judge the coordinator; raises what any part raised that it may not. Nodes are judged whenever time moves."""
        if self.faults:
            raise self.faults[0]
        self.laws.check_coordinator()

    def label(self, deployment: str) -> str:
        """`d1` for the first deployment, and so on."""
        return f"d{self.deployments.index(deployment) + 1}" if deployment in self.deployments else deployment

    def listed(self) -> frozenset[str]:
        """Target paths of the newest release."""
        return frozenset(self.laws.release_paths(self.publisher.files))

    def _ask(self, question: Callable[[], str]) -> str:
        """Ask the coordinator something; return its answer, or the code of its refusal."""
        try:
            return question()
        except FleetError as error:
            return str(error.code)
        except CoordinatorCrashError:
            return NO_ANSWER

    def _tell(self, action: str) -> None:
        self.story.append(f"$ {action}")


class _Errors(logging.Handler):
    """Takes what the edges of both programs log as unforeseen: in a simulation nothing is, but a crash and a cut."""

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not is_end(error):
            self._report(error)


def manifest(application: str, number: str, waves: str) -> str:
    """fleet.yaml that puts the version's agent on every node; without a number it removes the application."""
    agent = f"{application}-{AGENT}"
    agents = f"\n  - {{name: {agent}, bundle: {agent}@{number}.0.0}}" if number else " []"
    return f"""\
schema: fleet.application/v1
application: {application}
agents:{agents}
rollout: {{waves: [{waves}], healthy_for: {HEALTHY_FOR_S}s, deadline: {DEADLINE_S}s}}
"""


@cache
def _template() -> FleetFixture:
    """A fleet's files and empty databases; made once, since keys and migrations take time."""
    folder = Path(mkdtemp(prefix="fleet-template-"))
    atexit.register(shutil.rmtree, folder)
    fixture = FleetFixture(folder, clock=lambda: START)
    loop = asyncio.new_event_loop()
    services = build(fixture.settings(), fixture.clock, loop, LiveCalls())
    services.store.close()
    loop.close()
    return fixture


def _clone(template: FleetFixture, folder: Path, clock: object) -> FleetFixture:
    shutil.copytree(template.folder, folder)
    clone = copy.copy(template)
    clone.folder, clone.clock = folder, clock  # type: ignore[assignment]
    clone.blobs, clone.documents = dict(template.blobs), dict(template.documents)
    return clone
