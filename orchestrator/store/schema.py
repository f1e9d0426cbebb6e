"""Tables of the two database files.

Owns: columns, constraints and indexes; the triggers that make the audit tables append-only are in the first revision of
their history, since SQLAlchemy has no object for a trigger. `CONTROL` (control.db) is what must
never be lost; `TELEMETRY` (telemetry.db) is what nodes can tell again. Times are milliseconds since the Unix epoch.
JSON columns hold compact text written by `fleet.documents.dump_json`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

CONTROL = MetaData(naming_convention=CONVENTION)
TELEMETRY = MetaData(naming_convention=CONVENTION)

node = Table(
    "node",
    CONTROL,
    Column("name", Text, primary_key=True),
    Column("labels", Text, nullable=False),
    Column("locked", Text, nullable=False, comment="why the node is locked; empty when it is not"),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False, comment="join-state counter that was issued last"),
    Column("confirmed", BigInteger, nullable=False, comment="newest counter that the node has proved to hold"),
    Column("bound_key", LargeBinary, nullable=False, comment="raw Ed25519 public key"),
    Column("certificate_expires_ms", BigInteger, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("joined_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=True, comment="written when a session opens and closes"),
    Column("revoked_ms", BigInteger, nullable=True, comment="when its enrolment was taken back for good"),
    Column("accepted_generation", BigInteger, nullable=False, server_default="0", comment="greatest it ever reported"),
    Column("root_version", BigInteger, nullable=False, server_default="0", comment="greatest it ever reported"),
    Column("release_version", BigInteger, nullable=False, server_default="0", comment="greatest it ever reported"),
    Column("warning", Text, nullable=False, server_default="", comment="what went back, until an operator unlocks it"),
    Column("join_leaf", BigInteger, nullable=True, comment="where the audit log has the enrolment"),
    Column("authority", Text, nullable=False, server_default="", comment="that signed the certificate shown last"),
    CheckConstraint("epoch >= 1 AND sequence >= confirmed", name="counters"),
)

join_token = Table(
    "join_token",
    CONTROL,
    Column("id", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("node", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_by", LargeBinary, nullable=True, comment="bound key that took the token; only it may ask again"),
    Column("key", LargeBinary, nullable=False, server_default="", comment="public half of its own key; may be empty"),
)

operator = Table(
    "operator",
    CONTROL,
    Column("name", Text, primary_key=True),
    Column("roles", Text, nullable=False),
    Column("team", Text, nullable=False, comment="empty: of all teams"),
    Column("epoch", BigInteger, nullable=False, comment="number of the invitation; a new one ends older certificates"),
    Column("bound_key", LargeBinary, nullable=True, comment="DER SubjectPublicKeyInfo; null before the first login"),
    Column("revoked", Text, nullable=False, comment="why; empty when it is not"),
    Column("created_by", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("certificate_expires_ms", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False, server_default="0", comment="login counter that was issued last"),
    Column("confirmed", BigInteger, nullable=False, server_default="0", comment="newest one that was shown"),
)

operator_token = Table(
    "operator_token",
    CONTROL,
    Column("id", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("operator", Text, ForeignKey("operator.name"), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_by", LargeBinary, nullable=True, comment="key that took the token; only it may ask again"),
)

operator_certificate = Table(
    "operator_certificate",
    CONTROL,
    Column("digest", Text, primary_key=True),
    Column("leaf", BigInteger, nullable=False, comment="where the audit log shows the certificate"),
)

action = Table(
    "action",
    CONTROL,
    Column("nonce", LargeBinary, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    comment="nonces of the newest signed actions; older ones are refused by their time",
)
Index("ix_action_at_ms", action.c.at_ms)

desired = Table(
    "desired",
    CONTROL,
    Column("node", Text, ForeignKey("node.name"), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("digest", Text, nullable=False, comment="of the assignment, the envelope's payload"),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf", BigInteger, nullable=False, comment="index in the audit log"),
    Column("issued_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    CheckConstraint("generation >= 1", name="generation"),
)

deployment = Table(
    "deployment",
    CONTROL,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("application", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger, nullable=True),
)
# Two processes that deploy one application at once: the database lets one of them in.
Index("uq_deployment_running", deployment.c.application, unique=True, sqlite_where=text("state = 'running'"))

deployment_wave = Table(
    "deployment_wave",
    CONTROL,
    Column("deployment", Text, ForeignKey("deployment.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=True),
)

deployment_node = Table(
    "deployment_node",
    CONTROL,
    Column("deployment", Text, ForeignKey("deployment.id"), primary_key=True),
    Column("node", Text, ForeignKey("node.name"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("planned", Text, nullable=False, comment="the application's agents as this deployment wants them"),
    Column("previous", Text, nullable=False, comment="the application's agents before it"),
    Column("generation", BigInteger, nullable=True, comment="given when the wave began"),
)

release_file = Table(
    "release_file",
    CONTROL,
    Column("name", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("adopted_ms", BigInteger, nullable=False, comment="when the set was verified; expiry was checked then"),
)

approved_grant = Table(
    "approved_grant",
    CONTROL,
    Column("digest", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("approvers", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

audit_entry = Table(
    "audit_entry",
    CONTROL,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
)

audit_node = Table(
    "audit_node",
    CONTROL,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

assigned = Table(
    "assigned",
    CONTROL,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("bundle_path", Text, nullable=False),
    Column("bundle_digest", Text, nullable=False),
    Column("grant_path", Text, nullable=False),
    Column("grant_digest", Text, nullable=False),
    Column("leaf", BigInteger, nullable=False, comment="assignment that first said so"),
    Column("generation", BigInteger, nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=True, comment="null while it holds"),
    comment="projection of the audit log: who was allowed what, where and when",
)
Index("ix_assigned_agent", assigned.c.agent, assigned.c.from_ms)
Index("ix_assigned_open", assigned.c.node, sqlite_where=text("to_ms IS NULL"))

approved = Table(
    "approved",
    CONTROL,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("path", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("approvers", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("leaf", BigInteger, nullable=False, comment="publication that first listed it so"),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=True, comment="null while it is listed"),
    comment="projection of the audit log: which grants were approved, by whom, and when",
)
Index("ix_approved_path", approved.c.path, approved.c.from_ms)

enforced = Table(
    "enforced",
    CONTROL,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("bundle_digest", Text, nullable=False),
    Column("grant_digest", Text, nullable=False),
    Column("refusal", Text, nullable=False, comment="error code; empty when it was applied"),
    Column("generation", BigInteger, nullable=False),
    Column("leaf", BigInteger, nullable=False, comment="receipt that first said so"),
    Column("applied_ms", BigInteger, nullable=False, comment="by the node's clock"),
    Column("known_ms", BigInteger, nullable=False, comment="when the receipt arrived"),
    Column("ended_ms", BigInteger, nullable=True, comment="null while the newest receipt says so"),
    Column("ended_known_ms", BigInteger, nullable=True),
    comment="projection of the audit log: what nodes confirmed with their own key",
)
Index("ix_enforced_agent", enforced.c.agent, enforced.c.applied_ms)
Index("ix_enforced_open", enforced.c.node, sqlite_where=text("ended_ms IS NULL"))

projected = Table(
    "projected",
    CONTROL,
    Column("leaves", BigInteger, primary_key=True, comment="size of the log when the projections were last rebuilt"),
)

checkpoint = Table(
    "checkpoint",
    CONTROL,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    comment="what was offered to witnesses",
)

cosignature = Table(
    "cosignature",
    CONTROL,
    Column("size", BigInteger, ForeignKey("checkpoint.size"), primary_key=True),
    Column("witness", Text, primary_key=True, comment="verifier key"),
    Column("line", Text, nullable=False),
    Column("at_s", BigInteger, nullable=False, comment="by the witness's clock"),
)
Index("ix_cosignature_witness", cosignature.c.witness, cosignature.c.size)

witness = Table(
    "witness",
    CONTROL,
    Column("vkey", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("leaf", BigInteger, nullable=False, comment="certificate by the node's bound key"),
    comment="witness keys of nodes",
)

sealing_key = Table(
    "sealing_key",
    CONTROL,
    Column("node", Text, ForeignKey("node.name"), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("key", Text, nullable=False, comment="fingerprint of the X25519 public key"),
    Column("statement", LargeBinary, nullable=False, comment="envelope signed by the node's bound key"),
    Column("leaf", BigInteger, nullable=False, comment="where the audit log shows the statement"),
)

secret = Table(
    "secret",
    CONTROL,
    Column("agent", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="newest one; goes on counting after a removal"),
    Column("set_ms", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("escrow", LargeBinary, nullable=False, comment="envelope that the operator can open; empty once removed"),
)

sealed_secret = Table(
    "sealed_secret",
    CONTROL,
    Column("agent", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("node", Text, ForeignKey("node.name"), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False, comment="only the node can open it"),
)
Index("ix_sealed_secret_node", sealed_secret.c.node)

event = Table(
    "event",
    TELEMETRY,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_event_node", event.c.node, event.c.sequence)

observed = Table(
    "observed",
    TELEMETRY,
    Column("node", Text, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False, comment="fleet.v1.ObservedState, written on transitions"),
)
