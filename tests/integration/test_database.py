"""A database's promises, of either kind: all or nothing, there when told, one's trouble is nobody else's."""

import asyncio
import subprocess
import sys

import pytest

from gateway.db import accounts
from gateway.db.engine import Database, Tx, touch
from gateway.errors import GatewayError, Unavailable
from tests.databases import Pause, Store, keep, keep_then_refuse, names, open_store, together
from tests.factories import a_key, a_tenant

ON_BOTH_DATABASES = True


async def there(store: Store) -> set[str]:
    """What another process sees."""
    return {name for (name,) in await store.fetch("SELECT name FROM tenants")}


def keep_after(pause: Pause, name: str):
    def write(tx: Tx) -> str:
        pause.wait(tx)
        return keep(name)(tx)

    return write


async def test_a_write_is_there_when_it_returns(database: Database, store: Store) -> None:
    assert await database.write(keep("acme")) == "acme"
    assert await there(store) == {"acme"}


async def test_writes_that_come_together_are_all_kept(database: Database, store: Store) -> None:
    outcomes = await asyncio.gather(*(database.write(keep(f"team {n}")) for n in range(200)))
    assert outcomes == [f"team {n}" for n in range(200)]
    assert await there(store) == set(outcomes)


@pytest.mark.parametrize("refused", [0, 2, 4])
async def test_one_refusal_among_others_is_nobody_elses(
    database: Database, store: Store, refused: int
) -> None:
    functions = [keep_then_refuse("bad") if n == refused else keep(f"team {n}") for n in range(5)]
    outcomes = await together(database, *functions)
    assert isinstance(outcomes[refused], GatewayError)
    assert outcomes[refused].detail == "no bad"
    assert await there(store) == {f"team {n}" for n in range(5) if n != refused}


async def test_a_mistake_in_one_write_is_nobody_elses(database: Database, store: Store) -> None:
    def mistake(tx: Tx) -> str:
        keep("half")(tx)
        raise ZeroDivisionError

    outcomes = await together(database, keep("first"), mistake, keep("last"))
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert await there(store) == {"first", "last"}


async def test_a_broken_constraint_fails_its_own_write(database: Database, store: Store) -> None:
    *same, other = await together(database, keep("same"), keep("same"), keep("other"))
    assert sorted(type(outcome).__name__ for outcome in same) == ["Unavailable", "str"]
    assert other == "other"
    assert await there(store) == {"same", "other"}


async def test_a_refused_write_alone_leaves_nothing(database: Database, store: Store) -> None:
    with pytest.raises(GatewayError, match="no acme"):
        await database.write(keep_then_refuse("acme"))
    assert await there(store) == set()


async def test_a_caller_that_hangs_up_does_not_undo_its_write(database: Database, store: Store) -> None:
    pause = Pause()
    write = asyncio.create_task(database.write(keep_after(pause, "acme")))
    await pause.entered.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    pause.end()
    await database.close()
    assert await there(store) == {"acme"}


async def test_nobody_hears_of_the_failure_of_a_caller_that_hung_up(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pause = Pause()

    def refuse(tx: Tx) -> str:
        pause.wait(tx)
        return keep_then_refuse("acme")(tx)

    write = asyncio.create_task(database.write(refuse))
    await pause.entered.wait()
    write.cancel()
    pause.end()
    await asyncio.gather(write, return_exceptions=True)
    await database.close()
    assert caplog.records == []


async def test_a_reader_sees_one_moment_however_long_it_looks(database: Database, store: Store) -> None:
    pause = Pause()

    def look_twice(tx: Tx) -> tuple[set[str], set[str]]:
        before = names(tx)
        pause.wait(tx)
        return before, names(tx)

    await database.write(keep("acme"))
    looking = asyncio.create_task(database.read(look_twice))
    await pause.entered.wait()
    await store.execute("UPDATE tenants SET name = 'renamed'")
    pause.end()
    assert await looking == ({"acme"}, {"acme"})
    assert await database.read(names) == {"renamed"}


async def test_a_read_cannot_write(database: Database, store: Store) -> None:
    with pytest.raises(Unavailable):
        await database.read(keep("acme"))
    assert await there(store) == set()
    assert await database.read(names) == set()


async def test_a_failed_read_does_not_stop_the_next(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.read(lambda tx: tx.exec_driver_sql("SELECT * FROM nowhere"))
    with pytest.raises(ZeroDivisionError):
        await database.read(lambda _: 1 // 0)
    assert await database.read(names) == set()


async def test_what_takes_long_keeps_no_other_read_waiting(database: Database) -> None:
    pause = Pause()

    def dawdle(tx: Tx) -> set[str]:
        found = names(tx)
        pause.wait(tx)
        return found

    reading = asyncio.create_task(database.read_long(dawdle))
    await pause.entered.wait()
    await database.write(keep("meanwhile"))
    assert await database.read(names) == {"meanwhile"}
    pause.end()
    assert await reading == set()
    assert await database.read_long(names) == {"meanwhile"}


async def test_a_long_read_cannot_write_and_does_not_stop_the_next(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.read_long(keep("x"))
    assert await database.read_long(names) == set()


async def test_a_key_without_its_tenant_is_refused(database: Database) -> None:
    with pytest.raises(Unavailable, match="nothing was done"):
        await database.write(lambda tx: accounts.insert_key(tx, a_key(a_tenant())))


async def test_listeners_hear_what_changed_once_it_is_there(database: Database, store: Store) -> None:
    heard: list[tuple[frozenset[str] | None, list[tuple[str]]]] = []
    database.listen(lambda touched: heard.append((touched, store.fetch_now("SELECT name FROM tenants"))))

    def keep_and_touch(tx: Tx) -> None:
        touch(tx, "acme")
        keep("acme")(tx)

    await database.write(keep_and_touch)
    await database.write(keep("untold"))
    assert heard == [(frozenset({"acme"}), [("acme",)])]


async def test_listeners_hear_nothing_of_what_was_refused(database: Database) -> None:
    heard = []
    database.listen(heard.append)

    def touch_then_refuse(tx: Tx) -> str:
        touch(tx, "bad")
        return keep_then_refuse("bad")(tx)

    def touch_good(tx: Tx) -> str:
        touch(tx, "good")
        return "good"

    with pytest.raises(GatewayError):
        await database.write(touch_then_refuse)
    await together(database, touch_then_refuse, touch_good, touch_then_refuse)
    assert heard == [frozenset({"good"})]


async def test_listeners_hear_that_another_process_wrote(database: Database, store: Store) -> None:
    heard: asyncio.Queue[frozenset[str] | None] = asyncio.Queue()
    database.listen(heard.put_nowait)
    other = await open_store(store)
    await other.write(lambda tx: touch(tx, "acme") or keep("acme")(tx))
    await other.close()
    assert await heard.get() in {None, frozenset({"acme"})}


async def test_closing_commits_what_waits(store: Store) -> None:
    database = await open_store(store)
    pause = Pause()
    first = asyncio.create_task(database.write(keep_after(pause, "first")))
    await pause.entered.wait()
    writes = [asyncio.create_task(database.write(keep(f"team {n}"))) for n in range(100)]
    await asyncio.sleep(0)
    closing_down = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    pause.end()
    await closing_down
    assert await there(store) == set(await asyncio.gather(first, *writes))


async def test_a_closed_database_is_unavailable(store: Store) -> None:
    database = await open_store(store)
    await database.read_long(names)
    await database.close()
    with pytest.raises(Unavailable):
        await database.write(keep("acme"))
    for read in (database.read, database.read_long):
        with pytest.raises(Unavailable):
            await read(names)


_WRITE_THEN_DIE = """
import asyncio, os, signal, sys
from gateway.db import tenants
from gateway.db.opening import open_database
from tests.factories import a_tenant

async def main():
    database = await open_database(sys.argv[1], pool_size=1, jitter=lambda: 0.5)
    for number in range(3):
        await database.write(lambda tx: tenants.insert_tenant(tx, a_tenant(name=f"team {number}")))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_what_was_written_survives_a_kill(store: Store) -> None:
    done = subprocess.run([sys.executable, "-c", _WRITE_THEN_DIE, store.url], check=False)
    assert done.returncode == -9
    found = store.fetch_now("SELECT name FROM tenants ORDER BY name")
    assert found == [("team 0",), ("team 1",), ("team 2",)]
