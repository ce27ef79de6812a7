"""A study keeps the latest StudyDate of its images: older ones may have to wait for an operator's word."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("study_date", sa.String(8), nullable=True))


def downgrade() -> None:
    op.drop_column("study", "study_date")
