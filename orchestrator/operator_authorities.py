"""The authorities that vouch for operators, read again when their files change.

Owns: the operators' authority, whose key is elsewhere, and the login authority, whose key is here. When either is
replaced, every call of an operator ends: whose certificate still counts comes again. Files that do not fit each other
are passed over with a warning, and what counted before counts on: write the key first and then the certificate.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from fleet.errors import Code, FleetError
from fleet.x509 import is_issued_by, load_certificate, reading
from orchestrator.files import read_named
from orchestrator.pki import KeyPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from orchestrator.config import Files

MAX_FILE = 64 * 1024
"""Bytes of a key or certificate file."""

USER = "user/"
"""How the names of operators begin among callers."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    operators: x509.Certificate
    login: KeyPair | None
    login_certificate: x509.Certificate | None


class OperatorAuthorities:
    """Who vouches for operators.

    Args:
        files: where the authorities are.
        expel: ends the calls of everybody whose name begins like this.

    Raises:
        FleetError: CONFIG_INVALID for files that are missing or do not fit each other.
    """

    def __init__(self, files: Files, expel: Callable[[str, FleetError], None]) -> None:
        self._files = files
        self._expel = expel
        self._turn = threading.Lock()
        self._read = self._load()

    @property
    def operators(self) -> x509.Certificate:
        """The authority whose key is not with the coordinator."""
        return self._read.operators

    @property
    def login(self) -> x509.Certificate | None:
        """The authority of logins; None where nobody can log in."""
        return self._read.login_certificate

    def login_pair(self) -> KeyPair | None:
        """Return what signs operators at a login; None where nobody can."""
        return self._read.login

    def look(self) -> None:
        """Read the files again."""
        with self._turn:
            try:
                found = self._load()
            except (FleetError, OSError) as error:
                _LOG.warning("the authorities of operators stay as they were: %s", error)
                return
            if found == self._read:
                return
            self._read = found
            _LOG.info("operators are vouched for by %s and %s", found.operators.subject, found.login_certificate)
        self._expel(USER, FleetError(Code.CERTIFICATE_INVALID, "another authority vouches for operators now"))

    def _load(self) -> _Read:
        """Read all of it.

        1. Every file is readable; the login authority may be absent.
        2. The login authority's key is the one in its certificate.
        3. The operators' authority vouches for the login authority.
        """
        files = self._files
        operators = load_certificate(
            read_named(files.operator_authority, MAX_FILE), Code.CONFIG_INVALID, str(files.operator_authority)
        )
        if not files.login_authority.exists():
            return _Read(operators, None, None)
        pair = KeyPair(read_named(files.login_authority_key, MAX_FILE), read_named(files.login_authority, MAX_FILE))
        certificate = load_certificate(pair.certificate, Code.CONFIG_INVALID, str(files.login_authority))
        with reading(Code.CONFIG_INVALID, "not a PEM private key", str(files.login_authority_key)):
            key = serialization.load_pem_private_key(pair.key, password=None)
            fits = key.public_key() == certificate.public_key()
        if not fits:
            raise FleetError(Code.CONFIG_INVALID, "the key is not the certificate's", place=str(files.login_authority))
        if not is_issued_by(certificate, operators):
            raise FleetError(
                Code.CONFIG_INVALID,
                "the operators' authority did not sign it",
                place=str(files.login_authority),
                remedy="Make one with `fleetctl operator authority` where the operators' authority is.",
            )
        return _Read(operators, pair, certificate)
