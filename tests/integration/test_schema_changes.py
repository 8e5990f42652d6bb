"""A migration leaves alone what the version before it relies on.

Whether that version really goes on working is tried with its code, in `test_previous_version.py`.
Here is the rule, for what no request of that test happens to touch.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from gateway.db.migrate import migrate as migrate_file
from gateway.db.revision import may_run_on
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError
from tests.databases import PostgresStore
from tests.migrating import SCRIPTS, Place, PostgresPlace, SqlitePlace, migrate, revision, run_alembic
from tests.postgres import Server
from tests.previous import schema_of_previous
from tests.schemachange import breaks, shape_of


@pytest.fixture
def empty_place(postgres_server: Server) -> Iterator[Place]:
    postgres_server.execute("CREATE DATABASE schema_changes")
    yield PostgresPlace(postgres_server.url("schema_changes"))
    postgres_server.execute("DROP DATABASE schema_changes WITH (FORCE)")


@pytest.fixture
def place(postgres_store: PostgresStore) -> Place:
    """Migrated."""
    return PostgresPlace(postgres_store.url)


def migrations() -> list[Script]:
    """From the first to the newest."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return [*ScriptDirectory.from_config(config).walk_revisions()][::-1]


def execute(place: Place, *statements: str) -> None:
    for statement in statements:
        place.run(lambda connection, statement=statement: connection.exec_driver_sql(statement))


def test_no_migration_breaks_the_version_before_it(empty_place: Place) -> None:
    """What that version no longer uses may go, if the migration says so: ``UNUSED = {"tasks.colour"}``."""
    first, *others = migrations()
    run_alembic(empty_place, "upgrade", first.revision)
    broken = {}
    before = shape_of(empty_place)
    for script in others:
        run_alembic(empty_place, "upgrade", script.revision)
        after = shape_of(empty_place)
        broken[script.revision] = breaks(before, after) ^ getattr(script.module, "UNUSED", set())
        before = after
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("ALTER TABLE tasks DROP COLUMN metadata", "tasks.metadata"),
        ("ALTER TABLE tasks RENAME COLUMN metadata TO extra", "tasks.metadata"),
        ("ALTER TABLE members RENAME TO people", "members.email"),
        ("ALTER TABLE tasks ALTER COLUMN sample_count TYPE bigint", "tasks.sample_count"),
        ("ALTER TABLE tasks ALTER COLUMN webhook_url SET NOT NULL", "tasks.webhook_url"),
        ("ALTER TABLE tasks ALTER COLUMN takes DROP DEFAULT", "tasks.takes"),
        ("ALTER TABLE tasks ADD COLUMN colour text NOT NULL", "tasks.colour"),
        ("ALTER TABLE tasks ADD CONSTRAINT short CHECK (length(prompt) < 9)", "tasks: short"),
        ("CREATE UNIQUE INDEX once ON tasks (prompt)", "tasks: once"),
        ("ALTER TABLE tenants DROP CONSTRAINT uq_tenants_name", "tenants: uq_tenants_name"),
    ],
)
def test_what_would_break_it_is_found(place: Place, statement: str, found: str) -> None:
    before = shape_of(place)
    execute(place, statement)
    assert found in breaks(before, shape_of(place))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE colours (name text PRIMARY KEY, number integer NOT NULL CHECK (number > 0))",
        "ALTER TABLE tasks ADD COLUMN colour text",
        "ALTER TABLE tasks ADD COLUMN colour text NOT NULL DEFAULT 'red' CHECK (colour <> '')",
        "ALTER TABLE tasks ALTER COLUMN prompt DROP NOT NULL",
        "ALTER TABLE tasks DROP CONSTRAINT ck_tasks_sample_count",
        "CREATE INDEX looked_for ON tasks (prompt)",
    ],
)
def test_what_only_adds_is_allowed(place: Place, statement: str) -> None:
    before = shape_of(place)
    execute(place, statement)
    assert breaks(before, shape_of(place)) == set()


def test_revisions_are_counted_so_that_the_next_one_is_known() -> None:
    numbers = [script.revision for script in migrations()]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_the_version_that_is_kept_is_the_one_before() -> None:
    """Two migrations since then make two versions: keep the one between with `make previous REF=...`."""
    assert int(SCHEMA_REVISION) - int(schema_of_previous()) in {0, 1}


def test_the_schema_of_the_next_version_is_served_and_left_alone(place: Place) -> None:
    following = f"{int(SCHEMA_REVISION) + 1:04}"
    execute(
        place,
        "ALTER TABLE tasks ADD COLUMN colour text",
        f"UPDATE alembic_version SET version_num = '{following}'",
    )
    before = place.schema()
    assert not migrate(place)
    assert (place.schema(), revision(place)) == (before, following)


def test_the_schema_after_the_next_is_refused(place: Place) -> None:
    far = f"{int(SCHEMA_REVISION) + 2:04}"
    execute(place, f"UPDATE alembic_version SET version_num = '{far}'")
    with pytest.raises(ConfigurationError, match=f"has schema {far}; this version runs on"):
        migrate(place)
    assert revision(place) == far


def test_who_had_to_wait_for_the_next_version_to_migrate_does_nothing(
    migrated_file: Path, tmp_path: Path
) -> None:
    """It had found no schema when it looked, without the lock."""
    path = tmp_path / "gateway.db"
    path.write_bytes(migrated_file.read_bytes())
    following = f"{int(SCHEMA_REVISION) + 1:04}"
    place = SqlitePlace(path)
    execute(place, f"UPDATE alembic_version SET version_num = '{following}'")
    migrate_file(path)
    assert revision(place) == following


def test_an_older_schema_is_not_run_on_but_migrated() -> None:
    assert not may_run_on(None)
    assert not may_run_on("0001")
