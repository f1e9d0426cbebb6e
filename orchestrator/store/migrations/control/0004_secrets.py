"""Sealed secrets, and the keys that nodes want them sealed for."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sealing_key",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="fingerprint of the X25519 public key"),
        sa.Column("statement", sa.LargeBinary(), nullable=False, comment="envelope signed by the node's bound key"),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="where the audit log shows the statement"),
        sa.ForeignKeyConstraint(["node"], ["node.name"], name=op.f("fk_sealing_key_node")),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_sealing_key")),
    )
    op.create_table(
        "secret",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="newest one; goes on counting after a removal"),
        sa.Column("set_ms", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column(
            "escrow",
            sa.LargeBinary(),
            nullable=False,
            comment="envelope that the operator can open; empty once removed",
        ),
        sa.PrimaryKeyConstraint("agent", "name", name=op.f("pk_secret")),
    )
    op.create_table(
        "sealed_secret",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False, comment="only the node can open it"),
        sa.ForeignKeyConstraint(["node"], ["node.name"], name=op.f("fk_sealed_secret_node")),
        sa.PrimaryKeyConstraint("agent", "name", "node", name=op.f("pk_sealed_secret")),
    )
    op.create_index("ix_sealed_secret_node", "sealed_secret", ["node"], unique=False)
