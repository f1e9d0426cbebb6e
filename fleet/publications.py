"""What the release repository was at every moment that the audit log knows of, verified from its own metadata.

Owns: `Publications`, which is fed the leaves of publications in their order. Such a leaf names the metadata files of
its release by digest; verified as of the leaf's own time, they show which keys counted then and who approved what,
whatever the leaf says and whichever keys were withdrawn since. Where the bytes come from is behind `read`: their
digests are checked, and they are believed only as far as the pinned root leads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.history import approvals_of
from fleet.oci import digest_of
from fleet.targets import TRUST_PATH
from fleet.times import from_ms
from fleet.trust import open_fleet_trust, open_release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet.leaves import EventLeaf
    from fleet.trust import FleetTrust, Release

METADATA = "metadata"
"""Fact of a publication's leaf: file name to digest of the metadata that it published."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A release that was published, and the fleet's keys that it listed."""

    release: Release
    trust: FleetTrust


@dataclass(slots=True)
class Publications:
    """Verifies publications.

    Attributes:
        fleet: name of the fleet.
        root: the pinned root metadata.
        read: returns the bytes of a digest; None where nobody has them.
        newest: the last one that was verified; None before the first.
        log_vkeys: every key of a log that any of them listed.
    """

    fleet: str
    root: bytes
    read: Callable[[str], bytes | None]
    newest: Publication | None = None
    log_vkeys: set[str] = field(default_factory=set)

    def take(self, leaf: EventLeaf) -> bool:
        """Verify the next publication; returns whether there was something to verify.

        Checks, in this order:
            1. The leaf names the metadata. (The leaves of earlier releases of this program do not, and nothing is
               believed by them; none of these comes after one that does.)
            2. Every file is at hand, and has its digest.
            3. They verify from the pinned root as of the leaf's time, and are no older than those of the publication
               before (`fleet.trust.open_release`).
            4. The document `trust/fleet.json` of this release is at hand, verifies, and is of this fleet.
            5. What the leaf says was added and removed is what differs from the publication before.
            6. Every grant that it shows is listed, with these approvers; it shows every grant that was added.

        Raises:
            FleetError: AUDIT_INVALID for 1, 2, 5 and 6; as `open_release` and `open_fleet_trust` for 3 and 4.
        """
        named = _texts(leaf, METADATA)
        if not named:  # 1
            if self.newest is not None:
                raise _invalid("a publication that does not name its metadata")
            return False
        files = {name: self._bytes(digest) for name, digest in named.items()}  # 2
        before = self.newest
        previous = None if before is None else before.release.files
        release = open_release(  # 3
            files, root=self.root, now=from_ms(leaf.at_ms), previous=previous, allow_dev=True
        )
        trust = open_fleet_trust(release, self._bytes(release.target(TRUST_PATH).digest))  # 4
        if trust.fleet != self.fleet:
            raise _invalid(f"a publication for fleet {trust.fleet}")
        _check_difference(leaf, release, None if before is None else before.release)  # 5
        _check_grants(leaf, release)  # 6
        self.newest = Publication(release, trust)
        self.log_vkeys.update(trust.log_vkeys, *(log.vkeys for log in trust.closed_logs))
        return True

    def _bytes(self, digest: str) -> bytes:
        data = self.read(digest)
        if data is None or digest_of(data) != digest:
            raise _invalid(f"{digest} is not at hand, and a publication names it")
        return data


def documents_of(leaf: EventLeaf) -> tuple[str, ...]:
    """Return the digests of what it takes to verify a publication, so that it can be kept with the log."""
    added = _texts(leaf, "added")
    return (*_texts(leaf, METADATA).values(), *([added[TRUST_PATH]] if TRUST_PATH in added else ()))


def _check_difference(leaf: EventLeaf, release: Release, before: Release | None) -> None:
    added, removed = _texts(leaf, "added"), list(approvals_of(leaf, 0)[1])
    known = {} if before is None else before.documents
    differ = {path: t.digest for path, t in release.documents.items() if known.get(path) != t}
    gone = sorted(known.keys() - release.documents.keys())
    if before is None:  # what came before is not known: then it can only be compared with what there is
        differ = {path: digest for path, digest in differ.items() if path in added}
        gone = [path for path in removed if path not in release.documents]
    if added != differ or removed != gone:
        raise _invalid("a publication says that other documents came and went than its metadata shows")


def _check_grants(leaf: EventLeaf, release: Release) -> None:
    wanted = {
        path: (release.documents[path].digest, release.documents[path].approvers)
        for path in _texts(leaf, "added")
        if path.startswith("grants/")
    }
    shown, _ = approvals_of(leaf, 0)
    found = {
        row.path: (digest_of(row.document), row.approvers) for row in shown if digest_of(row.document) == row.digest
    }
    if found != wanted:
        raise _invalid("a publication says that others approved a grant than signed it")


def _texts(leaf: EventLeaf, key: str) -> Mapping[str, str]:
    value = leaf.facts.get(key)
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}


def _invalid(message: str) -> FleetError:
    return FleetError(Code.AUDIT_INVALID, message)
