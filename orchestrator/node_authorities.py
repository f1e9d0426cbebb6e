"""The authorities that vouch for nodes: their succession, and the session port's certificate.

Owns: which authorities count and which one signs, the key files of a successor, and the renewal of the server
certificate. Two things decide together: the key files, and `trust/fleet.json` of the published release, which people
signed. Nothing is remembered in between, so a restart goes on where it stopped:

    files                listed in the release   who counts    who signs nodes    the session port shows
    present              -                       present       present            present
    present, successor   present                 present       present            present
    present, successor   both                    both          successor          present, until every node has moved
    present, successor   successor               successor     successor          successor, which becomes the present

A release that does not verify (somebody edited the database) says nothing: then all that are held count, the present
one signs, and nothing is withdrawn.

A node has moved when it opened a session with a certificate of the successor: it then knows both authorities. One whose
certificate has expired need not move, since it renews by its bound key before it comes back.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleet.errors import Code, FleetError
from fleet.model import Event
from fleet.times import to_ms
from fleet.x509 import fingerprint, fingerprints, is_issued_by, load_certificate, reading
from orchestrator.audit import event_leaf
from orchestrator.files import read_named, rename_durably, replace_durably
from orchestrator.pki import KeyPair, issue_server, new_authority
from orchestrator.store import nodes as rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from orchestrator.config import Files
    from orchestrator.registrar import Registrar

MAX_FILE = 64 * 1024
"""Bytes of a key or certificate file."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeAuthority:
    """One authority and its part at the moment.

    Attributes:
        pem: its certificate.
        key: its private key, PEM; empty where it has been withdrawn.
        listed: whether the published release lists it.
        issues: whether it signs the certificates of nodes.
        serves: whether it signed the session port's certificate.
    """

    certificate: x509.Certificate
    pem: bytes
    key: bytes
    listed: bool = False
    issues: bool = False
    serves: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hexadecimal."""
        return fingerprint(self.certificate)

    @property
    def pair(self) -> KeyPair:
        """What certificates are signed with."""
        return KeyPair(self.key, self.pem)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Who counts, and who signs."""

    trusted: tuple[NodeAuthority, ...]
    issuer: NodeAuthority


class NodeAuthorities:
    """The node authority and, during a rotation, its successor.

    Args:
        files: where their keys are, and the session port's.
        registrar: store, log, clock, journal, and who ends the calls of a node.
        listed: returns the certificates that the published release lists, PEM; empty before the first publish.
    """

    def __init__(self, files: Files, registrar: Registrar, listed: Callable[[], bytes]) -> None:
        self._files = files
        self._registrar = registrar
        self._listed = listed
        self._turn = threading.Lock()
        self._standing = self._judge()
        self.look()

    def issuer(self) -> KeyPair:
        """Return what the certificates of nodes are signed with."""
        return self._standing.issuer.pair

    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Return the authorities whose nodes are let in."""
        return tuple(authority.certificate for authority in self._standing.trusted)

    def bundle(self) -> bytes:
        """Return what nodes and operators check the session port's certificate against, PEM."""
        return b"".join(authority.pem for authority in self._standing.trusted)

    def list(self) -> tuple[NodeAuthority, ...]:
        """Return the present authority and its successor, if there is one."""
        with self._turn:
            present, successor = self._held()
            listed, issuer = self._listed_prints() or frozenset(), self._standing.issuer.fingerprint
            shown = self._shown()
            return tuple(
                NodeAuthority(
                    certificate=held.certificate,
                    pem=held.pem,
                    key=b"",
                    listed=held.fingerprint in listed,
                    issues=held.fingerprint == issuer,
                    serves=is_issued_by(shown, held.certificate),
                )
                for held in (present, successor)
                if held is not None
            )

    def prepare(self, by: str) -> None:
        """Make a successor, which signs nothing before the release lists it. Where there is one already, it stays.

        Args:
            by: name of the administrator.
        """
        with self._turn:
            if self._held()[1] is not None:
                return
            now = self._registrar.clock()
            made = new_authority(f"{self._registrar.fleet} nodes, {now:%Y-%m-%d}", now)
            # The certificate last: a key without one is no successor, and is made anew.
            replace_durably(self._files.next_node_authority_key, made.key, 0o600)
            replace_durably(self._files.next_node_authority, made.certificate, 0o644)
            self._note("node:authority:made", f"user/{by}", fingerprint(load_certificate(made.certificate)))

    def look(self) -> None:
        """Follow the release and the moves of the nodes, and renew the session port's certificate when it is due.

        Raises:
            FleetError: CONFIG_INVALID for files that do not fit each other.
        """
        with self._turn:
            before, now = self._standing, self._judge()
            if now.issuer.fingerprint != before.issuer.fingerprint:
                self._note("node:authority:succeeded", "coordinator", now.issuer.fingerprint)
            self._standing = now
            self._serve(now)
            present, successor = self._held()
            if successor is not None and now.trusted == (successor,):
                self._promote(present, successor)

    def _judge(self) -> _Standing:
        present, successor = self._held()
        listed = self._listed_prints()
        if listed is None:
            both = (present,) if successor is None else (present, successor)
            return _Standing(both, present if present.key or successor is None else successor)
        if successor is None or (successor.fingerprint not in listed and present.key):
            return _Standing((present,), present)
        if present.fingerprint in listed:
            return _Standing((present, successor), successor)
        return _Standing((successor,), successor)

    def _listed_prints(self) -> frozenset[str] | None:
        """Return what the release lists; None where what is stored does not verify, and so says nothing."""
        try:
            pem = self._listed()
        except FleetError as error:
            _LOG.warning("the release does not say which node authorities there are: %s", error)
            return None
        return fingerprints(pem) if pem else frozenset()

    def _held(self) -> tuple[NodeAuthority, NodeAuthority | None]:
        """Read the key files. A power cut may have left the successor's key in the place of the present one's."""
        files = self._files
        keys = [
            (_public(path), data)
            for path in (files.node_authority_key, files.next_node_authority_key)
            if (data := _read(path))
        ]

        def held(path: Path) -> NodeAuthority | None:
            pem = _read(path)
            if not pem:
                return None
            certificate = load_certificate(pem, Code.CONFIG_INVALID, str(path))
            key = next((data for public, data in keys if public == certificate.public_key()), b"")
            return NodeAuthority(certificate, pem, key)

        present, successor = held(files.node_authority), held(files.next_node_authority)
        if present is None or not (present.key or (successor is not None and successor.key)):
            raise FleetError(
                Code.CONFIG_INVALID,
                "there is no node authority, or no key that is its own",
                place=str(files.node_authority),
                remedy="Make the coordinator's files with `fleetctl init`, or restore them from a backup.",
            )
        return present, successor if successor is not None and successor.key else None

    def _promote(self, present: NodeAuthority, successor: NodeAuthority) -> None:
        """Put the successor in the present one's place, whose key is gone then, and end what nodes have open by it."""
        files = self._files
        self._note("node:authority:withdrawn", "coordinator", present.fingerprint)
        if files.next_node_authority_key.exists():
            rename_durably(files.next_node_authority_key, files.node_authority_key)
        rename_durably(files.next_node_authority, files.node_authority)
        with self._registrar.store.control.read() as connection:
            behind = [node.name for node in rows.list_nodes(connection) if node.authority != successor.fingerprint]
        reason = "the authority that signed its certificate was withdrawn"
        for name in behind:
            self._registrar.expel(f"node/{name}", FleetError(Code.CERTIFICATE_INVALID, reason, node=name))

    def _serve(self, standing: _Standing) -> None:
        """Renew the session port's certificate from two thirds of its life on, and when the successor is to sign it.

        One that none of the authorities at hand signed was put there by somebody, who looks after it.
        """
        shown, now = self._shown(), self._registrar.clock()
        present, successor = self._held()
        mine = [authority for authority in (present, successor) if authority is not None]
        signer = next((one for one in mine if is_issued_by(shown, one.certificate)), None)
        begin, end = shown.not_valid_before_utc, shown.not_valid_after_utc
        due = now >= begin + (end - begin) * 2 / 3
        if signer is None:
            if due:
                _LOG.warning("%s expires at %s and is not ours to renew", self._files.server_certificate, end)
            return
        issuer = standing.issuer
        if signer.fingerprint != issuer.fingerprint and (
            signer.fingerprint not in {one.fingerprint for one in standing.trusted}
            or not signer.key
            or self._all_moved(issuer, now)
        ):
            signer = issuer
        elif not due and self._shown_fits(shown):
            return
        made = issue_server(signer.pair, _names(shown), now)
        # Whoever shakes hands in between is shown the old certificate (`rpc.credentials`).
        replace_durably(self._files.server_key, made.key, 0o600)
        replace_durably(self._files.server_certificate, made.certificate, 0o644)
        self._note("coordinator:certificate:renewed", "coordinator", signer.fingerprint)

    def _all_moved(self, successor: NodeAuthority, now: datetime) -> bool:
        with self._registrar.store.control.read() as connection:
            nodes = rows.list_nodes(connection)
        staying = [node for node in nodes if not node.locked and node.certificate_expires_ms > to_ms(now)]
        return all(node.authority == successor.fingerprint for node in staying)

    def _shown(self) -> x509.Certificate:
        file = self._files.server_certificate
        return load_certificate(read_named(file, MAX_FILE), Code.CONFIG_INVALID, str(file))

    def _shown_fits(self, shown: x509.Certificate) -> bool:
        """Whether key and certificate belong together: a power cut between the two leaves a key that does not."""
        try:
            return _public(self._files.server_key) == shown.public_key()
        except FleetError:
            return False

    def _note(self, kind: str, actor: str, authority: str) -> None:
        now = self._registrar.clock()
        with self._registrar.store.control.write() as connection:
            self._registrar.log.append(connection, [event_leaf(kind, now, actor, authority=authority)])
        self._registrar.journal(Event(now, "", "", kind, f"authority {authority[:16]}"))


def _read(path: Path) -> bytes:
    """Return a file's content; empty for one that is not there."""
    return read_named(path, MAX_FILE) if path.exists() else b""


def _public(path: Path) -> object:
    with reading(Code.CONFIG_INVALID, "not a PEM private key", str(path)):
        return serialization.load_pem_private_key(read_named(path, MAX_FILE), password=None).public_key()


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a certificate is for."""
    with reading(text="the server certificate has no readable names"):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.IPAddress)
        return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]
