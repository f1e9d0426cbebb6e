"""A node on which one agent is about to be admitted, with whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pytest

from edge_agent.admission import AdmittedAgent, NodeContext, admit
from edge_agent.blobs import Blobs
from edge_agent.disk import LocalDisk
from edge_agent.runtime import VolumeFolder
from fleet.errors import FleetError
from fleet.grants import (
    Authority,
    BreakGlass,
    Ceiling,
)
from fleet.model import AssignedAgent, FusedAgent, Link
from fleet.trust import open_release
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW
from tests.fakes.runtime import ScriptedRuntime

LOGGING = "wasi:logging/logging@0.1.0-draft"
KEYVALUE = "wasi:keyvalue/store@0.2.0-draft2"
STORE_CAPS = "{'wasi:keyvalue/store': [{buckets: [context], ops: [get, set]}]}"
NAME = "app/one"


@dataclass
class Case:
    """A node on which `spec` is admitted; tests change one thing."""

    folder: Path
    world: FleetWorld
    spec: AssignedAgent
    now: datetime = NOW
    fresh_at: datetime = NOW
    labels: dict[str, str] | None = None
    ceiling: Authority | None = None
    fleet_ceilings: tuple[Ceiling, ...] = ()
    break_glass: BreakGlass | None = None
    runtime: ScriptedRuntime | None = None
    volumes: dict[str, VolumeFolder] = field(default_factory=dict)
    secrets: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def blobs(self) -> Blobs:
        return Blobs(LocalDisk(), self.folder / "blobs", 10**6)

    async def admit(self) -> AdmittedAgent:
        publisher = self.world.publisher
        release = open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)
        context = NodeContext(
            release=release,
            fresh_at=self.fresh_at,
            blobs=self.blobs,
            labels=self.labels or {},
            ceiling=self.ceiling,
            fleet_ceilings=self.fleet_ceilings,
            break_glass=self.break_glass,
            state_root=self.folder / "state",
            now=self.now,
            volumes=self.volumes,
            secrets=lambda agent, authority: {
                name: version
                for name, version in self.secrets.get(agent, {}).items()
                if authority.allows("fleet:secrets/store", name=name)
            },
        )
        return await admit(self.spec, context, self.runtime or ScriptedRuntime())


Make = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(*imports: str, models: dict[str, bytes] | None = None, name: str = "one", **terms: str) -> Case:
        world = FleetWorld()
        built = bundle(name, "1.0.0", *imports, models=models)
        spec = world.release(built, name, grant(terms.pop("agent", NAME), name, **terms), NAME)
        case = Case(tmp_path, world, spec)
        for data in world.blobs.values():
            case.blobs.put(data)
        return case

    return build


async def refusal(case: Case) -> FleetError:
    with pytest.raises(FleetError) as caught:
        await case.admit()
    return caught.value


TWO = "app/two"


def add_part(case: Case, *imports: str, links: tuple[Link, ...] = (), **terms: str) -> None:
    """Publish another agent, and fuse it into the one of the case."""
    models = {"anomaly": terms.pop("model").encode()} if "model" in terms else None
    built = bundle("two", "1.0.0", *imports, models=models)
    spec = case.world.release(built, "two", grant(terms.pop("agent", TWO), "two", **terms), TWO)
    for data in case.world.blobs.values():
        case.blobs.put(data)
    part = FusedAgent(spec.name, spec.bundle, spec.grant, links)
    case.spec = replace(case.spec, fused=(*case.spec.fused, part))
