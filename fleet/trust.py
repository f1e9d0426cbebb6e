"""What a node believes: the verified contents of the release repository.

Owns: `open_release`, which turns untrusted bytes into a `Release`, and `open_fleet_trust`, which reads the keys of the
director, the log and the node CA from it. The repository is a TUF repository (specification 1.0, sections cited below);
its client workflow is python-tuf's, reached through `fleet.metadata`, and this module adds the rules of a fleet.
Transport is no concern: a push, a file on a USB stick and the local disk are verified alike.

A `Release`, `Target` or `FleetTrust` is made only by the functions here; whoever holds one holds something verified.
Never reads a clock: `now` gates adopting a release. To come back from local disk, pass the moment of adoption as `now`:
expiry was checked then, and what was adopted keeps running (the grant's lease says for how long).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.delegations import check_delegations, check_keys
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.logs import MAX_CLOSED_LOGS, MAX_LOG_KEYS, ClosedLog, check_logs, decode_closed, encode_closed
from fleet.metadata import Root, Targets, Timestamp, Workflow, check_caps
from fleet.names import is_digest, is_name
from fleet.semver import parse_version
from fleet.signing import PublicKey
from fleet.targets import TARGETS_ROLE, TRUST_PATH, role_of
from fleet.times import MAX_MS, from_ms
from fleet.x509 import load_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

MAX_TARGET = 256 * 1024
"""Bytes of a target: the repository lists documents, and documents name blobs by digest."""

MAX_DIRECTOR_KEYS = 8
"""Director keys in `trust/fleet.json`: the current one and its successors."""

MAX_SECRET_KEYS = 8
"""Keys for secrets in `trust/fleet.json`: one for each operator who sets secrets."""

PROFILE_FIELD = "x-fleet-profile"
"""Field of root metadata that marks a development root; absent in production."""

SIGNED_AT_FIELD = "x-fleet-signed-at"
"""Field of timestamp metadata: when it was signed, in milliseconds since the epoch. May be absent."""

TRUST_SCHEMA = "fleet.trust/v1"
"""Schema of `trust/fleet.json`."""


class Profile(StrEnum):
    """How strict the roles of a release are."""

    DEV = "dev"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Target:
    """A document that the role responsible for its path has signed.

    Attributes:
        path: target path.
        digest: "sha256:" and hex of the document.
        length: bytes of the document.
        role: the role that lists it.
        approvers: key ids whose signatures on the role verify, sorted.
        custom: what the signer noted beside it.
    """

    path: str
    digest: str
    length: int
    role: str
    approvers: tuple[str, ...]
    custom: Mapping[str, object]

    def check(self, data: bytes) -> bytes:
        """Return `data` if it is this document.

        Raises:
            FleetError: DIGEST_MISMATCH.
        """
        if len(data) != self.length or f"sha256:{hashlib.sha256(data).hexdigest()}" != self.digest:
            raise FleetError(Code.DIGEST_MISMATCH, "not the signed document", place=self.path)
        return data


@dataclass(frozen=True, slots=True)
class Release:
    """The verified state of the release repository.

    Attributes:
        profile: from the root metadata.
        files: exactly the files that were verified, roots from the pinned one on: what to keep and to pass on.
        versions: role name to version.
        expires: first moment at which some role has expired.
        role_keys: role name to the keys that may sign for it.
        documents: target path to target.
        signed_at: when the timestamp role says that it signed; None where it does not say.
    """

    profile: Profile
    files: Mapping[str, bytes]
    versions: Mapping[str, int]
    expires: datetime
    role_keys: Mapping[str, frozenset[PublicKey]]
    documents: Mapping[str, Target]
    signed_at: datetime | None = None

    def target(self, path: str) -> Target:
        """Return a signed document's target.

        Raises:
            FleetError: TARGET_UNSIGNED.
        """
        if path not in self.documents:
            raise FleetError(Code.TARGET_UNSIGNED, "the responsible role does not list it", place=path)
        return self.documents[path]

    def targets(self, prefix: str) -> tuple[Target, ...]:
        """Return the targets whose path begins with `prefix`, sorted by path."""
        return tuple(target for path, target in sorted(self.documents.items()) if path.startswith(prefix))


@dataclass(frozen=True, slots=True)
class FleetTrust:
    """Keys outside TUF that the fleet trusts, from the target `trust/fleet.json`.

    Attributes:
        fleet: name of the fleet; the trust domain of its SPIFFE ids.
        director_keys: keys that sign assignments; any one suffices, so that a successor can be listed early.
        log_vkeys: verifier keys of the audit log (c2sp.org/signed-note), all under its one name; a checkpoint counts
            when any of them signed it, so that a successor can be listed early.
        node_ca_pem: certificates against which a node checks its coordinator, PEM.
        profile: must equal the profile of the root.
        secret_keys: keys that sign sealed secrets; none: the nodes take no secret.
        min_node_version: smallest version of edge-agent that may take in anything new; empty: any.
        closed_logs: logs that this one continues, the oldest first.
    """

    fleet: str
    director_keys: tuple[PublicKey, ...]
    log_vkeys: tuple[str, ...]
    node_ca_pem: bytes
    profile: Profile
    secret_keys: tuple[PublicKey, ...] = ()
    min_node_version: str = ""
    closed_logs: tuple[ClosedLog, ...] = ()


def open_release(
    files: Mapping[str, bytes],
    *,
    root: bytes,
    now: datetime,
    previous: Mapping[str, bytes] | None = None,
    allow_dev: bool,
) -> Release:
    """Verify metadata files and return the release that they describe.

    Checks, in this order:
        1. Caps: number of files, bytes of each, bytes of all.
        2. Root chain: from the pinned root, each next root has the next version and is signed by the threshold of the
           one before and by its own (TUF 5.3.4 to 5.3.7). Roots already adopted come first, so none can be withheld.
        3. The last root asks for versioned file names, has a known profile, and is no development root unless that is
           allowed.
        4. The last root has not expired (TUF 5.3.10).
        5. Timestamp: signed, no older than the adopted one, not expired (TUF 5.4). An adopted timestamp whose key the
           root has since revoked does not count (TUF 5.3.11).
        6. Snapshot: the one that the timestamp names, signed, no role older than adopted or missing, not expired
           (TUF 5.5).
        7. Top-level targets: the version that the snapshot names, signed, not expired (TUF 5.6).
        8. Delegations: terminating, one level deep, only the roles of a fleet and each with exactly its own paths.
        9. Keys: all Ed25519; within a role every key once; no key may sign both code and grants; in the production
           profile grants take at least two approvers, but emergency grants, whose keys are those of no other role.
        10. Each delegated role: the version that the snapshot names, signed, not expired, delegating nothing further.
        11. Each target that lies in its role's own folder has a SHA-256 digest and a length within bounds. Targets
            elsewhere are not believed and therefore not listed.

    Args:
        files: file name to bytes as TUF names them with consistent snapshots: `timestamp.json`, `2.root.json`,
            `7.code-default.json`. Files of `previous` stand in for absent ones.
        root: the pinned root metadata, delivered with the node and never by the coordinator.
        now: reference time for every expiry.
        previous: `Release.files` of the adopted release, for rollback checks.
        allow_dev: whether a development root may be trusted.

    Raises:
        FleetError: TRUST_INVALID, TRUST_EXPIRED, TRUST_ROLLBACK, DEV_PROFILE_REFUSED; LIMIT_EXCEEDED for check 1.
    """
    adopted = previous or {}
    check_caps(files)  # 1
    workflow = Workflow({**adopted, **files}, root, now)
    workflow.climb_roots(adopted, files)  # 2
    profile = _check_root(workflow.trusted.root, allow_dev=allow_dev)  # 3
    workflow.load_timestamp(adopted)  # 4, 5
    workflow.load_snapshot(adopted)  # 6
    targets = workflow.load_role(TARGETS_ROLE, Root.type)  # 7
    check_delegations(targets)  # 8
    role_keys = check_keys(workflow.trusted.root, targets, production=profile is Profile.PRODUCTION)  # 9
    for role in _delegated(targets):
        if workflow.load_role(role, TARGETS_ROLE).delegations is not None:  # 10
            raise _invalid(f"{role} delegates further")
    return Release(
        profile=profile,
        files=MappingProxyType(workflow.used),
        versions=MappingProxyType({role: workflow.trusted[role].version for role in workflow.roles}),
        expires=min(workflow.trusted[role].expires for role in workflow.roles),
        role_keys=MappingProxyType(role_keys),
        documents=MappingProxyType({target.path: target for target in _targets(workflow)}),  # 11
        signed_at=_signed_at(workflow.trusted.timestamp),
    )


def open_fleet_trust(release: Release, data: bytes) -> FleetTrust:
    """Verify and read the document `trust/fleet.json` of a release.

    Checks, in this order:
        1. The bytes are the ones that the top-level targets role signed.
        2. They parse (`parse_fleet_trust`).
        3. The profile is that of the root.
        4. No director key is a key of any role, or one for secrets: the director stays unable to sign code, grants
           or secrets.

    Raises:
        FleetError: TARGET_UNSIGNED, DIGEST_MISMATCH, TRUST_INVALID.
    """
    trust = parse_fleet_trust(release.target(TRUST_PATH).check(data))  # 1, 2
    if trust.profile != release.profile:  # 3
        raise _invalid(f"{TRUST_PATH} has profile {trust.profile}, the root has {release.profile}")
    for role, keys in release.role_keys.items():  # 4
        if not keys.isdisjoint(trust.director_keys):
            raise _invalid(f"a director key is also a key of {role}")
    if not set(trust.secret_keys).isdisjoint(trust.director_keys):
        raise _invalid("a director key is also a key for secrets")
    return trust


def parse_fleet_trust(data: bytes) -> FleetTrust:
    """Read `trust/fleet.json`; whether to believe it is decided by `open_fleet_trust`.

    Raises:
        FleetError: TRUST_INVALID with the place.
    """
    with Reader(load_json(data, Code.TRUST_INVALID, TRUST_PATH), Code.TRUST_INVALID, TRUST_PATH) as top:
        if top.text("schema") != TRUST_SCHEMA:
            top.fail("schema", f"expected {TRUST_SCHEMA!r}")
        fleet = top.text("fleet")
        if not is_name(fleet):
            top.fail("fleet", "not a name")
        profile = top.text("profile")
        if profile not in set(Profile):
            top.fail("profile", f"expected one of {', '.join(Profile)}")
        keys = top.texts("director_keys", MAX_DIRECTOR_KEYS)
        if not keys or len(set(keys)) != len(keys):
            top.fail("director_keys", "expected different keys, at least one")
        secret_keys = top.texts("secret_keys", MAX_SECRET_KEYS) if top.has("secret_keys") else ()
        if len(set(secret_keys)) != len(secret_keys):
            top.fail("secret_keys", "expected different keys")
        min_node_version = top.text("min_node_version", "")
        if min_node_version:
            parse_version(min_node_version, Code.TRUST_INVALID, top.at("min_node_version"))
        log_vkeys = (top.text("log_vkey"),) if top.has("log_vkey") else top.texts("log_vkeys", MAX_LOG_KEYS)
        closed_logs = tuple(decode_closed(item, place) for item, place in top.items("closed_logs", MAX_CLOSED_LOGS))
        node_ca = top.text("node_ca").encode()
        try:
            director_keys = tuple(PublicKey.from_hex(key) for key in keys)
            sealers = tuple(PublicKey.from_hex(key) for key in secret_keys)
            check_logs(log_vkeys, closed_logs)
            load_certificates(node_ca)
        except (FleetError, ValueError) as error:
            raise FleetError(Code.TRUST_INVALID, "a key or certificate is malformed", place=TRUST_PATH) from error
    return FleetTrust(
        fleet, director_keys, log_vkeys, node_ca, Profile(profile), sealers, min_node_version, closed_logs
    )


def encode_fleet_trust(trust: FleetTrust) -> bytes:
    """Write `trust/fleet.json` for the publisher to sign."""
    secret_keys = [key.hex for key in trust.secret_keys]
    return dump_json(
        {
            "schema": TRUST_SCHEMA,
            "fleet": trust.fleet,
            "profile": trust.profile,
            "director_keys": [key.hex for key in trust.director_keys],
            **({"log_vkey": trust.log_vkeys[0]} if len(trust.log_vkeys) == 1 else {"log_vkeys": list(trust.log_vkeys)}),
            "node_ca": trust.node_ca_pem.decode(),
            **({"secret_keys": secret_keys} if secret_keys else {}),
            **({"min_node_version": trust.min_node_version} if trust.min_node_version else {}),
            **({"closed_logs": list(map(encode_closed, trust.closed_logs))} if trust.closed_logs else {}),
        }
    )


def profile_of(root: Root) -> Profile:
    """Profile that root metadata declares.

    Raises:
        FleetError: TRUST_INVALID for an unknown one.
    """
    declared = root.unrecognized_fields.get(PROFILE_FIELD)
    if declared is None:
        return Profile.PRODUCTION
    if declared != Profile.DEV:
        raise _invalid(f"the root has an unknown {PROFILE_FIELD}")
    return Profile.DEV


def _signed_at(timestamp: Timestamp) -> datetime | None:
    noted = timestamp.unrecognized_fields.get(SIGNED_AT_FIELD)
    if noted is None:
        return None
    if not isinstance(noted, int) or isinstance(noted, bool) or not 0 <= noted <= MAX_MS:
        raise _invalid(f"the timestamp has an unreadable {SIGNED_AT_FIELD}")
    return from_ms(noted)


def _check_root(root: Root, *, allow_dev: bool) -> Profile:
    if not root.consistent_snapshot:
        raise _invalid("the root does not ask for consistent snapshots")
    profile = profile_of(root)
    if profile is Profile.DEV and not allow_dev:
        raise FleetError(Code.DEV_PROFILE_REFUSED, "the root is a development root")
    return profile


def _delegated(targets: Targets) -> tuple[str, ...]:
    delegations = targets.delegations
    return tuple(delegations.roles or ()) if delegations is not None else ()


def _targets(workflow: Workflow) -> Iterator[Target]:
    for role, signed in workflow.listings.items():
        for path, file in signed.targets.items():
            if role_of(path) != role:
                continue
            digest = f"sha256:{file.hashes.get('sha256', '')}"
            custom = file.custom if file.custom is not None else {}
            if not is_digest(digest) or file.length > MAX_TARGET or not isinstance(custom, dict):
                raise _invalid(f"{role} lists {path} without a SHA-256 digest or with a length out of bounds")
            yield Target(path, digest, file.length, role, workflow.approvers[role], MappingProxyType(custom))


def _invalid(message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message)
