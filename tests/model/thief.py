"""What a thief of any keys does, on a wire that is the thief's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from fleet.targets import BREAK_GLASS_PATH, REVOCATIONS_PATH, TRUST_PATH, WITNESS_POLICY_PATH
from tests.model.documents import Bounds, Grant, TrustKeys
from tests.model.log import ModelLog
from tests.model.people import People
from tests.model.repository import CODE, DELEGATED, GRANTS, KEYS, POLICY, TARGETS, THIEF, KeySet, Repository
from tests.model.world import AGENTS, DIRECTOR, EVERYTHING, LOG_KEY, QUORUM, START, WITNESSES, WRITING_ORDER, Seals


@dataclass(frozen=True)
class Attack:
    """What the thief tries at once; each part is tried with whatever keys are stolen.

    Attributes:
        base: which published repository, from the newest backwards, is worked on; -1: the newest draft that lacks
            approvers.
        layers: roles that the thief writes anew.
        forged: of "bundle", "grant" and "emergency", what the thief makes itself; the last is a grant, too.
        dropped: of "revocations" and "witnesses", the policies that the thief leaves out; "quorum": the thief's own
            keys are the witnesses; "bounds": an emergency grant may give everything for a day.
        enlisted: name the thief's own keys as those of the director and the log.
        crossed: list the forged grant among the bundles.
        hidden: prove the order in a log of the thief's own, which begins like the fleet's.
        rewritten: and which leaves out the newer half of it.
        swapped: serve other bytes for the bundle.
        elsewhere: sign the order for the other node.
        ahead: generations above the node's.
        buckets: what the thief's emergency grant gives; for so many `hours`.
        pushed: send the order alone, and the release when the node asks for it.
    """

    base: int = 0
    layers: frozenset[str] = frozenset(WRITING_ORDER)
    forged: frozenset[str] = frozenset({"bundle", "grant"})
    dropped: frozenset[str] = frozenset()
    enlisted: bool = False
    crossed: bool = False
    hidden: bool = True
    rewritten: bool = False
    swapped: bool = False
    elsewhere: bool = False
    ahead: int = 1
    buckets: frozenset[str] = EVERYTHING
    hours: int = 4
    pushed: bool = False


class Thief(People):
    """Everybody, and the thief among them."""

    def steal(self, name: str) -> None:
        """Copy a key as it is now."""
        role = next((role for role, names in KEYS.items() if name in names), "")
        if role:
            name = self.repository.keys[role].names[KEYS[role].index(name)]
        name = {DIRECTOR: self.trust_keys.directors[-1], LOG_KEY: self.trust_keys.logs[-1]}.get(name, name)
        self.tell(f"the thief steals {name}")
        self.stolen.add(name)

    def thief_may(self, role: str) -> bool:
        """Whether the stolen keys are enough for a role, for the log, for a quorum, or for who names such keys."""
        above = {"log": ("root", TARGETS), TARGETS: ("root", TARGETS), "witnesses": ("root", TARGETS, POLICY)}
        if role == "log" and any(name.startswith("log-") for name in self.stolen):
            return True
        if role == "witnesses" and QUORUM.met_by(self.stolen):
            return True
        deciding = above.get(role, ("root", TARGETS, role))
        return any(written.met_by(self.stolen) for each in deciding for written in self._key_sets(each))

    def attack(self, node: str, attack: Attack) -> None:
        """Forge what can be forged with the stolen keys, and serve it with an order to run it."""
        self.tell(f"the thief has {', '.join(sorted(self.stolen)) or 'no key'} and serves {node}: {attack}")
        victim = self.machine(node)
        repository = self._base(attack.base)
        agent = AGENTS[0]
        if "bundle" in attack.forged:
            repository.put(*self.documents.bundle("one", f"1.{len(self.bundles)}.0", evil=True))
        if "grant" in attack.forged:
            path, document = self.documents.grant(Grant(agent, "one", {}, EVERYTHING, evil=True))
            repository.put(path, document)
            if attack.crossed:
                repository.listings[CODE][path] = repository.listings[GRANTS][path]
        if "emergency" in attack.forged:
            repository.put(*self.documents.grant(self.emergency_grant(agent, attack.buckets, attack.hours, evil=True)))
        self._forge_policies(repository, attack)
        seals = self._seals(attack)
        for role in WRITING_ORDER:
            if role in attack.layers:
                self._forge(repository, role)
        spec = self.spec(repository, agent, emergency="emergency" in attack.forged)
        if spec is None:
            return
        log = self._log(attack)
        target = victim
        if attack.elsewhere:
            target = next(other for other in self.nodes.values() if other.name != victim.name)
        entry = target.ledger.entry
        number = max(1, (entry.generation if entry is not None else 0) + attack.ahead)
        order = self.seal(self.assignment(target.name, target.identity.epoch, number, [spec]), seals, log, victim)
        mirror = self.mirror(repository)
        if attack.swapped:
            component = self.bundles[spec.bundle.digest].component
            mirror = replace(mirror, swapped=frozenset({spec.bundle.digest, component}))
        self.deliver(victim, mirror, order.desired, pushed=attack.pushed)

    def replay(self, node: str, release: int, order: int) -> None:
        """Serve something that was published before, with an order that was signed before for anyone."""
        self.tell(f"the thief replays release {release} and order {order} to {node}")
        repository = self.published[release % len(self.published)]
        desired = self.orders[order % len(self.orders)].desired if self.orders else None
        self.deliver(self.machine(node), self.mirror(repository), desired)

    def _key_sets(self, role: str) -> set[KeySet]:
        return {repository.keys[role] for repository in (self.repository, *self.published)}

    def _base(self, number: int) -> Repository:
        if number < 0:
            return (self.drafts[-1] if self.drafts else self.published[-1]).copy()
        return self.published[-1 - number % len(self.published)].copy()

    def _seals(self, attack: Attack) -> Seals:
        """Keys that the thief seals an order with: the newest that were stolen, else some that nobody knows."""
        directors = [name for name in self.stolen if name.startswith("director-")]
        logs = {name for name in self.stolen if name.startswith("log-")}
        if not attack.hidden:  # whoever writes into the log itself has it signed and seen by everybody
            witnesses, logs = frozenset(WITNESSES), logs | {*self.trust_keys.logs}
        else:
            witnesses = frozenset(self.stolen.intersection(WITNESSES)) | frozenset(THIEF)
        if attack.enlisted:
            directors, logs = [THIEF[0]], logs | {THIEF[1]}
        return Seals(max(directors, default=THIEF[0], key=_age), tuple(sorted(logs)) or THIEF[1:], witnesses)

    def _log(self, attack: Attack) -> ModelLog:
        """A log that begins like the fleet's, or the fleet's own, which is then seen by everybody."""
        if not attack.hidden:
            return self.log
        size = len(self.log.leaves)
        log = ModelLog(*self.log.leaves[: size // 2 if attack.rewritten else size])
        self.logs.append(log)
        return log

    def _forge_policies(self, repository: Repository, attack: Attack) -> None:
        if "revocations" in attack.dropped:
            repository.put(REVOCATIONS_PATH, self.documents.revocations((), START))
        if "witnesses" in attack.dropped:
            repository.withdraw(WITNESS_POLICY_PATH)
        if "quorum" in attack.dropped:
            repository.put(WITNESS_POLICY_PATH, self.documents.witness_policy(KeySet(THIEF, 1)))
        if "bounds" in attack.dropped:
            bounds = Bounds(EVERYTHING, timedelta(hours=24))
            repository.put(BREAK_GLASS_PATH, self.documents.emergency_bounds(bounds))
        if attack.enlisted:
            repository.put(TRUST_PATH, self.documents.trust(TrustKeys(THIEF[:1], THIEF[1:])))

    def _forge(self, repository: Repository, role: str) -> None:
        """Write a role's next version with every key that the thief has, and its own; name its own keys below."""
        delegated = {"root": (TARGETS, "snapshot", "timestamp"), TARGETS: DELEGATED}.get(role, ())
        if self.thief_may(role):
            for below in delegated:
                repository.keys[below] = KeySet((f"thief-{below}-0", f"thief-{below}-1"), 2)
        own = {name for name in repository.keys[role].names if name.startswith("thief")}
        repository.write(role, self.stolen | own | set(THIEF), self.now())


def _age(name: str) -> int:
    """Number of a key among its predecessors."""
    return int(name.partition("+")[2] or 0)
