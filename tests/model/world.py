"""What there is before anybody does anything: virtual time, machines, the first release, a log, and a wire."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from edge_agent.identity import Identity
from edge_agent.runtime import AgentStart
from fleet.assignment import sign_assignment
from fleet.errors import FleetError
from fleet.model import AssignedAgent, Assignment, DesiredState, TargetRef
from fleet.targets import BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, DEFAULT_TEAM, TRUST_PATH
from tests.fakes.network import Network
from tests.fakes.publisher import key
from tests.fakes.virtual_loop import VirtualLoop
from tests.model.documents import Bundle, Documents, Grant, Revoked, TrustKeys
from tests.model.laws import Laws
from tests.model.log import ModelLog, Testimony
from tests.model.node import Mirror, ModelNode
from tests.model.repository import CODE, GRANTS, KEYS, POLICY, TARGETS, KeySet, Ledger, Repository
from tests.simulation.node import NodeClock

START = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
BUCKETS = ("a", "b", "c")
EVERYTHING = frozenset(BUCKETS)
AGENTS = ("app/one", "app/two")
NODES = {"n1": ({"site": "oslo"}, frozenset({"a", "b"})), "n2": ({"site": "bergen"}, EVERYTHING)}
"""Name -> labels, and the buckets that its own ceiling leaves."""

CLONE = "clone"
"""Machine that somebody made of the disk of another; it says that it is that one."""

DIRECTOR, LOG_KEY = "director-0", "log-0"
WITNESSES = ("witness-0", "witness-1", "witness-2")
QUORUM = KeySet(WITNESSES, 2)
STEALABLE = (*(name for names in KEYS.values() for name in names), DIRECTOR, LOG_KEY, *WITNESSES)
WRITING_ORDER = ("root", TARGETS, POLICY, BREAK_GLASS_ROLE, CODE, GRANTS, "snapshot", "timestamp")
SETTLED_S = 2.0
"""Virtual time in which a node has started and stopped all that it was told to."""


@dataclass(frozen=True)
class Order:
    """An assignment that somebody signed.

    Attributes:
        signer: name of the key.
    """

    assignment: Assignment
    desired: DesiredState
    signer: str


@dataclass(frozen=True)
class Seals:
    """Keys that an order is signed and proven with, by name.

    Attributes:
        director: signs the order.
        logs: sign the checkpoint.
        witnesses: cosign it.
    """

    director: str
    logs: tuple[str, ...]
    witnesses: frozenset[str]


@dataclass
class World:
    """The fleet.

    Attributes:
        repository: what the honest people work on; `published` holds what they published, oldest first.
        drafts: repositories with a grants role that too few approvers have signed.
        trust_keys: keys that the newest `trust/fleet.json` names, the one in use last.
        epochs: number of each node's enrolment.
        revoked: what the policy role has revoked.
        soiled: whether the thief wrote into the log what no director signed.
        log: the fleet's audit log, first of `logs`; the others are the thief's.
        stolen: keys that the thief has copied.
        runs: (node, bundle digest, grant digest) of every start.
        refused: error codes of what nodes refused.
    """

    seed: int = 0
    stolen: set[str] = field(default_factory=set)
    runs: list[tuple[str, str, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    documents: Documents = field(default_factory=Documents)
    testimony: Testimony = field(default_factory=Testimony)
    orders: list[Order] = field(default_factory=list)
    drafts: list[Repository] = field(default_factory=list)
    published: list[Repository] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    trust_keys: TrustKeys = field(default_factory=lambda: TrustKeys((DIRECTOR,), (LOG_KEY,)))
    epochs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 1))
    revoked: Revoked = frozenset()
    soiled: bool = False

    buckets = BUCKETS

    def __post_init__(self) -> None:
        self.loop = VirtualLoop(Random(self.seed))
        asyncio.set_event_loop(self.loop)
        self.laws = Laws(self)
        self.log = ModelLog()
        self.logs = [self.log]
        self.repository = Repository(Ledger())
        self.repository.put(TRUST_PATH, self.documents.trust(self.trust_keys))
        for role in WRITING_ORDER:
            self.repository.write(role, KEYS[role], self.now())
        self.pinned = self.repository.files["1.root.json"]
        self.published.append(self.repository.copy())
        self.nodes = {
            name: self._machine(name, Identity(name, *_IDENTITY, labels)) for name, (labels, _) in NODES.items()
        }
        self.settle()

    def now(self) -> datetime:
        """The true time, which honest people's clocks show."""
        return START + timedelta(seconds=self.loop.time())

    def close(self) -> None:
        """Switch everything off."""
        for node in self.nodes.values():
            if node.running:
                node.kill()
        self.loop.run_until_complete(asyncio.sleep(60))
        asyncio.set_event_loop(None)
        self.loop.close()

    def settle(self) -> None:
        """Let the nodes finish what they do, and judge them."""
        self.loop.run_until_complete(asyncio.sleep(SETTLED_S))
        if self.faults:
            raise self.faults[0]
        self.laws.check()

    def machine(self, name: str) -> ModelNode:
        """A machine; the first node while nobody has made the clone."""
        return self.nodes.get(name, self.nodes["n1"])

    @property
    def blobs(self) -> dict[str, bytes]:
        return self.documents.blobs

    @property
    def bundles(self) -> dict[str, Bundle]:
        return self.documents.bundles

    @property
    def grants(self) -> dict[str, Grant]:
        return self.documents.grants

    def assignment(self, node: str, epoch: int, number: int, specs: Collection[AssignedAgent]) -> Assignment:
        """An order of now, not yet signed."""
        issued = self.now()
        return Assignment("demo", node, epoch, number, issued, issued + timedelta(days=30), tuple(specs))

    def seal(self, assignment: Assignment, seals: Seals, log: ModelLog, seen_by: ModelNode) -> Order:
        """Sign an order and prove it in a log, to a machine that has seen some of that."""
        envelope = sign_assignment(assignment, key(seals.director))
        index = log.append(envelope)
        proof = self.testimony.prove(log, index, seals.logs, seals.witnesses, int(assignment.issued.timestamp()))
        base = min(seen_by.witness.seen, log.size)
        desired = DesiredState(envelope, proof, base, log.consistency(base))
        order = Order(assignment, desired, seals.director)
        self.orders.append(order)
        self.soiled |= log is self.log and not seals.director.startswith("director-")
        return order

    def deliver(self, node: ModelNode, mirror: Mirror, desired: DesiredState | None, *, pushed: bool = False) -> None:
        """Have a node ask somebody for a release, who then sends it an order; `pushed`: it is not asked for before."""
        if not pushed:
            self._attempt(node.adoption.refresh(mirror))
        if desired is not None:
            self._attempt(node.adoption.accept(desired, mirror))
            self.laws.note_acceptance(node)

    def mirror(self, repository: Repository) -> Mirror:
        """Somebody who serves a repository."""
        return Mirror(repository.files, self.blobs)

    def spec(self, repository: Repository, agent: str, *, emergency: bool = False) -> AssignedAgent | None:
        """The newest bundle and grant of an agent that a repository lists; `emergency`: its newest emergency grant."""
        role, team = (BREAK_GLASS_ROLE, BREAK_GLASS_TEAM) if emergency else (GRANTS, DEFAULT_TEAM)
        name = agent.partition("/")[2]
        bundles = [path for path in repository.listings[CODE] if path.startswith(f"bundles/default/{name}/")]
        grants = [path for path in repository.listings[role] if path.startswith(f"grants/{team}/{agent}/")]
        if not bundles or not grants:
            return None
        newest = max(bundles, key=lambda path: int(path.split(".")[1]))
        latest = max(grants, key=lambda path: int(path.rpartition("/")[2].partition(".")[0]))
        refs = [
            TargetRef(path, f"sha256:{repository.listings[lists][path].hashes['sha256']}")
            for lists, path in ((CODE, newest), (role, latest))
        ]
        return AssignedAgent(agent, refs[0], refs[1])

    def tell(self, action: str) -> None:
        """Go on with the story, in words."""
        self.story.append(action)

    def _machine(self, machine: str, identity: Identity, original: ModelNode | None = None) -> ModelNode:
        """Switch a new machine on: with the pinned root alone on its disk, or as a copy of another one."""
        node = ModelNode(
            identity,
            key(f"bound-{identity.node}"),
            self.pinned,
            Network(self.loop, Random(self.seed)),
            NodeClock(self.loop, START),
            on_start=self._judge,
            report=self.faults.append,
        )
        node.machine, node.ceiling_buckets = machine, NODES[identity.node][1]
        if original is not None:
            node.disk = original.disk.copy()
        node.start()
        return node

    def _judge(self, node: object, start: AgentStart) -> None:
        assert isinstance(node, ModelNode)
        try:
            self.laws.check_start(node, start)
        except AssertionError as error:
            self.faults.append(error)

    def _attempt(self, action: Coroutine[None, None, None]) -> None:
        try:
            self.loop.run_until_complete(action)
        except FleetError as error:
            self.refused[str(error.code)] += 1


_IDENTITY = ("demo", 1, 1, "model", "model", "00" * 32)
"""What all nodes say of themselves between their name and their labels."""
