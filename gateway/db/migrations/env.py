"""Alembic's entry: the connection is handed in by `gateway.db.migrate`; there is no ini file."""

from alembic import context

import gateway.db.queue_tables
import gateway.db.session_tables
import gateway.db.tables
import gateway.db.webhook_tables  # noqa: F401 - these fill what is described
from gateway.db.schema import describe_for

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=describe_for(connection.dialect.name),
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
