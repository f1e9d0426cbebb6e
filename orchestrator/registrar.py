"""What enrolment of nodes and logins of operators share: where they stand, and the form of a one-use token.

Owns: `VERSION.PIN.ID.SECRET`, the text that a person carries to a machine. PIN is the SHA-256 of the enrolment port's
SubjectPublicKeyInfo, by which the machine knows its coordinator before it says a word; the secret is never sent.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from fleet.model import Event
    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.store.database import Store

MAX_TTL_S = 7 * 86_400
"""Seconds that a token may be good for."""

_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A new token.

    Attributes:
        text: what is handed out; holds the secret.
        expires: when it is worthless, used or not.
    """

    id: str
    secret: bytes
    expires: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Where identities are given out.

    Attributes:
        fleet: SPIFFE trust domain.
        pin: of the enrolment port.
        random_bytes: source of secrets (`secrets.token_bytes`).
        journal: takes an event for operators to see.
        expel: ends the calls of somebody (`node/NAME`, `user/NAME`) whose certificate just lost its worth.
    """

    fleet: str
    pin: bytes
    store: Store
    log: AuditLog
    clock: Clock
    random_bytes: Callable[[int], bytes]
    journal: Callable[[Event], None]
    expel: Callable[[str, FleetError], None]

    def token(self, version: str, ttl_s: int) -> Token:
        """Make a token, good for `ttl_s` seconds from now.

        Raises:
            FleetError: VALUE_INVALID for a time that no token may live.
        """
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise FleetError(Code.VALUE_INVALID, f"{ttl_s} s is not within {MAX_TTL_S} s", place="ttl_s")
        identifier, secret = self.random_bytes(_ID_BYTES).hex(), self.random_bytes(_SECRET_BYTES)
        text = ".".join((version, _base64url(self.pin), identifier, _base64url(secret)))
        return Token(identifier, secret, self.clock() + timedelta(seconds=ttl_s), text)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
