"""A budget near its end is told of by webhook: once for each share, with the task that brought it there."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import BudgetSpent
from gateway.model import BudgetWindow, MusicSpec, Route
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from tests.emulator import RunningEmulator
from tests.factories import ACT
from tests.workshop import Workshop, open_workshop

ON_BOTH_DATABASES = True
CLIP = 60_000


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    """A tenant that listens, and has a daily budget for ten clips."""
    async with open_workshop(settings, emulator) as opened:
        tenant_id = opened.principal.tenant_id
        await opened.services.webhooks.create(ACT, tenant_id, "https://hooks.example.com/music")
        await opened.services.tenants.set_budgets(ACT, tenant_id, {BudgetWindow.DAY: 10 * CLIP})
        yield opened


async def told(shop: Workshop) -> list[dict[str, Any]]:
    rows = await shop.rows(
        "SELECT body FROM webhook_deliveries WHERE kind = 'budget.warning' ORDER BY created_at_ms, id"
    )
    return [json.loads(body)["data"] for (body,) in rows]


async def percents(shop: Workshop) -> list[int]:
    return [data["percent"] for data in await told(shop)]


async def submit(shop: Workshop, count: int) -> None:
    """One after another: each message has a moment of its own."""
    for _ in range(count):
        await shop.submit()
        shop.clock.advance(0.001)


async def test_each_share_is_told_once(shop: Workshop) -> None:
    await submit(shop, 7)
    assert await percents(shop) == []
    await submit(shop, 2)
    assert await percents(shop) == [80]
    await submit(shop, 1)
    assert await percents(shop) == [80, 100]
    (_, last) = await told(shop)
    assert last == {
        "window": "day",
        "period": "2027-01-15",
        "percent": 100,
        "limit_micros": 600_000,
        "spent_micros": 0,
        "held_micros": 600_000,
    }


async def test_a_request_that_is_refused_tells_nothing(shop: Workshop) -> None:
    await submit(shop, 7)
    with pytest.raises(BudgetSpent):
        await shop.submit(sample_count=4)
    assert await percents(shop) == []


async def test_what_goes_over_several_shares_at_once_tells_the_highest(shop: Workshop) -> None:
    await submit(shop, 6)
    tasks = [await shop.submit(sample_count=4)]
    assert await percents(shop) == [100]
    # Let go of some of it and come near again: that is no news.
    await shop.services.tenants.update(ACT, shop.principal.tenant_id, warn_percents=(50, 80, 100))
    shop.emulator.script({"status": 400, "message": "no", "times": 4})
    await shop.finish(tasks[0])
    await submit(shop, 2)
    assert await percents(shop) == [100]


async def test_shares_are_the_tenants_to_choose(shop: Workshop) -> None:
    await shop.services.tenants.update(ACT, shop.principal.tenant_id, warn_percents=(10, 30))
    await submit(shop, 10)
    assert await percents(shop) == [10, 30]


async def test_every_budget_is_told_of_by_itself_and_again_in_its_next_period(shop: Workshop) -> None:
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.TOTAL: 12 * CLIP})
    await submit(shop, 10)
    seen = {(data["window"], data["percent"]) for data in await told(shop)}
    assert seen == {("day", 80), ("day", 100), ("total", 80)}
    shop.clock.advance(86_400)
    await submit(shop, 2)
    assert (await told(shop))[-1]["window"] == "total"
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.TOTAL: None})
    await submit(shop, 6)
    assert [data["period"] for data in await told(shop)][-1] == "2027-01-16"


async def test_another_limit_is_another_story(shop: Workshop) -> None:
    await submit(shop, 8)
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.DAY: 20 * CLIP})
    await submit(shop, 8)
    assert [(data["percent"], data["limit_micros"]) for data in await told(shop)] == [
        (80, 10 * CLIP),
        (80, 20 * CLIP),
    ]


async def test_a_quote_says_it_and_tells_nobody(shop: Workshop) -> None:
    await submit(shop, 7)
    submission = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None)
    quote = await shop.services.tasks.quote(shop.principal, submission)
    assert [alert.percent for alert in quote.verdict.alerts] == [80]
    assert await percents(shop) == []
