"""Signed actions of operators, and their place in the audit log.

Owns: the check that a changing call carries its operator's own signed statement (`fleet.action`), once, and that the
statement becomes a leaf in the transaction of the change. A call that is under way announces its statement in the
context; the first append to the audit log in that context writes it before its own leaves. What a call changes and who
asked for it thus come together or not at all, and no use case has to pass it on.

A certificate becomes a leaf before the first action under it, so that whoever has the log and the operators' authority
needs nothing else to check every action.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.action import WINDOW, Action, check_call, open_action
from fleet.errors import Code, FleetError
from fleet.keys import P256PublicKey
from fleet.times import to_ms
from fleet.x509 import certificate_digest
from orchestrator.audit import PREFACE, event_leaf
from orchestrator.pki import stored_key
from orchestrator.store import operators as rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509
    from sqlalchemy import Connection

    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.store.database import Store


@dataclass(slots=True)
class Statement:
    """A verified statement on its way into the log."""

    action: Action
    envelope: bytes
    certificate: x509.Certificate
    recorded: bool = field(default=False)


class Actions:
    """Checks and records signed actions."""

    def __init__(self, fleet: str, store: Store, log: AuditLog, clock: Clock) -> None:
        self._fleet = fleet
        self._store = store
        self._log = log
        self._clock = clock

    def verify(
        self, envelope: bytes, *, operator: str, certificate: x509.Certificate, method: str, request: bytes
    ) -> Statement:
        """Check the statement that came with a call (rules 1 to 6 of `fleet.action`).

        Rule 7, that its nonce is new, is checked in the transaction that records it.

        Raises:
            FleetError: ACTION_INVALID.
        """
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise FleetError(Code.ACTION_INVALID, "the certificate is not for a P-256 key")
        action = open_action(
            envelope,
            fleet=self._fleet,
            operator=operator,
            certificate=certificate_digest(certificate),
            key=P256PublicKey(stored_key(key)),
        )
        check_call(action, method=method, request=request, now=self._clock())
        return Statement(action, envelope, certificate)

    def record(self, statement: Statement) -> None:
        """Write a statement in a transaction of its own, unless its call has written it.

        Raises:
            FleetError: ACTION_INVALID when the nonce was used before.
        """
        if statement.recorded:
            return
        with announced(statement, self._clock), self._store.control.write() as connection:
            self._log.append(connection, [])


@contextmanager
def announced(statement: Statement, clock: Clock) -> Iterator[None]:
    """Let the first append of this context write the statement."""

    def preface(connection: Connection, position: int) -> tuple[bytes, ...]:
        if statement.recorded:
            return ()
        action, now = statement.action, clock()
        leaves = [statement.envelope]
        forget = to_ms(now - 3 * WINDOW)
        if not rows.take_nonce(connection, action.nonce, to_ms(now), forget):
            raise FleetError(Code.ACTION_INVALID, "rule 7: this statement was used before")
        if not rows.knows_certificate(connection, action.certificate):
            shown = statement.certificate.public_bytes(serialization.Encoding.PEM).decode()
            actor = f"user/{action.operator}"
            leaves.insert(0, event_leaf("operator:certificate:shown", now, actor, certificate=shown))
            rows.put_certificate(connection, action.certificate, position)
        statement.recorded = True
        return tuple(leaves)

    token = PREFACE.set(preface)
    try:
        yield
    finally:
        PREFACE.reset(token)
