"""Migrations: what they build is what the code expects, whole or not at all, however many start at once."""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import gateway.db.webhook_tables  # noqa: F401 - its tables are among those compared
from gateway.db import postgres
from gateway.db.reconciliation import find_differences
from gateway.db.revision import current_revision
from gateway.db.schema import describe_for
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError
from tests.databases import BACKENDS
from tests.migrating import (
    SCRIPTS,
    Place,
    PostgresPlace,
    SqlitePlace,
    migrate,
    revision,
    rows_of,
    run_alembic,
)
from tests.postgres import Server

NewPlace = Callable[[str], Place]


@pytest.fixture
def sqlite_places(tmp_path: Path) -> NewPlace:
    return lambda name: SqlitePlace(tmp_path / "deep" / "down" / f"{name}.db")


@pytest.fixture
def postgres_places(postgres_server: Server) -> Iterator[NewPlace]:
    made = []

    def new(name: str) -> Place:
        made.append(name)
        postgres_server.execute(f"CREATE DATABASE {name}")
        return PostgresPlace(postgres_server.url(name))

    yield new
    for name in made:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=BACKENDS)
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    return request.getfixturevalue(f"{request.param}_places")


@pytest.fixture
def place(new_place: NewPlace) -> Place:
    """Where there is no schema yet."""
    return new_place("empty")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of an SQLite file that is not there yet."""
    return tmp_path / "deep" / "down" / "gateway.db"


def checks(place: Place) -> dict[str, set[str]]:
    """The checks of each table, which Alembic does not compare."""

    def find(connection: sa.Connection) -> dict[str, set[str]]:
        inspector = sa.inspect(connection)
        return {
            table: {f"{each['name']}: {each['sqltext']}" for each in inspector.get_check_constraints(table)}
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }

    return place.run(find)


def test_a_fresh_database_is_what_the_tables_say(place: Place) -> None:
    assert migrate(place)

    def compare(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, describe_for(place.dialect))

    assert place.run(compare) == []


def test_indexes_and_checks_are_what_the_tables_say(place: Place, new_place: NewPlace) -> None:
    migrate(place)
    expected = new_place("expected")
    expected.run(describe_for(place.dialect).create_all)
    made, wanted = place.schema(), expected.schema()
    names = {name for name, definition in wanted.items() if "INDEX" in str(definition).split(" (")[0]}
    assert {name: made.get(name) for name in names} == {name: wanted[name] for name in names}
    assert checks(place) == checks(expected)
    assert any(checks(place)["tasks"])


def test_postgres_has_the_columns_and_constraints_that_the_tables_say(postgres_places: NewPlace) -> None:
    """Their types, defaults and collations too, of which Alembic compares some."""
    place, expected = postgres_places("empty"), postgres_places("expected")
    migrate(place)
    expected.run(describe_for(place.dialect).create_all)
    made, wanted = place.schema(), expected.schema()
    extra = {name for name in made.keys() - wanted.keys() if "alembic_version" not in name}
    assert {name.partition(" ")[0] for name in extra} == {"trigger", "function"}
    assert {name: made[name] for name in wanted} == wanted


def test_postgres_sorts_by_bytes_and_counts_far(postgres_places: NewPlace) -> None:
    """Ids are in order whatever language the database was made for, and none of them runs out."""
    place = postgres_places("empty")
    migrate(place)
    columns = {name: rest for name, rest in place.schema().items() if name.startswith("column ")}
    assert {rest[1] for rest in columns.values() if rest[0] == "text"} == {"C"}
    counted = {name: rest[0] for name, rest in columns.items() if "nextval" in str(rest[3])}
    assert counted == {f"column {table}.id": "bigint" for table in ("audit_log", "ledger", "task_events")}


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_a_database_is_migrated_once(place: Place) -> None:
    assert migrate(place)
    assert revision(place) == SCHEMA_REVISION
    assert not migrate(place)


def test_the_revision_of_a_file_is_told_without_alembic(path: Path) -> None:
    assert current_revision(path) is None
    path.parent.mkdir(parents=True)
    path.touch()
    assert current_revision(path) is None
    migrate(SqlitePlace(path))
    assert current_revision(path) == SCHEMA_REVISION


def test_down_to_nothing_and_up_again(place: Place) -> None:
    migrate(place)
    before = place.schema()
    run_alembic(place, "downgrade", "base")
    assert {name for name in place.schema() if "alembic_version" not in name} == set()
    migrate(place)
    assert place.schema() == before


ENDS = ("succeeded", "failed", "canceled", "expired")


def insert(connection: sa.Connection, table: str, **values: object) -> None:
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"), values)


def insert_old_task(connection: sa.Connection, number: int, state: str) -> None:
    """Of three clips at a cent each, two of which came before it ended."""
    insert(
        connection,
        "tasks",
        id=state,
        tenant_id="t",
        key_id="k",
        key_seq=number,
        tenant_seq=number,
        route="r",
        model="m",
        state=state,
        prompt="p",
        sample_count=3,
        metadata="{}",
        price_micros=30_000,
        emulated=False,
        request_id="q",
        created_at_ms=1_798_761_599_999,
        deadline_at_ms=1,
        not_before_ms=1,
        attempt_count=1,
        finished_at_ms=1_798_761_600_000 if state in ENDS else None,
        lease_token="l" if state == "running" else None,
    )
    attempt = {"id": f"a{number}", "task_id": state, "number": 1, "deployment": "d", "state": "succeeded"}
    insert(connection, "attempts", **attempt, started_at_ms=1, clips_asked=3, clips_delivered=2)
    for index in range(2 if state in {"running", "succeeded"} else 0):
        clip = {"task_id": state, "clip_index": index, "attempt_id": f"a{number}", "mime_type": "audio/wav"}
        sizes = {"size_bytes": 1, "sha256": "s", "duration_s": 1.0, "sample_rate_hz": 1, "channels": 1}
        insert(connection, "outputs", **clip, **sizes, object_name=f"{state}{index}")


def insert_old_tasks(connection: sa.Connection) -> None:
    """A task in each state, in a database of the first revision."""
    insert(connection, "tenants", id="t", name="acme", status="active", created_at_ms=1, weight=1)
    insert(connection, "api_keys", id="k", tenant_id="t", name="key", sha256="s", created_at_ms=1)
    for number, state in enumerate(("queued", "running", *ENDS), 1):
        insert_old_task(connection, number, state)


def test_tasks_from_before_the_ledger_are_entered_in_it(place: Place) -> None:
    run_alembic(place, "upgrade", "0001")
    place.run(insert_old_tasks)
    migrate(place)
    entries = place.run(rows_of("SELECT task_id, kind, held_micros, spent_micros FROM ledger"))
    held = [(state, "hold", 30_000, 0) for state in ("queued", "running", *ENDS)]
    settled = [("succeeded", "settle", -30_000, 20_000)]
    released = [(state, "release", -30_000, 0) for state in ENDS[1:]]
    assert sorted(entries) == sorted(held + settled + released)
    # Accepted a millisecond before the year ended.
    assert place.run(rows_of("SELECT DISTINCT day, month FROM ledger")) == [("2026-12-31", "2026-12")]
    balances = place.run(rows_of("SELECT period, held_micros, spent_micros FROM balances"))
    assert sorted(balances) == [(period, 60_000, 20_000) for period in ("2026-12", "2026-12-31", "total")]
    assert place.run(rows_of("SELECT zone, price_ppm FROM tenants")) == [("UTC", 1_000_000)]
    assert place.run(find_differences) == ()


@pytest.mark.parametrize("table", ["ledger", "audit_log"])
def test_what_only_grows_is_not_changed_or_deleted(place: Place, table: str) -> None:
    run_alembic(place, "upgrade", "0001")
    place.run(insert_old_tasks)
    migrate(place)
    act = {"at_ms": 1, "actor": "a", "source": "s", "request_id": "q", "action": "x", "target": "t"}
    place.run(lambda connection: insert(connection, "audit_log", **act))
    before = place.run(rows_of(f"SELECT * FROM {table}"))
    statements = [f"DELETE FROM {table}", f"UPDATE {table} SET actor = 'b'"]
    if place.dialect == "postgresql":
        statements.append(f"TRUNCATE {table}")
    for statement in statements:
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            place.run(lambda connection, statement=statement: connection.exec_driver_sql(statement))
    assert place.run(rows_of(f"SELECT * FROM {table}")) == before != []


def test_the_ledger_can_be_taken_back_and_nothing_else_goes_with_it(place: Place) -> None:
    run_alembic(place, "upgrade", "0001")
    place.run(insert_old_tasks)
    before, rows, checked = place.schema(), contents(place), checks(place)
    migrate(place)
    run_alembic(place, "downgrade", "0001")
    assert place.schema() == before
    assert checks(place) == checked
    assert checked["tenants"]
    assert contents(place) == rows
    migrate(place)
    assert revision(place) == SCHEMA_REVISION


def contents(place: Place) -> dict[str, list[tuple[object, ...]]]:
    tables = place.run(lambda connection: sa.inspect(connection).get_table_names())
    return {table: sorted(place.run(rows_of(f"SELECT * FROM {table}")), key=repr) for table in tables}


def test_migrating_again_changes_nothing(place: Place) -> None:
    migrate(place)
    tenant = {"id": "t", "name": "acme", "status": "active", "created_at_ms": 1, "weight": 1}
    place.run(lambda connection: insert(connection, "tenants", **tenant))
    before = place.schema()
    assert not migrate(place)
    run_alembic(place, "upgrade", "head")
    assert place.schema() == before
    assert place.run(rows_of("SELECT name FROM tenants")) == [("acme",)]


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE tasks", "CREATE INDEX", "CREATE TABLE outputs", "INSERT"]
)
def test_a_migration_that_breaks_half_way_leaves_nothing(place: Place, statement: str) -> None:
    def break_at(conn, cursor, text, parameters, context, executemany) -> None:
        if text.strip().startswith(statement):
            raise RuntimeError("the lights went out")

    sa.event.listen(sa.Engine, "before_cursor_execute", break_at)
    try:
        with pytest.raises(RuntimeError, match="lights"):
            migrate(place)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", break_at)
    assert place.schema() == {}
    assert revision(place) is None
    migrate(place)
    assert revision(place) == SCHEMA_REVISION


_MIGRATE_AND_DIE = """
import asyncio, os, signal, sys
import sqlalchemy as sa
from gateway.db.opening import migrate

def die(conn, cursor, text, parameters, context, executemany):
    if text.strip().startswith("CREATE TABLE outputs"):
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(sa.Engine, "before_cursor_execute", die)
asyncio.run(migrate(sys.argv[1]))
"""


def test_a_killed_migration_leaves_nothing(place: Place) -> None:
    done = subprocess.run([sys.executable, "-c", _MIGRATE_AND_DIE, place.url], check=False)
    assert done.returncode == -9
    migrate(place)
    assert revision(place) == SCHEMA_REVISION


_MIGRATE_AND_OPEN = """
import asyncio, sys
from gateway.bootstrap.services import open_database
from gateway.db import tenants
from gateway.settings import Settings

async def main():
    async with open_database(Settings(database_url=sys.argv[1])) as database:
        print(await database.read(tenants.list_tenants))

sys.stdin.readline()
asyncio.run(main())
"""


def start(place: Place) -> "subprocess.Popen[str]":
    """A gateway's start, which waits for a word."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", _MIGRATE_AND_OPEN, place.url], text=True, **pipes)


def test_processes_that_start_at_once_do_not_trip_over_each_other(place: Place) -> None:
    processes = [start(place) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert outputs == [("()\n", "")] * 3
    assert revision(place) == SCHEMA_REVISION


@contextmanager
def another_migrates(place: Place) -> Iterator[None]:
    """Until the block ends."""
    if isinstance(place, SqlitePlace):
        place.path.parent.mkdir(parents=True)
        with place.path.with_name(f"{place.path.name}.migrating").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    dsn = place.url.replace("+asyncpg", "")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD_LOCK, dsn, str(postgres._MIGRATING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        yield
        other.stdin.close()


_HOLD_LOCK = """
import asyncio, sys
import asyncpg

async def main():
    other = await asyncpg.connect(sys.argv[1])
    await other.execute(f"SELECT pg_advisory_lock({sys.argv[2]})")
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await other.close()

asyncio.run(main())
"""


def test_a_second_migration_waits_for_the_first(place: Place) -> None:
    with another_migrates(place):
        other = start(place)
        other.stdin.write("go\n")
        other.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
        assert revision(place) is None
    assert other.communicate(timeout=60)[0] == "()\n"


def test_a_database_of_a_newer_version_is_refused_and_not_touched(place: Place) -> None:
    migrate(place)
    place.run(
        lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    )
    before = place.schema()
    with pytest.raises(ConfigurationError, match="newer gateway") as caught:
        migrate(place)
    assert place.url.rpartition("//")[2] in caught.value.detail
    assert place.schema() == before
    assert revision(place) == "9999"


# SQLite's files


@pytest.mark.parametrize("name", ["with space.db", "what?.db", "50%.db", "sharp#.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    migrate(SqlitePlace(tmp_path / name))
    assert current_revision(tmp_path / name) == SCHEMA_REVISION


def test_a_file_that_is_no_database_is_the_operators_to_mend(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("no database at all, but a long enough text to be taken for one" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        migrate(SqlitePlace(path))


def test_only_the_owner_may_read_a_new_database(path: Path):
    migrate(SqlitePlace(path))
    assert path.stat().st_mode & 0o077 == 0
