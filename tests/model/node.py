"""A node of the model: a simulated node without a session; whoever has its ear gives it files and orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from edge_agent.admission import AdmittedAgent, NodeContext
from edge_agent.link.link import Link
from edge_agent.runtime import AgentStart
from edge_agent.trust_store import Adopted
from fleet.errors import Code, FleetError
from fleet.grants import parse_ceiling
from fleet.model import AssignedAgent
from tests.fakes.disk import MemoryDisk
from tests.simulation.node import DATA, SimulatedNode

CHUNK = 4_096


@dataclass
class Mirror:
    """What somebody serves to a node; implements `edge_agent.adoption.Remote`. Blobs are public: secrecy is no defence.

    Attributes:
        swapped: digests whose bytes are others.
    """

    files: Mapping[str, bytes]
    blobs: Mapping[str, bytes]
    swapped: frozenset[str] = frozenset()

    async def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        if digest not in self.blobs:
            raise FleetError(Code.BLOB_MISSING, "not stored")
        data = self.blobs[digest]
        if digest in self.swapped:
            data = data[:-1] + bytes([data[-1] ^ 1])
        for at in range(offset, len(data), CHUNK):
            yield data[at : at + CHUNK], len(data)

    async def fetch_trust(self, known_root_version: int) -> Mapping[str, bytes]:
        return dict(self.files)


@dataclass(frozen=True)
class Admitted:
    """What admission decided from: the agent's order, and what the node believed when it was asked."""

    spec: AssignedAgent
    adopted: Adopted


class ModelNode(SimulatedNode):
    """One node. Its process runs the supervisor; sessions are calls of `refresh` and `accept` on its adoption.

    Attributes:
        ceiling_buckets: buckets that the operator lets agents of this node have.
        images: copies of the disk that somebody made, oldest first.
    """

    ceiling_buckets: frozenset[str]
    images: list[MemoryDisk]

    def start(self) -> None:
        self.admitted: dict[tuple[str, str, bytes], Admitted] = {}
        super().start()

    def keep_image(self) -> None:
        """Copy the disk."""
        self.images.append(self.disk.copy())

    def clear_evidence(self) -> None:
        """Remove what the node holds against the log, not what it saw of it; switch off before and on after."""
        self.kill()
        self.disk.remove(DATA / "witness" / "evidence.json")
        self.start()

    def restore(self, number: int) -> None:
        """Switch off, put an old copy of the disk in, switch on."""
        if self.running:
            self.kill()
        self.disk = self.images[number].copy()
        self.start()

    def admitted_as(self, start: AgentStart) -> Admitted | None:
        """What admission decided this start from; None when admission was never asked."""
        return self.admitted.get((start.name, start.component_digest, start.authority))

    async def _run(self, link: Link) -> None:
        self.adoption.boot()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run())

    async def _admit(self, spec: AssignedAgent) -> AdmittedAgent:
        adopted = self.trust.adopted
        admitted = await super()._admit(spec)
        start = admitted.start
        if adopted is not None:
            self.admitted[start.name, start.component_digest, start.authority] = Admitted(spec, adopted)
        return admitted

    def _context(self, spec: AssignedAgent) -> NodeContext:
        return replace(super()._context(spec), ceiling=parse_ceiling(ceiling(self.ceiling_buckets), "ceiling.yaml"))


def ceiling(buckets: frozenset[str]) -> bytes:
    """A node's ceiling document."""
    return f"schema: fleet.ceiling/v1\ncaps: {caps(buckets)}\n".encode()


def caps(buckets: frozenset[str]) -> str:
    """Capabilities of a grant or a ceiling: some buckets."""
    names = ", ".join(sorted(buckets))
    return f"{{wasi:keyvalue/store: [{{buckets: [{names}], ops: [get, set]}}]}}" if buckets else "{}"
