"""What the coordinator's two ports show and ask for in TLS, read again when the files change.

Owns: server credentials. Keys and certificates are looked at for each handshake, so that a certificate is replaced
without a restart: write the key first and then the certificate. Files that do not fit each other are passed over with a
warning, and what was shown before is shown on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import grpc
from cryptography.hazmat.primitives import serialization

from fleet.errors import Code, FleetError
from fleet.x509 import MALFORMED, load_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.config import Files

_LOG = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


def session_credentials(files: Files) -> grpc.ServerCredentials:
    """Mutual TLS for nodes and operators."""
    roots = (files.node_authority, files.operator_authority)
    shown = _Shown(files.server_key, files.server_certificate, roots, successor=files.next_node_authority)
    return _dynamic(shown, client=True)


def enrolment_credentials(files: Files) -> grpc.ServerCredentials:
    """Server TLS only: whoever comes has no valid certificate."""
    shown = _Shown(files.enrolment_key, files.enrolment_certificate, ())
    return _dynamic(shown, client=False)


def _dynamic(shown: _Shown, *, client: bool) -> grpc.ServerCredentials:
    # gRPC keeps the previous configuration for None (`dynamic_ssl_server_credentials`), which its stubs do not know.
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", shown.fetch)
    return grpc.dynamic_ssl_server_credentials(shown.first, fetch, require_client_authentication=client)


def read_file(file: Path) -> bytes:
    """Read one of the coordinator's own files.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"cannot read it: {error.strerror}",
            place=str(file),
            remedy="Make the coordinator's files with `fleetctl init`.",
        ) from error


class _Shown:
    """What one port shows; `fetch` runs on gRPC's own threads, once for each handshake."""

    def __init__(self, key: Path, certificate: Path, roots: Sequence[Path], successor: Path | None = None) -> None:
        self._key = key
        self._certificate = certificate
        self._roots = roots
        self._successor = successor
        self._stamp = self._look()
        self.first = self._load()

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration when a file has changed; None keeps the old one."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            configuration = self._load()
        except (FleetError, OSError) as error:
            _LOG.warning("the changed certificate is not shown: %s", error)
            return None
        self._stamp = stamp
        _LOG.info("shows the new certificate %s", self._certificate)
        return configuration

    def _look(self) -> _Stamp:
        try:
            stats = [path.stat() for path in (self._key, self._certificate, *self._all_roots())]
        except FileNotFoundError as error:
            read_file(self._key)
            read_file(self._certificate)
            raise FleetError(Code.CONFIG_INVALID, "a file is missing", place=str(error.filename)) from error
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _all_roots(self) -> tuple[Path, ...]:
        """The authorities, with the successor of one while there is a successor."""
        here = self._successor is not None and self._successor.exists()
        return (*self._roots, self._successor) if here and self._successor is not None else tuple(self._roots)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        key, certificate = read_file(self._key), read_file(self._certificate)
        try:
            private = serialization.load_pem_private_key(key, password=None)
            fits = private.public_key() == load_certificate(certificate).public_key()
        except MALFORMED as error:
            raise FleetError(Code.CONFIG_INVALID, "not a PEM private key", place=str(self._key)) from error
        if not fits:
            raise FleetError(Code.CONFIG_INVALID, "the key is not the certificate's", place=str(self._certificate))
        roots = b"".join(read_file(path) for path in self._all_roots())
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=roots or None)
