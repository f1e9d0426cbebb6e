"""A node with everything that decides: trust, time, ledger, admission, supervisor; over virtual time and a memory disk.

Only the engine and the network are not there. What is on the disk, and nothing else, outlives `switch_off`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from edge_agent.admission import AdmittedAgent, NodeContext, admit, granted
from edge_agent.adoption import Adoption, Remote, Stores
from edge_agent.blobs import Blobs
from edge_agent.disk import replace_file
from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.listing import check_listed
from edge_agent.sensors import SensorTable
from edge_agent.supervision import Parts
from edge_agent.supervisor import Supervisor
from edge_agent.timekeeper import Timekeeper
from edge_agent.traffic import Inputs
from edge_agent.triggers import Reading
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import AssignedAgent, DesiredState, Event, ObservedAgent
from fleet.trust import FleetTrust
from tests.fakes.disk import MemoryDisk
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import NOW
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.virtual_loop import VirtualLoop

T = TypeVar("T")
DATA = Path("/node")
IDENTITY = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:2", "00" * 32)


class NoTelemetry:
    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        return ()


@dataclass
class WholeNode:
    """One machine. Make it inside no event loop: it has its own.

    Attributes:
        wall: what its clock says, moved by `live`; set it to set the clock.
        allow_dev: the operator's setting.
    """

    world: FleetWorld = field(default_factory=FleetWorld)
    wall: datetime = NOW
    allow_dev: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loop = VirtualLoop(Random(1))
        self.disk = MemoryDisk()
        replace_file(self.disk, DATA / "trust" / "root.json", self.world.publisher.root)
        self._task: asyncio.Task[None] | None = None
        self._set_at = self.loop.time()
        self.switch_on()

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.loop.time() - self._set_at)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_clock(self, wall: datetime) -> None:
        self.wall, self._set_at = wall, self.loop.time()

    def switch_on(self) -> None:
        self.runtime = ScriptedRuntime()
        self.journal = Journal("node-1", 500)
        self.trust = TrustStore(self.disk, DATA / "trust", allow_dev_profile=self.allow_dev)
        self.clock = Timekeeper(self, self.trust, self.journal)
        self.ledger = Ledger(self.disk, DATA / "ledger")
        self.blobs = Blobs(self.disk, DATA / "blobs", 10**6)
        inputs = Inputs(NoTelemetry(), SensorTable((), self.clock, lambda *_: None))
        parts = Parts(
            self.runtime,
            self._admit,
            self._granted,
            self.journal,
            self.clock,
            Random(7),
            inputs,
            listed=self._listed,
        )
        self.supervisor = Supervisor(parts)
        witness = Witness(self.disk, DATA, IDENTITY, self._fleet_trust, self.journal, self.clock)
        self.stores = stores = Stores(self.trust, self.ledger, self.blobs, witness)
        self.adoption = Adoption(
            IDENTITY, stores, self.supervisor.desire, self.supervisor.reconsider, self.journal, self.clock
        )
        self._task = self.loop.create_task(self._run())
        self.live(timedelta(seconds=1))

    def switch_off(self, *, power_cut: bool = True) -> None:
        if self._task is not None:
            self._task.cancel()
            self.live(timedelta(seconds=1))
        self._task = None
        if power_cut:
            self.disk = self.disk.after_power_cut(Random(3))

    def restart(self) -> None:
        """Pull the power and switch on again."""
        self.switch_off()
        self.switch_on()

    def live(self, span: timedelta) -> None:
        """Let time pass."""
        self.do(asyncio.sleep(span.total_seconds()))

    def do(self, job: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(job)

    def accept(self, desired: DesiredState, remote: Remote | None = None) -> Code | None:
        """Take an order in and let it take effect; the code of a refusal."""
        return self._code(self.adoption.accept(desired, remote or self.world))

    def refresh(self, remote: Remote | None = None) -> Code | None:
        """Look for a newer release and let it take effect; the code of a refusal."""
        return self._code(self.adoption.refresh(remote or self.world))

    def agent(self, name: str = "app/one") -> ObservedAgent:
        (found,) = (agent for agent in self.supervisor.observed().agents if agent.name == name)
        return found

    def running(self) -> set[str]:
        return set(self.runtime.running)

    def authority(self, name: str = "app/one") -> Authority:
        """What an agent that runs was given."""
        return Authority.decode(self.runtime.running[name].authority)

    def events(self) -> list[Event]:
        return list(self.journal.take_events(1_000, self.now()))

    def settle(self) -> None:
        """Let everything take effect that is under way."""
        self.live(timedelta(seconds=1))

    def close(self) -> None:
        self.switch_off(power_cut=False)
        self.loop.close()

    def _code(self, job: Coroutine[Any, Any, None]) -> Code | None:
        code = None
        try:
            self.do(job)
        except FleetError as error:
            code = error.code
        self.live(timedelta(seconds=1))
        return code

    def _fleet_trust(self) -> FleetTrust | None:
        return None if self.trust.adopted is None else self.trust.adopted.fleet

    async def _run(self) -> None:
        self.adoption.boot()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run())
            group.create_task(self.clock.run())

    async def _admit(self, spec: AssignedAgent) -> AdmittedAgent:
        return await admit(spec, self._context(), self.runtime)

    async def _granted(self, spec: AssignedAgent) -> Authority:
        return await granted(spec, self._context())

    def _listed(self, spec: AssignedAgent) -> None:
        adopted = self.trust.adopted
        if adopted is not None:
            check_listed(spec, adopted.release, adopted.revocations, adopted.floors)

    def _context(self) -> NodeContext:
        adopted = self.trust.adopted
        if adopted is None:
            raise FleetError(Code.TRUST_INVALID, "the node has adopted no release")
        return NodeContext(
            release=adopted.release,
            fresh_at=adopted.adopted_at,
            blobs=self.blobs,
            labels=self.labels,
            ceiling=None,
            state_root=DATA / "state",
            now=self.clock.now(),
            revocations=adopted.revocations,
            floors=adopted.floors,
            break_glass=adopted.break_glass,
        )
