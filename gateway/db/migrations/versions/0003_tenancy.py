"""Scopes, rotation, members, an audit log, test keys, provider costs, named requests, and webhooks."""

import sqlalchemy as sa
from alembic import op

from gateway.db.migrations.append_only import allow_changes, forbid_changes
from gateway.db.schema import RowId, Text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", Text, nullable=False),
        sa.Column("source", Text, nullable=False),
        sa.Column("request_id", Text, nullable=False),
        sa.Column("action", Text, nullable=False),
        sa.Column("tenant_id", Text, nullable=True),
        sa.Column("target", Text, nullable=False),
        sa.Column("before", Text, nullable=True),
        sa.Column("after", Text, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_audit_log_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_tenant_id_id"), "audit_log", ["tenant_id", "id"], unique=False)
    op.create_table(
        "budget_alerts",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("period", Text, nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_budget_alerts_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "period", "percent", name=op.f("pk_budget_alerts")),
    )
    op.create_table(
        "members",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("email", Text, nullable=False),
        sa.Column("role", Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'developer', 'viewer')", name=op.f("ck_members_role")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_members_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "email", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_email"), "members", ["email"], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", Text, nullable=False),
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("url", Text, nullable=False),
        sa.Column("description", Text, nullable=False),
        sa.Column("events", Text, nullable=True),
        sa.Column("secret_version", sa.Integer(), nullable=False),
        sa.Column("previous_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", Text, nullable=True),
        sa.Column("failing_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_endpoints_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(op.f("ix_webhook_endpoints_tenant_id"), "webhook_endpoints", ["tenant_id"], unique=False)
    op.create_table(
        "webhook_secrets",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("secret_version", sa.Integer(), nullable=False),
        sa.Column("previous_until_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_secrets_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_webhook_secrets")),
    )
    op.create_table(
        "retired_secrets",
        sa.Column("sha256", Text, nullable=False),
        sa.Column("key_id", Text, nullable=False),
        sa.Column("retired_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("rotation_sha256", Text, nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_retired_secrets_key_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_retired_secrets")),
    )
    op.create_index(op.f("ix_retired_secrets_key_id"), "retired_secrets", ["key_id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("name_sha256", Text, nullable=False),
        sa.Column("fingerprint", Text, nullable=False),
        sa.Column("task_id", Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_idempotency_task_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "name_sha256", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at_ms"), "idempotency", ["created_at_ms"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", Text, nullable=False),
        sa.Column("tenant_id", Text, nullable=False),
        sa.Column("endpoint_id", Text, nullable=True),
        sa.Column("lane", Text, nullable=False),
        sa.Column("url", Text, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("task_id", Text, nullable=True),
        sa.Column("body", Text, nullable=False),
        sa.Column("state", Text, nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", Text, nullable=True),
        sa.Column("lease_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_webhook_deliveries_task_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_deliveries_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["lane", "next_attempt_at_ms"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_failed",
        "webhook_deliveries",
        ["tenant_id", "finished_at_ms"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        op.f("ix_webhook_deliveries_finished_at_ms"), "webhook_deliveries", ["finished_at_ms"], unique=False
    )
    op.create_index(
        op.f("ix_webhook_deliveries_tenant_id_created_at_ms"),
        "webhook_deliveries",
        ["tenant_id", "created_at_ms"],
        unique=False,
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", Text, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", Text, nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["webhook_deliveries.id"], name=op.f("fk_webhook_attempts_delivery_id")
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_webhook_attempts")),
    )
    # With its check, which Alembic would put on a copy of the table.
    collation = ' COLLATE "C"' if op.get_context().dialect.name == "postgresql" else ""
    op.execute(
        f"ALTER TABLE api_keys ADD COLUMN mode TEXT{collation} DEFAULT 'live' NOT NULL "
        "CONSTRAINT ck_api_keys_mode CHECK (mode IN ('live', 'test'))"
    )
    op.add_column("api_keys", sa.Column("owner", Text, server_default="", nullable=False))
    op.add_column("api_keys", sa.Column("tags", Text, server_default="[]", nullable=False))
    op.add_column(
        "api_keys", sa.Column("scopes", Text, server_default='["generate", "read"]', nullable=False)
    )
    op.add_column("api_keys", sa.Column("allowed_models", Text, nullable=True))
    op.add_column("api_keys", sa.Column("max_queued", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("disabled_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("created_by", Text, server_default="", nullable=False))
    op.add_column("api_keys", sa.Column("rotated_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("rotation_sha256", Text, nullable=True))
    op.add_column("attempts", sa.Column("cost_micros", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("tasks", sa.Column("test", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("tasks", sa.Column("webhook_url", Text, nullable=True))
    op.add_column("tenants", sa.Column("allowed_models", Text, nullable=True))
    op.add_column("tenants", sa.Column("allowed_formats", Text, nullable=True))
    op.add_column("tenants", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column(
        "tenants", sa.Column("warn_percents", Text, server_default="[80, 100]", nullable=False)
    )
    forbid_changes("audit_log")


def downgrade() -> None:
    op.drop_column("tenants", "warn_percents")
    op.drop_column("tenants", "retention_days")
    op.drop_column("tenants", "allowed_formats")
    op.drop_column("tenants", "allowed_models")
    op.drop_column("tasks", "webhook_url")
    op.drop_column("tasks", "test")
    op.drop_column("attempts", "cost_micros")
    op.drop_column("api_keys", "rotation_sha256")
    op.drop_column("api_keys", "rotated_at_ms")
    op.drop_column("api_keys", "created_by")
    op.drop_column("api_keys", "last_used_at_ms")
    op.drop_column("api_keys", "disabled_at_ms")
    op.drop_column("api_keys", "max_queued")
    op.drop_column("api_keys", "allowed_models")
    op.drop_column("api_keys", "scopes")
    op.drop_column("api_keys", "tags")
    op.drop_column("api_keys", "owner")
    op.drop_column("api_keys", "mode")
    op.drop_table("webhook_attempts")
    op.drop_table("webhook_deliveries")
    op.drop_table("idempotency")
    op.drop_table("retired_secrets")
    op.drop_table("webhook_secrets")
    op.drop_table("webhook_endpoints")
    op.drop_table("members")
    op.drop_table("budget_alerts")
    op.drop_table("audit_log")
    allow_changes("audit_log")
