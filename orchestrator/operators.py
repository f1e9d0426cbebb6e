"""Who may operate the fleet: invitations, logins, revocation.

Owns: one-use bootstrap tokens, the key of each operator, and the issue of 12 h certificates. An operator makes the key
on their own machine; a token binds it to the name that an administrator invited, and from then on the key itself asks
for the next certificate until it is revoked. A token's secret is never sent (see `login_mac`).

Each certificate comes with a counter, which the next renewal shows: as with nodes (`orchestrator.enrolment`), one lost
answer is tolerated, and anything else means that the key was copied. Then neither copy counts any more.

Operators whose certificate the offline authority signed need no row here; once the coordinator knows a name, only what
it issued under that name counts. Real authority over code and grants is with signing keys that are not here.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.keys import P256PublicKey
from fleet.model import Event
from fleet.names import is_name
from fleet.times import to_ms
from orchestrator.audit import event_leaf
from orchestrator.pki import LOGIN_LIFETIME, certify_operator, requested_key, stored_key
from orchestrator.principals import OperatorIdentity, Role
from orchestrator.store import operators as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from orchestrator.pki import KeyPair
    from orchestrator.registrar import Registrar

TOKEN_VERSION = "flo1"  # noqa: S105 - the format's name
LOGIN_CONTEXT = b"fleet-login-v1"
KEY_CONTEXT = b"fleet-login-key-v2"
MAX_SEQUENCE = 2**53 - 1

COPIED = "two machines use this login: its counter went back"
"""Why an operator is locked out whose key was copied."""

MAX_REASON = 200
"""Characters of what somebody writes about a lock or a revocation."""


@dataclass(frozen=True, slots=True)
class LoginProof:
    """What an operator's machine shows: a request for its key, and why it may have a certificate.

    Attributes:
        mac: with a bootstrap token, the proof of its secret; else empty.
        signature: the request's own key over this challenge.
        sequence: login counter; 0 with a token.
    """

    csr: bytes
    mac: bytes
    signature: bytes
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """An operator's new certificate, with the authority that signed it (PEM); the next renewal shows `sequence`."""

    operator: str
    chain: bytes
    roles: tuple[str, ...]
    team: str
    sequence: int


def login_mac(secret: bytes, nonce: bytes, csr: bytes) -> bytes:
    """Compute the proof of a bootstrap token's secret."""
    return hmac.digest(secret, LOGIN_CONTEXT + nonce + csr, "sha256")


def login_message(nonce: bytes, sequence: int, csr: bytes) -> bytes:
    """Compose what the operator's key signs; the counter is 8 bytes, big-endian."""
    return KEY_CONTEXT + nonce + sequence.to_bytes(8, "big") + csr


class Operators:
    """The operator use cases; one transaction each.

    Args:
        registrar: what it shares with the enrolment of nodes.
        authority: returns key and certificate of the login authority; None where nobody can log in.
    """

    def __init__(self, registrar: Registrar, authority: Callable[[], KeyPair | None]) -> None:
        self._registrar = registrar
        self._authority = authority
        self._store = registrar.store
        self._log = registrar.log
        self._clock = registrar.clock
        self._journal = registrar.journal
        self._expel = registrar.expel

    def add(self, name: str, roles: Sequence[str], team: str, ttl_s: int, by: str) -> tuple[str, datetime]:
        """Invite an operator, or invite one anew: an earlier key and its certificates are worthless from then on.

        Args:
            name: of the operator.
            roles: what they may do, words of `Role`.
            team: limits a deployer to the applications of one team; empty for all.
            ttl_s: how long the token is good.
            by: name of the administrator.

        Returns:
            The token `flo1.PIN.ID.SECRET` and when it expires.

        Raises:
            FleetError: VALUE_INVALID for a bad name, role, team or time to live; CONFIG_INVALID without a login
                authority.
        """
        if self._authority() is None:
            raise _no_authority()
        for place, text in (("name", name), ("team", team or "none")):
            if not is_name(text):
                raise FleetError(Code.VALUE_INVALID, f"{text!r} is not a name", place=place)
        if not roles or not set(roles) <= set(Role):
            raise FleetError(Code.VALUE_INVALID, f"expected one or more of {', '.join(Role)}", place="roles")
        if team and set(roles) - {Role.DEPLOYER, Role.VIEWER, Role.APPROVER}:
            raise FleetError(Code.VALUE_INVALID, "whoever administers is of all teams", place="team")
        token, now = self._registrar.token(TOKEN_VERSION, ttl_s), self._clock()
        with self._store.control.write() as connection:
            before = rows.get_operator(connection, name)
            epoch = 1 if before is None else before.epoch + 1
            chosen = tuple(sorted(set(roles)))
            row = rows.OperatorRow(name, chosen, team, epoch, None, "", by, to_ms(now), 0)
            rows.put_operator(connection, row)
            rows.put_token(connection, rows.OperatorTokenRow(token.id, token.secret, name, to_ms(token.expires), None))
            self._note(connection, "operator:identity:invited", now, f"user/{by}", row, token=token.id)
        self._expel(f"user/{name}", FleetError(Code.CERTIFICATE_INVALID, f"{name} was invited again"))
        self._journal(Event(now, "", "", "operator:identity:invited", f"{name}, by {by}"))
        return token.text, token.expires

    def admit(self, identity: OperatorIdentity) -> OperatorIdentity:
        """Check that a certificate still counts, and return what its owner may do now.

        1. A name that the coordinator does not know needs a certificate of the offline authority.
        2. A name that it knows is not revoked, and the certificate is of its present invitation.
        3. Roles are those of the certificate that the operator still has.

        Raises:
            FleetError: CERTIFICATE_INVALID.
        """
        with self._store.control.read() as connection:
            row = rows.get_operator(connection, identity.name)
        if row is None:
            if identity.epoch:
                raise FleetError(Code.CERTIFICATE_INVALID, f"rule 1: nobody invited {identity.name}")
            return identity
        if row.revoked or row.epoch != identity.epoch:
            raise FleetError(
                Code.CERTIFICATE_INVALID,
                f"rule 2: {identity.name} is revoked, or was invited again",
                operator=identity.name,
                remedy="Ask an administrator for a new token (`fleetctl operator add`), then `fleetctl login`.",
            )
        return replace(identity, roles=identity.roles & {Role(role) for role in row.roles}, team=row.team)

    def login(self, token_id: str, nonce: bytes, proof: LoginProof) -> LoggedIn:
        """Bind a key to the name that a token is for.

        1. The token exists and has not expired.
        2. The proof shows its secret, over this nonce and this request.
        3. The token is unused, or was used by the same key (its first answer got lost).
        4. The request's key signed this nonce and request, and its owner is not revoked.

        Raises:
            FleetError: TOKEN_INVALID, the same for rules 1 to 3; CERTIFICATE_INVALID; MESSAGE_INVALID for a bad
                request; CONFIG_INVALID without a login authority.
        """
        now = self._clock()
        with self._store.control.write() as connection:
            token = rows.get_token(connection, token_id)
            if token is None or token.expires_ms <= to_ms(now):
                raise FleetError(Code.TOKEN_INVALID, "unknown or expired token")
            if not hmac.compare_digest(login_mac(token.secret, nonce, proof.csr), proof.mac):
                raise FleetError(Code.TOKEN_INVALID, "the proof of the secret is wrong")
            key = stored_key(requested_key(proof.csr))
            if token.used_by not in {None, key}:
                raise FleetError(Code.TOKEN_INVALID, "the token was used with another key")
            row = rows.get_operator(connection, token.operator)
            if row is None or row.revoked:
                raise FleetError(Code.CERTIFICATE_INVALID, f"{token.operator} is revoked")
            _check_signature(key, nonce, proof)
            rows.take_token(connection, token_id, key)
            newest = row.sequence + 1
            # Whoever asks a second time may hold the first answer, or not.
            held = row.sequence if token.used_by is not None else newest
            row = replace(row, bound_key=key, sequence=newest, confirmed=held)
            return self._issue(connection, row, proof.csr, now, "operator:identity:bound")

    def renew(self, name: str, nonce: bytes, proof: LoginProof) -> LoggedIn:
        """Give an operator the next certificate for the same key; the old one may have expired.

        1. The operator exists, has a key, and is not revoked.
        2. The request is for that key, and the key signed this nonce, counter and request.
        3. The counter is the newest, or the one confirmed last while the newest was never seen; else the key is in two
           places, and the operator is locked out until an administrator invites them anew.

        Raises:
            FleetError: CERTIFICATE_INVALID for every rule; MESSAGE_INVALID for a bad request.
        """
        now = self._clock()
        if not 0 <= proof.sequence <= MAX_SEQUENCE:
            raise FleetError(Code.MESSAGE_INVALID, "a counter is out of range")
        with self._store.control.write() as connection:
            row = rows.get_operator(connection, name)
            key = stored_key(requested_key(proof.csr))
            if row is None or row.revoked or row.bound_key != key:
                raise FleetError(Code.CERTIFICATE_INVALID, f"{name} is revoked, or has another key")
            _check_signature(key, nonce, proof)
            if proof.sequence in {row.sequence, row.confirmed}:
                moved = replace(row, sequence=row.sequence + 1, confirmed=proof.sequence)
                return self._issue(connection, moved, proof.csr, now, "operator:certificate:renewed")
            locked = replace(row, revoked=COPIED, bound_key=None)
            rows.put_operator(connection, locked)
            rows.drop_token_of(connection, name)
            counters = {"shown": proof.sequence, "newest": row.sequence, "confirmed": row.confirmed}
            self._note(connection, "operator:identity:locked", now, "coordinator", locked, reason=COPIED, **counters)
        error = FleetError(
            Code.CERTIFICATE_INVALID,
            f"{name}: {COPIED}",
            operator=name,
            remedy="Find out who has a copy of the key. Then ask an administrator for a new token"
            f" (`fleetctl operator add {name}`), and `fleetctl login` with it.",
        )
        self._expel(f"user/{name}", error)
        self._journal(Event(now, "", "", "operator:identity:locked", f"{name}: {COPIED}"))
        raise error

    def revoke(self, name: str, reason: str, by: str) -> rows.OperatorRow:
        """Take an operator's access back, at once and until somebody invites them again.

        A name that only the offline authority vouched for is revoked as well.

        Raises:
            FleetError: VALUE_INVALID for a bad name, no reason, or oneself.
        """
        check_reason(reason)
        if not is_name(name):
            raise FleetError(Code.VALUE_INVALID, f"{name!r} is not a name", place="name")
        if name == by:
            raise FleetError(Code.VALUE_INVALID, "nobody revokes themselves: ask another administrator", place="name")
        now = self._clock()
        with self._store.control.write() as connection:
            before = rows.get_operator(connection, name)
            if before is None:
                before = rows.OperatorRow(name, (), "", 1, None, "", by, to_ms(now), 0)
            row = replace(before, revoked=reason, bound_key=None)
            rows.put_operator(connection, row)
            rows.drop_token_of(connection, name)
            self._note(connection, "operator:identity:revoked", now, f"user/{by}", row, reason=reason)
        self._expel(f"user/{name}", FleetError(Code.CERTIFICATE_INVALID, f"{name} is revoked"))
        self._journal(Event(now, "", "", "operator:identity:revoked", f"{name}, by {by}: {reason}"))
        return row

    def list(self) -> tuple[rows.OperatorRow, ...]:
        """Return everybody whom the coordinator knows, by name."""
        with self._store.control.read() as connection:
            return rows.list_operators(connection)

    def _issue(self, connection: Connection, row: rows.OperatorRow, csr: bytes, now: datetime, kind: str) -> LoggedIn:
        pair = self._authority()
        if pair is None:
            raise _no_authority()
        roles = frozenset(Role(role) for role in row.roles)
        identity = OperatorIdentity(row.name, roles, now + LOGIN_LIFETIME, row.epoch)
        certificate = certify_operator(pair, self._registrar.fleet, identity, csr, now)
        row = replace(row, certificate_expires_ms=to_ms(identity.expires))
        rows.put_operator(connection, row)
        self._note(connection, kind, now, f"user/{row.name}", row)
        return LoggedIn(row.name, certificate + pair.certificate, row.roles, row.team, row.sequence)

    def _note(
        self, connection: Connection, kind: str, now: datetime, actor: str, row: rows.OperatorRow, **facts: str | int
    ) -> None:
        key = "" if row.bound_key is None else P256PublicKey(row.bound_key).key_id
        leaf = event_leaf(
            kind, now, actor, operator=row.name, roles=list(row.roles), team=row.team, epoch=row.epoch, key=key, **facts
        )
        self._log.append(connection, [leaf])


def check_reason(reason: str) -> None:
    """Refuse an empty, long or unreadable reason: whoever looks into the log later has nothing else.

    Raises:
        FleetError: VALUE_INVALID.
    """
    if not 0 < len(reason) <= MAX_REASON or not reason.isprintable():
        raise FleetError(Code.VALUE_INVALID, f"one line of at most {MAX_REASON} characters", place="reason")


def _check_signature(key: bytes, nonce: bytes, proof: LoginProof) -> None:
    try:
        P256PublicKey(key).verify(proof.signature, login_message(nonce, proof.sequence, proof.csr))
    except FleetError as error:
        raise FleetError(Code.CERTIFICATE_INVALID, "the key did not sign this challenge") from error


def _no_authority() -> FleetError:
    return FleetError(
        Code.CONFIG_INVALID,
        "this coordinator has no login authority",
        place="keys/login-ca.pem",
        remedy="Make one with `fleetctl operator authority` where the operators' authority is.",
    )
