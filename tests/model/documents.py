"""Everything that anybody wrote down in the model, by digest: what it says, and whether the thief made it.

The laws look here for what a signed document says, and never at what the code under test read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleet.grants.document import format_instant
from fleet.oci import digest_of
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.targets import BREAK_GLASS_TEAM, DEFAULT_TEAM, bundle_path, grant_path
from fleet.trust import FleetTrust, Profile, encode_fleet_trust
from tests.fakes.fleet import bundle as build
from tests.fakes.publisher import NODE_CA
from tests.fakes.publisher import key as key_of
from tests.model.log import log_vkey, witness_vkey
from tests.model.node import caps
from tests.model.repository import KeySet

Revoked = frozenset[tuple[Kind, str]]
"""What a list of revocations names: documents by digest, keys by the name that they have in the model."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that somebody made."""

    name: str
    version: str
    component: str
    evil: bool


@dataclass(frozen=True)
class Grant:
    """A grant that somebody wrote; an emergency grant says for how long it holds."""

    agent: str
    bundle: str
    labels: Mapping[str, str]
    buckets: frozenset[str]
    evil: bool
    begin: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    emergency: timedelta | None = None

    @property
    def end(self) -> datetime:
        return datetime(2028, 1, 1, tzinfo=UTC) if self.emergency is None else self.begin + self.emergency

    @property
    def team(self) -> str:
        return DEFAULT_TEAM if self.emergency is None else BREAK_GLASS_TEAM


@dataclass(frozen=True)
class Bounds:
    """What emergency grants may give, and for how long."""

    buckets: frozenset[str]
    longest: timedelta


@dataclass(frozen=True)
class TrustKeys:
    """Names of the keys that a `trust/fleet.json` names."""

    directors: tuple[str, ...]
    logs: tuple[str, ...]


@dataclass
class Documents:
    """What was written, and the bytes of it, which are no secret."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    trusts: dict[str, TrustKeys] = field(default_factory=dict)
    quorums: dict[str, KeySet] = field(default_factory=dict)
    revoked: dict[str, Revoked] = field(default_factory=dict)
    bounds: dict[str, Bounds] = field(default_factory=dict)

    def bundle(self, name: str, version: str, *, evil: bool) -> tuple[str, bytes]:
        """Make a bundle; return its path and its index."""
        built = build(name, version, models={"m": f"{name} {version} {evil}".encode()})
        self.blobs.update(built.blobs)
        self._keep(built.index)
        component = next(digest for digest, data in built.blobs.items() if data.startswith(b"\0asm"))
        self.bundles[built.digest] = Bundle(name, version, component, evil)
        return bundle_path(name, version), built.index

    def grant(self, grant: Grant) -> tuple[str, bytes]:
        """Write a grant; return its path and its bytes."""
        revision = len(self.grants) + 1
        condition = ", ".join(f"{key}: {value}" for key, value in grant.labels.items())
        document = f"""\
schema: fleet.grant/v1
agent: {grant.agent}
revision: {revision}
applies_to:
  bundle: {{name: {grant.bundle}, versions: ">=1.0.0", role: code-default}}
  nodes: {{labels: {{{condition}}}}}
validity: {{not_before: {format_instant(grant.begin)}, not_after: {format_instant(grant.end)}}}
lease: {{max_stale: 30d, on_lapse: stop}}
caps: {caps(grant.buckets)}
"""
        if grant.emergency is not None:
            document += "break_glass: true\nreason: it is on fire\n"
        data = document.encode()
        self.grants[self._keep(data)] = grant
        return grant_path(grant.agent, revision, grant.team), data

    def emergency_bounds(self, bounds: Bounds) -> bytes:
        """Write `policy/break-glass.yaml`."""
        hours = bounds.longest // timedelta(hours=1)
        text = f"schema: fleet.break-glass/v1\nmax_validity: {hours}h\ncaps: {caps(bounds.buckets)}\n"
        self.bounds[self._keep(text.encode())] = bounds
        return text.encode()

    def trust(self, keys: TrustKeys) -> bytes:
        """Write `trust/fleet.json`."""
        directors = tuple(key_of(name).public for name in keys.directors)
        logs = tuple(log_vkey(name) for name in keys.logs)
        document = encode_fleet_trust(FleetTrust("demo", directors, logs, NODE_CA, Profile.PRODUCTION))
        self.trusts[self._keep(document)] = keys
        return document

    def witness_policy(self, quorum: KeySet) -> bytes:
        """Write `policy/witness.policy`."""
        names = {name: f"w{number}" for number, name in enumerate(quorum.names)}
        lines = [f"witness {short} {witness_vkey(name)}" for name, short in names.items()]
        lines += [f"group enough {quorum.threshold} {' '.join(names.values())}", "quorum enough"]
        document = "".join(f"{line}\n" for line in lines).encode()
        self.quorums[self._keep(document)] = quorum
        return document

    def revocations(self, revoked: Iterable[tuple[Kind, str]], at: datetime) -> bytes:
        """Write `policy/revocations.json`."""
        entries = [
            Revocation(kind, key_of(name).public.hex if kind in (Kind.DIRECTOR_KEY, Kind.LOG_KEY) else name, "why", at)
            for kind, name in revoked
        ]
        document = encode_revocations(Revocations().extended(entries))
        self.revoked[self._keep(document)] = frozenset(revoked)
        return document

    def _keep(self, document: bytes) -> str:
        digest = digest_of(document)
        self.blobs[digest] = document
        return digest
