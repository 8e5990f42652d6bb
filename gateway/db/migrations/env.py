"""Alembic's entry: the connection is handed in by `gateway.db.migrate`; there is no ini file."""

from alembic import context

from gateway.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
