"""The tables of people who are signed in: see `gateway.db.tables`. Of secrets only hashes are kept."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Table

from gateway.db.schema import Text, metadata

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False),
    # Whoever opened it with a link made by the operator for an administrator is one.
    Column("admin", Boolean(create_constraint=False), nullable=False),
    Column("method", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    # The secret before this one, for requests that were under way when it was replaced.
    Column("previous_sha256", Text),
    Column("previous_until_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("rotated_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    # Signing out everywhere.
    Index(None, "email"),
    # What is over.
    Index(None, "expires_at_ms"),
)

# Links that sign somebody in, once.
sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("email", Text, nullable=False),
    Column("admin", Boolean(create_constraint=False), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index(None, "expires_at_ms"),
)
