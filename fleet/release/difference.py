"""What a staged change changes, in words: computed from the very bytes that are signed, never from what somebody says.

Owns: the comparison of new metadata with the release it starts from: keys, thresholds, profile, documents; and for
documents what their kind is about: a grant's authority, the keys of the fleet, the lines of a policy.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tuf.api.metadata import Root, Targets

from fleet.errors import FleetError
from fleet.grants import diff_grants, parse_grant
from fleet.grants.document import format_instant
from fleet.release.keys import ROOT_ROLE, TOP_LEVEL_ROLES
from fleet.release.metadata_files import file_order, latest, load, named_keys, role_of_file
from fleet.revocations import Revocations, parse_revocations
from fleet.targets import REVOCATIONS_PATH, TRUST_PATH
from fleet.trust import parse_fleet_trust, profile_of
from fleet.x509 import fingerprint, load_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleet.release.keys import NamedKey
    from fleet.release.staging import StagedChange
    from fleet.trust import FleetTrust

MAX_LINES = 200
"""Lines of a policy's difference that are shown."""

SHORT = 12
"""Characters of a key id or digest that are shown to people."""


class Sign(StrEnum):
    """Whether something comes or goes."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that changes in one role."""

    role: str
    sign: Sign
    text: str


def differences(staged: StagedChange) -> tuple[Difference, ...]:
    """Return everything that the change changes; a role that is only signed again has one entry that says so."""
    found: list[Difference] = []
    for name in sorted(staged.files, key=file_order):
        data = staged.files[name]
        role = role_of_file(name)
        entries = _root(staged, data) if role == ROOT_ROLE else [*_delegations(staged, role, data)]
        if role != ROOT_ROLE:
            entries += _documents(staged, role, data)
        found += entries or [Difference(role, Sign.CHANGED, "signed again, nothing else changes")]
    return tuple(found)


def _root(staged: StagedChange, data: bytes) -> list[Difference]:
    old, new = latest(staged.base.files, Root, ROOT_ROLE).signed, load(data, Root).signed
    found = []
    if profile_of(old) != profile_of(new):
        text = f"the profile is {profile_of(new)}, was {profile_of(old)}: there is no way back"
        found.append(Difference(ROOT_ROLE, Sign.CHANGED, text))
    for role in TOP_LEVEL_ROLES:
        before, after = old.roles[role], new.roles[role]
        found += _keys(
            ROOT_ROLE,
            role,
            (named_keys(old, before.keyids), before.threshold),
            (named_keys(new, after.keyids), after.threshold),
        )
    return found


def _delegations(staged: StagedChange, role: str, data: bytes) -> Iterator[Difference]:
    new = load(data, Targets).signed
    if new.delegations is None:
        return
    old = latest(staged.base.files, Targets, role).signed
    before = old.delegations.roles or {} if old.delegations is not None else {}
    remaining = new.delegations.roles or {}
    for name, gone in before.items():
        if name not in remaining:
            listed = sum(target.role == name for target in staged.base.documents.values())
            yield Difference(
                role, Sign.REMOVED, f"role {name} for {', '.join(gone.paths or ())}, with {listed} documents"
            )
    for name, after in remaining.items():
        known = before.get(name)
        if known is None:
            yield Difference(role, Sign.ADDED, f"role {name} for {', '.join(after.paths or ())}")
        yield from _keys(
            role,
            name,
            (named_keys(old, known.keyids), known.threshold) if known is not None else ((), 0),
            (named_keys(new, after.keyids), after.threshold),
        )


def _keys(
    signs: str, role: str, old: tuple[tuple[NamedKey, ...], int], new: tuple[tuple[NamedKey, ...], int]
) -> Iterator[Difference]:
    before, after = {key.public: key for key in old[0]}, {key.public: key for key in new[0]}
    for public in (k for k in before if k not in after):
        yield Difference(signs, Sign.REMOVED, f"{_show(before[public])} may not sign {role} any more")
    for public in (k for k in after if k not in before):
        yield Difference(signs, Sign.ADDED, f"{_show(after[public])} may sign {role}")
    if old[1] != new[1] or before.keys() != after.keys():
        yield Difference(signs, Sign.CHANGED, f"{role} takes {new[1]} of {len(after)} signatures, was {old[1]}")


def _documents(staged: StagedChange, role: str, data: bytes) -> list[Difference]:
    new = load(data, Targets).signed.targets
    old = latest(staged.base.files, Targets, role).signed.targets if role in staged.base.versions else {}
    withdrawn = sorted(old.keys() - new.keys())
    found = [Difference(role, Sign.REMOVED, f"{path}: nobody adopts it any more") for path in withdrawn]
    for path, target in sorted(new.items()):
        if path in old and old[path] == target:
            continue
        digest = target.hashes["sha256"][:SHORT]
        sign = Sign.CHANGED if path in old else Sign.ADDED
        found.append(Difference(role, sign, f"{path} (sha256:{digest}, {target.length} bytes)"))
        if target.unrecognized_fields.get("custom"):
            notes = sorted(target.unrecognized_fields["custom"].items())
            found.append(Difference(role, sign, "  noted: " + ", ".join(f"{key}={value}" for key, value in notes)))
        content = staged.documents[path]
        found += [Difference(role, way, f"  {text}") for way, text in _content(path, staged.context, content)]
    return found


def _content(path: str, context: Mapping[str, bytes], new: bytes) -> Iterator[tuple[Sign, str]]:
    """Say what a document changes, by its kind; one that does not parse says so, and no node will take it."""
    try:
        if path.startswith("grants/"):
            yield from _grant(path, context, new)
        elif path == TRUST_PATH:
            old = parse_fleet_trust(context[path]) if path in context else None
            yield from _trust(old, parse_fleet_trust(new))
        elif path == REVOCATIONS_PATH:
            yield from _revocations(context.get(path), new)
        elif path.startswith("policy/"):
            yield from _lines(context.get(path, b""), new)
    except FleetError as error:
        yield Sign.CHANGED, f"this document is not valid: {error.private}"


def _grant(path: str, context: Mapping[str, bytes], data: bytes) -> Iterator[tuple[Sign, str]]:
    new = parse_grant(data, path)
    folder = path.rpartition("/")[0] + "/"
    others = [parse_grant(document, name) for name, document in context.items() if name.startswith(folder)]
    old = max(others, key=lambda grant: grant.revision, default=None)
    against = f"revision {old.revision}" if old is not None else "no authority at all"
    yield Sign.CHANGED, f"{new.agent}, revision {new.revision}, compared with {against}:"
    change = diff_grants(old, new)
    for text in change.widened:
        yield Sign.ADDED, text
    for text in change.narrowed:
        yield Sign.REMOVED, text
    labels = ", ".join(f"{key}={value}" for key, value in sorted(new.node_labels.items())) or "every node"
    yield Sign.CHANGED, f"bundle {new.bundle.name} {new.bundle.versions.text}"
    yield Sign.CHANGED, f"nodes {labels}"
    yield Sign.CHANGED, f"valid {new.not_before:%Y-%m-%d} to {new.not_after:%Y-%m-%d}"
    if new.break_glass:
        yield Sign.ADDED, f"BREAK-GLASS until {format_instant(new.not_after)}, signed by one person: {new.reason}"


def _trust(old: FleetTrust | None, new: FleetTrust) -> Iterator[tuple[Sign, str]]:
    before = _fields(old) if old is not None else set()
    after = _fields(new)
    for text in sorted(before - after):
        yield Sign.REMOVED, text
    for text in sorted(after - before):
        yield Sign.ADDED, text


def _fields(trust: FleetTrust) -> set[str]:
    return {
        f"fleet {trust.fleet}",
        f"profile {trust.profile}",
        *(f"director key {key.key_id[:SHORT]}" for key in trust.director_keys),
        *(f"key for secrets {key.key_id[:SHORT]}" for key in trust.secret_keys),
        *(f"log {vkey}" for vkey in trust.log_vkeys),
        *(
            f"the log {log.origin} ended: the next one begins with its first {log.size} leaves, root {log.root.hex()}"
            for log in trust.closed_logs
        ),
        *(f"node authority {fingerprint(certificate)[:SHORT]}" for certificate in load_certificates(trust.node_ca_pem)),
    }


def _revocations(old: bytes | None, new: bytes) -> Iterator[tuple[Sign, str]]:
    """Say what is revoked from now on, and what is not any more: no node takes a list that lost an entry."""
    before = Revocations() if old is None else parse_revocations(old)
    after = parse_revocations(new)
    for one, other, sign in ((before, after, Sign.REMOVED), (after, before, Sign.ADDED)):
        for key, entry in sorted(one.entries.items()):
            if other.entries.get(key) != entry:
                yield sign, f"{entry.kind} {entry.subject}: {entry.reason}"


def _lines(old: bytes, new: bytes) -> Iterator[tuple[Sign, str]]:
    lines = list(
        difflib.unified_diff(
            old.decode(errors="replace").splitlines(), new.decode(errors="replace").splitlines(), n=0, lineterm=""
        )
    )[2:]
    shown = [line for line in lines if not line.startswith("@@")]
    for line in shown[:MAX_LINES]:
        yield Sign.ADDED if line.startswith("+") else Sign.REMOVED, line[1:]
    if len(shown) > MAX_LINES:
        yield Sign.CHANGED, f"and {len(shown) - MAX_LINES} more lines: read the document itself"


def _show(key: NamedKey) -> str:
    return f"{key.name} ({key.key_id[:SHORT]})" if key.name else f"key {key.key_id[:SHORT]}"
