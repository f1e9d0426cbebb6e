"""What honest people do: developers, approvers, those who keep the keys and the policies, publisher, coordinator."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from fleet.revocations import Kind
from fleet.targets import (
    BREAK_GLASS_PATH,
    BREAK_GLASS_ROLE,
    REVOCATIONS_PATH,
    TRUST_PATH,
    WITNESS_POLICY_PATH,
    role_of,
)
from tests.model.documents import Bounds, Grant
from tests.model.repository import CODE, DELEGATED, GRANTS, POLICY, TARGETS, KeySet
from tests.model.world import QUORUM, START, WITNESSES, WRITING_ORDER, Seals, World


class People(World):
    """Everybody but the thief."""

    def develop(self, agent: str) -> None:
        """A developer signs the next version of an agent's bundle."""
        name = agent.partition("/")[2]
        version = f"1.{len(self.bundles)}.0"
        self.tell(f"a developer signs {name} {version}")
        self.repository.put(*self.documents.bundle(name, version, evil=False))
        self._write(CODE)

    def approve(self, agent: str, buckets: frozenset[str], site: str, approvers: frozenset[int]) -> None:
        """Some approvers sign an agent's next grant; with too few it stays a draft, which a thief may find."""
        names = [self.repository.keys[GRANTS].names[number] for number in sorted(approvers)]
        self.tell(f"{' and '.join(names)} sign a grant of {sorted(buckets)} for {agent} at {site or 'any site'}")
        labels = {"site": site} if site else {}
        path, document = self.documents.grant(Grant(agent, agent.partition("/")[2], labels, buckets, evil=False))
        complete = self.repository.keys[GRANTS].met_by(names)
        repository = self.repository if complete else self.repository.copy()
        repository.put(path, document)
        repository.write(GRANTS, names, self.now())
        if not complete:
            self.drafts.append(repository)

    def allow_emergencies(self, buckets: frozenset[str], hours: int) -> None:
        """The policy role says what one person may approve in an emergency."""
        self.tell(f"emergency grants of {sorted(buckets)} are allowed for {hours} hours")
        bounds = Bounds(buckets, timedelta(hours=hours))
        self.repository.put(BREAK_GLASS_PATH, self.documents.emergency_bounds(bounds))
        self._write(POLICY)

    def break_glass(self, agent: str, buckets: frozenset[str], hours: int) -> None:
        """One person signs an emergency grant."""
        self.tell(f"one person signs an emergency grant of {sorted(buckets)} for {agent} and {hours} hours")
        self.repository.put(*self.documents.grant(self.emergency_grant(agent, buckets, hours, evil=False)))
        self._write(BREAK_GLASS_ROLE)

    def withdraw(self, path: str) -> None:
        """The responsible people withdraw a document."""
        self.tell(f"{path} is withdrawn")
        self.repository.withdraw(path)
        self._write(role_of(path) or "")

    def rotate(self, role: str) -> None:
        """The keys of a role are replaced, and what they signed is signed again."""
        self.tell(f"the keys of {role} are rotated")
        repository = self.repository
        before, number = dict(repository.keys), self._rotations()
        fresh = tuple(f"{name.partition('+')[0]}+{number}" for name in before[role].names)
        repository.keys[role] = KeySet(fresh, before[role].threshold)
        if role in DELEGATED:
            self._write(TARGETS)
        else:
            repository.write("root", {*before["root"].names, *repository.keys["root"].names}, self.now())
        if role in repository.listings:
            repository.write(role, fresh, self.now())

    def succeed(self, *, log: bool, overlapping: bool) -> None:
        """The director's key, or the log's, gets a successor; for a while both may count."""
        what = "the log" if log else "the director"
        self.tell(f"the key of {what} is rotated{', and the old one counts for a while' if overlapping else ''}")
        keys = self.trust_keys.logs if log else self.trust_keys.directors
        fresh = (*(keys[-1:] if overlapping else ()), f"{keys[-1].partition('+')[0]}+{self._rotations()}")
        self.trust_keys = replace(self.trust_keys, logs=fresh) if log else replace(self.trust_keys, directors=fresh)
        self._write_trust()

    def revoke_document(self, number: int) -> None:
        """The policy role revokes a bundle or a grant, whoever made it."""
        documents = [*((Kind.BUNDLE, digest) for digest in self.bundles), *((Kind.GRANT, d) for d in self.grants)]
        if documents:
            self._revoke(*sorted(documents)[number % len(documents)])

    def revoke_key(self, *, log: bool) -> None:
        """The policy role revokes the key of the director or of the log, which gets a successor in the same release."""
        name = (self.trust_keys.logs if log else self.trust_keys.directors)[-1]
        self.succeed(log=log, overlapping=False)
        self._revoke(Kind.LOG_KEY if log else Kind.DIRECTOR_KEY, name)

    def ask_for_witnesses(self, *, wanted: bool) -> None:
        """The policy role asks for a quorum of witnesses from now on, or for none."""
        self.tell("a quorum of witnesses is asked for" if wanted else "no witness is asked for any more")
        if wanted:
            self.repository.put(WITNESS_POLICY_PATH, self.documents.witness_policy(QUORUM))
        else:
            self.repository.withdraw(WITNESS_POLICY_PATH)
        self._write(POLICY)

    def publish(self) -> None:
        """The publisher signs snapshot and timestamp; expired roles are signed again by their owners before."""
        self.tell("the publisher publishes")
        for role in WRITING_ORDER:
            if self.repository.ledger.written(self._newest(role)).expires < self.now() + timedelta(days=30):
                self._write(role)
        for role in ("snapshot", "timestamp"):
            self._write(role)
        self.published.append(self.repository.copy())

    def deploy(self, node: str, agents: frozenset[str], absent: int = 0, *, emergency: bool = False) -> None:
        """The director orders the newest published bundles and grants of agents, and the coordinator delivers.

        Args:
            node: machine that it is delivered to; the order is for the present enrolment of its name.
            agents: what shall run.
            absent: witnesses that do not answer.
            emergency: under emergency grants.
        """
        missing = f", and {absent} witnesses are absent" if absent else ""
        self.tell(f"the coordinator orders {node} to run {' and '.join(sorted(agents)) or 'nothing'}{missing}")
        found = partial(self.spec, self.published[-1], emergency=emergency)
        specs = [spec for agent in sorted(agents) if (spec := found(agent)) is not None]
        machine = self.machine(node)
        epoch = self.epochs[machine.name]
        entries = [each.ledger.entry for each in self.nodes.values() if each.name == machine.name]
        number = max((entry.generation for entry in entries if entry is not None and entry.epoch == epoch), default=0)
        seals = Seals(self.trust_keys.directors[-1], self.trust_keys.logs, frozenset(WITNESSES[absent:]))
        order = self.seal(self.assignment(machine.name, epoch, number + 1, specs), seals, self.log, machine)
        self.deliver(machine, self.mirror(self.published[-1]), order.desired)

    def refresh(self, node: str) -> None:
        """A node asks its coordinator for the newest release."""
        self.tell(f"{node} refreshes")
        self.deliver(self.machine(node), self.mirror(self.published[-1]), None)

    def _revoke(self, kind: Kind, subject: str) -> None:
        self.tell(f"the {kind} {subject} is revoked")
        self.revoked |= {(kind, subject)}
        self.repository.put(REVOCATIONS_PATH, self.documents.revocations(self.revoked, START))
        self._write(POLICY)

    def _write_trust(self) -> None:
        self.repository.put(TRUST_PATH, self.documents.trust(self.trust_keys))
        self._write(TARGETS)

    def _write(self, role: str) -> None:
        """Everybody who may sign for a role does."""
        self.repository.write(role, self.repository.keys[role].names, self.now())

    def emergency_grant(self, agent: str, buckets: frozenset[str], hours: int, *, evil: bool) -> Grant:
        """An emergency grant as of now, not yet written."""
        begin = self.now().replace(microsecond=0)
        return Grant(agent, agent.partition("/")[2], {}, buckets, evil, begin, timedelta(hours=hours))

    def _rotations(self) -> int:
        return sum("rotated" in line for line in self.story)

    def _newest(self, role: str) -> bytes:
        files, number = self.repository.files, self.repository.versions[role]
        return files["timestamp.json" if role == "timestamp" else f"{number}.{role}.json"]
