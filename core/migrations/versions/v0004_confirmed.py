"""Whether the archive has what it accepted; an operator's word; what a destination takes; results taken back."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("released_at", sa.Double(), nullable=True))
    op.add_column("delivery", sa.Column("confirm_at", sa.Double(), nullable=True))
    op.add_column("delivery", sa.Column("confirmed_by", sa.String(length=16), nullable=True))
    op.create_index("ix_delivery_confirm_at", "delivery", ["state", "confirm_at"])
    op.create_index("ix_delivery_transaction_uid", "delivery", ["transaction_uid"])
    op.add_column("destination", sa.Column("negotiated_at", sa.Double(), nullable=True))
    op.add_column("destination", sa.Column("sop_classes", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("destination", sa.Column("can_find", sa.Boolean(), nullable=True))
    op.add_column("revision", sa.Column("by_operator", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("revision", sa.Column("retraction", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("revision", "retraction")
    op.drop_column("revision", "by_operator")
    op.drop_column("destination", "can_find")
    op.drop_column("destination", "sop_classes")
    op.drop_column("destination", "negotiated_at")
    op.drop_index("ix_delivery_transaction_uid", "delivery")
    op.drop_index("ix_delivery_confirm_at", "delivery")
    op.drop_column("delivery", "confirmed_by")
    op.drop_column("delivery", "confirm_at")
    op.drop_column("delivery", "released_at")
