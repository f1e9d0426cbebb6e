"""Keys of join tokens, and where the audit log has each node's enrolment."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "join_token",
        sa.Column(
            "key",
            sa.LargeBinary(),
            nullable=False,
            server_default="",
            comment="public half of its own key; may be empty",
        ),
    )
    op.add_column(
        "node", sa.Column("join_leaf", sa.BigInteger(), nullable=True, comment="where the audit log has the enrolment")
    )
