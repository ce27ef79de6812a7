"""What an operator lets in may be bounded, as a line of the configuration is."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("peer", sa.Column("max_associations", sa.Integer(), nullable=True))
    op.add_column("peer", sa.Column("max_object_bytes", sa.BigInteger(), nullable=True))
    op.add_column("peer", sa.Column("max_pdu_bytes", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("peer", "max_pdu_bytes")
    op.drop_column("peer", "max_object_bytes")
    op.drop_column("peer", "max_associations")
