"""What listeners have not filed yet, what was refused for a passing reason, and a ledger time that does not step."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("process", sa.Column("since", sa.Double()))
    op.add_column("process", sa.Column("arrivals", sa.String(64)))
    op.add_column("process", sa.Column("unfiled", sa.Integer()))
    op.add_column("process", sa.Column("filed_until", sa.Double()))
    op.add_column("process", sa.Column("unfiled_why", sa.String(64)))
    op.add_column("revision", sa.Column("gaps", sa.JSON(none_as_null=True)))
    clock = op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("offset_s", sa.Double(), nullable=False),
        sa.Column("boot", sa.String(64)),
        sa.Column("lead_s", sa.Double()),
        sa.Column("seen_at", sa.Double()),
        sa.Column("stepped_at", sa.Double()),
        sa.Column("step_s", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_clock"),
    )
    op.bulk_insert(clock, [{"id": 1, "version": 0, "offset_s": 0.0}])
    op.create_table(
        "refused_object",
        sa.Column("sop_uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64)),
        sa.Column("association_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sop_uid", name="pk_refused_object"),
    )
    op.create_index("ix_refused_object_study_uid", "refused_object", ["study_uid"])


def downgrade() -> None:
    op.drop_table("refused_object")
    op.drop_table("clock")
    op.drop_column("revision", "gaps")
    for name in ("unfiled_why", "filed_until", "unfiled", "arrivals", "since"):
        op.drop_column("process", name)
