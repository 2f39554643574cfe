"""Run migrations on the connection that stackwitness.db.migrate hands over (it holds lock and time-outs)."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
