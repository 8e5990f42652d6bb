"""The usage page has the numbers of `gateway usage export`, whatever there is to count (peers.md N1)."""

import asyncio
import csv
import io
import random
import re
from datetime import UTC, datetime

import httpx
import pytest

from gateway.db.opening import open_database
from gateway.families.registry import KINDS
from gateway.model import TaskState
from gateway.urls import SQLITE_SCHEME
from tests.browser.test_attacks import signed_in
from tests.integration.test_usage_model import Made, Shop
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")

PERIOD = ("2026-09-28", "2026-11-08")
# The clocks change within the period: in Sydney, then in London, then in New York.
TURNS = [datetime(2026, 10, 3, 16, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)]
TURNS += [datetime(2026, 11, 1, 6, tzinfo=UTC)]
ZONES = ("Australia/Sydney", "Europe/London", "America/New_York")
LOOKS = [*((zone, "day") for zone in ZONES), (ZONES[1], "model"), (ZONES[2], "key")]
HOUR_MS = 3_600_000


def some_usage(chance: random.Random) -> Made:
    state = chance.choice(list(TaskState))
    asked = chance.randint(1, 4)
    clips = chance.randint(1, asked) if state is TaskState.SUCCEEDED else 0
    turn_ms = round(chance.choice(TURNS).timestamp() * 1000)
    return Made(
        key=chance.randrange(4),
        at_ms=turn_ms + chance.randint(-30 * HOUR_MS, 30 * HOUR_MS),
        model=chance.choice(list(KINDS)),
        state=state,
        test=chance.random() < 0.1,
        asked=asked,
        lengths_ms=tuple(chance.randint(1, 300_000) for _ in range(clips)),
        calls=tuple(("succeeded", chance.randrange(10**9)) for _ in range(min(clips, 1))),
        charged=chance.random() < 0.5,
    )


async def fill(gateway: RunningGateway, shop: Shop, made: list[Made], chance: random.Random) -> None:
    url = f"{SQLITE_SCHEME}{gateway.data_dir}/gateway.db"
    database = await open_database(url, pool_size=2, jitter=chance.random)
    try:
        await database.write(shop.fill)
        for each in made:
            await database.write(lambda tx, each=each: shop.make(tx, each))
        for turn in TURNS:
            at_ms = round(turn.timestamp() * 1000) + chance.randint(-HOUR_MS, HOUR_MS)
            micros = chance.randrange(10**6)
            await database.write(lambda tx, at_ms=at_ms, micros=micros: shop.adjust(tx, 0, at_ms, micros))
    finally:
        await database.close()


def exported(gateway: RunningGateway, tenant_id: str, zone: str, by: str) -> list[dict[str, str]]:
    first, last = PERIOD
    days = ("--from", first, "--to", last, "--tz", zone)
    text = gateway.command("usage", "export", "--tenant", tenant_id, "--group-by", by, *days)
    return list(csv.DictReader(io.StringIO(text)))


def shown(client: httpx.Client, tenant_id: str, zone: str, by: str) -> list[tuple[str, ...]]:
    """Requests, clips, seconds and micro-dollars of each row of the page; the last row is the total."""
    first, last = PERIOD
    page = client.get(
        f"/dashboard/t/{tenant_id}/usage", params={"from": first, "to": last, "tz": zone, "by": by}
    )
    assert page.status_code == 200, page.text
    cells = re.compile(
        r'data-label="Requests"[^>]*>(\d+)<.*?data-label="Clips"[^>]*>(\d+)<'
        r'.*?data-label="Seconds"[^>]*>([\d.]+)<.*?data-label="Spent"[^>]*data-micros="(-?\d+)"',
    )
    return cells.findall(page.text)


def as_shown(row: dict[str, str]) -> tuple[str, ...]:
    return row["requests"], row["clips"], f"{float(row['audio_seconds']):.1f}", row["spent_micros"]


def test_every_number_of_the_page_is_the_exports(gateway: RunningGateway) -> None:
    chance = random.Random(20261101)  # noqa: S311 - not for secrets
    shop = Shop(("Europe/Berlin", "America/New_York"))
    asyncio.run(fill(gateway, shop, [some_usage(chance) for _ in range(100)], chance))
    tenant_id = shop.tenants[0].id
    with signed_in(gateway) as client:
        for zone, by in LOOKS:
            rows = exported(gateway, tenant_id, zone, by)
            *groups, total = shown(client, tenant_id, zone, by)
            assert len(rows) > 1
            assert groups == [as_shown(row) for row in rows]
            assert int(total[3]) == sum(int(row["spent_micros"]) for row in rows) > 0
