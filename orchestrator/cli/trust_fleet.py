"""Keys of the fleet that are no role of the release repository: director, audit log, node authority, for secrets.

Owns: changes of `trust/fleet.json`. A successor is listed beside the key in use, so that every node knows it before the
first document is signed with it; the old one is withdrawn when no node needs it any more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.checkpoint import format_vkey, key_name, parse_vkey
from fleet.errors import Code, FleetError
from fleet.logs import origin_of
from fleet.release import AddDocument, parse_named_key
from fleet.signing import KEY_BYTES, SigningKey
from fleet.targets import TRUST_PATH, WITNESS_POLICY_PATH
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from fleet.witnesses import name_logs
from fleet.x509 import fingerprint, load_certificate
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trust_change import perform
from orchestrator.cli.trust_readiness import Needed, check_ready
from orchestrator.files import read_named

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.release import Operation
    from fleet.signing import PublicKey
    from fleet.trust import FleetTrust, Release
    from orchestrator.cli.session import Session

DIRECTOR = "director"
LOG = "log"
NODE_CA = "node-ca"
SECRETS = "secrets"
FLEET_KEYS = frozenset({DIRECTOR, LOG, NODE_CA, SECRETS})
OF_COORDINATOR = frozenset({DIRECTOR, LOG})
"""Kinds whose private key the coordinator has, in a file of that name."""

MAX_FILE = 64 * 1024
MIN_ID = 8


@dataclass(frozen=True, slots=True)
class Rotation:
    """What shall happen to the keys of one kind.

    Attributes:
        kind: one of `FLEET_KEYS`.
        added: files of public keys or certificates to list.
        removed: beginnings of key ids or fingerprints to withdraw.
        finish: for director and log: withdraw all keys but the one that the coordinator has now.
    """

    kind: str
    added: tuple[Path, ...]
    removed: tuple[str, ...]
    finish: bool


def rotate_fleet_key(session: Session, rotation: Rotation, *, offline: bool, yes: bool) -> None:
    """List or withdraw keys of one kind in `trust/fleet.json`.

    With nothing to add or remove, the embedded coordinator gets a new key of director or log, as soon as it is
    published. Such a key is withdrawn only once no connected node needs it; `offline` asks nobody, and so checks
    nothing. A witness policy that names logs names the same ones as `trust/fleet.json` afterwards.

    Raises:
        FleetError: NOT_FOUND for a key that is not listed; CONFIG_INVALID when nothing is asked for; NODES_BEHIND while
            a node needs the key that would be withdrawn; else as `perform`.
    """
    directory = TrustDirectory(session.trust_folder())
    keys = TrustDirectory(session.home / "coordinator" / "keys")
    kind = rotation.kind
    own = keys.path / f"{kind}.pem"
    successor = None
    if not rotation.added and not rotation.removed:
        if kind not in OF_COORDINATOR or not own.exists():
            remedy = "Name it with --add FILE or --remove KEY."
            raise FleetError(Code.CONFIG_INVALID, f"which key of {kind}?", remedy=remedy)
        successor = None if rotation.finish else SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))

    def operations(release: Release) -> tuple[Operation, ...]:
        target = release.target(TRUST_PATH)
        trust = parse_fleet_trust(target.check(directory.document(TRUST_PATH)))
        if successor is not None:
            trust = _with_keys(trust, kind, (*_keys_of(trust, kind), successor.public))
        elif rotation.finish:
            key = SigningKey.from_pem(read_named(own, MAX_FILE)).public
            if key not in _keys_of(trust, kind):
                raise FleetError(Code.NOT_FOUND, "no release lists the key that the coordinator has", place=str(own))
            trust = _with_keys(trust, kind, (key,))
        else:
            trust = _changed(trust, rotation)
        if kind in OF_COORDINATOR and (rotation.finish or rotation.removed) and not offline:
            with session.connect() as client:
                absent = check_ready(client, _needed(target.digest, trust, kind))
            if absent:
                session.output.note(f"Offline now, and will follow when they are back: {', '.join(absent)}.")
        changed = AddDocument(TRUST_PATH, encode_fleet_trust(trust), replaces=target.digest)
        return (changed, *(named_logs(directory, release, trust) if kind == LOG else ()))

    published = perform(session, operations, f"rotate {kind}", offline=offline, yes=yes)
    if successor is not None:
        _put_in_place(session, keys, kind, successor, published=published)
    elif published and kind == LOG and rotation.finish:
        (keys.path / "log.old.pem").unlink(missing_ok=True)  # it signs nothing from the next start on


def _put_in_place(session: Session, keys: TrustDirectory, kind: str, key: SigningKey, *, published: bool) -> None:
    """Give the embedded coordinator its new key, or lay it beside the old one until the release lists it."""
    own = keys.path / f"{kind}.pem"
    if not published:
        keys.write(f"{kind}.next.pem", key.to_pem(), 0o600)
        session.output.note(f"Once it is published, put {keys.path / kind}.next.pem in the place of {own.name}.")
        return
    keys.write(f"{kind}.old.pem", own.read_bytes(), 0o600)
    keys.write(f"{kind}.pem", key.to_pem(), 0o600)
    session.output.note("The coordinator has the new key: start it again, and nodes follow as they connect.")
    session.output.note(f"Once every node was online: `fleetctl trust rotate {kind} --finish`.")


def _needed(trust_digest: str, trust: FleetTrust, kind: str) -> Needed:
    if kind == LOG:
        return Needed(trust_digest, log_keys=frozenset(map(key_name, trust.log_vkeys)), absent_follow=True)
    return Needed(trust_digest, frozenset(key.key_id for key in trust.director_keys), absent_follow=True)


def named_logs(directory: TrustDirectory, release: Release, trust: FleetTrust) -> tuple[Operation, ...]:
    """Return the change of a witness policy that names logs; nothing where it names none, or these."""
    listed = release.documents.get(WITNESS_POLICY_PATH)
    if listed is None:
        return ()
    before = listed.check(directory.document(WITNESS_POLICY_PATH))
    after = name_logs(before, trust.log_vkeys)
    return () if after == before else (AddDocument(WITNESS_POLICY_PATH, after, replaces=listed.digest),)


def _keys_of(trust: FleetTrust, kind: str) -> tuple[PublicKey, ...]:
    if kind == LOG:
        return tuple(parse_vkey(vkey).public for vkey in trust.log_vkeys)
    return trust.director_keys if kind == DIRECTOR else trust.secret_keys


def _with_keys(trust: FleetTrust, kind: str, keys: tuple[PublicKey, ...]) -> FleetTrust:
    if kind == LOG:
        origin = origin_of(trust.log_vkeys)
        return replace(trust, log_vkeys=tuple(format_vkey(origin, key) for key in keys))
    return replace(trust, director_keys=keys) if kind == DIRECTOR else replace(trust, secret_keys=keys)


def _changed(trust: FleetTrust, rotation: Rotation) -> FleetTrust:
    kind, added, removed = rotation.kind, rotation.added, rotation.removed
    if kind == NODE_CA:
        return replace(trust, node_ca_pem=_certificates(trust.node_ca_pem, added, removed))
    present = _keys_of(trust, kind)
    new = tuple(
        parse_named_key(read_named(file, MAX_FILE).decode(errors="replace"), str(file)).public for file in added
    )
    gone = {_listed(present, word) for word in removed}
    kept = (*(key for key in present if key not in gone), *(key for key in new if key not in present))
    return _with_keys(trust, kind, kept)


def _listed(present: tuple[PublicKey, ...], word: str) -> PublicKey:
    found = [key for key in present if len(word) >= MIN_ID and key.key_id.startswith(word)]
    if len(found) != 1:
        raise FleetError(Code.NOT_FOUND, f"{len(found)} listed keys have an id that begins with {word!r}")
    return found[0]


def _certificates(pem: bytes, added: tuple[Path, ...], removed: tuple[str, ...]) -> bytes:
    blocks = [
        f"{block}-----END CERTIFICATE-----\n".lstrip() for block in pem.decode().split("-----END CERTIFICATE-----")[:-1]
    ]
    prints = {_fingerprint(block.encode()): block for block in blocks}
    for word in removed:
        found = [digest for digest in prints if len(word) >= MIN_ID and digest.startswith(word)]
        if len(found) != 1:
            raise FleetError(Code.NOT_FOUND, f"{len(found)} certificates have a fingerprint that begins with {word!r}")
        del prints[found[0]]
    for file in added:
        data = read_named(file, MAX_FILE)
        prints[_fingerprint(data)] = data.decode()
    return "".join(prints.values()).encode()


def _fingerprint(pem: bytes) -> str:
    return fingerprint(load_certificate(pem, Code.CONFIG_INVALID))
