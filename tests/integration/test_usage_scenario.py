"""A day in the life of a tenant; every view of it says the same, to the micro-dollar.

Tasks succeed, fail, are tried again, deliver in part, are lost with their worker, wait, and are adjusted.
"""

import asyncio
import csv
import io
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.accounts.keys import KEY_PREFIX
from gateway.cli.main import main
from gateway.db import ledger
from gateway.db.ledger import Balance
from gateway.model import BudgetWindow, KeyMode, Periods, Principal, Route, TaskState
from gateway.settings import Settings
from tests.api import BASE_URL, checked_client, make_apis, make_app
from tests.emulator import RunningEmulator
from tests.factories import ACT, a_caller, keep_tenant
from tests.specification import Specification
from tests.workshop import Workshop, open_workshop

ON_BOTH_DATABASES = True
# A third more than list prices, and rounded: 60,000 becomes 80,000.
PRICE, COST = 80_000, 43_000
ZONE = "Pacific/Pago_Pago"
# There it is still the evening before: 14 January 2027, 21:00.
FIRST_DAY, SECOND_DAY = "2027-01-14", "2027-01-15"
RANGE = {"from": "2027-01-01", "to": "2027-01-31"}


@dataclass
class Tenancy:
    """A tenant with a key, in a workshop, and every way to look at what it used."""

    shop: Workshop
    client: httpx.AsyncClient
    settings: Settings
    key: str

    async def get(self, path: str, **query: str) -> httpx.Response:
        response = await self.client.get(path, params=query, headers={"X-Api-Key": self.key})
        assert response.status_code == 200, response.text
        return response

    async def usage(self, group_by: str) -> dict[str, Any]:
        return dict((await self.get("/api/usage", group_by=group_by, **RANGE)).json())

    async def usage_csv(self, group_by: str) -> list[dict[str, str]]:
        response = await self.get("/api/usage", group_by=group_by, format="csv", **RANGE)
        return list(csv.DictReader(io.StringIO(response.text, newline="")))

    async def export(self, *words: str) -> dict[str, Any]:
        """By the command line, on the same database."""
        command = [
            "usage",
            "export",
            "--format",
            "json",
            "--from",
            RANGE["from"],
            "--to",
            RANGE["to"],
            *words,
        ]
        environment = {
            "GATEWAY_DATA_DIR": str(self.settings.data_dir),
            "GATEWAY_DATABASE_URL": self.settings.database_url.get_secret_value(),
        }
        result = await asyncio.to_thread(CliRunner().invoke, main, command, env=environment)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    async def balance(self, day: str) -> dict[str, Balance]:
        tenant_id = self.shop.principal.tenant_id
        return await self.shop.services.database.read(
            lambda tx: ledger.get_balances(tx, tenant_id, Periods(day, day[:7]))
        )

    async def agree(self) -> dict[str, Any]:
        """Every view says the same; what they say, all together."""
        tenant_id = self.shop.principal.tenant_id
        by_day = await self.usage("day")
        total = by_day["total"]
        for group_by in ("", "key", "model", "key,model,day", "day,key"):
            report = await self.usage(group_by)
            assert report["total"] == total
            for name in ("requests", "clips", "held_micros", "charged_micros"):
                told = [int(line[name]) for line in await self.usage_csv(group_by)]
                assert sum(told) == sum(row[name] for row in report["rows"]) == total[name]
        for words in (("--tenant", tenant_id), ("--group-by", "day", "--tz", ZONE)):
            exported = (await self.export(*words))["total"]
            assert {name: exported[name] for name in total} == total
        for row in by_day["rows"]:
            balance = (await self.balance(row["day"])).get(row["day"], Balance())
            assert (row["held_micros"], row["charged_micros"]) == (balance.held_micros, balance.spent_micros)
        in_all = (await self.balance(FIRST_DAY))["total"]
        assert (total["held_micros"], total["charged_micros"]) == (in_all.held_micros, in_all.spent_micros)
        *_, month, ever = (await self.get("/api/account")).json()["budgets"]
        for budget in (month, ever):
            assert (budget["held_micros"], budget["spent_micros"]) == (
                in_all.held_micros,
                in_all.spent_micros,
            )
        assert await self.shop.services.books.reconcile() == ()
        return {name: value for name, value in total.items() if value}


@pytest.fixture
async def tenancy(
    settings: Settings, emulator: RunningEmulator, specification: Specification
) -> AsyncIterator[Tenancy]:
    costing = settings.model_copy(update={"lyria2_cost_usd": "0.043"})
    async with open_workshop(costing, emulator) as shop:
        tenant = await keep_tenant(shop.services.database, name="radio", zone=ZONE, price_ppm=1_333_333)
        shop.principal, key = await a_caller(shop.services.database, tenant, name="=podcast")
        app = make_app(make_apis(costing, shop.services), shop.services)
        async with checked_client(
            specification, transport=httpx.ASGITransport(app), base_url=BASE_URL
        ) as client:
            yield Tenancy(shop, client, costing, key)


async def test_a_tenant_that_did_nothing_used_nothing(tenancy: Tenancy) -> None:
    report = await tenancy.usage("day")
    assert report["rows"] == []
    assert {value for name, value in report["total"].items() if name != "charged_usd"} == {0}
    assert (await tenancy.export())["rows"] == []


async def test_every_view_of_a_day_agrees(tenancy: Tenancy) -> None:
    shop = tenancy.shop
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.MONTH: 100 * PRICE})

    # Three clips at once.
    await shop.finish(await shop.submit(sample_count=3))
    assert await tenancy.agree() == {
        "requests": 1,
        "succeeded": 1,
        "clips": 3,
        "audio_seconds": 3.0,
        "attempts": 1,
        "spent_micros": 3 * PRICE,
        "charged_micros": 3 * PRICE,
        "charged_usd": "0.24",
    }

    # One refused; one refused twice by chance and then made; one of four clips that stays one short.
    shop.emulator.script({"preset": "safety"})
    await shop.finish(await shop.submit(sample_count=2))
    shop.emulator.script({"preset": "recitation", "times": 2})
    await shop.finish(await shop.submit())
    shop.emulator.script({"fewer_clips": 3}, {"empty_predictions": True, "times": 9})
    partial = await shop.finish(await shop.submit(sample_count=4))
    assert (partial.state, len(partial.clips), partial.attempt_count) == (TaskState.SUCCEEDED, 3, 4)
    shop.emulator.reset()
    so_far = await tenancy.agree()
    assert so_far["requests"] == 4  # and not ten
    assert (so_far["attempts"], so_far["succeeded"], so_far["failed"]) == (9, 3, 1)
    assert (so_far["clips"], so_far["spent_micros"]) == (7, 7 * PRICE)

    # One whose worker dies, accepted minutes before midnight and made after it; then another model.
    shop.clock.advance(2 * 3600 + 57 * 60)
    late = await shop.submit(sample_count=2)
    shop.emulator.script({"hang": True})
    running = asyncio.create_task(shop.step(late))
    await shop.until_received(1)
    assert (await tenancy.agree())["running"] == 1
    shop.clock.advance(300)
    await shop.abandon(running)
    await shop.finish(late)
    await shop.finish(await shop.submit(route=Route.STANDARD, model="musicgen", duration_s=1))
    await shop.submit(sample_count=2)

    # A credit, on the day after.
    await shop.services.books.adjust(ACT, shop.principal.tenant_id, -50_001, reason="one clip was silent")
    assert await tenancy.agree() == {
        "requests": 7,
        "succeeded": 5,
        "failed": 1,
        "queued": 1,
        "clips": 10,
        "audio_seconds": 10.0,
        "attempts": 12,
        "unknown_attempts": 1,
        "held_micros": 2 * PRICE,
        "spent_micros": 9 * PRICE,
        "adjusted_micros": -50_001,
        "charged_micros": 9 * PRICE - 50_001,
        "charged_usd": "0.669999",
    }

    days = {row["day"]: row for row in (await tenancy.usage("day"))["rows"]}
    assert set(days) == {FIRST_DAY, SECOND_DAY}
    assert (days[FIRST_DAY]["requests"], days[FIRST_DAY]["spent_micros"]) == (5, 9 * PRICE)
    assert (days[SECOND_DAY]["requests"], days[SECOND_DAY]["charged_micros"]) == (2, -50_001)
    models = {row["model"]: row for row in (await tenancy.usage("model"))["rows"]}
    assert [models[name]["requests"] for name in ("lyria-002", "musicgen")] == [6, 1]
    assert models[None]["adjusted_micros"] == -50_001

    # The provider's side: what was delivered by Lyria, and once all that was asked for.
    exported = (await tenancy.export("--group-by", "model"))["rows"]
    assert {row["model"]: row["provider_cost_micros"] for row in exported} == {
        "lyria-002": 9 * COST + 2 * COST,
        "musicgen": 0,
        None: 0,
    }


async def test_other_tenants_are_in_the_operators_report_and_in_no_others(tenancy: Tenancy) -> None:
    shop = tenancy.shop
    await shop.finish(await shop.submit())
    mine, shop.principal = shop.principal, await stranger(shop)
    await shop.finish(await shop.submit(sample_count=2))
    everybody = await tenancy.export("--group-by", "tenant")
    assert [(row["tenant_name"], row["charged_micros"]) for row in everybody["rows"]] == [
        ("radio", PRICE),
        ("stranger", 2 * 60_000),
    ]
    shop.principal = mine
    assert (await tenancy.usage("day"))["total"]["charged_micros"] == PRICE
    assert KEY_PREFIX not in json.dumps(everybody)


async def test_what_test_keys_ask_for_is_counted_apart(tenancy: Tenancy) -> None:
    shop = tenancy.shop
    mine, shop.principal = shop.principal, replace(shop.principal, mode=KeyMode.TEST)
    await shop.finish(await shop.submit(sample_count=2))
    assert await tenancy.agree() == {"test_requests": 1, "charged_usd": "0.00"}
    shop.principal = mine
    await shop.finish(await shop.submit())
    told = await tenancy.agree()
    assert (told["requests"], told["test_requests"], told["clips"]) == (1, 1, 1)
    assert (told["attempts"], told["charged_micros"]) == (1, PRICE)
    assert (await tenancy.export())["total"]["provider_cost_micros"] == COST


async def stranger(shop: Workshop) -> Principal:
    tenant = await keep_tenant(shop.services.database, name="stranger")
    principal, _ = await a_caller(shop.services.database, tenant, name=secrets.token_hex(4))
    return principal
