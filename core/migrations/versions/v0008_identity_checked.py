"""Whether a revision's results say that an archive could not be asked whose study it is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revision", sa.Column("identity_checked", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("revision", "identity_checked")
