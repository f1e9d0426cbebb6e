"""Keys of the fleet that are no role of the release repository: director, node authority, keys for secrets.

Owns: changes of `trust/fleet.json`. A successor is listed beside the key in use, so that every node knows it before the
first document is signed with it; the old one is withdrawn when no node needs it any more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes

from fleet.errors import Code, FleetError
from fleet.release import AddDocument, parse_named_key
from fleet.signing import KEY_BYTES, SigningKey
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from fleet.x509 import load_certificate
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
NODE_CA = "node-ca"
SECRETS = "secrets"
FLEET_KEYS = frozenset({DIRECTOR, NODE_CA, SECRETS})
MAX_FILE = 64 * 1024
MIN_ID = 8


@dataclass(frozen=True, slots=True)
class Rotation:
    """What shall happen to the keys of one kind.

    Attributes:
        kind: one of `FLEET_KEYS`.
        added: files of public keys or certificates to list.
        removed: beginnings of key ids or fingerprints to withdraw.
        finish: for the director: withdraw all keys but the one that the coordinator has now.
    """

    kind: str
    added: tuple[Path, ...]
    removed: tuple[str, ...]
    finish: bool


def rotate_fleet_key(session: Session, rotation: Rotation, *, offline: bool, yes: bool) -> None:
    """List or withdraw keys of one kind in `trust/fleet.json`.

    With nothing to add or remove, the embedded coordinator gets a new director key, as soon as it is published. A
    director key is withdrawn only once no connected node needs it; `offline` asks nobody, and so checks nothing.

    Raises:
        FleetError: NOT_FOUND for a key that is not listed; CONFIG_INVALID when nothing is asked for; NODES_BEHIND while
            a node needs the key that would be withdrawn; else as `perform`.
    """
    directory = TrustDirectory(session.trust_folder())
    keys = TrustDirectory(session.home / "coordinator" / "keys")
    own = keys.path / "director.pem"
    successor = None
    if not rotation.added and not rotation.removed:
        if rotation.kind != DIRECTOR or not own.exists():
            remedy = "Name it with --add FILE or --remove KEY."
            raise FleetError(Code.CONFIG_INVALID, f"which key of {rotation.kind}?", remedy=remedy)
        successor = None if rotation.finish else SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))

    def operations(release: Release) -> tuple[Operation, ...]:
        target = release.target(TRUST_PATH)
        trust = parse_fleet_trust(target.check(directory.document(TRUST_PATH)))
        if successor is not None:
            trust = replace(trust, director_keys=(*trust.director_keys, successor.public))
        elif rotation.finish:
            key = SigningKey.from_pem(read_named(own, MAX_FILE)).public
            if key not in trust.director_keys:
                raise FleetError(Code.NOT_FOUND, "no release lists the key that the coordinator has", place=str(own))
            trust = replace(trust, director_keys=(key,))
        else:
            trust = _changed(trust, rotation)
        kept = frozenset(key.key_id for key in trust.director_keys)
        if rotation.kind == DIRECTOR and (rotation.finish or rotation.removed) and not offline:
            with session.connect() as client:
                absent = check_ready(client, Needed(target.digest, kept, absent_follow=True))
            if absent:
                session.output.note(f"Offline now, and will follow when they are back: {', '.join(absent)}.")
        return (AddDocument(TRUST_PATH, encode_fleet_trust(trust), replaces=target.digest),)

    published = perform(session, operations, f"rotate {rotation.kind}", offline=offline, yes=yes)
    if successor is None:
        return
    if not published:
        keys.write("director.next.pem", successor.to_pem(), 0o600)
        session.output.note(f"Once it is published, put {keys.path / 'director.next.pem'} in the place of {own.name}.")
        return
    keys.write("director.old.pem", own.read_bytes(), 0o600)
    keys.write("director.pem", successor.to_pem(), 0o600)
    session.output.note("The coordinator has the new key: start it again, and nodes follow as they connect.")
    session.output.note("Once every node was online: `fleetctl trust rotate director --finish`.")


def _changed(trust: FleetTrust, rotation: Rotation) -> FleetTrust:
    kind, added, removed = rotation.kind, rotation.added, rotation.removed
    if kind == NODE_CA:
        return replace(trust, node_ca_pem=_certificates(trust.node_ca_pem, added, removed))
    present = trust.director_keys if kind == DIRECTOR else trust.secret_keys
    new = tuple(
        parse_named_key(read_named(file, MAX_FILE).decode(errors="replace"), str(file)).public for file in added
    )
    gone = {_listed(present, word) for word in removed}
    kept = (*(key for key in present if key not in gone), *(key for key in new if key not in present))
    return replace(trust, director_keys=kept) if kind == DIRECTOR else replace(trust, secret_keys=kept)


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
    return load_certificate(pem, Code.CONFIG_INVALID).fingerprint(hashes.SHA256()).hex()
