"""An audit log with everything in it, made by the functions that make real leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.assignment import Receipt, ReceiptAgent, sign_assignment, sign_receipt
from fleet.certificates import WitnessCertificate, sign_witness
from fleet.checkpoint import Checkpoint, KeyKind, VerifierKey, sign_checkpoint
from fleet.leaves import ENROLLED, PUBLISHED, RECEIVED, event_leaf
from fleet.merkle import root
from fleet.model import AssignedAgent, Assignment, TargetRef
from fleet.oci import digest_of
from fleet.signing import SigningKey, encode_base64
from fleet.targets import bundle_path, grant_path
from fleet.times import to_ms
from fleet.witnesses import witness_name
from tests.fakes.publisher import MemoryLog, key

START = datetime.fromisoformat("2026-06-01T00:00:00+00:00")
ORIGIN = "demo/audit"


def ms(minutes: float) -> int:
    """Milliseconds since 1970 so many minutes after the start."""
    return to_ms(START + timedelta(minutes=minutes))


def grant(agent: str, revision: int = 1, caps: str = "{wasi:logging/logging: []}", months: int = 12) -> bytes:
    """A grant that is valid for some months of 30 days from the start."""
    last = START + timedelta(days=30 * months)
    return f"""\
schema: fleet.grant/v1
agent: {agent}
revision: {revision}
applies_to:
  bundle: {{name: {agent.partition("/")[2]}, versions: ">=1.0.0"}}
  nodes: {{labels: {{}}}}
validity: {{not_before: 2026-01-01T00:00:00Z, not_after: {last:%Y-%m-%dT%H:%M:%SZ}}}
lease: {{max_stale: 30d, on_lapse: continue}}
caps: {caps}
""".encode()


def bundle_digest(version: str) -> str:
    """Digest of a bundle that nobody looks at."""
    return digest_of(version.encode())


@dataclass
class AuditedFleet:
    """Appends leaves; time goes by minutes since the start."""

    leaves: list[bytes] = field(default_factory=list)
    log: MemoryLog = field(default_factory=MemoryLog)
    generations: dict[str, int] = field(default_factory=dict)
    director: SigningKey = field(default_factory=lambda: key("director"))

    def append(self, leaf: bytes) -> int:
        self.leaves.append(leaf)
        return self.log.append(leaf)

    def bound(self, node: str) -> SigningKey:
        return key(f"bound-{node}")

    def enrol(self, node: str, minutes: float = 0, epoch: int = 1, **changed: object) -> int:
        public = self.bound(node).public
        facts: dict[str, object] = {"node": node, "epoch": epoch, "bound_key": public.key_id, "public_key": public.hex}
        return self.append(event_leaf(ENROLLED, self.at(minutes), f"node/{node}", **{**facts, **changed}))

    def witness(self, node: str, signer: SigningKey | None = None) -> int:
        vkey = VerifierKey(witness_name("demo", node), key(f"w-{node}").public, KeyKind.COSIGNER)
        certificate = WitnessCertificate("demo", node, 1, vkey)
        return self.append(sign_witness(certificate, signer or self.bound(node)))

    def publish(
        self, minutes: float, *grants: bytes, removed: tuple[str, ...] = (), keys: tuple[str, ...] = ("k1",)
    ) -> int:
        listed = {}
        for document in grants:
            agent, revision = (line.split(b": ")[1].decode() for line in document.split(b"\n")[1:3])
            shown = {"digest": digest_of(document), "approvers": list(keys), "document": encode_base64(document)}
            listed[grant_path(agent, int(revision))] = shown
        return self.append(
            event_leaf(PUBLISHED, self.at(minutes), "user/alice", grants=listed, removed=list(removed), added={})
        )

    def order(self, minutes: float, node: str, *agents: AssignedAgent, fleet: str = "demo") -> int:
        generation = self.generations[node] = self.generations.get(node, 0) + 1
        at = self.at(minutes)
        assignment = Assignment(fleet, node, 1, generation, at, at + timedelta(days=30), agents)
        return self.append(sign_assignment(assignment, self.director))

    def receive(
        self, minutes: float, node: str, *agents: AssignedAgent, applied: float | None = None, refusal: str = ""
    ) -> int:
        said = tuple(ReceiptAgent(a.name, a.bundle.digest, a.grant.digest, refusal) for a in agents)
        at = self.at(minutes if applied is None else applied)
        receipt = Receipt("demo", node, 1, self.generations[node], bundle_digest("order"), at, said)
        envelope = sign_receipt(receipt, self.bound(node))
        return self.append(event_leaf(RECEIVED, self.at(minutes), f"node/{node}", envelope=envelope.decode()))

    def note(self, size: int | None = None, signer: str = "log") -> bytes:
        size = self.log.size if size is None else size
        return sign_checkpoint(ORIGIN, size, root(self.log.read, size), key(signer))

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = self.log.size if size is None else size
        return Checkpoint(ORIGIN, size, root(self.log.read, size))

    @staticmethod
    def at(minutes: float) -> datetime:
        return START + timedelta(minutes=minutes)


def agent_of(name: str, document: bytes, revision: int = 1, version: str = "1.0.0") -> AssignedAgent:
    """An agent under a grant."""
    bundle = TargetRef(bundle_path(name.partition("/")[2], version), bundle_digest(version))
    return AssignedAgent(name, bundle, TargetRef(grant_path(name, revision), digest_of(document)))
