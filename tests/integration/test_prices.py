"""Prices and budgets as callers meet them: quotes, refusals and warnings over HTTP."""

from typing import Any

import httpx
import pytest

from gateway.bootstrap.services import Services
from gateway.model import BudgetWindow
from tests.api import Caller, make_caller
from tests.factories import ACT

LYRIA = "/api/music_generate_lyria"
CLIP = 60_000


@pytest.fixture
async def payer(client: httpx.AsyncClient, services: Services) -> Caller:
    """Pays a quarter more than others, from a month's budget for two clips."""
    tenant = await services.tenants.create(
        ACT,
        name="payer",
        zone="Europe/Berlin",
        price_ppm=1_250_000,
        budgets={BudgetWindow.MONTH: 150_000},
    )
    _, key = await services.keyring.create(ACT, tenant.id, name="test")
    return Caller(client, services, tenant.id, key)


async def quote(caller: Caller, path: str = LYRIA, **fields: Any) -> dict[str, Any]:
    response = await caller.post(f"{path}?dry_run=true", json={"prompt": "slow piano", **fields})
    assert response.status_code == 200, response.text
    assert "ratelimit" not in response.headers
    return dict(response.json())


async def rows(caller: Caller) -> list[int]:
    def count(table: str) -> str:
        return f"SELECT count(*) FROM {table}"

    return await caller.services.database.read(
        lambda tx: [tx.exec_driver_sql(count(t)).scalar_one() for t in ("tasks", "task_events", "ledger")]
    )


async def budget(caller: Caller, window: BudgetWindow, micros: int | None) -> None:
    await caller.services.tenants.set_budgets(ACT, caller.tenant_id, {window: micros})


# Dry run


async def test_a_quote_tells_plan_and_price(payer: Caller) -> None:
    assert await quote(payer, sampleCount=2, seed=7) == {
        "dry_run": True,
        "admitted": True,
        "refusal": None,
        "model": "lyria-002",
        "plan": {
            "calls": 2,
            "clips": 2,
            "takes_per_clip": 1,
            "seconds": None,
            "format": "wav",
            "bitrate_kbps": None,
        },
        "price": {"currency": "USD", "micros": 150_000, "usd": "0.15", "charged_micros": None},
        "warnings": ["100 % of the month budget is used: $0.15 of $0.15 is spent or held."],
        "request": {"prompt": "slow piano", "sampleCount": 2, "seed": 7},
    }


async def test_the_standard_route_quotes_too(caller: Caller) -> None:
    told = await quote(caller, "/api/music_generate", sampleCount=3, model="lyria-002")
    assert told["plan"] == {
        "calls": 1,
        "clips": 3,
        "takes_per_clip": 1,
        "seconds": 30,
        "format": "wav",
        "bitrate_kbps": None,
    }
    assert told["price"]["micros"] == 3 * CLIP
    assert told["request"]["durationSeconds"] == 30


async def test_a_quote_costs_nothing_and_uses_up_no_limit(
    client: httpx.AsyncClient, services: Services
) -> None:
    slow = await make_caller(client, services, "slow", key_rpm=2, rpm=2, max_queued=2)
    await budget(slow, BudgetWindow.DAY, 2 * CLIP)
    for _ in range(5):
        assert (await quote(slow))["admitted"] is True
    assert await rows(slow) == [0, 0, 0]
    await slow.ask_lyria()
    await slow.ask_lyria()
    assert await rows(slow) == [2, 2, 2]


async def test_a_quote_that_would_be_refused_says_why(payer: Caller) -> None:
    told = await quote(payer, sampleCount=3)
    assert (told["admitted"], told["price"]["micros"]) == (False, 225_000)
    assert told["refusal"]["code"] == "budget_spent"
    assert told["refusal"]["retry_after_s"] is None  # it is more than the whole budget
    await payer.ask_lyria(sampleCount=2)
    assert (await quote(payer))["refusal"]["retry_after_s"] > 0


@pytest.mark.parametrize(
    ("limits", "code"), [({"rpm": 1}, "rate_limited"), ({"max_queued": 1}, "queue_full")]
)
async def test_a_quote_tells_of_other_limits(
    client: httpx.AsyncClient, services: Services, limits: dict[str, int], code: str
) -> None:
    small = await make_caller(client, services, "small", **limits)
    await small.ask_lyria()
    refusal = (await quote(small))["refusal"]
    assert refusal["code"] == code
    assert refusal["retry_after_s"] > 0


async def test_a_quote_is_checked_like_a_request(payer: Caller, client: httpx.AsyncClient) -> None:
    response = await payer.post(f"{LYRIA}?dry_run=true", json={"prompt": ""})
    assert response.status_code == 400
    response = await client.post(f"{LYRIA}?dry_run=true", json={"prompt": "x"})
    assert response.status_code == 401


async def test_false_is_no_dry_run(caller: Caller) -> None:
    response = await caller.post(
        f"{LYRIA}?dry_run=false", json={"prompt": "x"}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202


@pytest.mark.parametrize("path", [LYRIA, "/api/music_generate"])
@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("dry=true", ["dry"]),
        ("dryRun=true", ["dryRun"]),
        ("DRY_RUN=true", ["DRY_RUN"]),
        ("dry_run=true&dry-run=true&x", ["dry-run", "x"]),
        ("dry_run", ["dry_run"]),
        ("dry_run=", ["dry_run"]),
        ("dry_run=1", ["dry_run"]),
        ("dry_run=True", ["dry_run"]),
        ("dry_run=true&dry_run=false", ["dry_run"]),
        ("&".join(f"p{n}=1" for n in range(50)), [f"p{n}" for n in range(20)]),
    ],
)
async def test_a_misspelt_dry_run_costs_nothing(
    caller: Caller, path: str, query: str, fields: list[str]
) -> None:
    response = await caller.post(f"{path}?{query}", json={"prompt": "x"})
    assert response.status_code == 400, response.text
    assert [error["field"] for error in response.json()["errors"]] == fields
    assert await rows(caller) == [0, 0, 0]


async def test_looking_takes_any_query(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.client.get(
        f"/api/task-status/{task['task_id']}?x=1", headers={"X-Api-Key": caller.key}
    )
    assert response.status_code == 200


# Budgets


async def test_what_does_not_fit_is_refused_with_its_budget(payer: Caller) -> None:
    await payer.ask_lyria()
    response = await payer.post(LYRIA, json={"prompt": "x", "sampleCount": 2})
    assert response.status_code == 402
    document = response.json()
    assert document["code"] == "budget_spent"
    told = document["budget"]
    assert (told["window"], told["limit_micros"], told["price_micros"]) == ("month", 150_000, 150_000)
    assert (told["held_micros"], told["spent_micros"]) == (75_000, 0)
    assert told["resets_at"].endswith(":00:00.000Z")
    assert int(response.headers["retry-after"]) > 0
    assert await rows(payer) == [1, 1, 1]
    await payer.ask_lyria()


async def test_where_waiting_does_not_help_nobody_is_asked_back(payer: Caller) -> None:
    await budget(payer, BudgetWindow.TOTAL, 0)
    response = await payer.post(LYRIA, json={"prompt": "x"})
    assert response.status_code == 402
    assert "retry-after" not in response.headers
    assert response.json()["budget"]["resets_at"] is None


async def test_a_refusal_uses_up_no_rate(client: httpx.AsyncClient, services: Services) -> None:
    poor = await make_caller(client, services, "poor", rpm=1)
    await budget(poor, BudgetWindow.DAY, 0)
    for _ in range(3):
        assert (await poor.post(LYRIA, json={"prompt": "x"})).status_code == 402
    await budget(poor, BudgetWindow.DAY, None)
    await poor.ask_lyria()


async def test_warnings_come_with_the_answer_to_the_post(payer: Caller) -> None:
    await budget(payer, BudgetWindow.MONTH, 375_000)
    told = [(await payer.ask_lyria())["warnings"] for _ in range(5)]
    assert [[text[:5].strip(" o") for text in warnings if "budget" in text] for warnings in told] == [
        [],
        [],
        [],
        ["80 %"],
        ["100 %"],
    ]


async def test_a_warning_is_also_in_an_answer_that_waited(payer: Caller, worker: None) -> None:
    response = await payer.post(LYRIA, json={"prompt": "x", "sampleCount": 2})
    assert response.status_code == 200
    assert any("100 % of the month budget" in text for text in response.json()["warnings"])


async def test_what_a_caller_is_told_is_what_the_ledger_says(payer: Caller, worker: None) -> None:
    ended = await payer.ended((await payer.ask_lyria(sampleCount=2))["task_id"])
    assert ended["price"] == {"currency": "USD", "micros": 150_000, "usd": "0.15", "charged_micros": 150_000}
    day, *_ = await payer.services.tenants.list_budgets(payer.tenant_id)
    assert (day.used.held_micros, day.used.spent_micros) == (0, 150_000)
    assert await payer.services.books.reconcile() == ()
