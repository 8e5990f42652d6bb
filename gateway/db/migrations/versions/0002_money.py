"""Budgets, an append-only ledger, and balances."""

import sqlalchemy as sa
from alembic import op

from gateway.db.migrations.append_only import allow_changes, forbid_changes
from gateway.db.schema import RowId, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ENDING = sa.text("kind IN ('settle', 'release')")


def upgrade() -> None:
    op.add_column("tenants", sa.Column("zone", Text, server_default="UTC", nullable=False))
    op.add_column(
        "tenants", sa.Column("price_ppm", sa.BigInteger(), server_default="1000000", nullable=False)
    )
    op.create_table(
        "budgets",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("window", Text, nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("\"window\" IN ('day', 'month', 'total')", name=op.f("ck_budgets_window")),
        sa.CheckConstraint("limit_micros >= 0", name=op.f("ck_budgets_limit")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_budgets_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "window", name=op.f("pk_budgets")),
    )
    op.create_table(
        "ledger",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("key_id", Text, nullable=True),
        sa.Column("task_id", Text, nullable=True),
        sa.Column("kind", Text, nullable=False),
        sa.Column("held_micros", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.Column("day", Text, nullable=False),
        sa.Column("month", Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", Text, nullable=False),
        sa.Column("reason", Text, nullable=False),
        sa.CheckConstraint("kind IN ('hold', 'settle', 'release', 'adjust')", name=op.f("ck_ledger_kind")),
        sa.CheckConstraint("(kind = 'adjust') = (task_id IS NULL)", name=op.f("ck_ledger_task")),
        sa.CheckConstraint("kind <> 'adjust' OR reason <> ''", name=op.f("ck_ledger_reason")),
        sa.CheckConstraint(
            "CASE kind WHEN 'hold' THEN held_micros >= 0 AND spent_micros = 0 "
            "WHEN 'settle' THEN held_micros <= 0 AND spent_micros >= 0 "
            "WHEN 'release' THEN held_micros <= 0 AND spent_micros = 0 ELSE held_micros = 0 END",
            name=op.f("ck_ledger_amounts"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_ledger_tenant_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_ledger_key_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_ledger_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sa.UniqueConstraint("task_id", "kind", name=op.f("uq_ledger_task_id_kind")),
    )
    op.create_index(op.f("ix_ledger_tenant_id_at_ms"), "ledger", ["tenant_id", "at_ms"], unique=False)
    op.create_index(
        "uq_ledger_ending", "ledger", ["task_id"], unique=True, sqlite_where=_ENDING, postgresql_where=_ENDING
    )
    op.create_table(
        "balances",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("period", Text, nullable=False),
        sa.Column("held_micros", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("held_micros >= 0", name=op.f("ck_balances_held")),
        sa.CheckConstraint("period <> 'total' OR spent_micros >= 0", name=op.f("ck_balances_spent")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_balances_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "period", name=op.f("pk_balances")),
    )
    _enter_existing_tasks()
    forbid_changes("ledger")


def _enter_existing_tasks() -> None:
    """What was accepted before there was a ledger gets its entries, at the price that its caller was told.

    Until now every tenant's days and months were those of UTC.
    """
    if op.get_context().dialect.name == "postgresql":
        period = "to_char(to_timestamp(created_at_ms / 1000) AT TIME ZONE 'UTC', '{form}')"
        day, month = period.format(form="YYYY-MM-DD"), period.format(form="YYYY-MM")
    else:
        period = "strftime('{form}', created_at_ms / 1000, 'unixepoch')"
        day, month = period.format(form="%Y-%m-%d"), period.format(form="%Y-%m")
    entry = (
        "INSERT INTO ledger (tenant_id, key_id, task_id, kind, held_micros, spent_micros, day, month, at_ms, "
        "actor, reason) SELECT tenant_id, key_id, id, {kind}, {held}, {spent}, "
        f"{day}, {month}, {{at}}, 'migration 0002', '' FROM tasks {{where}}"
    )
    clips = "(SELECT count(*) FROM outputs WHERE outputs.task_id = tasks.id)"
    ended = "WHERE state NOT IN ('queued', 'running')"
    op.execute(entry.format(kind="'hold'", held="price_micros", spent="0", at="created_at_ms", where=""))
    op.execute(
        entry.format(
            kind="CASE state WHEN 'succeeded' THEN 'settle' ELSE 'release' END",
            held="-price_micros",
            spent=f"CASE state WHEN 'succeeded' THEN price_micros / sample_count * {clips} ELSE 0 END",
            at="coalesce(finished_at_ms, created_at_ms)",
            where=ended,
        )
    )
    for period in ("day", "month", "'total'"):
        op.execute(
            "INSERT INTO balances (tenant_id, period, held_micros, spent_micros) "
            f"SELECT tenant_id, {period}, sum(held_micros), sum(spent_micros) FROM ledger GROUP BY 1, 2"
        )


def downgrade() -> None:
    op.drop_table("balances")
    op.drop_table("ledger")  # and its triggers with it
    allow_changes("ledger")
    op.drop_table("budgets")
    # Not through a copy of the table, as Alembic would do it by itself: that loses the checks.
    op.drop_column("tenants", "price_ppm")
    op.drop_column("tenants", "zone")
