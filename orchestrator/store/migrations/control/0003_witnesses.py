"""Checkpoints with their cosignatures, witness keys, and projections that know two times.

The projections are only what the leaves say: they are dropped here and rebuilt when the coordinator starts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoint")),
        comment="what was offered to witnesses",
    )
    op.create_table(
        "cosignature",
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("witness", sa.Text(), nullable=False, comment="verifier key"),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False, comment="by the witness's clock"),
        sa.ForeignKeyConstraint(["size"], ["checkpoint.size"], name=op.f("fk_cosignature_size")),
        sa.PrimaryKeyConstraint("size", "witness", name=op.f("pk_cosignature")),
    )
    op.create_index("ix_cosignature_witness", "cosignature", ["witness", "size"], unique=False)
    op.create_table(
        "witness",
        sa.Column("vkey", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="certificate by the node's bound key"),
        sa.PrimaryKeyConstraint("vkey", name=op.f("pk_witness")),
        comment="witness keys of nodes",
    )
    op.create_table(
        "projected",
        sa.Column(
            "leaves", sa.BigInteger(), nullable=False, comment="size of the log when the projections were last rebuilt"
        ),
        sa.PrimaryKeyConstraint("leaves", name=op.f("pk_projected")),
    )
    op.create_table(
        "approved",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("approvers", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="publication that first listed it so"),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=True, comment="null while it is listed"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_approved")),
        comment="projection of the audit log: which grants were approved, by whom, and when",
    )
    op.create_index("ix_approved_path", "approved", ["path", "from_ms"], unique=False)
    op.execute("DELETE FROM assigned")
    op.drop_table("enforced")
    op.create_table(
        "enforced",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("bundle_digest", sa.Text(), nullable=False),
        sa.Column("grant_digest", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False, comment="error code; empty when it was applied"),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="receipt that first said so"),
        sa.Column("applied_ms", sa.BigInteger(), nullable=False, comment="by the node's clock"),
        sa.Column("known_ms", sa.BigInteger(), nullable=False, comment="when the receipt arrived"),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True, comment="null while the newest receipt says so"),
        sa.Column("ended_known_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_enforced")),
        comment="projection of the audit log: what nodes confirmed with their own key",
    )
    op.create_index("ix_enforced_agent", "enforced", ["agent", "applied_ms"], unique=False)
    op.create_index("ix_enforced_open", "enforced", ["node"], unique=False, sqlite_where=sa.text("ended_ms IS NULL"))
    for table in ("checkpoint", "cosignature"):
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
