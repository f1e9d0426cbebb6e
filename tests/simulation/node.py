"""A node of a simulated fleet: everything of `edge_agent` but the engine, the certificates and the operating system.

The disk is `MemoryDisk`, so that the power can go at any write; the runtime is scripted by the models of a bundle; the
stream is the real session over `tests.fakes.network`. What is on the disk, and nothing else, outlives the process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from edge_agent.admission import AdmittedAgent, NodeContext, admit, granted
from edge_agent.adoption import Adoption, Stores
from edge_agent.blobs import Blobs
from edge_agent.disk import replace_file
from edge_agent.fusion import Fusion
from edge_agent.identity import Identity, IdentityStore, TlsIdentity
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.link.link import Link, LinkSettings
from edge_agent.link.remote import CoordinatorRemote
from edge_agent.link.session import Ended, Session, SessionSettings
from edge_agent.node import LocalNode
from edge_agent.runtime import AgentStart, Probation
from edge_agent.sensors import SensorTable
from edge_agent.supervision import Parts
from edge_agent.supervisor import Supervisor
from edge_agent.traffic import Inputs
from edge_agent.triggers import Reading
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import AssignedAgent, ExitCause
from fleet.signing import SigningKey
from fleet.trust import FleetTrust
from tests.fakes.disk import MemoryDisk
from tests.fakes.network import Network
from tests.fakes.runtime import ScriptedRuntime
from tests.simulation.ends import is_end

DATA = Path("/node")
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)

CRASHING = "crashing"
"""Name of a model; an agent that has it traps soon after every start."""

UNSTARTABLE = "unstartable"
"""Name of a model; an agent that has it traps in its start function."""

HICCUP = "hiccup"
"""Name of a model; an agent that has it traps once on each node, soon after its first start there."""

SETTINGS = LinkSettings(
    session=SessionSettings(
        boot_id="simulated",
        agent_version="1",
        report_interval_ms=5_000,
        coalesce_ms=200,
        trust_refresh_ms=60_000,
        reissue_spread_ms=60_000,
    ),
    reconnect_initial_s=1.0,
    reconnect_cap_s=60.0,
    fetch_timeout_s=30.0,
)


class NodeClock:
    """Virtual time, as the clock of one machine shows it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self.skew = timedelta()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time()) + self.skew

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class NoTelemetry:
    """A host without sensors."""

    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        return ()


class SimulatedRuntime(ScriptedRuntime):
    """Runs nothing; agents behave as the names of their models say.

    Args:
        on_start: told before anything starts.
        random: decides when.
        survived: agents whose hiccup is over; outlives the process.
    """

    def __init__(self, on_start: Callable[[AgentStart], None], random: Random, survived: set[str]) -> None:
        super().__init__()
        self.starts: Counter[str] = Counter()
        self._on_start = on_start
        self._random = random
        self._survived = survived

    async def prepare(self, component: Path, digest: str, fusion: Fusion | None = None) -> None:
        await asyncio.sleep(self._random.uniform(0, 0.2))
        await super().prepare(component, digest, fusion)

    async def start(self, agent: AgentStart) -> None:
        await self._begin(agent)
        await super().start(agent)
        self._behave(agent)

    async def replace(self, agent: AgentStart, probation: Probation) -> None:
        await self._begin(agent)
        await super().replace(agent, probation)
        if agent.name in self.older:
            asyncio.get_running_loop().call_later(probation.ms / 1000, self._confirm, agent)
        self._behave(agent)

    async def _begin(self, agent: AgentStart) -> None:
        self._on_start(agent)
        self.starts[agent.name] += 1
        await asyncio.sleep(self._random.uniform(0, 0.1))
        if UNSTARTABLE in agent.models:
            raise FleetError(Code.AGENT_TRAPPED, "trapped in its start", cause=str(ExitCause.UNREACHABLE))

    def _behave(self, agent: AgentStart) -> None:
        hiccup = HICCUP in agent.models and agent.name not in self._survived
        if hiccup or CRASHING in agent.models:
            self._survived.add(agent.name)
            asyncio.get_running_loop().call_later(self._random.uniform(0.1, 2), self._end, agent)

    def _confirm(self, agent: AgentStart) -> None:
        if self.running.get(agent.name) is agent and agent.name in self.older:
            self.confirm(agent.name)

    def _end(self, agent: AgentStart) -> None:
        if self.running.get(agent.name) is agent:
            self.trap(agent.name, ExitCause.UNREACHABLE, "wasm `unreachable` instruction executed")


class SimulatedLink(Link):
    """The link over the simulated network: no certificate is loaded, and none is renewed."""

    network: Network

    async def _credentials(self, identity: Identity) -> tuple[Identity, TlsIdentity]:
        return identity, TlsIdentity(b"", b"", b"", FOREVER, FOREVER)

    async def _session(self, identity: Identity, tls: TlsIdentity) -> Ended:
        channel = self.network.channel(identity.node)
        remote = CoordinatorRemote(channel, self._settings.fetch_timeout_s)  # type: ignore[arg-type]
        session = Session(self._node, remote, self._settings.session, self._clock, self._random)
        try:
            return await session.run(channel, FOREVER)  # type: ignore[arg-type]
        finally:
            if session.welcomed:
                self._failures = 0


class SimulatedNode:
    """One node. `start` switches it on.

    Args:
        identity: who it is.
        bound_key: signs its receipts.
        root: the pinned root.
        on_start: told before an agent starts.
        report: takes what no part of a node may raise.
    """

    def __init__(
        self,
        identity: Identity,
        bound_key: SigningKey,
        root: bytes,
        network: Network,
        clock: NodeClock,
        *,
        on_start: Callable[[SimulatedNode, AgentStart], None],
        report: Callable[[BaseException], None],
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.disk = MemoryDisk()
        self.survived: set[str] = set()
        self.network = network
        self._bound_key = bound_key
        self._on_start = on_start
        self._report = report
        self._random = network.random
        self._task: asyncio.Task[None] | None = None
        replace_file(self.disk, DATA / "trust" / "root.json", root)

    @property
    def name(self) -> str:
        return self.identity.node

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._task is not None

    def start(self) -> None:
        """Start the process over what is on the disk."""
        self.runtime = SimulatedRuntime(lambda agent: self._on_start(self, agent), self._random, self.survived)
        self.trust = TrustStore(self.disk, DATA / "trust", allow_dev_profile=True)
        self.ledger = Ledger(self.disk, DATA / "ledger")
        self.blobs = Blobs(self.disk, DATA / "blobs", 10**6)
        self.journal = Journal(self.name, 500)
        inputs = Inputs(NoTelemetry(), SensorTable((), self.clock, lambda *_: None))
        self.supervisor = Supervisor(
            Parts(self.runtime, self._admit, self._granted, self.journal, self.clock, self._random, inputs)
        )
        self.witness = Witness(self.disk, DATA, self.identity, self._fleet_trust, self.journal, self.clock)
        self.adoption = Adoption(
            self.identity,
            Stores(self.trust, self.ledger, self.blobs, self.witness),
            self.supervisor.desire,
            self.supervisor.reconsider,
            self.journal,
            self.clock,
        )
        node = LocalNode(self.identity, self._bound_key, self.supervisor, self.adoption, self.journal, self.clock)
        link = SimulatedLink(node, IdentityStore(self.disk, DATA), SETTINGS, self.clock, self._random)
        link.network = self.network
        self._task = self.network.loop.create_task(self._run(link))
        self._task.add_done_callback(self._ended)

    def _fleet_trust(self) -> FleetTrust | None:
        return None if self.trust.adopted is None else self.trust.adopted.fleet

    def kill(self) -> None:
        """End the process; the machine runs on, and what was written is there."""
        self.disk = self.disk.copy()
        self._leave()
        self.network.forget(self.name)

    def cut_power(self) -> None:
        """Switch the machine off: what was not synced may be gone."""
        if not self.running:
            return
        self.disk = self.disk.after_power_cut(self._random)
        self._leave()
        self.network.vanish(self.name)

    def cut_power_at(self, operation: int) -> None:
        """Switch the machine off at the n-th changing operation of its disk from now."""
        self.disk.cut_at = self.disk.operations + operation
        self.disk.on_cut = lambda: self.network.loop.call_soon(self.cut_power)

    def trap_all(self) -> None:
        """End every agent by itself."""
        for agent in list(self.runtime.running):
            self.runtime.trap(agent, ExitCause.UNREACHABLE, "wasm `unreachable` instruction executed")

    async def _run(self, link: SimulatedLink) -> None:
        self.adoption.boot()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run())
            group.create_task(link.run(self.identity))

    async def _admit(self, spec: AssignedAgent) -> AdmittedAgent:
        return await admit(spec, self._context(spec), self.runtime)

    async def _granted(self, spec: AssignedAgent) -> Authority:
        return await granted(spec, self._context(spec))

    def _context(self, spec: AssignedAgent) -> NodeContext:
        adopted = self.trust.adopted
        if adopted is None:
            raise FleetError(Code.TRUST_INVALID, "the node has adopted no release", agent=spec.name)
        return NodeContext(
            release=adopted.release,
            fresh_at=adopted.adopted_at,
            blobs=self.blobs,
            labels=self.identity.labels,
            ceiling=None,
            state_root=DATA / "state",
            now=self.trust.floor(self.clock.now()),
            revocations=adopted.revocations,
            floors=adopted.floors,
            fleet_ceilings=() if adopted.ceilings is None else adopted.ceilings.on(self.identity.labels),
            break_glass=adopted.break_glass,
        )

    def _leave(self) -> None:
        task, self._task = self._task, None
        self.runtime.running.clear()
        if task is not None:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not is_end(error):
            self._report(error)
