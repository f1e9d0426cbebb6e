"""A fleet in memory around `Publisher`: bundles, grants and signed assignments as a coordinator would hand them out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet.assignment import sign_assignment
from fleet.bundle import BuiltBundle, build_bundle, digest_of, parse_bundle_manifest
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.merkle import consistency_proof
from fleet.model import AssignedAgent, Assignment, DesiredState, TargetRef
from fleet.signing import SigningKey
from fleet.targets import bundle_path, grant_path
from tests.fakes.publisher import NOW, MemoryLog, Publisher, key

CHUNK = 1_000

# A component without content: the preamble of component-model Binary.md.
EMPTY_COMPONENT = b"\0asm\x0d\0\x01\0"


def component(*imports: str) -> bytes:
    """A component that imports empty instances: one type section and one import section (Binary.md)."""
    if not imports:
        return EMPTY_COMPONENT
    instance_type = b"\x01\x42\x00"  # one type: an instance type without declarations
    names = b"".join(b"\x00" + bytes([len(name)]) + name.encode() + b"\x05\x00" for name in imports)
    section = bytes([len(imports)]) + names
    return (
        EMPTY_COMPONENT + b"\x07" + bytes([len(instance_type)]) + instance_type + b"\x0a" + _length(section) + section
    )


def _length(data: bytes) -> bytes:
    size, out = len(data), b""
    while True:
        size, low = size >> 7, size & 0x7F
        out += bytes([low | (0x80 if size else 0)])
        if not size:
            return out


def bundle(name: str, version: str, *imports: str, models: Mapping[str, bytes] | None = None) -> BuiltBundle:
    """A bundle around a component with some imports."""
    lines = [
        "schema: fleet.bundle/v1",
        f"name: {name}",
        f'version: "{version}"',
        "component: component.wasm",
        "world: test:agent/world",
        "models:" if models else "models: []",
    ]
    lines += [f"  - {{name: {model}, path: {model}.onnx, encoding: onnx}}" for model in models or ()]
    manifest = parse_bundle_manifest("\n".join(lines).encode(), "bundle.yaml")
    return build_bundle(manifest, component(*imports), models or {})


def with_artifact(built: BuiltBundle, number: int, change: Callable[[dict[str, Any]], None]) -> BuiltBundle:
    """The bundle with one artifact's document edited and pinned anew, as a hostile code signer could make it."""
    index = json.loads(built.index)
    entry = index["manifests"][number]
    document = json.loads(built.blobs[entry["digest"]])
    change(document)
    artifact = dump_json(document)
    entry.update(digest=digest_of(artifact), size=len(artifact))
    changed = dump_json(index)
    return BuiltBundle(changed, digest_of(changed), {**built.blobs, digest_of(artifact): artifact})


def grant(
    agent: str,
    name: str,
    *,
    caps: str = "{}",
    labels: str = "{}",
    validity: str = "{not_before: 2026-01-01T00:00:00Z, not_after: 2027-01-01T00:00:00Z}",
    lease: str = "{max_stale: 30d, on_lapse: continue}",
    request: str = "",
) -> bytes:
    """A grant document."""
    reviewed = f"\n  request_sha256: {request}" if request else ""
    return f"""\
schema: fleet.grant/v1
agent: {agent}
revision: 1
applies_to:
  bundle: {{name: {name}, versions: ">=1.0.0"}}
  nodes: {{labels: {labels}}}{reviewed}
validity: {validity}
lease: {lease}
caps: {caps}
""".encode()


@dataclass
class FleetWorld:
    """What publisher, director and log hold; implements `edge_agent.adoption.Remote`.

    Attributes:
        fetched: digests and "trust" in the order in which they were asked for.
        cut_after: digest -> bytes after which its next transfer breaks off.
        spoiled: digests whose bytes come wrong.
    """

    publisher: Publisher = field(default_factory=Publisher)
    log: MemoryLog = field(default_factory=MemoryLog)
    blobs: dict[str, bytes] = field(default_factory=dict)
    director: SigningKey = field(default_factory=lambda: key("director"))
    log_key: SigningKey = field(default_factory=lambda: key("log"))
    fetched: list[str] = field(default_factory=list)
    cut_after: dict[str, int] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    withheld: dict[str, bytes] | None = None
    shown: int = 0

    def __post_init__(self) -> None:
        self.put(self.publisher.document)

    def put(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def release(
        self, built: BuiltBundle, name: str, document: bytes, agent: str, version: str = "1.0.0"
    ) -> AssignedAgent:
        """Publish a bundle and a grant, and return the agent that may use them."""
        path, permit = bundle_path(name, version), grant_path(agent, 1)
        self.blobs.update(built.blobs)
        self.publisher.add(path, built.index)
        self.publisher.add(permit, document)
        self.publisher.publish()
        return AssignedAgent(agent, TargetRef(path, self.put(built.index)), TargetRef(permit, self.put(document)))

    def agent(self, agent: str = "app/one", version: str = "1.0.0", **terms: str) -> AssignedAgent:
        """A released agent without imports; `terms` are terms of its grant."""
        name = agent.partition("/")[2]
        return self.release(bundle(name, version), name, grant(agent, name, **terms), agent, version)

    def assign(self, *agents: AssignedAgent, generation: int = 1, now: datetime = NOW, epoch: int = 1) -> DesiredState:
        """Order a node to run agents."""
        assignment = Assignment("demo", "node-1", epoch, generation, now, now + timedelta(days=30), agents)
        envelope = sign_assignment(assignment, self.director)
        index = self.log.append(envelope)
        base, self.shown = self.shown, self.log.size
        return DesiredState(
            envelope, self.log.proof(index, self.log_key), base, consistency_proof(self.log.read, base, self.shown)
        )

    async def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        self.fetched.append(digest)
        data = self.blobs.get(digest)
        if data is None:
            raise FleetError(Code.BLOB_MISSING, "not stored")
        if digest in self.spoiled:
            data = bytes(len(data))
        stop = self.cut_after.pop(digest, len(data))
        while offset < stop or (offset == stop == len(data) == 0):
            part = data[offset : min(offset + CHUNK, stop)]
            yield part, len(data)
            offset += max(len(part), 1)
        if stop < len(data):
            raise FleetError(Code.UNAVAILABLE, "broken off")

    async def fetch_trust(self, known_root_version: int) -> Mapping[str, bytes]:
        self.fetched.append("trust")
        return self.withheld or dict(self.publisher.files)
