"""Indexes for questions that were answered by reading every row of a study."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_instance_identity", "instance", ["study_uid", "current", "identity", "role"])
    op.create_index("ix_instance_series", "instance", ["study_uid", "current", "ours", "series_uid", "role"])
    op.create_index("ix_instance_association", "instance", ["association_id", "study_uid", "filed_at"])
    op.drop_index("ix_instance_association_id", "instance")


def downgrade() -> None:
    op.create_index("ix_instance_association_id", "instance", ["association_id"])
    op.drop_index("ix_instance_association", "instance")
    op.drop_index("ix_instance_series", "instance")
    op.drop_index("ix_instance_identity", "instance")
