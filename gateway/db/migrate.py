"""Bring a database to the newest schema with Alembic. Imported only when a migration is due: it is heavy."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from gateway.db.revision import may_run_on
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError

_BUSY_TIMEOUT_S = 10.0


def migrate(path: Path) -> None:
    """Create or upgrade the SQLite database at ``path``. Safe when several processes start at once.

    Raises `ConfigurationError` when the database was made by a gateway that is newer by more than one
    version, `OSError` or `sqlite3.Error` when it cannot be made or read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path.with_name(path.name + ".migrating")):
        # Prompts are in it: its owner's eyes only. SQLite gives the files beside it the same mode.
        path.touch(mode=0o600)
        # Two processes that open a database at once must not both want to change its journal.
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as raw:
            raw.execute("PRAGMA journal_mode=WAL")
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            poolclass=sa.pool.NullPool,
            connect_args={"isolation_level": None},
        )
        # The driver would leave DDL outside any transaction: half a migration must not survive a crash.
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with engine.begin() as connection:
                upgrade(connection, str(path))
        except sa.exc.DBAPIError as error:
            raise (error.orig or error) from error
        finally:
            engine.dispose()


def upgrade(connection: sa.Connection, name: str) -> None:
    """Create or upgrade the database in the transaction that is open. ``name`` is for people.

    Raises `ConfigurationError` when a gateway that is newer by more than one version has migrated it.
    """
    # Looked at again, now that nobody else migrates: the next version may have, in the meantime.
    found = MigrationContext.configure(connection).get_current_revision()
    if may_run_on(found):
        return
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"The database {name} has schema {found}; this version runs on {SCHEMA_REVISION} or the next. "
            "A newer gateway has migrated it: start that one, or the version just before it."
        ) from error


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
