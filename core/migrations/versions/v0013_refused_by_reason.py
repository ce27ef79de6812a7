"""A refused caller has a row a reason: a later reason does not hide the earlier ones."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _table(name: str, *keys: str) -> None:
    op.create_table(
        name,
        sa.Column("aet", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("why", sa.String(32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(*keys, name="pk_refused_peer"),
    )


def upgrade() -> None:
    op.rename_table("refused_peer", "refused_peer_before")
    _drop_key("refused_peer_before")
    _table("refused_peer", "aet", "address", "why")
    op.execute(
        "INSERT INTO refused_peer (aet, address, why, count, last_at) "
        "SELECT aet, address, why, count, last_at FROM refused_peer_before"
    )
    op.drop_table("refused_peer_before")


def downgrade() -> None:
    op.rename_table("refused_peer", "refused_peer_after")
    _drop_key("refused_peer_after")
    _table("refused_peer", "aet", "address")
    op.execute(
        "INSERT INTO refused_peer (aet, address, why, count, last_at) "
        "SELECT aet, address, why, count, last_at FROM refused_peer_after AS one WHERE NOT EXISTS "
        "(SELECT 1 FROM refused_peer_after AS other WHERE other.aet = one.aet AND other.address = one.address "
        "AND (other.last_at > one.last_at OR (other.last_at = one.last_at AND other.why > one.why)))"
    )
    op.drop_table("refused_peer_after")


def _drop_key(table: str) -> None:
    """PostgreSQL names keys in the schema, not in their table; SQLite cannot drop one, and need not."""
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint("pk_refused_peer", table, type_="primary")
