"""Alembic's entry: runs on the connection that `cauda.core.ledger.migrate` hands over."""

from alembic import context

from cauda.core.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
