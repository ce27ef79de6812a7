"""A revision no longer says that a person asked for it: the event that froze it says so, and nothing read this."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("revision", "by_operator")


def downgrade() -> None:
    op.add_column("revision", sa.Column("by_operator", sa.Boolean(), server_default="0", nullable=False))
