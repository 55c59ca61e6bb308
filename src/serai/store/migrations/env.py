"""Alembic's entry: the connection comes from whoever opens the store."""

from alembic import context

from serai.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, transaction_per_migration=False
)
with context.begin_transaction():
    context.run_migrations()
