"""`gateway copy-database`: all that a used gateway has goes from one database to another, or nothing does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.db.copying import BATCH_ROWS, tables_in_order
from gateway.db.moving import move
from gateway.errors import ConfigurationError, Conflict, GatewayError
from gateway.settings import Settings
from tests.databases import PostgresStore, SqliteStore, Store, keep, open_store
from tests.emulator import RunningEmulator
from tests.installation import Used, open_installation, use
from tests.postgres import Server
from tests.shell import Shell

Settled = tuple[Settings, Used]


def silent(_table: str, _rows: int, _count: int) -> None:
    """Nobody looks."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allow": "127.0.0.0/8"})


@pytest.fixture
async def used(settings: Settings, emulator: RunningEmulator) -> Used:
    """What a gateway on SQLite was used for; it is stopped."""
    return await use(settings, emulator)


def on(settings: Settings, store: Store) -> Settings:
    """The same gateway on another database."""
    return settings.model_copy(update={"database_url": type(settings.database_url)(store.url)})


async def counts(store: Store) -> dict[str, int]:
    return {
        table.name: (await store.fetch(f'SELECT count(*) FROM "{table.name}"'))[0][0]
        for table in tables_in_order()
    }


async def refusal(source: str, target: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await move(source, target, silent)
    return caught.value


# What arrives


async def test_a_used_gateway_goes_to_postgresql_and_goes_on_there(
    used: Used, settings: Settings, store: Store, postgres_store: PostgresStore
) -> None:
    assert [name for name, rows in (await counts(store)).items() if rows == 0] == []
    async with open_installation(settings) as before:
        told = await before.answers(used)
    assert {told[task]["status"] for task in used.tasks} >= {
        *("queued", "running", "succeeded", "failed", "canceled", "expired"),
    }
    await move(store.url, postgres_store.url, silent)
    assert await counts(postgres_store) == await counts(store)
    async with open_installation(on(settings, postgres_store)) as after:
        assert await after.answers(used) == told
        after.services.runner.start()
        caller = after.caller(used.key)
        ends = [await caller.ended(task) for task in used.queued]
        assert [end["status"] for end in ends] == ["succeeded"] * len(ends)
        again = await caller.ask()
        assert (await caller.ended(again["task_id"]))["status"] == "succeeded"
        assert await after.services.books.reconcile() == ()


async def test_it_comes_back_as_it_went(
    used: Used, store: Store, postgres_store: PostgresStore, tmp_path: Path
) -> None:
    there = await move(store.url, postgres_store.url, silent)
    back = await move(postgres_store.url, f"sqlite+aiosqlite:///{tmp_path / 'back' / 'gateway.db'}", silent)
    assert back == there


async def test_lines_keep_the_time_that_was_used_up_in_them(
    used: Used, store: Store, postgres_store: PostgresStore
) -> None:
    await store.execute("UPDATE queue_lines SET next_tag = 7000000, last_tag = 6000000")
    await move(store.url, postgres_store.url, silent)
    query = "SELECT tenant_id, model, waiting, next_tag, last_tag, since_ms FROM queue_lines ORDER BY 1, 2"
    kept = [(*row[:2], bool(row[2]), *row[3:]) for row in await store.fetch(query)]
    assert await postgres_store.fetch(query) == kept


async def test_many_rows_go_in_batches(sqlite_store: SqliteStore, postgres_store: PostgresStore) -> None:
    rows = 2 * BATCH_ROWS + 1
    await sqlite_store.execute(
        "INSERT INTO discarded_objects WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {rows}) SELECT 'Zä/' || i, i FROM n"
    )
    told = []
    await move(sqlite_store.url, postgres_store.url, lambda *progress: told.append(progress))
    assert [line for line in told if line[0] == "discarded_objects"] == [
        ("discarded_objects", done, rows) for done in (BATCH_ROWS, 2 * BATCH_ROWS, rows)
    ]
    assert (await counts(postgres_store))["discarded_objects"] == rows


async def test_a_new_database_gets_its_tables_first(
    sqlite_store: SqliteStore, postgres_server: Server
) -> None:
    postgres_server.execute("CREATE DATABASE quite_new")
    try:
        await move(sqlite_store.url, postgres_server.url("quite_new"), silent)
    finally:
        postgres_server.execute("DROP DATABASE quite_new WITH (FORCE)")


# What is refused, and leaves nothing


async def test_a_target_with_rows_is_refused(
    sqlite_store: SqliteStore, postgres_store: PostgresStore
) -> None:
    await fill(postgres_store, "there")
    error = await refusal(sqlite_store.url, postgres_store.url)
    assert isinstance(error, Conflict)
    assert "tenants has rows" in error.detail
    assert await postgres_store.fetch("SELECT name FROM tenants") == [("there",)]


async def fill(store: Store, name: str) -> None:
    database = await open_store(store)
    await database.write(keep(name))
    await database.close()


async def test_a_source_that_is_not_there_is_not_made(tmp_path: Path, postgres_store: PostgresStore) -> None:
    path = tmp_path / "nowhere" / "gateway.db"
    error = await refusal(f"sqlite+aiosqlite:///{path}", postgres_store.url)
    assert isinstance(error, ConfigurationError)
    assert "There is no gateway's database" in error.detail
    assert not path.parent.exists()


@pytest.mark.parametrize("side", ["source", "target"])
async def test_another_schema_is_refused(
    sqlite_store: SqliteStore, postgres_store: PostgresStore, side: str
) -> None:
    store: Store = sqlite_store if side == "source" else postgres_store
    await store.execute("UPDATE alembic_version SET version_num = '0001'")
    error = await refusal(sqlite_store.url, postgres_store.url)
    assert isinstance(error, ConfigurationError)
    assert "schema 0001" in error.detail


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("way", ["there", "back"])
async def test_what_a_gateway_serves_is_not_copied(
    sqlite_store: SqliteStore, postgres_store: PostgresStore, side: str, way: str
) -> None:
    ends: list[Store] = [sqlite_store, postgres_store]
    if way == "back":
        ends.reverse()
    served = await open_store(ends[0] if side == "source" else ends[1])
    try:
        error = await refusal(ends[0].url, ends[1].url)
    finally:
        await served.close()
    assert isinstance(error, Conflict)
    assert "is in use" in error.detail


async def test_one_database_is_not_copied_into_itself(sqlite_store: SqliteStore) -> None:
    around = sqlite_store.path.parent / "." / ".." / sqlite_store.path.parent.name / "gateway.db"
    assert "same database" in (await refusal(sqlite_store.url, f"sqlite+aiosqlite:///{around}")).detail


async def test_who_may_not_write_is_told(sqlite_store: SqliteStore, postgres_store: PostgresStore) -> None:
    await postgres_store.execute(
        "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
    )
    try:
        url = postgres_store.server.url(postgres_store.name, "reader")
        error = await refusal(sqlite_store.url, url)
    finally:
        await postgres_store.execute("DROP OWNED BY reader; DROP ROLE reader")
    assert isinstance(error, ConfigurationError)
    assert "permission denied" in error.detail


async def test_money_that_does_not_add_up_stays_where_it_is(
    used: Used, store: Store, postgres_store: PostgresStore
) -> None:
    await store.corrupt("UPDATE balances SET spent_micros = spent_micros + 1")
    error = await refusal(store.url, postgres_store.url)
    assert "does not add up" in error.detail
    assert set((await counts(postgres_store)).values()) == {0}


async def test_what_postgresql_cannot_hold_leaves_nothing_there(
    used: Used, store: Store, postgres_store: PostgresStore
) -> None:
    await store.execute("UPDATE tasks SET prompt = 'a' || char(0) || 'b' WHERE state = 'queued'")
    error = await refusal(store.url, postgres_store.url)
    assert "broken off" in error.detail
    assert set((await counts(postgres_store)).values()) == {0}
    # And once that is mended, it goes through.
    await store.execute("UPDATE tasks SET prompt = 'ab' WHERE state = 'queued'")
    await move(store.url, postgres_store.url, silent)


async def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(
    used: Used, store: Store, postgres_store: PostgresStore
) -> None:
    await postgres_store.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN NEW.role = 'viewer'; RETURN NEW; END$$;"
        "CREATE TRIGGER spoil BEFORE INSERT ON members FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    error = await refusal(store.url, postgres_store.url)
    assert "members did not arrive as it was sent" in error.detail
    assert set((await counts(postgres_store)).values()) == {0}


# The command


async def test_the_command_asks_first_and_says_what_it_did(
    used: Used, store: Store, postgres_store: PostgresStore, shell: Shell
) -> None:
    words = ["copy-database", "--from", store.url, "--to", postgres_store.url]
    refused = await asyncio.to_thread(shell.run, *words, answer="n\n")
    assert refused.exit_code == 3
    assert set((await counts(postgres_store)).values()) == {0}
    done = await asyncio.to_thread(shell.run, *words, "--json", "--yes")
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    rows = await counts(store)
    assert {each["table"]: each["rows"] for each in document["tables"]} == rows
    assert document["rows"] == sum(rows.values())
    assert f"tasks: {rows['tasks']} of {rows['tasks']} rows" in done.stderr
    again = await asyncio.to_thread(shell.run, *words, "--yes")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "not empty" in again.stderr


@pytest.mark.parametrize("url", ["mysql://here", "", "postgresql+asyncpg://u:secret-word@@/"])
def test_what_is_no_database_is_wrong_usage(shell: Shell, url: str) -> None:
    result = shell.run("copy-database", "--from", url, "--to", "sqlite+aiosqlite:///there.db")
    assert result.exit_code == 2
    assert "--from" in result.stderr
    assert "secret-word" not in result.stderr
