"""A release repository that notes who signed what.

Metadata is written with python-tuf's own classes and not with `fleet.release`: what the fleet's publisher would refuse
to make, a thief makes. The `Ledger` is filled where signatures are made and asks no verification what happened: it is
what the laws of the model are judged by.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from fleet.targets import BREAK_GLASS_ROLE, paths_of, role_of
from tests.fakes.publisher import key

CODE, GRANTS, POLICY, TARGETS = "code-default", "grants-default", "policy", "targets"
DELEGATED = (POLICY, CODE, GRANTS, BREAK_GLASS_ROLE)
LISTING_ROLES = (TARGETS, *DELEGATED)
THIEF = ("thief-0", "thief-1")
"""Keys that the thief made; in no role of an honest repository."""

KEYS = {
    "root": ("root-0", "root-1", "root-2"),
    TARGETS: ("targets-0", "targets-1"),
    POLICY: ("policy-0", "policy-1"),
    CODE: ("code-0",),
    GRANTS: ("approver-0", "approver-1", "approver-2"),
    BREAK_GLASS_ROLE: ("emergency-0",),
    "snapshot": ("snapshot-0",),
    "timestamp": ("timestamp-0",),
}
THRESHOLDS = {"root": 2, TARGETS: 2, POLICY: 2, CODE: 1, GRANTS: 2, BREAK_GLASS_ROLE: 1, "snapshot": 1, "timestamp": 1}
LIFETIMES_D = {"root": 365, **dict.fromkeys(LISTING_ROLES, 90), "snapshot": 14, "timestamp": 7}


@dataclass(frozen=True)
class KeySet:
    """Who may sign for a role."""

    names: tuple[str, ...]
    threshold: int

    def met_by(self, signers: Collection[str]) -> bool:
        return len(set(self.names) & set(signers)) >= self.threshold


@dataclass(frozen=True)
class Written:
    """A metadata file that somebody wrote.

    Attributes:
        delegates: roles whose keys it names, for root and targets.
        listing: target path -> digest, for roles that list documents.
    """

    role: str
    version: int
    expires: datetime
    signers: frozenset[str]
    delegates: Mapping[str, KeySet]
    listing: Mapping[str, str]


@dataclass
class Ledger:
    """What was signed, by whom.

    Attributes:
        files: SHA-256 of a metadata file -> what it says and whose signatures are on it.
        highest: role -> highest version that anybody wrote, so that everybody can outbid it.
    """

    files: dict[bytes, Written] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)

    def written(self, data: bytes) -> Written:
        """What the ledger knows of a file."""
        found = self.files.get(hashlib.sha256(data).digest())
        assert found is not None, "a node adopted metadata that nobody wrote"
        return found


@cache
def _signer(name: str) -> CryptoSigner:
    private = key(name)
    return CryptoSigner(private.private, _public(name))


@cache
def _public(name: str) -> SSlibKey:
    public = key(name).public
    return SSlibKey(public.key_id, "ed25519", "ed25519", {"public": public.hex})


@dataclass
class Repository:
    """A repository as somebody sees it; `copy` gives a thief one to work on.

    Attributes:
        files: file name -> bytes, as a mirror would serve them.
        keys: role -> who may sign for it, as `write` will put it down.
    """

    ledger: Ledger
    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    listings: dict[str, dict[str, TargetFile]] = field(default_factory=lambda: {role: {} for role in LISTING_ROLES})
    keys: dict[str, KeySet] = field(
        default_factory=lambda: {role: KeySet(names, THRESHOLDS[role]) for role, names in KEYS.items()}
    )

    def copy(self) -> Repository:
        return Repository(
            self.ledger, dict(self.files), dict(self.versions), copy.deepcopy(self.listings), dict(self.keys)
        )

    def put(self, path: str, data: bytes) -> None:
        """Draft a document; its role must be written to take effect."""
        self.listings[role_of(path) or ""][path] = TargetFile.from_data(path, data, ["sha256"])

    def withdraw(self, path: str) -> None:
        """Draft a withdrawal."""
        self.listings[role_of(path) or ""].pop(path, None)

    def write(self, role: str, signers: Collection[str], now: datetime) -> None:
        """Sign the next version of a role as it is drafted."""
        if role == "root":  # roots are climbed one by one
            number = self.versions.get(role, 0) + 1
        else:
            number = self.ledger.highest.get(role, 0) + 1
            self.ledger.highest[role] = number
        expires = (now + timedelta(days=LIFETIMES_D[role])).replace(microsecond=0)
        signed, delegates = self._content(role, number, expires)
        metadata = Metadata(signed)
        for name in sorted(signers):
            metadata.sign(_signer(name), append=True)
        data = metadata.to_bytes(JSONSerializer(compact=True))
        listing = {path: f"sha256:{file.hashes['sha256']}" for path, file in self.listings.get(role, {}).items()}
        self.versions[role] = number
        self.files["timestamp.json" if role == "timestamp" else f"{number}.{role}.json"] = data
        self.ledger.files[hashlib.sha256(data).digest()] = Written(
            role, number, expires, frozenset(signers), delegates, listing
        )

    def _content(
        self, role: str, version: int, expires: datetime
    ) -> tuple[Root | Targets | Snapshot | Timestamp, dict[str, KeySet]]:
        if role == "root":
            root = Root(version, expires=expires, consistent_snapshot=True)
            named = ("root", TARGETS, "snapshot", "timestamp")
            for name in named:
                root.roles[name].threshold = self.keys[name].threshold
                for signer in self.keys[name].names:
                    root.add_key(_public(signer), name)
            return root, {name: self.keys[name] for name in named}
        if role == "snapshot":
            return Snapshot(version, expires=expires, meta={f"{r}.json": self._meta(r) for r in LISTING_ROLES}), {}
        if role == "timestamp":
            return Timestamp(version, expires=expires, snapshot_meta=self._meta("snapshot")), {}
        targets = Targets(version, expires=expires, targets=dict(self.listings[role]))
        if role != TARGETS:
            return targets, {}
        roles = {
            name: DelegatedRole(name, [], self.keys[name].threshold, terminating=True, paths=[*(paths_of(name) or ())])
            for name in DELEGATED
        }
        targets.delegations = Delegations({}, roles)
        for name in roles:
            for signer in self.keys[name].names:
                targets.add_key(_public(signer), name)
        return targets, {name: self.keys[name] for name in DELEGATED}

    def _meta(self, role: str) -> MetaFile:
        version = self.versions[role]
        data = self.files[f"{version}.{role}.json"]
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
