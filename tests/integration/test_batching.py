"""Look-ups that arrive together share a query, and every answer was read after it was asked for."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import pytest

from gateway.db import accounts, tenants
from gateway.db.batching import BatchReader
from gateway.db.engine import Database, Tx
from gateway.errors import Unavailable
from tests.databases import Pause
from tests.factories import keep_tenant


class Fetch:
    """Tenants' names by id, as asked for in each query; waits in the first until it is let go."""

    def __init__(self, fail: Callable[[list[str]], None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self.pause = Pause()
        self._fail = fail

    def __call__(self, tx: Tx, ids: Iterable[str]) -> Mapping[str, str]:
        asked = list(ids)
        self.batches.append(asked)
        found = {tenant.id: tenant.name for tenant in tenants.list_tenants(tx) if tenant.id in asked}
        self.pause.wait(tx)
        self._fail(asked)
        return found


def ask(reader: BatchReader[str], *ids: str) -> list["asyncio.Task[str | None]"]:
    return [asyncio.create_task(reader.get(id_)) for id_ in ids]


async def test_a_row_is_found_by_its_id(database: Database) -> None:
    tenant = await keep_tenant(database, name="acme")
    fetch = Fetch()
    fetch.pause.end()
    reader = BatchReader(database, fetch)
    assert await reader.get(tenant.id) == "acme"
    assert await reader.get("nobody") is None


async def test_what_arrives_during_a_query_shares_the_next(database: Database) -> None:
    tenants = [await keep_tenant(database) for _ in range(5)]
    fetch = Fetch()
    reader = BatchReader(database, fetch)
    first = ask(reader, tenants[0].id)
    await fetch.pause.entered.wait()
    rest = ask(reader, *(tenant.id for tenant in tenants[1:]), "nobody", tenants[1].id)
    await asyncio.sleep(0)
    fetch.pause.end()
    names = await asyncio.gather(*first, *rest)
    assert names == [*(tenant.name for tenant in tenants), None, tenants[1].name]
    assert fetch.batches == [[tenants[0].id], [*(tenant.id for tenant in tenants[1:]), "nobody"]]


async def test_an_answer_is_never_older_than_its_question(database: Database) -> None:
    tenant = await keep_tenant(database, name="before")
    fetch = Fetch()
    reader = BatchReader(database, fetch)
    (first,) = ask(reader, tenant.id)
    await fetch.pause.entered.wait()  # it has read "before" and has not yet answered
    await database.write(lambda tx: tx.exec_driver_sql("UPDATE tenants SET name = 'after'"))
    (second,) = ask(reader, tenant.id)
    await asyncio.sleep(0)
    fetch.pause.end()
    assert (await first, await second) == ("before", "after")


async def test_very_many_are_read_in_several_queries(database: Database) -> None:
    tenant = await keep_tenant(database, name="acme")
    fetch = Fetch()
    fetch.pause.end()
    reader = BatchReader(database, fetch)
    names = await asyncio.gather(*ask(reader, *(f"nobody {n}" for n in range(600)), tenant.id))
    assert names[-1] == "acme"
    assert names.count(None) == 600
    assert max(len(batch) for batch in fetch.batches) <= 256


async def test_one_who_hangs_up_takes_nothing_from_the_others(database: Database) -> None:
    tenant = await keep_tenant(database, name="acme")
    fetch = Fetch()
    reader = BatchReader(database, fetch)
    hasty, patient = ask(reader, tenant.id, tenant.id)
    await fetch.pause.entered.wait()
    hasty.cancel()
    fetch.pause.end()
    assert await patient == "acme"
    assert hasty.cancelled()


async def test_a_failed_query_is_told_to_all_who_waited_and_no_others(database: Database) -> None:
    def fail(asked: list[str]) -> None:
        if "bad" in asked:
            raise ValueError("no")

    tenant = await keep_tenant(database, name="acme")
    fetch = Fetch(fail)
    reader = BatchReader(database, fetch)
    first = ask(reader, "bad", "also")
    await fetch.pause.entered.wait()
    second = ask(reader, tenant.id)
    await asyncio.sleep(0)
    fetch.pause.end()
    assert [str(error) for error in await asyncio.gather(*first, return_exceptions=True)] == ["no", "no"]
    assert await second[0] == "acme"


async def test_a_closed_database_is_unavailable_to_every_reader(database: Database) -> None:
    reader = BatchReader(database, accounts.get_credentials)
    await database.close()
    with pytest.raises(Unavailable):
        await reader.get("anything")
