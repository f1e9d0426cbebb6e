"""From a desired state that somebody sent to one that the node acts on.

Owns the order of verifying, fetching, writing and acting, for a desired state from the network and for the one that a
power cut left on disk. Where bytes come from is behind `Remote`; nothing that a remote says is believed before
`fleet.trust` and `fleet.assignment` have verified it. Never decides whether an agent may run: that is admission.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.blobs import MAX_DOCUMENT
from edge_agent.identity import agent_version
from edge_agent.orders import open_kept, open_new
from edge_agent.supervision import NOTHING, Accepted
from edge_agent.trust_store import documents_of
from fleet.bundle import open_bundle
from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.semver import is_at_least
from fleet.targets import TRUST_PATH
from fleet.trust import MAX_TARGET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from datetime import datetime

    from edge_agent.blobs import Blobs
    from edge_agent.clock import Clock
    from edge_agent.identity import Identity
    from edge_agent.journal import Journal
    from edge_agent.ledger import Ledger
    from edge_agent.trust_store import Adopted, TrustStore
    from edge_agent.witness import Witness
    from fleet.assignment import VerifiedAssignment
    from fleet.model import AssignedAgent, DesiredState
    from fleet.trust import Release

OUTDATED = frozenset({Code.SIGNATURE_INVALID, Code.PROOF_INVALID, Code.QUORUM_MISSING})
"""What a desired state fails with when its signer, or the witness policy, is newer than the adopted release."""


class Remote(Protocol):
    """Where missing bytes come from."""

    def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        """Yield (data, size of the whole blob) from an offset."""
        ...

    async def fetch_trust(self, known_root_version: int) -> Mapping[str, bytes]:
        """Return the newest trust metadata: file name -> bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """What the node keeps on disk."""

    trust: TrustStore
    ledger: Ledger
    blobs: Blobs
    witness: Witness


class Adoption:
    """Takes desired states in. One instance; its methods exclude each other.

    Args:
        identity: who the node is.
        stores: what it keeps.
        desire: makes the supervisor run an accepted desired state.
        reconsider: makes the supervisor ask admission again, since the release is newer or lost files are back.
        journal: takes events.
        clock: time.
    """

    def __init__(
        self,
        identity: Identity,
        stores: Stores,
        desire: Callable[[Accepted], None],
        reconsider: Callable[[], None],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._stores = stores
        self._desire = desire
        self._reconsider = reconsider
        self._journal = journal
        self._clock = clock
        self._turn = asyncio.Lock()
        self._kept: frozenset[str] = frozenset()
        self._acted = False
        self.witness = stores.witness
        self.trusted = asyncio.Event()
        """Set once there is a release."""
        self.node_version = agent_version()
        """Version of this program, for the smallest one that the fleet allows."""

    def boot(self) -> None:
        """Act on what is on disk, verified as of when it was accepted: expiry gates adopting, not continuing.

        What cannot be read or does not verify is set aside and told; the node then asks its coordinator again.
        """
        for load in (self._stores.ledger.load, self._stores.trust.load, self._stores.witness.load):
            try:
                load()
            except FleetError as error:
                self._journal.error(self._clock.now(), "node:boot:incomplete", error)
        if self._stores.trust.adopted is not None:
            self.trusted.set()
        self._resume()

    def release_versions(self) -> tuple[int, int]:
        """Return root version and timestamp version of the adopted release; zeros before the first."""
        adopted = self._stores.trust.adopted
        if adopted is None:
            return 0, 0
        return adopted.release.versions["root"], adopted.release.versions["timestamp"]

    def trust_digest(self) -> str:
        """Return the digest of the adopted `trust/fleet.json`; empty before the first."""
        adopted = self._stores.trust.adopted
        return "" if adopted is None else adopted.release.target(TRUST_PATH).digest

    async def refresh(self, remote: Remote) -> None:
        """Adopt the newest release; an unchanged one counts as fresh again.

        Raises:
            FleetError: TRUST_INVALID, TRUST_EXPIRED, TRUST_ROLLBACK, DEV_PROFILE_REFUSED, and what `remote` raises.
        """
        async with self._turn:
            await self._refresh(remote)

    async def accept(self, desired: DesiredState, remote: Remote) -> None:
        """Take a desired state in. Does, in this order:

            1. verify the assignment; with a newer release when the adopted one does not know its signer. Then place the
               checkpoint that proves it in what was seen of the audit log
            2. refuse a generation that is older or conflicts; refuse anything new on a node that is too old
            3. find the agents whose documents the release lists; with a newer release when the adopted one lacks some,
               which then has to know the assignment's signer, too
            4. fetch what they miss; nothing for the others, which admission refuses one by one
            5. write it to the ledger, durably
            6. hand it to the supervisor
            7. remove files that neither this desired state nor the one before it needs

        Raises:
            FleetError: the code of the step that failed; nothing has changed then but fetched files and what was seen.
        """
        async with self._turn:
            verified = await self._verify(desired, remote)  # 1
            await self._stores.witness.place(desired)
            if not self._stores.ledger.is_new(verified):  # 2
                return
            self._check_version()
            await asyncio.to_thread(self._stores.trust.ordered, verified.assignment.issued)
            listed = await self._listed(verified.assignment.agents, desired, remote)  # 3
            needed = await self._fetch(listed, remote)  # 4
            await asyncio.to_thread(self._stores.ledger.accept, verified, desired, self._now())  # 5
            self._act(verified)  # 6
            before, self._kept = self._kept, needed
            await asyncio.to_thread(self._stores.blobs.collect, needed | before)  # 7

    async def repair(self, remote: Remote) -> None:
        """Fetch what the accepted desired state needs and the node lost; then admission is asked again.

        What cannot be fetched for one agent holds up no other: the first fault is raised when all were tried.

        Raises:
            FleetError: what `remote` raises; DIGEST_MISMATCH, STORAGE_FULL.
        """
        async with self._turn:
            adopted, entry = self._stores.trust.adopted, self._stores.ledger.entry
            if adopted is None or entry is None:
                return
            verified = open_kept(entry.desired, adopted, self._identity, entry.accepted_at)
            needed: set[str] = set()
            faults: list[FleetError] = []
            for agent in verified.assignment.agents:
                if _lists(adopted, agent):
                    try:
                        needed |= await self._fetch((agent,), remote, verify=True)
                    except FleetError as error:
                        faults.append(error)
            if faults:
                raise faults[0]
            self._kept = frozenset(needed)
            self._reconsider()

    def _now(self) -> datetime:
        return self._stores.trust.floor(self._clock.now())

    def _check_version(self) -> None:
        """Refuse what is new on a node that is older than the fleet allows; what runs goes on.

        Raises:
            FleetError: NODE_TOO_OLD.
        """
        adopted = self._stores.trust.adopted
        least = "" if adopted is None else adopted.fleet.min_node_version
        if least and not is_at_least(self.node_version, least):
            raise FleetError(
                Code.NODE_TOO_OLD,
                f"edge-agent {self.node_version} is older than {least}",
                version=self.node_version,
                min_node_version=least,
            )

    async def _verify(self, desired: DesiredState, remote: Remote) -> VerifiedAssignment:
        adopted = self._stores.trust.adopted or await self._refresh(remote)
        try:
            return open_new(desired, adopted, self._identity, self._now())
        except FleetError as error:
            if error.code not in OUTDATED:
                raise
        adopted = await self._refresh(remote)
        return open_new(desired, adopted, self._identity, self._now())

    async def _listed(
        self, agents: tuple[AssignedAgent, ...], desired: DesiredState, remote: Remote
    ) -> tuple[AssignedAgent, ...]:
        """Return the agents whose documents are listed: a withdrawn grant must not hold up the others of the node."""
        adopted = self._stores.trust.adopted
        if adopted is None or not all(_lists(adopted, agent) for agent in agents):
            adopted = await self._refresh(remote)
            # What the older release let pass is not in force yet, and the newer one may have withdrawn the very key.
            open_new(desired, adopted, self._identity, self._now())
            self._check_version()
        return tuple(agent for agent in agents if _lists(adopted, agent))

    async def _refresh(self, remote: Remote) -> Adopted:
        trust, before = self._stores.trust, self._stores.trust.adopted
        files = await remote.fetch_trust(before.release.versions["root"] if before is not None else 0)
        now = self._now()
        release = await asyncio.to_thread(trust.check, files, now)
        documents = await self._documents(release, {} if before is None else before.documents, remote)
        adopted = await asyncio.to_thread(trust.adopt, files, documents, now)
        if before is None or before.release.versions != adopted.release.versions:
            version = str(adopted.release.versions["timestamp"])
            self._journal.event(now, "", "trust:release:adopted", f"timestamp version {version}", version=version)
        self.trusted.set()
        self._recall(adopted)
        self._resume()
        self._reconsider()
        return adopted

    async def _documents(self, release: Release, kept: Mapping[str, bytes], remote: Remote) -> Mapping[str, bytes]:
        """Return the documents that every node obeys; those that did not change are not fetched again."""
        documents: dict[str, bytes] = {}
        for target in documents_of(release):
            if target.path in kept and digest_of(kept[target.path]) == target.digest:
                documents[target.path] = kept[target.path]
                continue
            await self._stores.blobs.store(target.digest, remote.fetch_blob, target.length)
            documents[target.path] = self._stores.blobs.read(target.digest)
        return documents

    def _recall(self, adopted: Adopted) -> None:
        """Stop everything at once if the order in force was signed, or proven, by a key that is revoked by now.

        Its number stays in force: no older order comes back by it.
        """
        entry = self._stores.ledger.entry
        if not self._acted or entry is None:
            return
        try:
            open_kept(entry.desired, adopted, self._identity, entry.accepted_at)
        except FleetError as error:
            if error.code is Code.REVOKED:
                self._acted = False
                self._journal.error(self._clock.now(), "assignment:desired:recalled", error)
                self._desire(NOTHING)

    async def _fetch(self, agents: Iterable[AssignedAgent], remote: Remote, *, verify: bool = False) -> frozenset[str]:
        """Fetch everything that the agents need and return the digests; `verify` hashes what is there already."""
        needed: set[str] = set()
        for agent in (part for whole in agents for part in whole.parts):
            for digest in (agent.bundle.digest, agent.grant.digest):
                await self._obtain(digest, MAX_TARGET, remote, verify=verify)
                needed.add(digest)
            parts = await self._parts(agent.bundle.digest, remote)
            for digest, size in sorted(parts.items()):
                await self._obtain(digest, size, remote, verify=verify)
            needed |= parts.keys()
        return frozenset(needed)

    async def _obtain(self, digest: str, max_bytes: int, remote: Remote, *, verify: bool) -> None:
        blobs = self._stores.blobs
        if verify:
            # A blob that is missing or does not match is removed by the check, and fetched by the next line.
            with suppress(FleetError):
                await asyncio.to_thread(blobs.path, digest)
        await blobs.store(digest, remote.fetch_blob, max_bytes)

    async def _parts(self, digest: str, remote: Remote) -> dict[str, int]:
        """Digests and sizes of everything below a bundle's index; fetches the documents that name them."""
        blobs = self._stores.blobs
        while True:
            try:
                bundle = open_bundle(blobs.read(digest), blobs.read)
            except FleetError as error:
                lacking = str(error.detail.get("digest", ""))
                if error.code not in (Code.BLOB_MISSING, Code.BLOB_CORRUPT) or not lacking:
                    raise
                await blobs.store(lacking, remote.fetch_blob, MAX_DOCUMENT)
            else:
                return {blob.digest: blob.size for blob in bundle.blobs}

    def _act(self, verified: VerifiedAssignment) -> None:
        assignment = verified.assignment
        self._acted = True
        self._journal.event(
            self._clock.now(),
            "",
            "assignment:desired:accepted",
            f"generation {assignment.generation}",
            generation=str(assignment.generation),
        )
        self._desire(Accepted(assignment.generation, verified.digest, assignment.agents))

    def _resume(self) -> None:
        """Act on the ledger, once there is a release to verify it with."""
        adopted, entry = self._stores.trust.adopted, self._stores.ledger.entry
        if self._acted or adopted is None or entry is None:
            return
        try:
            verified = open_kept(entry.desired, adopted, self._identity, entry.accepted_at)
        except FleetError as error:
            if error.code is not Code.REVOKED:  # the number of a recalled order stays in force
                self._stores.ledger.discard()
            self._journal.error(self._clock.now(), "assignment:ledger:refused", error)
            return
        self._act(verified)


def _lists(adopted: Adopted, agent: AssignedAgent) -> bool:
    documents = adopted.release.documents
    return all(
        ref.path in documents and documents[ref.path].digest == ref.digest for ref in (agent.bundle, agent.grant)
    )
