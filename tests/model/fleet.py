"""The people, the thief and the nodes of the model, and what each of them can do.

Everything happens in virtual time over the real code of a node. `ModelFleet` offers the actions; its `story` tells
them again in words, so that a failure reads as what happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from edge_agent.identity import Identity
from edge_agent.runtime import AgentStart
from fleet.assignment import sign_assignment
from fleet.bundle import digest_of
from fleet.checkpoint import format_proof, format_vkey, sign_checkpoint
from fleet.errors import FleetError
from fleet.merkle import consistency_proof, inclusion_proof, root
from fleet.model import AssignedAgent, Assignment, DesiredState, TargetRef
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import FleetTrust, Profile, encode_fleet_trust
from tests.fakes.fleet import bundle as build
from tests.fakes.network import Network
from tests.fakes.publisher import LOG, NODE_CA, key
from tests.fakes.virtual_loop import VirtualLoop
from tests.model.laws import Laws
from tests.model.node import Mirror, ModelNode, caps
from tests.model.repository import CODE, GRANTS, KEYS, TARGETS, THIEF, KeySet, Ledger, ModelLog, Repository
from tests.simulation.node import NodeClock

START = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
BUCKETS = ("a", "b", "c")
EVERYTHING = frozenset(BUCKETS)
AGENTS = ("app/one", "app/two")
NODES = {"n1": ({"site": "oslo"}, frozenset({"a", "b"})), "n2": ({"site": "bergen"}, EVERYTHING)}
"""Name -> labels, and the buckets that its own ceiling leaves."""

DIRECTOR, LOG_KEY = "director-0", "log-0"
STEALABLE = (*(name for names in KEYS.values() for name in names), DIRECTOR, LOG_KEY)
WRITING_ORDER = ("root", TARGETS, CODE, GRANTS, "snapshot", "timestamp")
SETTLED_S = 2.0
"""Virtual time in which a node has started and stopped all that it was told to."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that somebody made."""

    name: str
    version: str
    component: str
    evil: bool


@dataclass(frozen=True)
class Grant:
    """A grant that somebody wrote."""

    agent: str
    bundle: str
    labels: Mapping[str, str]
    buckets: frozenset[str]
    evil: bool


@dataclass(frozen=True)
class Order:
    """An assignment that somebody signed; `sound` when it was with a key that a director has."""

    node: str
    agents: tuple[AssignedAgent, ...]
    desired: DesiredState
    sound: bool


@dataclass(frozen=True)
class Attack:
    """What the thief tries at once; each part is tried with whatever keys are stolen.

    Attributes:
        base: which published repository, from the newest backwards, is worked on; -1: the newest draft that lacks
            approvers.
        layers: roles that the thief writes anew.
        forged: of "bundle" and "grant", what the thief makes itself.
        crossed: list the forged grant among the bundles.
        hidden: prove the order in a log of the thief's own, which begins like the fleet's.
        rewritten: and which leaves out the newer half of it.
        swapped: serve other bytes for the bundle.
        elsewhere: sign the order for the other node.
        ahead: generations above the node's.
    """

    base: int = 0
    layers: frozenset[str] = frozenset(WRITING_ORDER)
    forged: frozenset[str] = frozenset({"bundle", "grant"})
    crossed: bool = False
    hidden: bool = True
    rewritten: bool = False
    swapped: bool = False
    elsewhere: bool = False
    ahead: int = 1


@dataclass
class ModelFleet:
    """The fleet.

    Attributes:
        repository: what the honest people work on; `published` holds what they published, oldest first.
        drafts: repositories with a grants role that too few approvers have signed.
        log: the fleet's audit log, first of `logs`; the others are the thief's.
        stolen: keys that the thief has copied.
        runs: (node, bundle digest, grant digest) of every start.
        refused: error codes of what nodes refused.
    """

    seed: int = 0
    stolen: set[str] = field(default_factory=set)
    runs: list[tuple[str, str, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    drafts: list[Repository] = field(default_factory=list)
    published: list[Repository] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    buckets = BUCKETS

    def __post_init__(self) -> None:
        self.loop = VirtualLoop(Random(self.seed))
        asyncio.set_event_loop(self.loop)
        self.laws = Laws(self)
        self.log = ModelLog()
        self.logs = [self.log]
        self.repository = Repository(Ledger())
        self.repository.put(TRUST_PATH, self._trust_document(DIRECTOR, LOG_KEY))
        for role in WRITING_ORDER:
            self.repository.write(role, KEYS[role], self.now())
        self.pinned = self.repository.files["1.root.json"]
        self.published.append(self.repository.copy())
        self.nodes = {name: self._node(name, labels, left) for name, (labels, left) in NODES.items()}
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

    # Honest people

    def develop(self, agent: str) -> None:
        """A developer signs the next version of an agent's bundle."""
        name = agent.partition("/")[2]
        version = f"1.{len(self.bundles)}.0"
        self._tell(f"a developer signs {name} {version}")
        self._list(self.repository, self._bundle(name, version, evil=False))
        self.repository.write(CODE, self.repository.keys[CODE].names, self.now())

    def approve(self, agent: str, buckets: frozenset[str], site: str, approvers: frozenset[int]) -> None:
        """Some approvers sign an agent's next grant; with too few it stays a draft, which a thief may find."""
        names = [self.repository.keys[GRANTS].names[number] for number in sorted(approvers)]
        self._tell(f"{' and '.join(names)} sign a grant of {sorted(buckets)} for {agent} at {site or 'any site'}")
        path, document = self._grant(agent, buckets, {"site": site} if site else {}, evil=False)
        complete = self.repository.keys[GRANTS].met_by(names)
        repository = self.repository if complete else self.repository.copy()
        repository.put(path, document)
        repository.write(GRANTS, names, self.now())
        if not complete:
            self.drafts.append(repository)

    def withdraw(self, path: str) -> None:
        """The responsible people withdraw a document."""
        self._tell(f"{path} is withdrawn")
        role = CODE if path.startswith("bundles/") else GRANTS
        self.repository.withdraw(path)
        self.repository.write(role, self.repository.keys[role].names, self.now())

    def rotate(self, role: str) -> None:
        """The keys of a role are replaced, and what they signed is signed again."""
        self._tell(f"the keys of {role} are rotated")
        repository = self.repository
        before, number = dict(repository.keys), sum("rotated" in line for line in self.story)
        fresh = tuple(f"{name.partition('+')[0]}+{number}" for name in before[role].names)
        repository.keys[role] = KeySet(fresh, before[role].threshold)
        if role in (CODE, GRANTS):
            repository.write(TARGETS, repository.keys[TARGETS].names, self.now())
        else:
            repository.write("root", {*before["root"].names, *repository.keys["root"].names}, self.now())
        if role in repository.listings:
            repository.write(role, fresh, self.now())

    def publish(self) -> None:
        """The publisher signs snapshot and timestamp; expired roles are signed again by their owners before."""
        self._tell("the publisher publishes")
        for role in WRITING_ORDER:
            if self.repository.ledger.written(self._newest(role)).expires < self.now() + timedelta(days=30):
                self.repository.write(role, self.repository.keys[role].names, self.now())
        for role in ("snapshot", "timestamp"):
            self.repository.write(role, self.repository.keys[role].names, self.now())
        self.published.append(self.repository.copy())

    def deploy(self, node: str, agents: frozenset[str]) -> None:
        """The director orders the newest published bundles and grants of agents, and the coordinator delivers."""
        self._tell(f"the coordinator orders {node} to run {' and '.join(sorted(agents)) or 'nothing'}")
        specs = [spec for agent in sorted(agents) if (spec := self._spec(self.published[-1], agent)) is not None]
        order = self._order(self.nodes[node], specs, DIRECTOR, self.log, LOG_KEY)
        self._deliver(self.nodes[node], self._mirror(self.published[-1]), order.desired)

    def refresh(self, node: str) -> None:
        """A node asks its coordinator for the newest release."""
        self._tell(f"{node} refreshes")
        self._deliver(self.nodes[node], self._mirror(self.published[-1]), None)

    # The thief

    def steal(self, name: str) -> None:
        """Copy a key as it is now."""
        role = next((role for role, names in KEYS.items() if name in names), "")
        current = self.repository.keys[role].names[KEYS[role].index(name)] if role else name
        self._tell(f"the thief steals {current}")
        self.stolen.add(current)

    def thief_may(self, role: str) -> bool:
        """Whether the stolen keys are enough for a role, or for one that names its keys."""
        if role == "log" and LOG_KEY in self.stolen:
            return True
        deciding = {"log": ("root", TARGETS), TARGETS: ("root", TARGETS)}.get(role, ("root", TARGETS, role))
        return any(written.met_by(self.stolen) for each in deciding for written in self._key_sets(each))

    def attack(self, node: str, attack: Attack) -> None:
        """Forge what can be forged with the stolen keys, and serve it with an order to run it."""
        self._tell(f"the thief has {', '.join(sorted(self.stolen)) or 'no key'} and serves {node}: {attack}")
        victim = self.nodes[node]
        repository = self._base(attack.base)
        agent = AGENTS[0]
        if "bundle" in attack.forged:
            self._list(repository, self._bundle("one", f"1.{len(self.bundles)}.0", evil=True))
        if "grant" in attack.forged:
            path, document = self._grant(agent, EVERYTHING, {}, evil=True)
            repository.put(path, document)
            if attack.crossed:
                repository.listings[CODE][path] = repository.listings[GRANTS][path]
        director, log_key = self._thief_keys(attack)
        for role in WRITING_ORDER:
            if role in attack.layers:
                self._forge(repository, role)
        spec = self._spec(repository, agent)
        if spec is None:
            return
        log = self._thief_log(attack)
        target = next(other for name, other in self.nodes.items() if (name != node) == attack.elsewhere)
        order = self._order(target, [spec], director, log, log_key, ahead=attack.ahead)
        mirror = self._mirror(repository)
        if attack.swapped:
            mirror = replace(
                mirror, swapped=frozenset({spec.bundle.digest, self.bundles[spec.bundle.digest].component})
            )
        self._deliver(victim, mirror, order.desired)

    def replay(self, node: str, release: int, order: int) -> None:
        """Serve something that was published before, with an order that was signed before for anyone."""
        self._tell(f"the thief replays release {release} and order {order} to {node}")
        repository = self.published[release % len(self.published)]
        desired = self.orders[order % len(self.orders)].desired if self.orders else None
        self._deliver(self.nodes[node], self._mirror(repository), desired)

    # The world

    def set_clock(self, node: str, days: int) -> None:
        """Set a node's clock apart from the true time."""
        self._tell(f"the clock of {node} is {days:+} days off")
        self.nodes[node].clock.skew = timedelta(days=days)

    def wait(self, days: float) -> None:
        """Let time pass for everybody; what was due meanwhile happens at its end, as on machines that slept."""
        self._tell(f"{days:g} days pass")
        self.loop.jump(days * 86_400)

    def restart(self, node: str) -> None:
        """Cut a node's power and switch it on again."""
        self._tell(f"{node} loses its power and comes back")
        self.nodes[node].cut_power()
        self.nodes[node].start()
        self.laws.forget(node)  # what was adopted a moment ago may not have been synced; that is another test's concern

    def clear_evidence(self, node: str) -> None:
        """A person looked at what a node holds against the log, and removes it."""
        self._tell(f"the evidence of {node} is removed")
        self.nodes[node].clear_evidence()

    def keep_image(self, node: str) -> None:
        """Somebody copies a node's disk."""
        self._tell(f"somebody copies the disk of {node}")
        self.nodes[node].keep_image()

    def restore(self, node: str, number: int) -> None:
        """Somebody puts an old copy of its disk into a node."""
        images = self.nodes[node].images
        if images:
            self._tell(f"somebody restores copy {number % len(images)} of the disk of {node}")
            self.nodes[node].restore(number % len(images))
            self.laws.forget(node)

    def settle(self) -> None:
        """Let the nodes finish what they do, and judge them."""
        self.loop.run_until_complete(asyncio.sleep(SETTLED_S))
        if self.faults:
            raise self.faults[0]
        self.laws.check()

    # How it is done

    def _node(self, name: str, labels: Mapping[str, str], left: frozenset[str]) -> ModelNode:
        identity = Identity(name, "demo", 1, 1, "model", "model", "00" * 32, labels)
        node = ModelNode(
            identity,
            key(f"bound-{name}"),
            self.pinned,
            Network(self.loop, Random(self.seed)),
            NodeClock(self.loop, START),
            on_start=self._judge,
            report=self.faults.append,
        )
        node.ceiling_buckets, node.images = left, []
        node.start()
        return node

    def _judge(self, node: object, start: AgentStart) -> None:
        assert isinstance(node, ModelNode)
        try:
            self.laws.check_start(node, start)
        except AssertionError as error:
            self.faults.append(error)

    def _trust_document(self, director: str, log_key: str) -> bytes:
        trust = FleetTrust(
            "demo", (key(director).public,), format_vkey(LOG, key(log_key).public), NODE_CA, Profile.PRODUCTION
        )
        document = encode_fleet_trust(trust)
        self.blobs[digest_of(document)] = document
        return document

    def _bundle(self, name: str, version: str, *, evil: bool) -> tuple[str, bytes]:
        built = build(name, version, models={"m": f"{name} {version} {evil}".encode()})
        self.blobs.update(built.blobs)
        self.blobs[built.digest] = built.index
        component = next(digest for digest, data in built.blobs.items() if data.startswith(b"\0asm"))
        self.bundles[built.digest] = Bundle(name, version, component, evil)
        return bundle_path(name, version), built.index

    def _grant(
        self, agent: str, buckets: frozenset[str], labels: Mapping[str, str], *, evil: bool
    ) -> tuple[str, bytes]:
        name, revision = agent.partition("/")[2], len(self.grants) + 1
        condition = ", ".join(f"{key}: {value}" for key, value in labels.items())
        document = f"""\
schema: fleet.grant/v1
agent: {agent}
revision: {revision}
applies_to:
  bundle: {{name: {name}, versions: ">=1.0.0"}}
  nodes: {{labels: {{{condition}}}}}
validity: {{not_before: 2026-01-01T00:00:00Z, not_after: 2028-01-01T00:00:00Z}}
lease: {{max_stale: 30d, on_lapse: stop}}
caps: {caps(buckets)}
""".encode()
        self.blobs[digest_of(document)] = document
        self.grants[digest_of(document)] = Grant(agent, name, labels, buckets, evil)
        return grant_path(agent, revision), document

    def _list(self, repository: Repository, document: tuple[str, bytes]) -> None:
        repository.put(*document)

    def _spec(self, repository: Repository, agent: str) -> AssignedAgent | None:
        """The newest bundle and grant of an agent that a repository lists."""
        name = agent.partition("/")[2]
        bundles = [path for path in repository.listings[CODE] if path.startswith(f"bundles/default/{name}/")]
        grants = [path for path in repository.listings[GRANTS] if path.startswith(f"grants/default/{agent}/")]
        if not bundles or not grants:
            return None
        newest = max(bundles, key=lambda path: int(path.split(".")[1]))
        latest = max(grants, key=lambda path: int(path.rpartition("/")[2].partition(".")[0]))
        refs = [
            TargetRef(path, f"sha256:{repository.listings[role][path].hashes['sha256']}")
            for role, path in ((CODE, newest), (GRANTS, latest))
        ]
        return AssignedAgent(agent, refs[0], refs[1])

    def _order(
        self, node: ModelNode, specs: list[AssignedAgent], signer: str, log: ModelLog, log_key: str, ahead: int = 1
    ) -> Order:
        entry = node.ledger.entry
        generation = max(1, (entry.generation if entry is not None else 0) + ahead)
        issued = self.now()
        assignment = Assignment("demo", node.name, 1, generation, issued, issued + timedelta(days=30), tuple(specs))
        envelope = sign_assignment(assignment, key(signer))
        index = log.append(envelope)
        note = sign_checkpoint(LOG, log.size, root(log.read, log.size), key(log_key))
        proof = format_proof(index, inclusion_proof(log.read, index, log.size), note)
        base = min(node.witness.seen, log.size)
        desired = DesiredState(envelope, proof, base, consistency_proof(log.read, base, log.size) if base else ())
        order = Order(node.name, tuple(specs), desired, signer == DIRECTOR or self.thief_may(TARGETS))
        self.orders.append(order)
        return order

    def _deliver(self, node: ModelNode, mirror: Mirror, desired: DesiredState | None) -> None:
        self._attempt(node.adoption.refresh(mirror))
        if desired is not None:
            self._attempt(node.adoption.accept(desired, mirror))

    def _attempt(self, action: Coroutine[None, None, None]) -> None:
        try:
            self.loop.run_until_complete(action)
        except FleetError as error:
            self.refused[str(error.code)] += 1

    def _mirror(self, repository: Repository) -> Mirror:
        return Mirror(repository.files, self.blobs)

    def _newest(self, role: str) -> bytes:
        files, number = self.repository.files, self.repository.versions[role]
        return files["timestamp.json" if role == "timestamp" else f"{number}.{role}.json"]

    def _key_sets(self, role: str) -> set[KeySet]:
        return {repository.keys[role] for repository in (self.repository, *self.published)}

    def _base(self, number: int) -> Repository:
        if number < 0:
            return (self.drafts[-1] if self.drafts else self.published[-1]).copy()
        return self.published[-1 - number % len(self.published)].copy()

    def _thief_keys(self, attack: Attack) -> tuple[str, str]:
        """Keys of the director and of the log that the thief signs with."""
        director = DIRECTOR if DIRECTOR in self.stolen else THIEF[0]
        return director, (LOG_KEY if LOG_KEY in self.stolen or not attack.hidden else THIEF[1])

    def _thief_log(self, attack: Attack) -> ModelLog:
        """A log that begins like the fleet's, or the fleet's own, which is then seen by everybody."""
        if not attack.hidden:
            return self.log
        size = len(self.log.leaves)
        log = ModelLog(*self.log.leaves[: size // 2 if attack.rewritten else size])
        self.logs.append(log)
        return log

    def _forge(self, repository: Repository, role: str) -> None:
        """Write a role's next version with every key that the thief has, and its own; name its own keys below."""
        delegated = {"root": (TARGETS, "snapshot", "timestamp"), TARGETS: (CODE, GRANTS)}.get(role, ())
        if self.thief_may(role):
            for below in delegated:
                repository.keys[below] = KeySet((f"thief-{below}-0", f"thief-{below}-1"), 2)
        own = {name for name in repository.keys[role].names if name.startswith("thief")}
        repository.write(role, self.stolen | own | set(THIEF), self.now())

    def _tell(self, action: str) -> None:
        self.story.append(action)
