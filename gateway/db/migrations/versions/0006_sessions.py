"""People who are signed in to the dashboard, and the links that sign somebody in once."""

import sqlalchemy as sa
from alembic import op

from gateway.db.schema import Text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", Text, nullable=False),
        sa.Column("email", Text, nullable=False),
        sa.Column("admin", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("method", Text, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("previous_sha256", Text, nullable=True),
        sa.Column("previous_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("rotated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_email"), "sessions", ["email"])
    op.create_index(op.f("ix_sessions_expires_at_ms"), "sessions", ["expires_at_ms"])
    op.create_table(
        "sign_in_links",
        sa.Column("sha256", Text, nullable=False),
        sa.Column("email", Text, nullable=False),
        sa.Column("admin", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_sign_in_links")),
    )
    op.create_index(op.f("ix_sign_in_links_expires_at_ms"), "sign_in_links", ["expires_at_ms"])


def downgrade() -> None:
    op.drop_table("sign_in_links")
    op.drop_table("sessions")
