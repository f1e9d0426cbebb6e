"""What may not run any more: the target `policy/revocations.json`, schema `fleet.revocations/v1`.

Owns: reading and writing the list, looking something up in it, and the rule that it only grows. The policy role signs
it, so neither a captured coordinator nor the thief of a code or grants key can take an entry back. Withdrawing a target
from its role says the same for as long as that role says so; a revocation also holds when the role's own key is the
one that was stolen. Never verifies a signature: the caller passes bytes that `Target.check` has passed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_digest
from fleet.targets import REVOCATIONS_PATH
from fleet.times import MAX_MS, from_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleet.documents import Value

REVOCATIONS_SCHEMA = "fleet.revocations/v1"

MAX_REVOCATIONS = 1_000
"""Entries of one list; it also has to fit a target (`fleet.trust.MAX_TARGET`)."""

MAX_REASON = 80
"""Characters of a reason."""

_KEY = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What an entry is about, and so what its subject is.

    `BUNDLE`, `GRANT` and `MODEL` are named by the digest of the bundle's index, of the grant's document, of the model's
    file. `DIRECTOR_KEY` and `LOG_KEY` are named by the 32 bytes of the Ed25519 public key in hex.
    """

    BUNDLE = "bundle"
    GRANT = "grant"
    MODEL = "model"
    DIRECTOR_KEY = "director-key"
    LOG_KEY = "log-key"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry.

    Attributes:
        kind: what the subject is.
        subject: digest or public key.
        reason: one line for whoever is refused.
        at: when it was revoked; it holds as soon as a node knows of it, whatever this says.
    """

    kind: Kind
    subject: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Revocations:
    """A list, by what each entry is about."""

    entries: Mapping[tuple[Kind, str], Revocation] = field(default_factory=lambda: MappingProxyType({}))

    def covers(self, kind: Kind, subject: str) -> bool:
        """Whether something is revoked."""
        return (kind, subject) in self.entries

    def check(self, kind: Kind, subject: str, agent: str = "") -> None:
        """Refuse what is revoked.

        Args:
            kind: what the subject is.
            subject: digest or public key.
            agent: `application/agent` that needs it, for the error; empty when no agent is concerned.

        Raises:
            FleetError: REVOKED with the entry's reason and time.
        """
        entry = self.entries.get((kind, subject))
        if entry is None:
            return
        facts = {"agent": agent} if agent else {}
        raise FleetError(
            Code.REVOKED,
            f"the {kind} {subject} was revoked: {entry.reason}",
            place=REVOCATIONS_PATH,
            kind=str(kind),
            subject=subject,
            reason=entry.reason,
            since=entry.at.isoformat(),
            **facts,
        )

    def check_kept(self, before: Revocations) -> None:
        """Refuse a list that lacks an entry of an earlier one; what is revoked stays revoked.

        Raises:
            FleetError: TRUST_ROLLBACK naming one missing entry.
        """
        for (kind, subject), entry in sorted(before.entries.items()):
            if self.entries.get((kind, subject)) != entry:
                raise FleetError(
                    Code.TRUST_ROLLBACK,
                    f"the list of revocations lacks the {kind} {subject}",
                    place=REVOCATIONS_PATH,
                    subject=subject,
                    remedy="Publish a list with every entry that was ever in it.",
                )

    def extended(self, new: Iterable[Revocation]) -> Revocations:
        """Return the list with more entries; what is revoked already keeps its first reason and time.

        Raises:
            FleetError: TRUST_INVALID for a malformed entry; LIMIT_EXCEEDED above `MAX_REVOCATIONS`.
        """
        entries = dict(self.entries)
        for entry in new:
            _check_entry(entry, REVOCATIONS_PATH)
            entries.setdefault((entry.kind, entry.subject), entry)
        if len(entries) > MAX_REVOCATIONS:
            raise FleetError(Code.LIMIT_EXCEEDED, f"more than {MAX_REVOCATIONS} revocations", place=REVOCATIONS_PATH)
        return Revocations(MappingProxyType(entries))


def parse_revocations(data: bytes) -> Revocations:
    """Read the list.

    Checks, in this order:
        1. Strict JSON of this schema, within the size of a document.
        2. At most `MAX_REVOCATIONS` entries, each with the fields of `Revocation` and nothing else.
        3. The subject is what its kind says; the reason is one printable line, and not empty.
        4. Nothing is listed twice.

    Raises:
        FleetError: TRUST_INVALID with the place; LIMIT_EXCEEDED.
    """
    with Reader(load_json(data, Code.TRUST_INVALID, REVOCATIONS_PATH), Code.TRUST_INVALID, REVOCATIONS_PATH) as top:
        if top.text("schema") != REVOCATIONS_SCHEMA:  # 1
            top.fail("schema", f"expected {REVOCATIONS_SCHEMA!r}")
        if not top.has("revoked"):
            top.fail("revoked", "expected a list")
        entries = [_entry(item, place) for item, place in top.items("revoked", MAX_REVOCATIONS)]  # 2, 3
        by_subject = {(entry.kind, entry.subject): entry for entry in entries}
        if len(by_subject) != len(entries):  # 4
            top.fail("revoked", "something is listed twice")
    return Revocations(MappingProxyType(by_subject))


def encode_revocations(revocations: Revocations) -> bytes:
    """Write the list for the policy role to sign, sorted. Times are cut to whole milliseconds."""
    return dump_json(
        {
            "schema": REVOCATIONS_SCHEMA,
            "revoked": [
                {
                    "kind": str(entry.kind),
                    "subject": entry.subject,
                    "reason": entry.reason,
                    "at_ms": to_ms(entry.at),
                }
                for _, entry in sorted(revocations.entries.items())
            ],
        }
    )


def _entry(item: Value, place: str) -> Revocation:
    with Reader(item, Code.TRUST_INVALID, place) as reader:
        kind = reader.text("kind")
        if kind not in set(Kind):
            reader.fail("kind", f"expected one of {', '.join(Kind)}")
        at = from_ms(reader.integer("at_ms", 0, MAX_MS))
        entry = Revocation(Kind(kind), reader.text("subject"), reader.text("reason"), at)
    _check_entry(entry, place)
    return entry


def _check_entry(entry: Revocation, place: str) -> None:
    is_key = entry.kind in (Kind.DIRECTOR_KEY, Kind.LOG_KEY)
    if not (_KEY.fullmatch(entry.subject) if is_key else is_digest(entry.subject)):
        wanted = "64 hexadecimal digits" if is_key else "a digest sha256:..."
        raise FleetError(Code.TRUST_INVALID, f"the subject of a {entry.kind} is {wanted}", place=place)
    if not 0 < len(entry.reason) <= MAX_REASON or not entry.reason.isprintable():
        raise FleetError(Code.TRUST_INVALID, f"a reason is one line of 1 to {MAX_REASON} characters", place=place)
