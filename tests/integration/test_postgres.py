"""What is PostgreSQL's own: connections that are few, are lost, or get in each other's way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.bootstrap.services import open_services
from gateway.db.connecting import USUAL, Address, Patience
from gateway.db.engine import Database, Tx, touch
from gateway.db.locks import lock_tenant
from gateway.db.opening import migrate, open_database
from gateway.db.postgres import PostgresDatabase
from gateway.db.prepared import Prepared
from gateway.db.tables import tenants
from gateway.db.tenants import find_tenant, insert_tenant
from gateway.errors import ConfigurationError, ErrorCode, GatewayError, Unavailable
from gateway.model import MusicSpec, Route
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from tests.databases import Pause, PostgresStore, keep, names
from tests.eventually import eventually
from tests.factories import a_caller, a_tenant, keep_tenant
from tests.postgres import GUARDED, PASSWORD, Server
from tests.proxy import Cut, Proxy, open_proxy

MUSIC = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None)


@pytest.fixture
def database(postgres_database: Database) -> Database:
    return postgres_database


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
async def proxy(store: PostgresStore) -> AsyncIterator[Proxy]:
    async with open_proxy(store.server.port) as opened:
        yield opened


class Opening:
    """Opens databases, and closes them when the test is over."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._opened: list[Database] = []

    async def __call__(
        self,
        *,
        port: int | None = None,
        pool_size: int = 2,
        user: str = "gateway",
        patience: Patience = USUAL,
    ) -> Database:
        usual = self._store.server.port
        dsn = self._store.dsn.replace(str(usual), str(port or usual)).replace("gateway@", f"{user}@")
        opened = await PostgresDatabase.open(
            Address(dsn), pool_size=pool_size, jitter=lambda: 0.5, patience=patience
        )
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        for each in self._opened:
            await each.close()


@pytest.fixture
async def opening(store: PostgresStore) -> AsyncIterator[Opening]:
    opening = Opening(store)
    yield opening
    await opening.close()


async def there(store: PostgresStore) -> set[str]:
    return {name for (name,) in await store.fetch("SELECT name FROM tenants")}


class Counted:
    """Keeps a tenant, and counts how often it was asked to. ``first`` happens in the first of them."""

    def __init__(self, name: str = "acme", first: Callable[[Tx], Any] = lambda _: None) -> None:
        self._name = name
        self._first = first
        self.runs = 0

    def __call__(self, tx: Tx) -> None:
        self.runs += 1
        touch(tx, self._name)
        keep(self._name)(tx)
        if self.runs == 1:
            self._first(tx)


def raise_with(sqlstate: str) -> Callable[[Tx], None]:
    def fail(tx: Tx) -> None:
        tx.exec_driver_sql(f"DO $$BEGIN RAISE EXCEPTION 'as you wish' USING ERRCODE = '{sqlstate}'; END$$")

    return fail


# Sessions


async def test_sessions_are_in_utc_and_wait_for_nothing_for_ever(database: Database) -> None:
    def show(tx: Tx) -> dict[str, str]:
        asked = (
            "timezone",
            "application_name",
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "synchronous_commit",
            "transaction_isolation",
        )
        return {name: tx.exec_driver_sql(f"SHOW {name}").scalar_one() for name in asked}

    assert await database.write(show) == {
        "timezone": "UTC",
        "application_name": "gateway",
        "lock_timeout": "10s",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "5s",
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
    }
    assert (await database.read(show))["transaction_isolation"] == "repeatable read"


async def test_a_pool_that_stays_empty_is_told_as_unavailable(opening: Opening, store: PostgresStore) -> None:
    database = await opening(pool_size=1, patience=Patience(lock_s=0.05))
    pause = Pause()
    holding = asyncio.create_task(database.write(pause.wait))
    await pause.entered.wait()
    with pytest.raises(Unavailable) as caught:
        await database.write(keep("acme"))
    assert "busy" in (caught.value.internal or "")
    assert caught.value.retry_after_s
    pause.end()
    await holding
    await database.write(keep("acme"))
    assert await there(store) == {"acme"}


async def test_no_more_connections_are_made_than_allowed(opening: Opening, store: PostgresStore) -> None:
    database = await opening(pool_size=3)
    await asyncio.gather(*(database.write(keep(f"team {n}")) for n in range(50)))
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert await store.fetch(sessions) == [(4,)]  # and one that listens
    await database.close()
    await eventually(lambda: store.fetch_now(sessions) == [(0,)])


async def test_what_takes_long_takes_nothing_from_the_pool(opening: Opening) -> None:
    """And one at a time: it is opened for as long as it takes."""
    database = await opening(pool_size=1)
    pause = Pause()

    def look(tx: Tx) -> str:
        pause.wait(tx)
        return tx.exec_driver_sql("SHOW statement_timeout").scalar_one()

    first = asyncio.create_task(database.read_long(look))
    await pause.entered.wait()
    second = asyncio.create_task(database.read_long(names))
    assert await database.read(names) == set()
    assert not second.done()
    pause.end()
    assert await first == "15min"
    assert await second == set()


async def test_a_lock_held_too_long_is_told_as_unavailable(opening: Opening) -> None:
    database = await opening(patience=Patience(lock_s=0.1))
    tenant = await keep_tenant(database)
    pause = Pause()

    def hold(tx: Tx) -> None:
        lock_tenant(tx, tenant.id)
        pause.wait(tx)

    holding = asyncio.create_task(database.write(hold))
    await pause.entered.wait()
    with pytest.raises(Unavailable) as caught:
        await database.write(lambda tx: lock_tenant(tx, tenant.id))
    assert "lock timeout" in (caught.value.internal or "")
    pause.end()
    await holding
    await database.write(lambda tx: lock_tenant(tx, tenant.id))


async def test_a_process_that_stops_in_the_middle_keeps_nobody_out(
    opening: Opening, store: PostgresStore
) -> None:
    """The server ends its session; once it goes on, its write is run again from the beginning."""
    stopped, database = await opening(patience=Patience(idle_s=0.1)), await opening()
    pause = Pause()
    write = Counted(first=pause.wait)
    writing = asyncio.create_task(stopped.write(write))
    await pause.entered.wait()
    idle = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    await eventually(lambda: store.fetch_now(idle) == [])
    await database.write(keep("other"))
    pause.end()
    await writing
    assert write.runs == 2
    assert await there(store) == {"acme", "other"}


async def test_a_tenant_that_many_wait_for_keeps_nobody_else_waiting(
    store: PostgresStore, opening: Opening, tmp_path: Path
) -> None:
    """A burst for one tenant waits for it with one connection of the pool, not with all."""
    database = await opening()
    settings = Settings(
        data_dir=tmp_path, database_url=store.url, database_pool=2, project="p", google_auth="anonymous"
    )
    async with open_services(settings) as services:
        busy, calm = [(await a_caller(database))[0] for _ in range(2)]
        pause = Pause()

        def hold(tx: Tx) -> None:
            lock_tenant(tx, busy.tenant_id)
            pause.wait(tx)

        holding = asyncio.create_task(database.write(hold))
        await pause.entered.wait()
        burst = [asyncio.create_task(services.tasks.submit(busy, MUSIC)) for _ in range(10)]
        await asyncio.sleep(0)
        try:
            await services.tasks.submit(calm, MUSIC)
            assert [each for each in burst if each.done()] == []
        finally:
            pause.end()
            await holding
        assert len({admitted.task.id for admitted in await asyncio.gather(*burst)}) == 10
        assert services.database._turns._lines == {}


async def test_a_turn_that_does_not_come_is_told_as_unavailable(opening: Opening) -> None:
    database = await opening(patience=Patience(lock_s=0.05))
    async with database.turn("a"), database.turn("b"):
        with pytest.raises(Unavailable) as caught:
            async with database.turn("a"):
                raise AssertionError
    assert "same tenant" in (caught.value.internal or "")
    async with database.turn("a"):
        pass
    assert database._turns._lines == {}


# Tried again, or not


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_what_was_in_the_way_of_another_is_tried_again(
    database: Database, store: PostgresStore, sqlstate: str
) -> None:
    write = Counted(first=raise_with(sqlstate))
    await database.write(write)
    assert write.runs == 2
    assert await there(store) == {"acme"}


async def test_what_is_always_in_the_way_is_given_up(database: Database, store: PostgresStore) -> None:
    runs = []

    def never(tx: Tx) -> None:
        runs.append(1)
        raise_with("40001")(tx)

    with pytest.raises(Unavailable, match="nothing was done"):
        await database.write(never)
    assert len(runs) == 4
    assert await there(store) == set()


@pytest.mark.parametrize("sqlstate", ["23514", "42501", "53100"])
async def test_what_would_fail_again_is_not_tried_again(database: Database, sqlstate: str) -> None:
    write = Counted(first=raise_with(sqlstate))
    with pytest.raises(Unavailable, match="nothing was done"):
        await database.write(write)
    assert write.runs == 1


async def test_a_deadlock_is_undone_and_both_get_through(database: Database, store: PostgresStore) -> None:
    """Two that break the order of locks: PostgreSQL ends one of them, and it is run again."""
    first, second = await keep_tenant(database), await keep_tenant(database)
    pauses = [Pause(), Pause()]
    runs = []

    def rename(one: str, other: str, pause: Pause, tx: Tx) -> None:
        runs.append(one)
        lock_tenant(tx, one)
        pause.wait(tx)
        lock_tenant(tx, other)

    orders = [(first.id, second.id, pauses[0]), (second.id, first.id, pauses[1])]
    writes = [
        asyncio.create_task(database.write(lambda tx, order=order: rename(*order, tx))) for order in orders
    ]
    for pause in pauses:
        await pause.entered.wait()
    for pause in pauses:
        pause.end()
    await asyncio.gather(*writes)
    assert len(runs) == 3


async def test_who_looked_before_another_wrote_looks_again(database: Database, store: PostgresStore) -> None:
    """It is refused in its own words, as where writes come one after another."""
    pause = Pause()

    def keep_if_new(tx: Tx) -> None:
        if find_tenant(tx, "acme") is not None:
            raise GatewayError("there is one already", code=ErrorCode.CONFLICT)
        if not pause.entered.is_set():
            pause.wait(tx)
        keep("acme")(tx)

    late = asyncio.create_task(database.write(keep_if_new))
    await pause.entered.wait()
    await database.write(keep("acme"))
    pause.end()
    with pytest.raises(GatewayError, match="already"):
        await late


async def test_a_failure_that_was_swallowed_is_not_taken_for_success(
    database: Database, store: PostgresStore
) -> None:
    def carry_on(tx: Tx) -> None:
        keep("acme")(tx)
        with contextlib.suppress(sa.exc.IntegrityError):
            keep("acme")(tx)

    with pytest.raises(Unavailable, match="nothing was done"):
        await database.write(carry_on)
    assert await there(store) == set()


# Connections that are lost


async def test_a_server_that_comes_back_at_once_is_not_noticed(
    database: Database, store: PostgresStore
) -> None:
    """Killed in the middle of a transaction: nothing remains of it, and it is run again."""
    pause = Pause()
    write = Counted(first=pause.wait)
    writing = asyncio.create_task(database.write(write))
    await pause.entered.wait()
    await asyncio.to_thread(store.server.kill)
    await asyncio.to_thread(store.server.start)
    pause.end()
    await writing
    assert write.runs == 2
    assert await there(store) == {"acme"}


async def test_a_server_that_is_away_is_unavailable_until_it_is_back(
    database: Database, store: PostgresStore
) -> None:
    await asyncio.gather(*(database.write(keep(f"team {n}")) for n in range(10)))
    await asyncio.to_thread(store.server.kill)
    outcomes = await asyncio.gather(
        database.read(names), *(database.write(keep("lost")) for _ in range(10)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    await asyncio.to_thread(store.server.start)
    # All connections in the pool were lost; whoever comes first is not made to pay for each of them.
    assert len(await database.read(names)) == 10
    await database.write(keep("acme"))
    assert len(await there(store)) == 11


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_connection_lost_at_commit_leaves_it_open_whether_it_was_done(
    proxy: Proxy, opening: Opening, store: PostgresStore, cut: Cut
) -> None:
    """It is not run again: it may be done already. The caller is told so, and so is who remembers things."""
    database = await opening(port=proxy.port)
    heard = []
    database.listen(heard.append)
    proxy.cut_at(b"; COMMIT", cut)
    write = Counted()
    with pytest.raises(Unavailable, match="may or may not"):
        await database.write(write)
    assert write.runs == 1
    assert frozenset({"acme"}) in heard
    assert await there(store) == (set() if cut is Cut.BEFORE else {"acme"})
    await database.write(keep("next"))
    assert "next" in await database.read(names)


async def test_word_of_a_commit_whose_answer_was_lost_is_heard_when_it_comes(
    proxy: Proxy, opening: Opening, store: PostgresStore
) -> None:
    """What was read between the loss and the commit would be remembered for ever otherwise."""
    database = await opening(port=proxy.port)
    heard: list[frozenset[str] | None] = []
    database.listen(heard.append)
    proxy.cut_at(b"; COMMIT", Cut.MEANWHILE)
    with pytest.raises(Unavailable, match="may or may not"):
        await database.write(Counted())
    assert heard == [frozenset({"acme"})]
    assert await there(store) == set()
    proxy.let_arrive()
    await eventually(lambda: heard == [frozenset({"acme"})] * 2)
    assert await there(store) == {"acme"}


async def test_a_connection_lost_before_commit_is_not_noticed(
    proxy: Proxy, opening: Opening, store: PostgresStore
) -> None:
    database = await opening(port=proxy.port)
    proxy.cut_at(b"INSERT INTO tenants", Cut.AFTER)
    write = Counted()
    await database.write(write)
    assert await there(store) == {"acme"}


async def test_a_network_that_is_silent_is_given_up(
    proxy: Proxy, opening: Opening, store: PostgresStore
) -> None:
    database = await opening(port=proxy.port, patience=Patience(statement_s=0.1, network_s=0.1))
    proxy.fall_silent()
    with pytest.raises(Unavailable) as caught:
        await database.write(keep("acme"))
    assert caught.value.internal == "it does not answer"
    proxy.speak()
    await database.write(keep("acme"))
    assert await there(store) == {"acme"}


# What cannot be opened


async def test_a_server_that_is_not_there_is_unavailable(opening: Opening, store: PostgresStore) -> None:
    store.server.kill()
    try:
        with pytest.raises(Unavailable):
            await opening()
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{store.server.port}/{store.name}"):
            await migrate(store.url)
    finally:
        store.server.start()


async def test_a_database_that_cannot_hold_every_script_is_refused(postgres_server: Server) -> None:
    postgres_server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    url = postgres_server.url("ascii")
    await migrate(url)
    with pytest.raises(ConfigurationError, match="SQL_ASCII"):
        await open_database(url, pool_size=1, jitter=lambda: 0.5)
    postgres_server.execute("DROP DATABASE ascii")


async def test_a_password_opens_and_is_nowhere_told(
    opening: Opening, store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    right = "pass%2Fword%401"
    database = await opening(user=f"{GUARDED}:{right}")
    assert await database.read(lambda tx: tx.exec_driver_sql("SELECT current_user").scalar_one()) == GUARDED
    wrong = store.url.replace("gateway@", f"{GUARDED}:wr0ng@")
    told = caplog.text
    for attempt in (migrate(wrong), open_database(wrong, pool_size=1, jitter=lambda: 0.5)):
        with pytest.raises(GatewayError) as caught:
            await attempt
        assert "password authentication failed" in f"{caught.value.detail} {caught.value.internal}"
        told += f"{caught.value.detail} {caught.value.internal} {caught.value.__context__!r}"
    for secret in (PASSWORD, right):
        assert secret not in caplog.text + told
    assert "wr0ng" not in caplog.text


# What is told of failures


async def test_no_value_is_told_with_a_failure(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL quotes the row in DETAIL, the driver quotes the argument, SQLAlchemy all of them."""
    tenant = await keep_tenant(database, name="a secret prompt")
    insert = Prepared(sa.insert(tenants))
    row = {"id": "t2", "name": "a secret prompt", "status": "active", "created_at_ms": 1, "weight": 1}
    for failing in (
        lambda tx: insert_tenant(tx, replace(a_tenant(), name=tenant.name)),
        lambda tx: insert.run(tx, row),
        lambda tx: insert_tenant(tx, replace(a_tenant(), rpm="a secret prompt")),
        lambda tx: insert.run(tx, row | {"weight": "a secret prompt"}),
        lambda tx: insert_tenant(tx, replace(a_tenant(), name="a secret prompt\x00")),
    ):
        with pytest.raises(Unavailable) as caught:
            await database.write(failing)
        assert caught.value.internal
        assert "secret" not in caught.value.internal
    assert "secret" not in caplog.text
