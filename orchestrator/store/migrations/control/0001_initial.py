"""Initial tables of control.db."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approved_grant",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("approvers", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_approved_grant")),
    )
    op.create_table(
        "assigned",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("bundle_path", sa.Text(), nullable=False),
        sa.Column("bundle_digest", sa.Text(), nullable=False),
        sa.Column("grant_path", sa.Text(), nullable=False),
        sa.Column("grant_digest", sa.Text(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="assignment that first said so"),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=True, comment="null while it holds"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_assigned")),
        comment="projection of the audit log: who was allowed what, where and when",
    )
    op.create_index("ix_assigned_agent", "assigned", ["agent", "from_ms"], unique=False)
    op.create_index("ix_assigned_open", "assigned", ["node"], unique=False, sqlite_where=sa.text("to_ms IS NULL"))
    op.create_table(
        "audit_entry",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_entry")),
    )
    op.create_table(
        "audit_node",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name=op.f("pk_audit_node")),
    )
    op.create_table(
        "deployment",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_deployment")),
        sa.UniqueConstraint("id", name=op.f("uq_deployment_id")),
    )
    op.create_index(
        "uq_deployment_running", "deployment", ["application"], unique=True, sqlite_where=sa.text("state = 'running'")
    )
    op.create_table(
        "enforced",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("bundle_digest", sa.Text(), nullable=False),
        sa.Column("grant_digest", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="receipt that says so"),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_enforced")),
        comment="projection of the audit log: what nodes confirmed with their own key",
    )
    op.create_index("ix_enforced_agent", "enforced", ["node", "agent", "received_ms"], unique=False)
    op.create_table(
        "join_token",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "used_by", sa.LargeBinary(), nullable=True, comment="bound key that took the token; only it may ask again"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_token")),
    )
    op.create_table(
        "node",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("locked", sa.Text(), nullable=False, comment="why the node is locked; empty when it is not"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="join-state counter that was issued last"),
        sa.Column(
            "confirmed", sa.BigInteger(), nullable=False, comment="newest counter that the node has proved to hold"
        ),
        sa.Column("bound_key", sa.LargeBinary(), nullable=False, comment="raw Ed25519 public key"),
        sa.Column("certificate_expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("joined_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=True, comment="written when a session opens and closes"),
        sa.CheckConstraint("epoch >= 1 AND sequence >= confirmed", name=op.f("ck_node_counters")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_node")),
    )
    op.create_table(
        "release_file",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column(
            "adopted_ms", sa.BigInteger(), nullable=False, comment="when the set was verified; expiry was checked then"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_release_file")),
    )
    op.create_table(
        "deployment_node",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column(
            "planned", sa.Text(), nullable=False, comment="the application's agents as this deployment wants them"
        ),
        sa.Column("previous", sa.Text(), nullable=False, comment="the application's agents before it"),
        sa.Column("generation", sa.BigInteger(), nullable=True, comment="given when the wave began"),
        sa.ForeignKeyConstraint(["deployment"], ["deployment.id"], name=op.f("fk_deployment_node_deployment")),
        sa.ForeignKeyConstraint(["node"], ["node.name"], name=op.f("fk_deployment_node_node")),
        sa.PrimaryKeyConstraint("deployment", "node", name=op.f("pk_deployment_node")),
    )
    op.create_table(
        "deployment_wave",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["deployment"], ["deployment.id"], name=op.f("fk_deployment_wave_deployment")),
        sa.PrimaryKeyConstraint("deployment", "number", name=op.f("pk_deployment_wave")),
    )
    op.create_table(
        "desired",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="of the assignment, the envelope's payload"),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="index in the audit log"),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("generation >= 1", name=op.f("ck_desired_generation")),
        sa.ForeignKeyConstraint(["node"], ["node.name"], name=op.f("fk_desired_node")),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_desired")),
    )
    for table in ("audit_entry", "audit_node"):
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
