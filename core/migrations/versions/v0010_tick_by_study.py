"""What the completeness tick asks finds the few studies under way without passing those that are done with.

Both questions had an index by state alone: it went through every complete study, and for each study under way through
every revision that was ever reported. The index of corrected_at alone was used by nothing.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_revision_study", "revision", ["study_uid", "state"])
    op.drop_index("ix_study_state", "study")
    op.drop_index("ix_study_corrected_at", "study")
    op.create_index("ix_study_state", "study", ["state", "corrected_at"])


def downgrade() -> None:
    op.drop_index("ix_study_state", "study")
    op.create_index("ix_study_corrected_at", "study", ["corrected_at"])
    op.create_index("ix_study_state", "study", ["state"])
    op.drop_index("ix_revision_study", "revision")
