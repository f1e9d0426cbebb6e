"""Which authority vouches for each node, and counters of logins."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "node",
        sa.Column(
            "authority",
            sa.Text(),
            nullable=False,
            server_default="",
            comment="that signed the certificate shown last",
        ),
    )
    for name, comment in (
        ("sequence", "login counter that was issued last"),
        ("confirmed", "newest one that the key's owner showed"),
    ):
        op.add_column("operator", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0", comment=comment))
