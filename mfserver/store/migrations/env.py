"""Run by alembic: the steps go over the connection that :mod:`mfserver.store.migrate` brings."""

from alembic import context

from mfserver.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
