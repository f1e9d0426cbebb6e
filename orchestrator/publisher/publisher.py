"""What the publisher does: take completely signed changes from the inbox, publish them, and keep the release fresh.

Owns: the checks before snapshot and timestamp are signed, and what becomes of each file. Holds no key but those two.
Reads no clock of its own and never sleeps: the program calls `tick`.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.floors import replaced
from fleet.release import BEFORE_EXPIRY, ONLINE_ROLES, completed, role_states
from fleet.release import publish as sign_release
from fleet.revocations import parse_revocations
from fleet.targets import POLICY_ROLE, REVOCATIONS_PATH, TRUST_PATH
from fleet.trust import open_fleet_trust, open_release, parse_fleet_trust
from fleet.x509 import fingerprints
from orchestrator.cli.trust import (
    TrustDirectory,
    fetch_document,
    publish,
    publisher_keys,
    read_staged,
    synchronise,
)
from orchestrator.files import read_named
from orchestrator.policies import check_grants, check_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from fleet.release import RoleKeys, StagedChange
    from fleet.trust import Release, Target
    from orchestrator.cli.client import Client

MAX_CERTIFICATES = 256 * 1024
"""Bytes of the file with the node authorities."""

PUBLISHED, REFUSED = "published", "refused"
"""Folders in the inbox where files go."""


class Fate(StrEnum):
    """What became of something that the publisher looked at."""

    PUBLISHED = "published"
    REFUSED = "refused"
    WAITING = "waiting"
    REFRESHED = "refreshed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that a look at the inbox led to.

    Attributes:
        fate: what became of it.
        what: name of the file, or the roles that were signed again.
        error: why, where it was refused or waits.
    """

    fate: Fate
    what: str
    error: FleetError | None = None


class Publisher:
    """One publisher.

    Args:
        directory: its trust directory.
        inbox: folder of staged changes; made if it is not there.
        connect: opens a connection to the coordinator.
        now: the clock.
        name: who publishes, for guardrails.
        ca: file with the node authorities that the coordinator is checked against; follows what is published.
    """

    def __init__(
        self,
        directory: TrustDirectory,
        inbox: Path,
        connect: Callable[[], AbstractContextManager[Client]],
        now: Callable[[], datetime],
        name: str,
        ca: Path,
    ) -> None:
        self._ca = ca
        self._directory = directory
        self._inbox = inbox
        self._connect = connect
        self._now = now
        self._name = name
        self._seen: dict[Path, tuple[int, int]] = {}
        for folder in (inbox, inbox / PUBLISHED, inbox / REFUSED):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def check_keys(self) -> None:
        """Refuse to run with keys that belong elsewhere: a publisher that is captured must not hold more.

        Raises:
            FleetError: CONFIG_INVALID.
        """
        release = self._local()
        if publisher_keys(self._directory, release.files) is None:
            raise FleetError(
                Code.CONFIG_INVALID,
                "the keys of snapshot and timestamp are not here",
                place=str(self._directory.path / "keys"),
                remedy="Copy the folder `publisher` that `fleetctl trust promote-to-production` made.",
            )
        here = {signer.public for signer in self._directory.keys.signers()}
        more = sorted(r for r, keys in release.role_keys.items() if r not in ONLINE_ROLES and not keys.isdisjoint(here))
        if more:
            raise FleetError(
                Code.CONFIG_INVALID,
                f"keys of {', '.join(more)} are here",
                place=str(self._directory.path / "keys"),
                remedy="Move them to the people who hold these roles; a publisher has snapshot and timestamp only.",
            )

    def tick(self) -> tuple[Outcome, ...]:
        """Look once: publish what is complete in the inbox, and sign again what is due.

        A file is taken when it has not changed since the look before, so that none is read half copied. When the
        coordinator cannot be reached everything stays where it is.

        Raises:
            FleetError: the coordinator cannot be reached, or what it offers does not verify.
        """
        settled = [file for file in sorted(self._inbox.glob("*.json")) if self._settled(file)]
        due = self._due(self._local())
        if not settled and not due:
            return ()
        with self._connect() as client:
            outcomes = [self._take(client, file) for file in settled]
            outcomes += self._refresh(client)
        return tuple(outcomes)

    def _local(self) -> Release:
        files = self._directory.files()
        return open_release(files, root=self._directory.root, now=BEFORE_EXPIRY, allow_dev=True)

    def _settled(self, file: Path) -> bool:
        info = file.lstat()
        if not stat.S_ISREG(info.st_mode):  # a link could lead anywhere
            return False
        state = (info.st_size, info.st_mtime_ns)
        before, self._seen[file] = self._seen.get(file), state
        return before == state

    def _take(self, client: Client, file: Path) -> Outcome:
        """Publish one file. Checks, in this order:

            1. The file verifies from the pinned root (`fleet.release.parse_staged`).
            2. It is on top of the newest release, and has every signature (`fleet.release.completed`).
            3. With snapshot and timestamp it verifies as a node would verify it, after the release before it.
            4. The fleet's own document is signed and valid, and revocations only grow.
            5. The policies can be read, and no guardrail refuses a new grant; what cannot be asked is a refusal.

        Nothing leaves this machine before all of it holds.
        """
        try:
            release = synchronise(self._directory, client, BEFORE_EXPIRY)
            staged = read_staged(self._directory, file)  # 1
            if _is_published(staged, release):  # the answer to an earlier attempt was lost
                self._follow(staged)
                return self._put(file, PUBLISHED, Outcome(Fate.PUBLISHED, file.name))
            files = self._checked(client, staged, release)
            publish(self._directory, client, files, staged.documents, self._now())
            self._follow(staged)
        except FleetError as error:
            if error.row.retryable and error.code is not Code.GENERATION_CONFLICT:
                return Outcome(Fate.WAITING, file.name, error)
            return self._put(file, REFUSED, Outcome(Fate.REFUSED, file.name, error))
        return self._put(file, PUBLISHED, Outcome(Fate.PUBLISHED, file.name))

    def _follow(self, staged: StagedChange) -> None:
        """Check the coordinator by the node authorities that are listed from now on (see `trust rotate node-ca`).

        A list without any of those that are known here is not about this coordinator, and is not followed.
        """
        if TRUST_PATH not in staged.documents:
            return
        pem = parse_fleet_trust(staged.documents[TRUST_PATH]).node_ca_pem
        listed, known = fingerprints(pem), fingerprints(read_named(self._ca, MAX_CERTIFICATES))
        if listed != known and not listed.isdisjoint(known):
            TrustDirectory(self._ca.parent).write(self._ca.name, pem)

    def _checked(self, client: Client, staged: StagedChange, release: Release) -> Mapping[str, bytes]:
        merged = completed(staged, release)  # 2
        files = sign_release(merged, self._keys(merged), self._now())
        new = open_release(  # 3
            files, root=self._directory.root, now=self._now(), previous=release.files, allow_dev=True
        )

        def read(target: Target) -> bytes:
            if target.path in staged.documents:
                return target.check(staged.documents[target.path])
            return fetch_document(self._directory, client, new, target.path)

        open_fleet_trust(new, read(new.target(TRUST_PATH)))  # 4
        if REVOCATIONS_PATH in new.documents:
            listed = parse_revocations(read(new.target(REVOCATIONS_PATH)))
            if REVOCATIONS_PATH in release.documents and not replaced(POLICY_ROLE, new, release):
                before = fetch_document(self._directory, client, release, REVOCATIONS_PATH)
                listed.check_kept(parse_revocations(before))
        check_policies(new, read)  # 5
        check_grants(new, release.documents, read, self._name)
        return files

    def _refresh(self, client: Client) -> list[Outcome]:
        release = synchronise(self._directory, client, BEFORE_EXPIRY)
        due = self._due(release)
        if not due:
            return []
        files = sign_release(release.files, self._keys(release.files), self._now())
        publish(self._directory, client, files, {}, self._now())
        return [Outcome(Fate.REFRESHED, ", ".join(due))]

    def _due(self, release: Release) -> list[str]:
        """Return the roles of this publisher that have less than a third of their lifetime left."""
        return [s.role for s in role_states(release) if s.role in ONLINE_ROLES and s.due <= self._now()]

    def _keys(self, files: Mapping[str, bytes]) -> RoleKeys:
        keys = publisher_keys(self._directory, files)
        if keys is None:
            raise FleetError(
                Code.CONFIG_INVALID,
                "the change names keys of snapshot and timestamp that are not here",
                place=str(self._directory.path / "keys"),
                remedy="Put the new keys into keys/ of the publisher, and the file into the inbox again.",
            )
        return keys

    def _put(self, file: Path, folder: str, outcome: Outcome) -> Outcome:
        self._seen.pop(file, None)
        target = self._inbox / folder / file.name
        file.replace(target)
        reason = target.with_suffix(".error.json")
        reason.unlink(missing_ok=True)
        if outcome.error is not None:
            error = outcome.error
            reason.write_bytes(dump_json({"code": error.code, "reason": str(error), "remedy": error.remedy}))
        return outcome


def _is_published(staged: StagedChange, release: Release) -> bool:
    return all(release.files.get(name) == data for name, data in staged.files.items())
