"""What a request is made into: formats, loudness, takes that clips are joined from, and what was measured."""

import sqlalchemy as sa
from alembic import op

from gateway.db.schema import Text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Who ends a task, in whichever way, need not know of its takes.
_DISCARD = """
    INSERT INTO discarded_objects (object_name, at_ms)
    SELECT object_name, coalesce(NEW.finished_at_ms, NEW.created_at_ms) FROM takes WHERE task_id = NEW.id;
    DELETE FROM takes WHERE task_id = NEW.id;
"""
_ENDS = "OLD.state IN ('queued', 'running') AND NEW.state NOT IN ('queued', 'running')"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("takes", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("tasks", sa.Column("audio_format", Text, nullable=True))
    op.add_column("tasks", sa.Column("bitrate_kbps", sa.Integer(), nullable=True))
    op.add_column("tasks", sa.Column("loudness_lufs", sa.Float(), nullable=True))
    op.add_column("outputs", sa.Column("steps", Text, nullable=False, server_default="[]"))
    op.add_column("outputs", sa.Column("peak_dbfs", sa.Float(), nullable=True))
    op.add_column("outputs", sa.Column("loudness_lufs", sa.Float(), nullable=True))
    op.add_column("outputs", sa.Column("waveform", sa.LargeBinary(), nullable=True))
    op.add_column("outputs", sa.Column("text", Text, nullable=True))
    op.create_table(
        "takes",
        sa.Column("task_id", Text, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt_id", Text, nullable=False),
        sa.Column("object_name", Text, nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("text", Text, nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_takes_attempt_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_takes_task_id")),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_takes")),
        sa.UniqueConstraint("object_name", name=op.f("uq_takes_object_name")),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION tasks_discard_takes() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$BEGIN {_DISCARD} RETURN NULL; END$$"
        )
        op.execute(
            "CREATE TRIGGER tasks_discard_takes AFTER UPDATE OF state ON tasks FOR EACH ROW "
            f"WHEN ({_ENDS}) EXECUTE FUNCTION tasks_discard_takes()"
        )
    else:
        op.execute(
            f"CREATE TRIGGER tasks_discard_takes AFTER UPDATE OF state ON tasks WHEN {_ENDS} "
            f"BEGIN {_DISCARD} END"
        )


def downgrade() -> None:
    on = " ON tasks" if op.get_context().dialect.name == "postgresql" else ""
    op.execute(f"DROP TRIGGER tasks_discard_takes{on}")
    if on:
        op.execute("DROP FUNCTION tasks_discard_takes()")
    op.drop_table("takes")
    for column in ("text", "waveform", "loudness_lufs", "peak_dbfs", "steps"):
        op.drop_column("outputs", column)
    for column in ("loudness_lufs", "bitrate_kbps", "audio_format", "takes"):
        op.drop_column("tasks", column)
