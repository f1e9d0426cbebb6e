"""The published trust repository: what other people signed and the coordinator may choose among.

Owns: adopting a new release (verified against the pinned root, never signed here), and the catalogue of bundles and
grants. A release counts only when every document that it lists is stored. Expiry gates choosing something new:
`current` refuses an expired release, `adopted` answers questions from what was verified when it was adopted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fleet.bundle import open_bundle
from fleet.errors import Code, FleetError
from fleet.floors import Floors, replaced
from fleet.grants.document import parse_grant
from fleet.grants.requests import propose_command
from fleet.history import ApprovedRow
from fleet.leaves import PUBLISHED
from fleet.oci import digest_of
from fleet.publications import METADATA
from fleet.revocations import Revocations, parse_revocations
from fleet.signing import encode_base64
from fleet.targets import POLICY_ROLE, REVOCATIONS_PATH, TRUST_PATH, WITNESS_POLICY_PATH, is_break_glass
from fleet.times import from_ms, to_ms
from fleet.trust import open_fleet_trust, open_release
from fleet.witnesses import parse_policy
from orchestrator.audit import event_leaf
from orchestrator.policies import check_grants, check_policies, fleet_break_glass, fleet_ceilings
from orchestrator.projections import record_approvals
from orchestrator.standing import Standing, for_team
from orchestrator.store import release as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fleet.bundle import VerifiedBundle
    from fleet.grants.break_glass import BreakGlass
    from fleet.grants.ceilings import Ceilings
    from fleet.grants.document import Grant
    from fleet.trust import FleetTrust, Release, Target
    from orchestrator.audit import AuditLog
    from orchestrator.blobs import Blobs
    from orchestrator.clock import Clock
    from orchestrator.recognition import Identity
    from orchestrator.store.database import Store


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish changed; paths of targets."""

    timestamp_version: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


class Releases:
    """The release repository as this coordinator has adopted it.

    Args:
        root: bytes of the pinned root metadata.
        identity: who this coordinator is.
    """

    def __init__(
        self, *, store: Store, blobs: Blobs, log: AuditLog, root: bytes, identity: Identity, clock: Clock
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._log = log
        self._root = root
        self._identity = identity
        self._clock = clock
        self._trusted: tuple[bytes, FleetTrust | None] = (b"", None)

    def current(self) -> Release:
        """Return the release for choosing something new.

        Raises:
            FleetError: TRUST_EXPIRED; NOT_FOUND before the first publish.
        """
        files = self._files().files
        return open_release(files, root=self._root, now=self._clock(), allow_dev=True)

    def adopted(self) -> Release:
        """Return the release as it was adopted, expired or not.

        Raises:
            FleetError: NOT_FOUND before the first publish.
        """
        stored = self._files()
        return open_release(stored.files, root=self._root, now=from_ms(stored.adopted_ms), allow_dev=True)

    def min_node_version(self) -> str:
        """Return the smallest version of nodes that the adopted release allows; empty for any."""
        trust = self._fleet_trust()
        return "" if trust is None else trust.min_node_version

    def node_authorities(self) -> bytes:
        """Return the node authorities that the adopted release lists, PEM; empty before the first publish."""
        trust = self._fleet_trust()
        return b"" if trust is None else trust.node_ca_pem

    def _fleet_trust(self) -> FleetTrust | None:
        stamp = self.files().get("timestamp.json", b"")
        if stamp and self._trusted[0] != stamp:  # opened once for each release: whoever lists nodes asks
            release = self.adopted()
            self._trusted = (stamp, open_fleet_trust(release, self._document(release.target(TRUST_PATH), {})))
        return self._trusted[1]

    def files(self) -> Mapping[str, bytes]:
        """Return the metadata files, for publishers to continue from; empty before the first publish."""
        with self._store.control.read() as connection:
            return rows.read_files(connection).files

    def files_after(self, known_root: int) -> Mapping[str, bytes]:
        """Return the metadata that a node with this root version needs."""
        return {name: data for name, data in self.files().items() if not _is_known_root(name, known_root)}

    def publish(
        self,
        files: Mapping[str, bytes],
        documents: Sequence[bytes],
        operator: str,
        allow: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> Published:
        """Adopt new metadata.

        1. It verifies from the pinned root and is no older than what is adopted (`fleet.trust.open_release`).
        2. `trust/fleet.json` names this coordinator's director key and log, or no node would obey it
           (`orchestrator.recognition`).
        3. `policy/revocations.json` has every entry that it ever had, unless another key set signs it by now, and the
           counters of all bundles can be read; so can ceilings and guardrails.
        4. Every target is at hand: in `documents`, or stored; bundles with every blob below them, grants valid and
           under the path that their own text claims.
        5. No guardrail refuses a grant that is new (`orchestrator.guardrails`).
        6. Nobody published meanwhile.
        7. `allow`, which is told the files that change, does not refuse them.

        Documents are stored only after all of it holds.

        Raises:
            FleetError: what `open_release` raises; TRUST_INVALID, BLOB_MISSING, DIGEST_MISMATCH, BUNDLE_INVALID,
                GRANT_INVALID; CONFIG_INVALID, TRUST_ROLLBACK for rule 3; GUARDRAIL_REFUSED for 5;
                GENERATION_CONFLICT for 6.
        """
        now = self._clock()
        before = self.files()
        release = open_release(files, root=self._root, now=now, previous=before or None, allow_dev=True)  # 1
        allow([name for name, data in release.files.items() if before.get(name) != data])  # 7
        offered = {digest_of(document): document for document in documents}
        self._check_identity(release, self._document(release.target(TRUST_PATH), offered))  # 2
        previous = self.adopted() if before else None
        self._check_policies(release, previous, offered)  # 3
        known = {} if previous is None else previous.documents
        added = tuple(path for path, target in release.documents.items() if known.get(path) != target)
        removed = tuple(sorted(known.keys() - release.documents.keys()))
        grants = [
            grant
            for path, target in release.documents.items()
            if (grant := self._check_target(target, offered, is_new=path in added)) is not None
        ]
        check_grants(release, known, partial(self._document, offered=offered), operator)  # 5
        for target in release.documents.values():  # 4 holds
            if target.digest in offered:
                self._blobs.put(offered[target.digest])
        metadata = {name: digest_of(data) for name, data in sorted(release.files.items())}
        for name, digest in metadata.items():  # the audit log names them, for whoever asks later what counted today
            if not self._blobs.has(digest):
                self._blobs.put(release.files[name])
        approved = [grant for grant in grants if grant.path in added]
        leaf = event_leaf(
            PUBLISHED,
            now,
            f"user/{operator}",
            versions=dict(release.versions),
            added={path: release.documents[path].digest for path in sorted(added)},
            removed=list(removed),
            grants={grant.path: _approval(grant) for grant in approved},
            **{METADATA: metadata},
        )
        with self._store.control.write() as connection:
            if rows.read_files(connection).files != before:  # 6
                raise FleetError(Code.GENERATION_CONFLICT, "somebody published meanwhile")
            rows.replace_files(connection, release.files, to_ms(now))
            rows.put_grants(connection, grants)
            position = self._log.append(connection, [leaf])
            rows_of = [
                ApprovedRow(grant.path, grant.digest, grant.approvers, grant.document, position, to_ms(now))
                for grant in approved
            ]
            record_approvals(connection, rows_of, removed, now)
        return Published(release.versions["timestamp"], tuple(sorted(added)), removed)

    def find_bundle(self, release: Release, reference: str) -> Target:
        """Return the target of `name@version`, or of `team/name@version`.

        Raises:
            FleetError: TARGET_UNSIGNED when no team publishes it; PLAN_INVALID when several do and none is named.
        """
        name, _, version = reference.partition("@")
        found = [t for t in release.targets("bundles/") if t.path.endswith(f"/{name}/{version}.json")]
        if len(found) > 1:
            teams = ", ".join(target.path.split("/")[1] for target in found)
            raise FleetError(
                Code.PLAN_INVALID,
                f"several teams publish {reference}: {teams}",
                bundle=reference,
                remedy=f"Name the team in fleet.yaml: {found[0].path.split('/')[1]}/{reference}",
            )
        if not found:
            raise FleetError(
                Code.TARGET_UNSIGNED,
                f"no bundle {reference}",
                bundle=reference,
                remedy="Build, sign and publish it: fleetctl bundle build, then fleetctl bundle push",
            )
        return found[0]

    def find_grants(self, release: Release, agent: str) -> tuple[Target, ...]:
        """Return the published grants of `application/agent`, the newest revision first."""
        found = [t for t in release.targets("grants/") if agent in {"", grant_of(t.path)[0]}]
        return tuple(sorted(found, key=lambda t: (grant_of(t.path)[0], -grant_of(t.path)[1])))

    def find_grant(
        self,
        release: Release,
        agent: str,
        revision: int | None,
        bundle: str,
        code_role: str = "",
        *,
        break_glass: bool = False,
    ) -> Target:
        """Return one revision, or the newest for None.

        Args:
            release: where to look.
            agent: `application/agent`.
            revision: number, or None.
            bundle: `name@version`, for the remedy.
            code_role: the role that signs the agent's bundle: only grants for its bundles count; empty for any.
            break_glass: whether an emergency grant is asked for; otherwise there is none.

        Raises:
            FleetError: GRANT_MISSING; GRANT_NOT_APPLICABLE when the agent has grants for other teams' bundles alone.
        """
        found = [
            target
            for target in self.find_grants(release, agent)
            if is_break_glass(target.path) == break_glass and revision in {None, grant_of(target.path)[1]}
        ]
        if code_role:
            chosen = for_team(((target, self.read_grant(target)[0]) for target in found), code_role)
            found = [] if chosen is None else [chosen]
        if found:
            return found[0]
        kind = "emergency grant" if break_glass else "grant"
        what = f"approved {kind}" if revision is None else f"{kind} of revision {revision}"
        raise FleetError(
            Code.GRANT_MISSING,
            f"{agent} has no {what}",
            agent=agent,
            remedy=propose_command(agent, bundle),
        )

    def witness_policy(self) -> bytes:
        """Return the witness policy of the adopted release; b"" when it has none, and before the first publish."""
        try:
            release = self.adopted()
        except FleetError as error:
            if error.code is Code.NOT_FOUND:
                return b""
            raise
        target = release.documents.get(WITNESS_POLICY_PATH)
        return b"" if target is None else target.check(self._blobs.read(target.digest, target.length))

    def open_bundle(self, target: Target) -> VerifiedBundle:
        """Verify and read the documents of a bundle; component and models stay on disk."""
        return open_bundle(target.check(self._blobs.read(target.digest, target.length)), self._blobs.read)

    def read_grant(self, target: Target) -> tuple[Grant, bytes]:
        """Return a grant and its document."""
        document = target.check(self._blobs.read(target.digest, target.length))
        return parse_grant(document, target.path), document

    def standing(self, release: Release) -> Standing:
        """Return what of a release may still run.

        Raises:
            FleetError: TRUST_INVALID.
        """
        return self._standing(release, {})

    def read_ceilings(self, release: Release) -> Ceilings | None:
        """Return the fleet's ceilings, None when it publishes none.

        Raises:
            FleetError: GRANT_INVALID for a document that cannot be read; no node adopts the release then.
        """
        return fleet_ceilings(release, partial(self._document, offered={}))

    def read_break_glass(self, release: Release) -> BreakGlass | None:
        """Return the bounds of emergency grants, None when the fleet allows none.

        Raises:
            FleetError: GRANT_INVALID for a document that cannot be read; no node adopts the release then.
        """
        return fleet_break_glass(release, partial(self._document, offered={}))

    def _files(self) -> rows.AdoptedFiles:
        with self._store.control.read() as connection:
            stored = rows.read_files(connection)
        if not stored.files:
            raise FleetError(
                Code.NOT_FOUND,
                "nothing was published yet",
                remedy="Publish the release: `fleetctl trust refresh`, or `fleetctl trust import DIR --push`.",
            )
        return stored

    def _document(self, target: Target, offered: Mapping[str, bytes]) -> bytes:
        if target.digest in offered:
            return target.check(offered[target.digest])
        return target.check(self._blobs.read(target.digest, target.length))

    def _standing(self, release: Release, offered: Mapping[str, bytes]) -> Standing:
        listed = release.documents.get(REVOCATIONS_PATH)
        revocations = Revocations() if listed is None else parse_revocations(self._document(listed, offered))
        return Standing(revocations, Floors().raised(release))

    def _check_policies(self, release: Release, previous: Release | None, offered: Mapping[str, bytes]) -> None:
        check_policies(release, partial(self._document, offered=offered))
        standing = self._standing(release, offered)
        if previous is not None and not replaced(POLICY_ROLE, release, previous):
            standing.revocations.check_kept(self.standing(previous).revocations)

    def _check_identity(self, release: Release, document: bytes) -> None:
        with self._store.control.read() as connection:
            self._identity.check(open_fleet_trust(release, document), self._log, connection)

    def _check_target(self, target: Target, offered: Mapping[str, bytes], *, is_new: bool) -> rows.GrantRow | None:
        kind = target.path.partition("/")[0]
        if not is_new and self._blobs.has(target.digest) and kind != "grants":
            return None
        document = self._document(target, offered)
        if target.path == WITNESS_POLICY_PATH:
            parse_policy(document)
        if kind == "bundles":
            bundle = open_bundle(document, self._blobs.read)
            if not target.path.endswith(f"/{bundle.name}/{bundle.version}.json"):
                raise FleetError(
                    Code.BUNDLE_INVALID, f"it says it is {bundle.name}@{bundle.version}", place=target.path
                )
            for blob in bundle.blobs:
                if self._blobs.size(blob.digest) != blob.size:
                    raise FleetError(Code.DIGEST_MISMATCH, f"{blob.digest} has another size", place=target.path)
        if kind != "grants":
            return None
        grant = parse_grant(document, target.path)
        agent, revision = grant_of(target.path)
        if (grant.agent, grant.revision) != (agent, revision):
            raise FleetError(
                Code.GRANT_INVALID, f"it says it is revision {grant.revision} for {grant.agent}", place=target.path
            )
        return rows.GrantRow(target.digest, target.path, agent, revision, target.approvers, document)


def grant_of(path: str) -> tuple[str, int]:
    """Return (agent, revision) that a grant's target path names: `grants/TEAM/APPLICATION/AGENT/REVISION.yaml`.

    Raises:
        FleetError: GRANT_INVALID for a path of another form.
    """
    parts = path.split("/")
    revision = parts[-1].removesuffix(".yaml")
    if len(parts) != 5 or not parts[-1].endswith(".yaml") or not revision.isdecimal():
        raise FleetError(Code.GRANT_INVALID, "not a grant's path", place=path)
    return f"{parts[2]}/{parts[3]}", int(revision)


def _approval(grant: rows.GrantRow) -> dict[str, object]:
    """A grant as the audit log shows it: whole, so that the log alone says who was approved to have what."""
    return {
        "digest": grant.digest,
        "approvers": list(grant.approvers),
        "document": encode_base64(grant.document),
    }


def _is_known_root(name: str, known: int) -> bool:
    version, _, rest = name.partition(".")
    return rest == "root.json" and version.isdecimal() and int(version) <= known
