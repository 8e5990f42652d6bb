"""Bring a database to the newest schema with Alembic. Imported only when a migration is due: it is heavy."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from gateway.errors import ConfigurationError


def migrate(path: Path) -> None:
    """Create or upgrade the database at ``path``. Safe when several processes start at once.

    Raises `ConfigurationError` when the database was made by a newer gateway.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path.with_name(path.name + ".migrating")):
        engine = sa.create_engine(
            f"sqlite:///{path}", poolclass=sa.pool.NullPool, connect_args={"isolation_level": None}
        )
        # The driver would leave DDL outside any transaction: half a migration must not survive a crash.
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with engine.begin() as connection:
                config = Config()
                config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"The database {path} has a schema this version does not know ({error}). "
                "It was probably written by a newer gateway: start that version instead."
            ) from error
        finally:
            engine.dispose()


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
