"""A node of the model: a simulated node without a session; whoever has its ear gives it files and orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_agent.admission import AdmittedAgent, NodeContext
from edge_agent.disk import replace_file
from edge_agent.identity import Identity
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
        machine: its name among the machines; a clone has another one than the node that it says it is.
        ceiling_buckets: buckets that the operator lets agents of this node have.
        misled: whether its clock was ever set apart from the true time.
        images: copies of the disk that somebody made, oldest first, each with who the node was then.
    """

    machine: str
    ceiling_buckets: frozenset[str]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.misled = False
        self.images: list[tuple[MemoryDisk, Identity]] = []

    def start(self) -> None:
        self.admitted: dict[tuple[str, str, bytes], Admitted] = {}
        super().start()

    def keep_image(self) -> None:
        """Copy the disk."""
        self.images.append((self.disk.copy(), self.identity))

    def clear_evidence(self) -> None:
        """Remove what the node holds against the log, not what it saw of it; switch off before and on after."""
        self.kill()
        self.disk.remove(DATA / "witness" / "evidence.json")
        self.start()

    def restore(self, number: int) -> None:
        """Switch off, put an old copy of the disk in, switch on."""
        if self.running:
            self.kill()
        disk, self.identity = self.images[number]
        self.disk = disk.copy()
        self.start()

    def join_again(self, identity: Identity, root: bytes | None) -> None:
        """Switch off, be somebody else, switch on; with nothing but a pinned root on the disk where one is given."""
        if self.running:
            self.kill()
        self.identity = identity
        if root is not None:
            self.disk = MemoryDisk()
            replace_file(self.disk, DATA / "trust" / "root.json", root)
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
