"""What the archive lists of a study that is being received."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "listing",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("series", sa.JSON(), nullable=True),
        sa.Column("since", sa.Double(), nullable=True),
        sa.Column("answered_at", sa.Double(), nullable=True),
        sa.Column("problem", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(["study_uid"], ["study.uid"], name=op.f("fk_listing_study_uid")),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_listing")),
    )


def downgrade() -> None:
    op.drop_table("listing")
