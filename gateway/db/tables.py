"""Tables, constraints, and the reason for each index.

Times are milliseconds since the Unix epoch in UTC; money is millionths of a dollar. Alembic creates these
in ``migrations/``; a test holds the two to each other. The tables of webhooks are in `webhook_tables`,
those of the queue in `queue_tables`, those of signed-in people in `session_tables`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    literal_column,
    text,
)

from gateway.db.schema import RowId, Text, index_some, metadata
from gateway.model import TaskState

#: The newest migration. `gateway.db.migrate` brings a database here; opening compares this one word.
SCHEMA_REVISION = "0006"

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("zone", Text, nullable=False, server_default="UTC"),
    Column("price_ppm", BigInteger, nullable=False, server_default="1000000"),
    Column("rpm", Integer),
    Column("max_concurrent", Integer),
    Column("max_queued", Integer),
    Column("weight", Integer, nullable=False),
    # JSON lists; null allows all there are.
    Column("allowed_models", Text),
    Column("allowed_formats", Text),
    Column("retention_days", Integer),
    # A task that names no time of its own is to start within so many seconds.
    Column("start_within_s", Integer),
    # A JSON list of whole percentages of a budget.
    Column("warn_percents", Text, nullable=False, server_default="[80, 100]"),
    UniqueConstraint("name"),
    CheckConstraint("status IN ('active', 'suspended')", name="status"),
    CheckConstraint("weight >= 1", name="weight"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("rpm", Integer),
    Column("expires_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("mode", Text, nullable=False, server_default="live"),
    Column("owner", Text, nullable=False, server_default=""),
    # JSON lists; no list of models means all that the tenant may use.
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("scopes", Text, nullable=False, server_default='["generate", "read"]'),
    Column("allowed_models", Text),
    Column("max_queued", Integer),
    Column("disabled_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("created_by", Text, nullable=False, server_default=""),
    # The rotation that made the present secret: when, and the hash of the name its caller gave it.
    Column("rotated_at_ms", BigInteger),
    Column("rotation_sha256", Text),
    CheckConstraint("mode IN ('live', 'test')", name="mode"),
    # `gateway key list --tenant`.
    Index(None, "tenant_id"),
)

# Secrets that a rotation replaced, good until the moment that was stated then.
retired_secrets = Table(
    "retired_secrets",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("retired_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("rotation_sha256", Text),
    # Beside every look at a key.
    Index(None, "key_id"),
)

# People, by the address that they sign in with.
members = Table(
    "members",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("email", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    CheckConstraint("role IN ('owner', 'developer', 'viewer')", name="role"),
    # What somebody who signs in is a member of.
    Index(None, "email"),
)

# Append-only: triggers refuse UPDATE and DELETE (migration 0003).
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("tenant_id", ForeignKey("tenants.id")),
    Column("target", Text, nullable=False),
    # JSON objects, without secrets; null where there was nothing, or nothing is left.
    Column("before", Text),
    Column("after", Text),
    # One tenant's story, newest first.
    Index(None, "tenant_id", "id"),
)

_STATES = ", ".join(f"'{state}'" for state in TaskState)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    # The key's and the tenant's own count of tasks. Two index probes and a subtraction then give the
    # number of tasks in any window, however many there are: a limit is a query, not a counter.
    Column("key_seq", BigInteger, nullable=False),
    Column("tenant_seq", BigInteger, nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text),
    Column("seed", BigInteger),
    Column("duration_s", Integer),
    Column("sample_count", Integer, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("price_micros", BigInteger, nullable=False),
    Column("emulated", Boolean(create_constraint=False), nullable=False),
    # Asked for with a test key: the emulator makes it, and it costs nothing.
    Column("test", Boolean(create_constraint=False), nullable=False, server_default=text("false")),
    Column("webhook_url", Text),
    Column("request_id", Text, nullable=False),
    Column("traceparent", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deadline_at_ms", BigInteger, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("started_at_ms", BigInteger),
    Column("finished_at_ms", BigInteger),
    Column("attempt_count", Integer, nullable=False),
    Column("lease_token", Text),
    Column("lease_expires_at_ms", BigInteger),
    Column("error_code", Text),
    Column("error_detail", Text),
    # What its end cost the tenant.
    Column("charged_micros", BigInteger),
    # It is not started after this.
    Column("start_by_at_ms", BigInteger),
    # Its prompt and its audio are gone; the row stays for the ledger and nobody sees it as a task.
    Column("deleted_at_ms", BigInteger),
    # Of how many takes each clip is joined, and what the audio is to be like; null is as the model makes it.
    Column("takes", Integer, nullable=False, server_default="1"),
    Column("audio_format", Text),
    Column("bitrate_kbps", Integer),
    Column("loudness_lufs", Float),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease"),
    CheckConstraint("sample_count BETWEEN 1 AND 4", name="sample_count"),
    # Rates: the newest task of a key or tenant, and the oldest inside a window.
    UniqueConstraint("key_id", "key_seq"),
    Index(None, "key_id", "created_at_ms"),
    UniqueConstraint("tenant_id", "tenant_seq"),
    Index(None, "tenant_id", "created_at_ms"),
)

# Queue depth: only what waits, by tenant, in the order in which it was admitted.
index_some("ix_tasks_waiting", tasks.c.tenant_id, tasks.c.tenant_seq, where="state = 'queued'")
# Claiming: the first of a line.
index_some(
    "ix_tasks_line",
    tasks.c.tenant_id,
    tasks.c.model,
    tasks.c.test,
    tasks.c.tenant_seq,
    where="state = 'queued'",
)
# What has waited too long.
index_some("ix_tasks_deadline", tasks.c.deadline_at_ms, where="state = 'queued'")
index_some(
    "ix_tasks_start_by",
    tasks.c.start_by_at_ms,
    where="state = 'queued' AND start_by_at_ms IS NOT NULL",
)
# What a tenant has kept longest, whatever was deleted before.
index_some(
    "ix_tasks_kept",
    tasks.c.tenant_id,
    tasks.c.finished_at_ms,
    where="finished_at_ms IS NOT NULL AND deleted_at_ms IS NULL",
)
# Tenant concurrency and lease expiry: only what runs, which is little.
index_some("ix_tasks_running", tasks.c.tenant_id, tasks.c.lease_expires_at_ms, where="state = 'running'")


def in_state(state: TaskState) -> ColumnElement[bool]:
    """Tasks in this state, for a WHERE clause.

    As a bound value the state would make SQLite plan the statement anew each time it is executed, because
    the partial indexes above depend on it: four times the cost of the look itself.
    """
    return tasks.c.state == literal_column(f"'{state.value}'")


attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Column("clips_asked", Integer, nullable=False),
    Column("clips_delivered", Integer, nullable=False),
    Column("fault", Text),
    Column("error_code", Text),
    Column("upstream_status", Integer),
    Column("provider_metadata", Text),
    # What the provider takes for it, as far as can be known: nothing for what was refused or never ran.
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("state IN ('started', 'succeeded', 'failed', 'unknown')", name="state"),
    # The attempts of a task, in order; never two with one number.
    UniqueConstraint("task_id", "number"),
    # What a deployment was asked in the last minute, and how it fared.
    Index(None, "deployment", "started_at_ms"),
)
# What a deployment is busy with.
index_some("ix_attempts_open", attempts.c.deployment, where="state = 'started'")

outputs = Table(
    "outputs",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("clip_index", Integer, primary_key=True),
    Column("attempt_id", ForeignKey("attempts.id"), nullable=False),
    Column("object_name", Text, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("sample_rate_hz", Integer, nullable=False),
    Column("channels", Integer, nullable=False),
    Column("seed", BigInteger),
    # A JSON list of what was done to it, what was measured, and the words that came with it.
    Column("steps", Text, nullable=False, server_default="[]"),
    Column("peak_dbfs", Float),
    Column("loudness_lufs", Float),
    # Peaks for players, a byte each: a few hundred, whatever the length.
    Column("waveform", LargeBinary),
    Column("text", Text),
    UniqueConstraint("object_name"),
)

# Pieces that clips are joined from, while their task goes on; a trigger discards them with its end.
takes = Table(
    "takes",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt_id", ForeignKey("attempts.id"), nullable=False),
    Column("object_name", Text, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("seed", BigInteger),
    Column("text", Text),
    UniqueConstraint("object_name"),
)

# Audio that nothing refers to any more, until storage has let go of it.
discarded_objects = Table(
    "discarded_objects",
    metadata,
    Column("object_name", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

task_events = Table(
    "task_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    # The story of one task, in order.
    Index(None, "task_id", "id"),
)

# At most so much in a day, a month, or ever. No row: unlimited.
budgets = Table(
    "budgets",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("window", Text, primary_key=True),
    Column("limit_micros", BigInteger, nullable=False),
    CheckConstraint("\"window\" IN ('day', 'month', 'total')", name="window"),
    CheckConstraint("limit_micros >= 0", name="limit"),
)

# Append-only: triggers refuse UPDATE and DELETE (migration 0002).
ledger = Table(
    "ledger",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id")),
    Column("task_id", ForeignKey("tasks.id")),
    Column("kind", Text, nullable=False),
    Column("held_micros", BigInteger, nullable=False),
    Column("spent_micros", BigInteger, nullable=False),
    Column("day", Text, nullable=False),
    Column("month", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("kind IN ('hold', 'settle', 'release', 'adjust')", name="kind"),
    CheckConstraint("(kind = 'adjust') = (task_id IS NULL)", name="task"),
    CheckConstraint("kind <> 'adjust' OR reason <> ''", name="reason"),
    CheckConstraint(
        "CASE kind WHEN 'hold' THEN held_micros >= 0 AND spent_micros = 0 "
        "WHEN 'settle' THEN held_micros <= 0 AND spent_micros >= 0 "
        "WHEN 'release' THEN held_micros <= 0 AND spent_micros = 0 ELSE held_micros = 0 END",
        name="amounts",
    ),
    # A task is held once, settled at most once, released at most once ...
    UniqueConstraint("task_id", "kind"),
    # Usage of a tenant in a stretch of time.
    Index(None, "tenant_id", "at_ms"),
)
# ... and never both settled and released.
index_some("uq_ledger_ending", ledger.c.task_id, unique=True, where="kind IN ('settle', 'release')")

# What the ledger adds up to, kept in the transactions that write it; `gateway reconcile` adds again. A credit
# may outweigh what was spent in its day or month, never what was spent in all.
balances = Table(
    "balances",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("period", Text, primary_key=True),
    Column("held_micros", BigInteger, nullable=False),
    Column("spent_micros", BigInteger, nullable=False),
    CheckConstraint("held_micros >= 0", name="held"),
    CheckConstraint("period <> 'total' OR spent_micros >= 0", name="spent"),
)

# Which budgets were reported at which of their shares: once each.
budget_alerts = Table(
    "budget_alerts",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("period", Text, primary_key=True),
    Column("percent", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

# The names that callers gave their requests, each with the task that came of it.
idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("name_sha256", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    # What is old enough to be forgotten.
    Index(None, "created_at_ms"),
    # The name of a task that is deleted.
    Index(None, "task_id"),
)
