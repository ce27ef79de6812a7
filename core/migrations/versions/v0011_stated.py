"""What an image states of its patient and order, an attribute each: what it does not state is not "another"."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instance", sa.Column("stated", sa.String(160)))


def downgrade() -> None:
    op.drop_column("instance", "stated")
