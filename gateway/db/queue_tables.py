"""The tables of the queue: the lines in which tasks wait, and how the deployments fare that serve them.

See `gateway.db.tables`. Triggers on ``tasks`` (migration 0004) keep the lines: a task joins when it is queued
and leaves when it is not any more, whoever changes its state.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table

from gateway.db.schema import Text, index_some, metadata

# What a tenant has waiting for one model, of one mode. Tags are virtual time (start-time fair queueing): the
# line with the least is next, and each start takes it further by what the tenant's weight makes of it.
queue_lines = Table(
    "queue_lines",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("test", Boolean(create_constraint=False), primary_key=True),
    # True while anything waits; on PostgreSQL perhaps a little longer.
    Column("waiting", Boolean(create_constraint=False), nullable=False),
    Column("next_tag", BigInteger, nullable=False),
    # Of the task that was started last: the highest of a model is the time that it is there.
    Column("last_tag", BigInteger, nullable=False),
    # When the first of those that wait was asked for: of two lines with one tag, who has waited longer.
    Column("since_ms", BigInteger, nullable=False),
    Index(None, "model", "test", "last_tag"),
)
# The lines of a model in their order, however many others there are.
index_some(
    "ix_queue_lines_waiting",
    queue_lines.c.model,
    queue_lines.c.test,
    queue_lines.c.next_tag,
    queue_lines.c.since_ms,
    queue_lines.c.tenant_id,
    where="waiting",
)

# What all workers know of a deployment. No row: nothing but good.
deployments = Table(
    "deployments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cooling_until_ms", BigInteger, nullable=False),
    # Answers in a row that said it was busy, and faults in a row that were the provider's.
    Column("busy_count", Integer, nullable=False),
    Column("fault_count", Integer, nullable=False),
    # Set while it is broken: when it may be probed. How often in a row it was found so.
    Column("broken_until_ms", BigInteger),
    Column("broken_count", Integer, nullable=False),
)
