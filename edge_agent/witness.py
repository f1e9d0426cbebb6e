"""The node as a witness of the audit log.

Owns: `witness/` of the data directory and the key that cosigns. What was seen of the log is on disk before anything is
signed or acted on, so no restart forgets it. Once the log has shown two histories, or one that lost its end, the node
keeps both notes as evidence and takes no new order and cosigns nothing until a person who looked at it removes the
evidence, or until the holders of the targets keys have closed that log (`fleet.logs`); what runs goes on. Never talks
to the network, and never decides how many witnesses are enough.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.disk import replace_file
from fleet.certificates import WitnessCertificate, sign_witness
from fleet.checkpoint import MAX_NOTE, KeyKind, VerifierKey, open_checkpoint, parse_proof
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.logs import origin_of
from fleet.sighting import MAX_BYTES, Sighting, advance, decode_sighting, encode_sighting, follow, place
from fleet.signing import SigningKey
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.witnesses import cosign, witness_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from edge_agent.clock import Clock
    from edge_agent.disk import Disk
    from edge_agent.identity import Identity
    from edge_agent.journal import Journal
    from fleet.model import DesiredState
    from fleet.signing import Signer
    from fleet.trust import FleetTrust

SEEN, EVIDENCE = "seen.json", "evidence.json"
"""Files in `witness/`."""

CLOSED_EVIDENCE = "evidence.closed.json"
"""Where the evidence goes once its log is closed."""

EVIDENCE_SCHEMA = "fleet.evidence/v1"
MAX_EVIDENCE = 4 * MAX_NOTE
MAX_KEY = 4 * 1024


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two notes of one log that cannot both be true, both signed by it, and when the second came."""

    at: datetime
    reason: str
    seen: bytes
    shown: bytes

    @property
    def origin(self) -> str:
        """Name of the log, as the note says that came second."""
        return self.shown.partition(b"\n")[0].decode()


@dataclass(frozen=True, slots=True)
class Offered:
    """A checkpoint that the node is asked to cosign, and where its proof begins."""

    note: bytes
    old_size: int
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the node says to an offer: a signature line, or what it has seen instead, or why it never will."""

    size: int
    seen: int
    line: str = ""
    error: Code | None = None


class Witness:
    """Verifies, remembers and cosigns. Call `load` once before anything else.

    Args:
        disk: the file operations.
        data_dir: the node's data directory.
        identity: who the node is.
        fleet: returns the fleet's keys of the adopted release; None before the first.
        journal: takes events.
        clock: time.
    """

    def __init__(
        self,
        disk: Disk,
        data_dir: Path,
        identity: Identity,
        fleet: Callable[[], FleetTrust | None],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._disk = disk
        self._seen_path = data_dir / "witness" / SEEN
        self._evidence_path = data_dir / "witness" / EVIDENCE
        self._key_path = data_dir / "keys" / "witness.pem"
        self._identity = identity
        self._fleet = fleet
        self._journal = journal
        self._clock = clock
        self._turn = asyncio.Lock()
        self._seen = Sighting()
        self._evidence: Evidence | None = None
        self._fault: FleetError | None = None
        self.seed: Callable[[], bytes] | None = None
        """Returns the seed of the key that cosigns, where a chip keeps it. A node with the key in a file goes on with
        that one: policy names witnesses by key."""

    @property
    def seen(self) -> int:
        """Leaves of the largest log that was verified."""
        return self._seen.size

    @property
    def evidence(self) -> Evidence | None:
        """What keeps the node from new orders, if anything."""
        return self._evidence if self._evidence is not None and self._still_counts(self._evidence) else None

    def load(self) -> None:
        """Read what was seen before.

        Raises:
            FleetError: STATE_CORRUPT when a file cannot be read back. Nothing new is taken then, since a node must not
                forget by itself what it saw.
        """
        try:
            self._evidence = read_evidence(self._disk, self._evidence_path)
            if self._disk.size(self._seen_path) is not None:
                self._seen = decode_sighting(self._disk.read(self._seen_path, 0, MAX_BYTES + 1))
        except FleetError as error:
            self._fault = FleetError(error.code, "what was seen of the audit log is lost", place=str(self._seen_path))
            raise self._fault from error

    def certificate(self, bound_key: Signer) -> bytes:
        """Return the node's word for its witness key, signed by the bound key.

        Raises:
            FleetError: STORAGE_FULL when the key is made just now; CONFIG_INVALID for a file that holds something else;
                KEY_UNAVAILABLE without the chip that keeps it.
        """
        identity = self._identity
        name = witness_name(identity.fleet, identity.node)
        key = VerifierKey(name, self._key().public, KeyKind.COSIGNER)
        return sign_witness(WitnessCertificate(identity.fleet, identity.node, identity.epoch, key), bound_key)

    async def answer(self, offered: Offered) -> Answer:
        """Verify a checkpoint, remember it, and cosign it (c2sp.org/tlog-witness, "add-checkpoint").

        1. Nothing is cosigned while there is evidence against the log.
        2. A key of the log, as the adopted release has them, signed the checkpoint. Before that, where the release says
           that the log that was seen has ended, the node goes over to the next one (`fleet.sighting.follow`).
        3. The proof begins where the node is; where it does not, the answer says where the node is.
        4. The checkpoint is no smaller than what was seen, and begins with it; else there is evidence now.
        5. It is remembered durably before it is signed.

        Raises:
            FleetError: TRUST_INVALID before a release is adopted; PROOF_INVALID for rule 2; STORAGE_FULL.
        """
        async with self._turn:
            if self._fault is not None:
                raise self._fault
            vkeys = (await self._follow()).log_vkeys
            size = open_checkpoint(offered.note, vkeys).size  # 2
            if self._evidence is not None:  # 1
                return Answer(size, self.seen, error=Code.LOG_FORKED)
            if offered.old_size != self.seen:  # 3
                return Answer(size, self.seen)
            try:
                later = advance(self._seen, offered.note, vkeys, offered.consistency)  # 4
            except FleetError as error:
                if error.code is not Code.LOG_FORKED:
                    raise
                await self._accuse(error, offered.note)
                return Answer(size, self.seen, error=Code.LOG_FORKED)
            await self._keep(later)  # 5
            now = int(self._clock.now().timestamp())
            return Answer(size, self.seen, cosign(offered.note, self._name, self._key(), now))

    async def place(self, desired: DesiredState) -> None:
        """Place the checkpoint of an order in what was seen of the log; see `fleet.sighting.place`.

        Raises:
            FleetError: LOG_FORKED, also while there is evidence from before; PROOF_INVALID, TRUST_INVALID,
                STORAGE_FULL.
        """
        async with self._turn:
            self.check()
            vkeys = (await self._follow()).log_vkeys
            note = parse_proof(desired.proof).note
            try:
                later = place(self._seen, note, vkeys, desired.base, desired.consistency)
            except FleetError as error:
                if error.code is Code.LOG_FORKED:
                    await self._accuse(error, note)
                raise
            await self._keep(later)

    def check(self) -> None:
        """Refuse what is new while there is evidence against the log.

        Raises:
            FleetError: LOG_FORKED; STATE_CORRUPT (`load`).
        """
        if self._fault is not None:
            raise self._fault
        evidence = self.evidence
        if evidence is not None:
            raise FleetError(
                Code.LOG_FORKED, evidence.reason, place=str(self._evidence_path), since=evidence.at.isoformat()
            )

    @property
    def _name(self) -> str:
        return witness_name(self._identity.fleet, self._identity.node)

    def _still_counts(self, evidence: Evidence) -> bool:
        """Whether the log that evidence is about is not closed by the adopted release."""
        fleet = self._fleet()
        return fleet is None or evidence.origin not in {log.origin for log in fleet.closed_logs}

    async def _follow(self) -> FleetTrust:
        """Go over to the log of the adopted release where that says how the one that was seen ended.

        Raises:
            FleetError: TRUST_INVALID before a release is adopted; STORAGE_FULL.
        """
        fleet = self._fleet()
        if fleet is None:
            raise FleetError(Code.TRUST_INVALID, "the node has adopted no release")
        before, after = self._seen, follow(self._seen, origin_of(fleet.log_vkeys), fleet.closed_logs)
        if after != before:
            await self._keep(after)
            text = f"{before.origin} ended; of its {before.size} leaves {after.size} begin {after.origin}"
            self._journal.event(
                self._clock.now(), "", "audit:log:closed", text, seen=str(before.size), kept=str(after.size)
            )
        if self._evidence is not None and not self._still_counts(self._evidence):
            closed = self._evidence_path.with_name(CLOSED_EVIDENCE)  # kept: somebody may still want to look
            await asyncio.to_thread(self._disk.rename, self._evidence_path, closed)
            await asyncio.to_thread(self._disk.sync, closed.parent)
            self._evidence = None
        return fleet

    async def _keep(self, later: Sighting) -> None:
        if later != self._seen:
            await asyncio.to_thread(replace_file, self._disk, self._seen_path, encode_sighting(later))
            self._seen = later

    async def _accuse(self, error: FleetError, shown: bytes) -> None:
        evidence = Evidence(self._clock.now(), error.private, self._seen.note, shown)
        await asyncio.to_thread(replace_file, self._disk, self._evidence_path, _encode(evidence))
        self._evidence = evidence
        sizes = {key: str(value) for key, value in error.detail.items()}
        self._journal.event(evidence.at, "", "audit:log:forked", error.private, code=str(error.code), **sizes)

    def _key(self) -> SigningKey:
        if self._disk.size(self._key_path) is None:
            if self.seed is not None:
                return SigningKey.from_seed(self.seed())
            key = SigningKey(Ed25519PrivateKey.generate())
            replace_file(self._disk, self._key_path, key.to_pem())
            return key
        return SigningKey.from_pem(self._disk.read(self._key_path, 0, MAX_KEY))


def read_evidence(disk: Disk, path: Path) -> Evidence | None:
    """Return the evidence that a node keeps; None when it keeps none.

    Raises:
        FleetError: STATE_CORRUPT.
    """
    if disk.size(path) is None:
        return None
    code, name = Code.STATE_CORRUPT, path.name
    data = disk.read(path, 0, MAX_EVIDENCE + 1)
    with Reader(load_json(data, code, name, MAX_EVIDENCE), code, name) as top:
        if top.text("schema") != EVIDENCE_SCHEMA:
            top.fail("schema", f"expected {EVIDENCE_SCHEMA}")
        at = from_ms(top.integer("at_ms", 0, MAX_MS))
        return Evidence(at, top.text("reason"), top.text("seen").encode(), top.text("shown").encode())


def _encode(evidence: Evidence) -> bytes:
    return dump_json(
        {
            "schema": EVIDENCE_SCHEMA,
            "at_ms": to_ms(evidence.at),
            "reason": evidence.reason,
            "seen": evidence.seen.decode(),
            "shown": evidence.shown.decode(),
        }
    )
