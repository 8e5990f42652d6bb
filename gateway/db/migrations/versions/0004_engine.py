"""Fair queues kept in order, the state of deployments, deadlines to start by, and what is to be deleted."""

import sqlalchemy as sa
from alembic import op

from gateway.db.schema import Text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ARROWS = (
    "queued>running", "queued>canceled", "queued>expired",
    "running>succeeded", "running>failed", "running>canceled", "running>queued",
)  # fmt: skip
_REFUSAL = "a task does not change its state so"
# A line begins to wait at the time of its model: who had nothing to send has earned nothing by that.
_JOIN = """
    INSERT INTO queue_lines (tenant_id, model, test, waiting, next_tag, last_tag, since_ms)
    VALUES (NEW.tenant_id, NEW.model, NEW.test, true,
            (SELECT coalesce(max(last_tag), 0) FROM queue_lines
             WHERE model = NEW.model AND test = NEW.test), 0, NEW.created_at_ms)
    ON CONFLICT (tenant_id, model, test) DO UPDATE
    SET waiting = true, since_ms = excluded.since_ms,
        next_tag = {greater}(queue_lines.next_tag, excluded.next_tag)
    WHERE NOT queue_lines.waiting;
"""
_LINE = "tenant_id = NEW.tenant_id AND model = NEW.model AND test = NEW.test"
_REST = f"FROM tasks WHERE {_LINE} AND state = 'queued'"
# A start takes the line on by what the tenant's weight makes of a million.
_MOVE = f"""
    UPDATE queue_lines
    SET last_tag = next_tag,
        next_tag = next_tag + 1000000 / (SELECT weight FROM tenants WHERE id = NEW.tenant_id),
        since_ms = coalesce((SELECT created_at_ms {_REST} ORDER BY tenant_seq LIMIT 1), since_ms)
    WHERE {_LINE};
"""
_LEAVE = f"UPDATE queue_lines SET waiting = false WHERE {_LINE} AND NOT EXISTS (SELECT 1 {_REST});"


def upgrade() -> None:
    _make_tables()
    op.add_column("tasks", sa.Column("charged_micros", sa.BigInteger(), nullable=True))
    op.add_column("tasks", sa.Column("start_by_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("tasks", sa.Column("deleted_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("tenants", sa.Column("start_within_s", sa.Integer(), nullable=True))
    _make_indexes()
    op.execute(
        "UPDATE tasks SET charged_micros = coalesce((SELECT sum(spent_micros) FROM ledger "
        "WHERE ledger.task_id = tasks.id), 0) WHERE state NOT IN ('queued', 'running')"
    )
    op.execute(
        "INSERT INTO queue_lines (tenant_id, model, test, waiting, next_tag, last_tag, since_ms) "
        "SELECT tenant_id, model, test, true, 0, 0, min(created_at_ms) FROM tasks "
        "WHERE state = 'queued' GROUP BY tenant_id, model, test"
    )
    if op.get_context().dialect.name == "postgresql":
        _make_triggers_of_postgres()
    else:
        _make_triggers_of_sqlite()


def _make_tables() -> None:
    op.create_table(
        "queue_lines",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("model", Text, nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("next_tag", sa.BigInteger(), nullable=False),
        sa.Column("last_tag", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_queue_lines_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "model", "test", name=op.f("pk_queue_lines")),
    )
    op.create_table(
        "deployments",
        sa.Column("name", Text, nullable=False),
        sa.Column("cooling_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("busy_count", sa.Integer(), nullable=False),
        sa.Column("fault_count", sa.Integer(), nullable=False),
        sa.Column("broken_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("broken_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_deployments")),
    )
    op.create_table(
        "discarded_objects",
        sa.Column("object_name", Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("object_name", name=op.f("pk_discarded_objects")),
    )


def _make_indexes() -> None:
    op.create_index(op.f("ix_queue_lines_model_test_last_tag"), "queue_lines", ["model", "test", "last_tag"])
    _index_some("ix_queue_lines_waiting", "queue_lines", ["model", "test", "next_tag", "since_ms", "tenant_id"], "waiting")
    _index_some("ix_tasks_deadline", "tasks", ["deadline_at_ms"], "state = 'queued'")
    _index_some(
        "ix_tasks_start_by", "tasks", ["start_by_at_ms"], "state = 'queued' AND start_by_at_ms IS NOT NULL"
    )
    _index_some(
        "ix_tasks_kept",
        "tasks",
        ["tenant_id", "finished_at_ms"],
        "finished_at_ms IS NOT NULL AND deleted_at_ms IS NULL",
    )
    op.create_index(op.f("ix_idempotency_task_id"), "idempotency", ["task_id"])
    op.create_index(op.f("ix_webhook_deliveries_task_id"), "webhook_deliveries", ["task_id"])
    _index_some("ix_tasks_line", "tasks", ["tenant_id", "model", "test", "tenant_seq"], "state = 'queued'")
    _index_some("ix_attempts_open", "attempts", ["deployment"], "state = 'started'")
    op.create_index(op.f("ix_attempts_deployment_started_at_ms"), "attempts", ["deployment", "started_at_ms"])


def _index_some(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def _make_triggers_of_sqlite() -> None:
    arrows = ", ".join(f"'{arrow}'" for arrow in _ARROWS)
    op.execute(
        "CREATE TRIGGER tasks_follow_the_arrows BEFORE UPDATE OF state ON tasks "
        f"WHEN OLD.state <> NEW.state AND OLD.state || '>' || NEW.state NOT IN ({arrows}) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    )
    join = _JOIN.format(greater="max")
    for name, event in (("new", "INSERT"), ("again", "UPDATE OF state")):
        op.execute(
            f"CREATE TRIGGER tasks_queue_{name} AFTER {event} ON tasks WHEN NEW.state = 'queued' "
            f"BEGIN {join} END"
        )
    op.execute(
        "CREATE TRIGGER tasks_start AFTER UPDATE OF state ON tasks "
        f"WHEN OLD.state = 'queued' AND NEW.state = 'running' BEGIN {_MOVE} {_LEAVE} END"
    )
    op.execute(
        "CREATE TRIGGER tasks_leave AFTER UPDATE OF state ON tasks "
        f"WHEN OLD.state = 'queued' AND NEW.state NOT IN ('queued', 'running') BEGIN {_LEAVE} END"
    )


def _make_triggers_of_postgres() -> None:
    arrows = ", ".join(f"'{arrow}'" for arrow in _ARROWS)
    op.execute(
        "CREATE FUNCTION tasks_refuse_state() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END$$"
    )
    op.execute(
        "CREATE TRIGGER tasks_follow_the_arrows BEFORE UPDATE OF state ON tasks FOR EACH ROW "
        f"WHEN (OLD.state <> NEW.state AND OLD.state || '>' || NEW.state NOT IN ({arrows})) "
        "EXECUTE FUNCTION tasks_refuse_state()"
    )
    # A line that is waiting is only held to, so that who admits and who claims do not wait for each other;
    # whoever says that nothing waits there any more must have it alone.
    op.execute(
        "CREATE FUNCTION tasks_join_line() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        f"PERFORM 1 FROM queue_lines WHERE {_LINE} AND waiting FOR KEY SHARE; "
        f"IF NOT FOUND THEN {_JOIN.format(greater='greatest')} END IF; RETURN NULL; END$$"
    )
    op.execute(
        "CREATE FUNCTION tasks_leave_line() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        f"IF NEW.state = 'running' THEN {_MOVE} END IF; "
        f"IF NOT EXISTS (SELECT 1 {_REST}) THEN "
        f"PERFORM 1 FROM queue_lines WHERE {_LINE} FOR UPDATE SKIP LOCKED; "
        # A new statement, which sees what was queued by those who held to the line until now.
        f"IF FOUND THEN {_LEAVE} END IF; END IF; RETURN NULL; END$$"
    )
    for name, event in (("new", "INSERT"), ("again", "UPDATE OF state")):
        op.execute(
            f"CREATE TRIGGER tasks_queue_{name} AFTER {event} ON tasks FOR EACH ROW "
            "WHEN (NEW.state = 'queued') EXECUTE FUNCTION tasks_join_line()"
        )
    op.execute(
        "CREATE TRIGGER tasks_leave AFTER UPDATE OF state ON tasks FOR EACH ROW "
        "WHEN (OLD.state = 'queued' AND NEW.state <> 'queued') EXECUTE FUNCTION tasks_leave_line()"
    )


def downgrade() -> None:
    on = " ON tasks" if op.get_context().dialect.name == "postgresql" else ""
    for name in ("follow_the_arrows", "queue_new", "queue_again", "start", "leave"):
        op.execute(f"DROP TRIGGER IF EXISTS tasks_{name}{on}")
    if on:
        op.execute("DROP FUNCTION tasks_leave_line()")
        op.execute("DROP FUNCTION tasks_refuse_state()")
        op.execute("DROP FUNCTION tasks_join_line()")
    op.drop_index("ix_attempts_deployment_started_at_ms", "attempts")
    op.drop_index("ix_attempts_open", "attempts")
    op.drop_index("ix_webhook_deliveries_task_id", "webhook_deliveries")
    op.drop_index("ix_idempotency_task_id", "idempotency")
    op.drop_index("ix_tasks_kept", "tasks")
    op.drop_index("ix_tasks_line", "tasks")
    op.drop_index("ix_tasks_start_by", "tasks")
    op.drop_index("ix_tasks_deadline", "tasks")
    op.drop_column("tenants", "start_within_s")
    op.drop_column("tasks", "deleted_at_ms")
    op.drop_column("tasks", "start_by_at_ms")
    op.drop_column("tasks", "charged_micros")
    op.drop_table("discarded_objects")
    op.drop_table("deployments")
    op.drop_table("queue_lines")
