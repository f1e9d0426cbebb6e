"""Operators, their signed actions, and what nodes once reported."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    reported = "greatest it ever reported"
    for column in (
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True, comment="when its enrolment was taken back for good"),
        sa.Column("accepted_generation", sa.BigInteger(), nullable=False, server_default="0", comment=reported),
        sa.Column("root_version", sa.BigInteger(), nullable=False, server_default="0", comment=reported),
        sa.Column("release_version", sa.BigInteger(), nullable=False, server_default="0", comment=reported),
        sa.Column(
            "warning",
            sa.Text(),
            nullable=False,
            server_default="",
            comment="what went back, until an operator unlocks it",
        ),
    ):
        op.add_column("node", column)
    op.create_table(
        "operator",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False, comment="empty: of all teams"),
        sa.Column(
            "epoch",
            sa.BigInteger(),
            nullable=False,
            comment="number of the invitation; a new one ends older certificates",
        ),
        sa.Column(
            "bound_key",
            sa.LargeBinary(),
            nullable=True,
            comment="DER SubjectPublicKeyInfo; null before the first login",
        ),
        sa.Column("revoked", sa.Text(), nullable=False, comment="why; empty when it is not"),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("certificate_expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_operator")),
    )
    op.create_table(
        "operator_token",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_by", sa.LargeBinary(), nullable=True, comment="key that took the token; only it may ask again"),
        sa.ForeignKeyConstraint(["operator"], ["operator.name"], name=op.f("fk_operator_token_operator")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_token")),
    )
    op.create_table(
        "operator_certificate",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False, comment="where the audit log shows the certificate"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_operator_certificate")),
    )
    op.create_table(
        "action",
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_action")),
        comment="nonces of the newest signed actions; older ones are refused by their time",
    )
    op.create_index("ix_action_at_ms", "action", ["at_ms"], unique=False)
