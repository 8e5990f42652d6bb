"""Tenants, keys, tasks, attempts, outputs and events."""

import sqlalchemy as sa
from alembic import op

from gateway.db.schema import RowId, Text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("status", Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("rpm", sa.Integer(), nullable=True),
        sa.Column("max_concurrent", sa.Integer(), nullable=True),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'suspended')", name=op.f("ck_tenants_status")),
        sa.CheckConstraint("weight >= 1", name=op.f("ck_tenants_weight")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", Text, nullable=False),
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("rpm", sa.Integer(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", Text, nullable=False),
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("key_id", Text, nullable=False),
        sa.Column("key_seq", sa.BigInteger(), nullable=False),
        sa.Column("tenant_seq", sa.BigInteger(), nullable=False),
        sa.Column("route", Text, nullable=False),
        sa.Column("model", Text, nullable=False),
        sa.Column("state", Text, nullable=False),
        sa.Column("prompt", Text, nullable=False),
        sa.Column("negative_prompt", Text, nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("duration_s", sa.Integer(), nullable=True),
        sa.Column("sample_count", sa.Integer(), nullable=False),
        sa.Column("metadata", Text, nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.Column("emulated", sa.Boolean(), nullable=False),
        sa.Column("request_id", Text, nullable=False),
        sa.Column("traceparent", Text, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("lease_token", Text, nullable=True),
        sa.Column("lease_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("error_code", Text, nullable=True),
        sa.Column("error_detail", Text, nullable=True),
        sa.CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name=op.f("ck_tasks_lease")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
            name=op.f("ck_tasks_state"),
        ),
        sa.CheckConstraint("sample_count BETWEEN 1 AND 4", name=op.f("ck_tasks_sample_count")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_tasks_key_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_tasks_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("key_id", "key_seq", name=op.f("uq_tasks_key_id_key_seq")),
        sa.UniqueConstraint("tenant_id", "tenant_seq", name=op.f("uq_tasks_tenant_id_tenant_seq")),
    )
    op.create_index(op.f("ix_tasks_key_id_created_at_ms"), "tasks", ["key_id", "created_at_ms"], unique=False)
    op.create_index(
        "ix_tasks_running",
        "tasks",
        ["tenant_id", "lease_expires_at_ms"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        op.f("ix_tasks_tenant_id_created_at_ms"), "tasks", ["tenant_id", "created_at_ms"], unique=False
    )
    op.create_index(
        "ix_tasks_waiting",
        "tasks",
        ["tenant_id", "tenant_seq"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", Text, nullable=False),
        sa.Column("task_id", Text, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("deployment", Text, nullable=False),
        sa.Column("state", Text, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("clips_asked", sa.Integer(), nullable=False),
        sa.Column("clips_delivered", sa.Integer(), nullable=False),
        sa.Column("fault", Text, nullable=True),
        sa.Column("error_code", Text, nullable=True),
        sa.Column("upstream_status", sa.Integer(), nullable=True),
        sa.Column("provider_metadata", Text, nullable=True),
        sa.CheckConstraint(
            "state IN ('started', 'succeeded', 'failed', 'unknown')", name=op.f("ck_attempts_state")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_attempts_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("task_id", "number", name=op.f("uq_attempts_task_id_number")),
    )
    op.create_table(
        "task_events",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("task_id", Text, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("data", Text, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_events_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_events")),
    )
    op.create_index(op.f("ix_task_events_task_id_id"), "task_events", ["task_id", "id"], unique=False)
    op.create_table(
        "outputs",
        sa.Column("task_id", Text, nullable=False),
        sa.Column("clip_index", sa.Integer(), nullable=False),
        sa.Column("attempt_id", Text, nullable=False),
        sa.Column("object_name", Text, nullable=False),
        sa.Column("mime_type", Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("sample_rate_hz", sa.Integer(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_outputs_attempt_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_outputs_task_id")),
        sa.PrimaryKeyConstraint("task_id", "clip_index", name=op.f("pk_outputs")),
        sa.UniqueConstraint("object_name", name=op.f("uq_outputs_object_name")),
    )


def downgrade() -> None:
    op.drop_table("outputs")
    op.drop_table("task_events")
    op.drop_table("attempts")
    op.drop_table("tasks")
    op.drop_table("api_keys")
    op.drop_table("tenants")
