"""How a machine becomes a node, and how a node keeps its certificate.

Owns: join tokens, the bound key of each node, the join-state counter that reveals a cloned disk, and the issue of 24 h
certificates. A token's secret is never sent: the node proves it by an HMAC over the server's nonce, its bound key and
its request. What the node says with the token's own key (`fleet.joining`) is kept in the audit log for operators, who
need not believe that the coordinator enrolled the right machine. Challenges live in the stream that asked for them
(`rpc.enrolment`), so none can be replayed.

Join state is (epoch, sequence). Enrolment begins an epoch and makes every earlier certificate and assignment of the
name worthless. Each renewal gives out the next sequence. A node whose renewal was answered into the void comes with
the sequence before; that is accepted until the newer one was seen once. Anything else is a copy of a node: it is
locked, and an operator has to look.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.joining import check_join
from fleet.keys import read_public_key
from fleet.model import Event
from fleet.names import is_name
from fleet.signing import KEY_BYTES, PublicKey
from fleet.times import to_ms
from orchestrator.audit import event_leaf
from orchestrator.pki import NODE_LIFETIME, issue_node
from orchestrator.principals import NodeIdentity
from orchestrator.store import nodes as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from orchestrator.pki import KeyPair
    from orchestrator.registrar import Registrar

TOKEN_VERSION = "flt1"  # noqa: S105 - the format's name
ENROLL_CONTEXT = b"fleet-enroll-v1"
RENEW_CONTEXT = b"fleet-renew-v1"
NONCE_BYTES = 32
MAX_LABELS = 32
MAX_LABEL = 63
_MAX_COUNTER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EnrollProof:
    """What a machine shows to use a token; `statement` is that of `fleet.joining`, for a token that has a key."""

    mac: bytes
    bound_key: bytes
    csr: bytes
    agent_version: str
    statement: bytes = b""


@dataclass(frozen=True, slots=True)
class RenewProof:
    """What a node shows to get its next certificate."""

    epoch: int
    sequence: int
    signature: bytes
    csr: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """A node's new identity; the join state is what it shows at its next renewal."""

    node: str
    epoch: int
    sequence: int
    certificate: bytes
    labels: Mapping[str, str]


def enroll_mac(secret: bytes, nonce: bytes, bound_key: bytes, csr: bytes) -> bytes:
    """Compute the proof of a token's secret."""
    return hmac.digest(secret, ENROLL_CONTEXT + nonce + bound_key + csr, "sha256")


def renew_message(nonce: bytes, epoch: int, sequence: int, csr: bytes) -> bytes:
    """Compose what the bound key signs; numbers are 8 bytes, big-endian."""
    return RENEW_CONTEXT + nonce + epoch.to_bytes(8, "big") + sequence.to_bytes(8, "big") + csr


class Enrolment:
    """Tokens, enrolment and renewal; one transaction each.

    Args:
        registrar: what it shares with the logins of operators.
        authority: returns key and certificate of the authority that signs nodes now.
    """

    def __init__(self, registrar: Registrar, authority: Callable[[], KeyPair]) -> None:
        self._registrar = registrar
        self._authority = authority
        self._store = registrar.store
        self._log = registrar.log
        self._clock = registrar.clock
        self._journal = registrar.journal
        self._expel = registrar.expel

    def create_token(
        self, node: str, labels: Mapping[str, str], ttl_s: int, operator: str, key: bytes = b""
    ) -> tuple[str, datetime]:
        """Make a join token, good for one node name and one use.

        For a name that exists the token is the operator's consent to enrol it anew (next epoch, unlocked).

        Args:
            node: name of the node.
            labels: of the node.
            ttl_s: seconds for which it is good.
            operator: who asked for it.
            key: public half of the token's own key, to which the operator adds the private half; empty: the token has
                none, and only the fingerprints that the node prints tell operators whose its keys are.

        Returns:
            The token `flt1.PIN.ID.SECRET` (base64url without padding; PIN is the SHA-256 of the enrolment port's
            SubjectPublicKeyInfo) and when it expires. An operator's machine appends `.KEY`.

        Raises:
            FleetError: VALUE_INVALID for a bad name, label, time to live or key.
        """
        if not is_name(node):
            raise FleetError(Code.VALUE_INVALID, f"{node!r} is not a name", place="node")
        if key and len(key) != KEY_BYTES:
            raise FleetError(Code.VALUE_INVALID, f"a key of {len(key)} bytes", place="key")
        _check_labels(labels)
        token, now = self._registrar.token(TOKEN_VERSION, ttl_s), self._clock()
        row = rows.TokenRow(token.id, token.secret, node, labels, operator, to_ms(token.expires), None, key)
        with self._store.control.write() as connection:
            rows.put_token(connection, row)
            leaf = event_leaf(
                "node:token:created",
                now,
                f"user/{operator}",
                node=node,
                labels=dict(labels),
                token=token.id,
                key=key.hex(),
            )
            self._log.append(connection, [leaf])
        return token.text, token.expires

    def tokens(self) -> tuple[rows.TokenRow, ...]:
        """Return the join tokens that have not expired."""
        with self._store.control.read() as connection:
            return rows.list_tokens(connection, to_ms(self._clock()))

    def revoke_token(self, identifier: str, operator: str) -> None:
        """Make a join token worthless; a node that joined with it stays.

        Raises:
            FleetError: NOT_FOUND.
        """
        with self._store.control.write() as connection:
            token = rows.get_token(connection, identifier)
            if token is None:
                raise FleetError(Code.NOT_FOUND, "no such join token", remedy="List them with `fleetctl node tokens`.")
            rows.drop_token(connection, identifier)
            leaf = event_leaf(
                "node:token:revoked", self._clock(), f"user/{operator}", node=token.node, token=identifier
            )
            self._log.append(connection, [leaf])

    def nonce(self) -> bytes:
        """Make a challenge; its stream keeps it."""
        return self._registrar.random_bytes(NONCE_BYTES)

    def enroll(self, token_id: str, nonce: bytes, proof: EnrollProof) -> Issued:
        """Turn a token into a node.

        1. The token exists and has not expired.
        2. The proof shows its secret, over this nonce, this bound key and this request.
        3. The token is unused, or was used by the same bound key (its first answer got lost).
        4. The token's own key, if it has one, signed the bound key (`fleet.joining.check_join`).

        Raises:
            FleetError: TOKEN_INVALID, the same for every rule; MESSAGE_INVALID for a bad key or request; NODE_LOCKED
                when the identity was locked since the token was used.
        """
        now = self._clock()
        with self._store.control.write() as connection:
            token = rows.get_token(connection, token_id)
            if token is None or token.expires_ms <= to_ms(now):
                raise FleetError(Code.TOKEN_INVALID, "unknown or expired token")
            expected = enroll_mac(token.secret, nonce, proof.bound_key, proof.csr)
            if not hmac.compare_digest(expected, proof.mac):
                raise FleetError(Code.TOKEN_INVALID, "the proof of the secret is wrong")
            if token.used_by not in {None, proof.bound_key}:
                raise FleetError(Code.TOKEN_INVALID, "the token was used by another machine")
            if token.key:
                check_join(proof.statement, bound_key=proof.bound_key, key=PublicKey(token.key))
            else:
                proof = replace(proof, statement=b"")  # nobody could check it
            _check_key(proof.bound_key)
            before = rows.get_node(connection, token.node)
            repeated = token.used_by is not None and before is not None and before.bound_key == proof.bound_key
            if repeated and before is not None and before.locked:
                raise FleetError(Code.NODE_LOCKED, before.locked, node=token.node)
            epoch = 1 if before is None else before.epoch + (0 if repeated else 1)
            node = rows.NodeRow(
                name=token.node,
                labels=token.labels,
                locked="",
                epoch=epoch,
                sequence=before.sequence + 1 if repeated and before is not None else 1,
                confirmed=before.confirmed if repeated and before is not None else 0,
                bound_key=proof.bound_key,
                certificate_expires_ms=0,
                agent_version=proof.agent_version[:64],
                architecture="" if before is None else before.architecture,
                joined_ms=to_ms(now),
                last_seen_ms=None,
            )
            rows.take_token(connection, token_id, proof.bound_key)
            issued = self._issue(connection, node, proof, now)
        again = FleetError(Code.CERTIFICATE_INVALID, "the node was enrolled again", node=issued.node)
        self._expel(f"node/{issued.node}", again)
        self._journal(Event(now, issued.node, "", "node:identity:enrolled", f"epoch {issued.epoch}"))
        return issued

    def renew(self, name: str, nonce: bytes, proof: RenewProof) -> Issued:
        """Give a node its next certificate; the old one may have expired long ago.

        1. The node exists and is not locked.
        2. Its bound key signed this nonce, join state and request.
        3. The epoch is the present one.
        4. The sequence is the newest, or the one confirmed last while the newest was never seen; else a copy of the
           node exists and the name is locked.

        Raises:
            FleetError: CERTIFICATE_INVALID for rules 1 to 3; NODE_LOCKED; MESSAGE_INVALID for a bad request.
        """
        now = self._clock()
        with self._store.control.write() as connection:
            node = rows.get_node(connection, name)
            if node is None:
                raise FleetError(Code.CERTIFICATE_INVALID, "unknown node")
            if node.locked:
                raise FleetError(Code.NODE_LOCKED, node.locked, node=name)
            if not (0 <= proof.epoch <= _MAX_COUNTER and 0 <= proof.sequence <= _MAX_COUNTER):
                raise FleetError(Code.MESSAGE_INVALID, "a counter is out of range")
            try:
                message = renew_message(nonce, proof.epoch, proof.sequence, proof.csr)
                read_public_key(node.bound_key).verify(proof.signature, message)
            except FleetError as error:
                raise FleetError(Code.CERTIFICATE_INVALID, "the bound key did not sign this") from error
            if proof.epoch != node.epoch:
                raise FleetError(Code.CERTIFICATE_INVALID, "the node was enrolled again since")
            if proof.sequence in {node.sequence, node.confirmed}:
                moved = replace(node, sequence=node.sequence + 1, confirmed=proof.sequence)
                return self._issue(connection, moved, proof, now)
            reason = "two machines use this identity: the join-state counter went back"
            rows.put_node(connection, replace(node, locked=reason))
            self._log.append(
                connection,
                [
                    event_leaf(
                        "node:identity:locked",
                        now,
                        "coordinator",
                        node=name,
                        shown=proof.sequence,
                        newest=node.sequence,
                        confirmed=node.confirmed,
                    )
                ],
            )
        self._expel(f"node/{name}", FleetError(Code.NODE_LOCKED, reason, node=name))
        self._journal(Event(now, name, "", "node:identity:locked", reason))
        raise FleetError(Code.NODE_LOCKED, reason, node=name)

    def _issue(
        self, connection: Connection, node: rows.NodeRow, proof: EnrollProof | RenewProof, now: datetime
    ) -> Issued:
        identity = NodeIdentity(node.name, node.epoch, now + NODE_LIFETIME)
        certificate = issue_node(self._authority(), self._registrar.fleet, identity, proof.csr, now)
        node = replace(node, certificate_expires_ms=to_ms(identity.expires))
        joins = isinstance(proof, EnrollProof)
        leaf = event_leaf(
            "node:identity:enrolled" if joins else "node:certificate:renewed",
            now,
            f"node/{node.name}",
            node=node.name,
            epoch=node.epoch,
            sequence=node.sequence,
            labels=dict(node.labels),
            bound_key=read_public_key(node.bound_key).key_id,
            public_key=node.bound_key.hex(),
            **({"join": proof.statement.decode()} if isinstance(proof, EnrollProof) and proof.statement else {}),
        )
        position = self._log.append(connection, [leaf])
        rows.put_node(connection, replace(node, join_leaf=position) if joins else node)
        return Issued(node.name, node.epoch, node.sequence, certificate, node.labels)


def _check_key(raw: bytes) -> None:
    try:
        read_public_key(raw)
    except FleetError as error:
        raise FleetError(Code.MESSAGE_INVALID, f"the bound key: {error.private}") from error


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(labels)} labels", limit=MAX_LABELS)
    for key, value in labels.items():
        for text in (key, value):
            if not 0 < len(text) <= MAX_LABEL or not text.isascii() or not text.isprintable() or " " in text:
                raise FleetError(Code.VALUE_INVALID, "not a label", place=f"labels.{key[:MAX_LABEL]}")
