"""Databases to be migrated, of both kinds: empty, and looked at through SQLAlchemy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine

import gateway.db.migrate
from gateway.db import opening
from tests.postgres import run_in_thread

T = TypeVar("T")

SCRIPTS = Path(gateway.db.migrate.__file__).parent / "migrations"


class Place(Protocol):
    """Where a database is, or is going to be."""

    dialect: str
    url: str

    def run(self, function: Callable[[sa.Connection], T]) -> T:
        """In a transaction, past the gateway."""

    def schema(self) -> dict[str, Any]:
        """Everything there is but rows, by name."""


class SqlitePlace:
    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite+aiosqlite:///{path}"

    def run(self, function: Callable[[sa.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{self.path}", poolclass=sa.pool.NullPool)
        with engine.begin() as connection:
            return function(connection)

    def schema(self) -> dict[str, Any]:
        """As SQLite keeps the definitions, whatever their spacing."""
        rows = self.run(rows_of("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return {name: " ".join(sql.split()) for name, sql in rows}


class PostgresPlace:
    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, function: Callable[[sa.Connection], T]) -> T:
        return run_in_thread(self._run(function))

    async def _run(self, function: Callable[[sa.Connection], T]) -> T:
        engine = create_async_engine(self.url, poolclass=sa.pool.NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(function)

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for query in _DEFINITIONS:
            found |= {name: tuple(rest) for name, *rest in self.run(rows_of(query))}
        return found


_OURS = "'public'::regnamespace"
_DEFINITIONS = (
    """SELECT 'column ' || table_name || '.' || column_name, data_type, collation_name, is_nullable,
    column_default FROM information_schema.columns WHERE table_schema = 'public'""",
    "SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    f"""SELECT 'constraint ' || conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = {_OURS} AND contype <> 'n'""",
    "SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    f"SELECT 'function ' || proname, prosrc FROM pg_proc WHERE pronamespace = {_OURS}",
)


def rows_of(query: str) -> Callable[[sa.Connection], list[tuple[Any, ...]]]:
    return lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)]


def migrate(place: Place) -> bool:
    """As a gateway does when it starts."""
    return run_in_thread(opening.migrate(place.url))


def run_alembic(place: Place, action: str, revision: str) -> None:
    def run(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        getattr(command, action)(config, revision)

    place.run(run)


def revision(place: Place) -> str | None:
    """As it is written in the database."""
    if "alembic_version" not in place.run(lambda connection: sa.inspect(connection).get_table_names()):
        return None
    ((found,),) = place.run(rows_of("SELECT version_num FROM alembic_version"))
    return found
