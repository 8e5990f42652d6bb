"""GET /api/account, /api/models and /api/usage: what callers may know of themselves, and of nobody else."""

import csv
import io
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from gateway.bootstrap.services import Services
from gateway.db import work
from gateway.families.lyria2 import LYRIA2
from gateway.model import AudioFormat, BudgetWindow, KeyMode, Scope
from gateway.settings import Settings
from gateway.web.account import AccountApi
from tests.api import BASE_URL, Caller, checked_client, make_apis, make_app, make_caller
from tests.factories import ACT
from tests.specification import Specification

ON_BOTH_DATABASES = True
CLIP = 60_000
PATHS = ("/api/account", "/api/usage", "/api/models")


async def ask(caller: Caller, path: str) -> httpx.Response:
    return await caller.client.get(path, headers={"X-Api-Key": caller.key})


async def look(caller: Caller, path: str = "/api/account") -> dict[str, Any]:
    response = await ask(caller, path)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return dict(response.json())


async def with_key(caller: Caller, **terms: Any) -> Caller:
    """The same tenant with another key."""
    _, key = await caller.services.keyring.create(ACT, caller.tenant_id, **{"name": "another"} | terms)
    return Caller(caller.client, caller.services, caller.tenant_id, key)


async def refused(caller: Caller, path: str) -> list[tuple[str, str]]:
    response = await ask(caller, path)
    assert response.status_code == 400, response.text
    return [(error["field"], error["code"]) for error in response.json()["errors"]]


# All three


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_key_nothing_is_told(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_that_may_not_read_is_told_nothing(caller: Caller, path: str) -> None:
    writer = await with_key(caller, scopes=frozenset({Scope.GENERATE}))
    response = await ask(writer, path)
    assert (response.status_code, response.json()["code"]) == (403, "not_allowed")


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_that_may_only_read_is_told_everything(caller: Caller, path: str) -> None:
    assert (await ask(await with_key(caller, scopes=frozenset({Scope.READ})), path)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_parameter_that_is_not_known_is_refused_by_name(caller: Caller, path: str) -> None:
    assert await refused(caller, f"{path}?form=2026-11-01&tenant=x") == [
        ("form", "unknown_field"),
        ("tenant", "unknown_field"),
    ]
    detail = (await ask(caller, f"{path}?x=1")).json()["errors"][0]["detail"]
    takes = "from, to, tz, group_by, format" if path == "/api/usage" else "none"
    assert detail == f"is not a query parameter of this request; it takes {takes}."


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_answered_like_get(caller: Caller, path: str) -> None:
    response = await caller.client.head(path, headers={"X-Api-Key": caller.key})
    assert response.status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_the_database_gone_is_told(caller: Caller, path: str) -> None:
    await look(caller)  # so that the key is known
    await caller.services.database.close()
    assert (await ask(caller, path)).status_code == 503


# GET /api/account


async def test_an_account_tells_who_asks(caller: Caller) -> None:
    told = await look(caller)
    (key,) = await caller.services.keyring.list(caller.tenant_id)
    assert told["tenant"] == {
        "id": caller.tenant_id,
        "name": "acme",
        "status": "active",
        "zone": "UTC",
        "start_within_s": None,
        "allowed_models": None,
        "allowed_formats": None,
    }
    assert told["key"] == {
        "id": key.id,
        "name": "test",
        "mode": "live",
        "state": "active",
        "scopes": ["generate", "read"],
        "allowed_models": None,
        "created_at": told["key"]["created_at"],
        "expires_at": None,
    }
    assert caller.key not in str(told)


async def test_an_account_tells_what_is_restricted(caller: Caller) -> None:
    await caller.services.tenants.update(
        ACT, caller.tenant_id, zone="Europe/Berlin", allowed_models=("musicgen",), allowed_formats=("wav",)
    )
    narrow = await with_key(
        caller, scopes=frozenset({Scope.READ}), expires_at_ms=4_000_000_000_000, mode=KeyMode.TEST
    )
    told = await look(narrow)
    assert told["tenant"]["zone"] == "Europe/Berlin"
    assert (told["tenant"]["allowed_models"], told["tenant"]["allowed_formats"]) == (["musicgen"], ["wav"])
    assert (told["key"]["mode"], told["key"]["scopes"]) == ("test", ["read"])
    assert told["key"]["expires_at"] == "2096-10-02T07:06:40.000Z"


async def test_a_suspended_tenant_may_look(caller: Caller) -> None:
    await caller.services.tenants.suspend(ACT, caller.tenant_id)
    assert (await look(caller))["tenant"]["status"] == "suspended"


async def test_a_key_stopped_a_moment_ago_is_told_nothing(caller: Caller) -> None:
    """What this process remembers of a key is not enough."""
    await look(caller)
    await caller.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE api_keys SET disabled_at_ms = 1")
    )
    response = await ask(caller, "/api/account")
    assert (response.status_code, response.json()["code"]) == (401, "key_disabled")


async def test_defaults_are_told_where_nothing_is_set(caller: Caller) -> None:
    told = await look(caller)
    assert told["rates"] == [
        {"name": "key", "limit": 10_000, "window_s": 60, "remaining": 10_000, "resets_in_s": 0}
    ]
    assert told["tasks"] == [
        {"name": "queued", "limit": 10_000, "used": 0, "remaining": 10_000},
        {"name": "running", "limit": None, "used": 0, "remaining": None},
    ]
    assert [(b["window"], b["limit_micros"], b["remaining_micros"]) for b in told["budgets"]] == [
        ("day", None, None),
        ("month", None, None),
        ("total", None, None),
    ]
    assert told["budgets"][2]["resets_at"] is None


async def test_rates_tell_what_remains_and_when_more_comes(
    client: httpx.AsyncClient, services: Services
) -> None:
    caller = await make_caller(client, services, "slow", key_rpm=3, rpm=4)
    other = await with_key(caller, rpm=2)
    await caller.ask()
    await caller.ask()
    await other.ask()
    key, tenant = (await look(caller))["rates"]
    assert (key["name"], key["limit"], key["remaining"]) == ("key", 3, 1)
    assert (tenant["name"], tenant["limit"], tenant["remaining"]) == ("tenant", 4, 1)
    assert 0 < key["resets_in_s"] <= 60
    assert 0 < tenant["resets_in_s"] <= 60
    assert (await look(other))["rates"][0]["remaining"] == 1


async def test_what_remains_is_what_is_admitted(client: httpx.AsyncClient, services: Services) -> None:
    """L11: nothing remains exactly when the next request is refused, and both say when to come back."""
    caller = await make_caller(client, services, "slow", key_rpm=2)
    for left in (2, 1):
        assert (await look(caller))["rates"][0]["remaining"] == left
        await caller.ask()
    (rate,) = (await look(caller))["rates"]
    assert rate["remaining"] == 0
    refusal = await caller.post(json={"prompt": "x"})
    assert refusal.status_code == 429
    assert rate["resets_in_s"] >= int(refusal.headers["retry-after"]) > 0


async def test_tasks_tell_who_waits_and_runs(client: httpx.AsyncClient, services: Services) -> None:
    caller = await make_caller(client, services, "small", max_queued=5, max_concurrent=2)
    own = await with_key(caller, max_queued=3)
    for each in (caller, caller, own):
        await each.ask()
    ran = (await caller.ask())["task_id"]
    await services.database.write(
        lambda tx: work.claim(tx, ran, token="t", now_ms=0, expires_at_ms=4_000_000_000_000)
    )
    assert (await look(own))["tasks"] == [
        {"name": "queued", "limit": 5, "used": 3, "remaining": 2},
        {"name": "key_queued", "limit": 3, "used": 1, "remaining": 2},
        {"name": "running", "limit": 2, "used": 1, "remaining": 1},
    ]
    assert [each["name"] for each in (await look(caller))["tasks"]] == ["queued", "running"]


async def test_budgets_tell_what_is_held_spent_and_left(caller: Caller, worker: None) -> None:
    await caller.services.tenants.set_budgets(
        ACT, caller.tenant_id, {BudgetWindow.DAY: 3 * CLIP, BudgetWindow.TOTAL: CLIP}
    )
    await caller.ended((await caller.ask_lyria())["task_id"])
    await caller.services.books.adjust(ACT, caller.tenant_id, 7, reason="why")
    day, month, total = (await look(caller))["budgets"]
    assert (day["limit_micros"], day["spent_micros"], day["remaining_micros"]) == (
        3 * CLIP,
        CLIP + 7,
        2 * CLIP - 7,
    )
    assert (month["limit_micros"], month["remaining_micros"]) == (None, None)
    assert total["remaining_micros"] == 0  # an adjustment may overdraw it
    assert day["resets_at"].endswith("T00:00:00.000Z")


async def test_what_is_held_is_told(caller: Caller) -> None:
    await caller.ask_lyria(sampleCount=2)
    assert {budget["held_micros"] for budget in (await look(caller))["budgets"]} == {2 * CLIP}


# GET /api/models


async def test_models_are_told_with_routes_lengths_and_prices(caller: Caller) -> None:
    musicgen, lyria = (await look(caller, "/api/models"))["models"]
    assert musicgen == {
        "name": "musicgen",
        "routes": [
            {"path": "/api/music_generate", "chosen": True, "seconds": {"min": 1, "max": 300, "default": 30}}
        ],
        "formats": ["wav", "flac", "mp3", "ogg", "opus"],
        "native_format": "wav",
        "samples": {"min": 1, "max": 4},
        "seed": {"min": 0, "max": 4_294_967_295},
        "negative_prompt": True,
        "take_max_seconds": 300,
        "price_per_clip": {"currency": "USD", "micros": 0, "usd": "0.00"},
        "emulated": True,
    }
    assert lyria["routes"] == [
        {"path": "/api/music_generate", "chosen": False, "seconds": {"min": 1, "max": 300, "default": 30}},
        {
            "path": "/api/music_generate_lyria",
            "chosen": True,
            "seconds": {"min": 32.8, "max": 32.8, "default": 32.8},
        },
    ]
    assert lyria["price_per_clip"] == {"currency": "USD", "micros": CLIP, "usd": "0.06"}


async def test_a_price_is_the_tenants_and_what_a_quote_says(caller: Caller) -> None:
    await caller.services.tenants.update(ACT, caller.tenant_id, price_ppm=1_333_333)
    *_, lyria = (await look(caller, "/api/models"))["models"]
    quote = await caller.post("/api/music_generate_lyria?dry_run=true", json={"prompt": "x"})
    assert lyria["price_per_clip"]["micros"] == quote.json()["price"]["micros"] == 80_000


async def test_a_test_key_pays_nothing_for_what_an_emulator_makes(caller: Caller) -> None:
    tester = await with_key(caller, mode=KeyMode.TEST)
    for model in (await look(tester, "/api/models"))["models"]:
        assert (model["price_per_clip"]["micros"], model["emulated"]) == (0, True)


@pytest.mark.parametrize("whose", ["tenant", "key"])
async def test_what_may_not_be_used_is_left_out(caller: Caller, whose: str) -> None:
    allowed = (LYRIA2,)
    if whose == "tenant":
        await caller.services.tenants.update(ACT, caller.tenant_id, allowed_models=allowed)
    narrow = await with_key(caller, allowed_models=allowed)
    (lyria,) = (await look(narrow, "/api/models"))["models"]
    assert lyria["name"] == "lyria-002"
    assert [route["chosen"] for route in lyria["routes"]] == [True, True]
    quote = await narrow.post("/api/music_generate?dry_run=true", json={"prompt": "x"})
    assert quote.json()["model"] == "lyria-002"


async def test_whoever_may_have_some_formats_is_offered_those(caller: Caller) -> None:
    await caller.services.tenants.update(ACT, caller.tenant_id, allowed_formats=(AudioFormat.OPUS.value,))
    assert {tuple(model["formats"]) for model in (await look(caller, "/api/models"))["models"]} == {("opus",)}
    refused = await caller.post("/api/music_generate_lyria", json={"prompt": "slow piano"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert "outputFormat may be: opus" in refused.json()["detail"]
    assert (await caller.ask_lyria(outputFormat="opus"))["status"] == "queued"


async def test_whoever_may_have_no_format_at_all_is_offered_nothing(caller: Caller) -> None:
    await caller.services.tenants.update(ACT, caller.tenant_id, allowed_formats=())
    assert (await look(caller, "/api/models"))["models"] == []


async def test_lengths_that_are_offered_are_taken_and_others_are_not(caller: Caller) -> None:
    for model in (await look(caller, "/api/models"))["models"]:
        standard = model["routes"][0]["seconds"]
        for seconds, status in (
            (standard["min"], 200),
            (standard["max"], 200),
            (standard["default"], 200),
            (standard["min"] - 1, 400),
            (standard["max"] + 1, 400),
        ):
            body = {"prompt": "x", "model": model["name"], "durationSeconds": seconds}
            response = await caller.post("/api/music_generate?dry_run=true", json=body)
            assert response.status_code == status, (model["name"], seconds)


async def test_models_of_google_are_not_emulated(
    settings: Settings, services: Services, specification: Specification
) -> None:
    real = make_apis(settings, services)
    services.standings._emulated = False
    api = AccountApi(real.music._callers, services.standings, services.usage)
    app = make_app(replace(real, account=api), services)
    transport = httpx.ASGITransport(app)
    async with checked_client(specification, transport=transport, base_url=BASE_URL) as client:
        caller = await make_caller(client, services, "acme")
        assert {m["emulated"] for m in (await look(caller, "/api/models"))["models"]} == {False}


# GET /api/usage


def days_before(report: dict[str, Any], days: int) -> str:
    return (date.fromisoformat(report["last_day"]) - timedelta(days=days)).isoformat()


@pytest.fixture
async def user(caller: Caller, worker: None) -> Caller:
    """One task that ended, of two clips, and one request that waits for ever."""
    await caller.ended((await caller.ask_lyria(sampleCount=2))["task_id"])
    await caller.services.runner.drain()
    await caller.ask_lyria()
    return caller


async def test_usage_is_told_by_day(user: Caller) -> None:
    report = await look(user, "/api/usage")
    assert report["group_by"] == ["day"]
    # There are two if midnight passed just now.
    assert {row["day"] for row in report["rows"]} <= {report["last_day"], days_before(report, 1)}
    assert sum(row["requests"] for row in report["rows"]) == 2
    assert report["first_day"] == days_before(report, 29)


async def test_usage_is_told_in_figures(user: Caller) -> None:
    report = await look(user, "/api/usage?group_by=model")
    (row,) = report["rows"]
    assert row == {"model": "lyria-002", **report["total"]}
    assert (report["zone"], report["tenant_id"]) == ("UTC", user.tenant_id)
    told = {name: value for name, value in report["total"].items() if value}
    assert told == {
        "requests": 2,
        "succeeded": 1,
        "queued": 1,
        "clips": 2,
        "audio_seconds": 2.0,
        "attempts": 1,
        "held_micros": CLIP,
        "spent_micros": 2 * CLIP,
        "charged_micros": 2 * CLIP,
        "charged_usd": "0.12",
    }


async def test_what_the_provider_takes_is_not_told(user: Caller) -> None:
    for kind in ("json", "csv"):
        assert "provider" not in (await ask(user, f"/api/usage?format={kind}")).text


async def test_usage_is_grouped_as_asked(user: Caller) -> None:
    (key,) = await user.services.keyring.list(user.tenant_id)
    report = await look(user, "/api/usage?group_by=key,model")
    (row,) = report["rows"]
    assert list(row)[:3] == ["key_id", "key_name", "model"]
    assert (row["key_id"], row["key_name"], row["model"]) == (key.id, "test", "lyria-002")
    (whole,) = (await look(user, "/api/usage?group_by="))["rows"]
    assert whole == report["total"]


async def test_usage_comes_as_csv(user: Caller) -> None:
    response = await ask(user, "/api/usage?format=csv&group_by=model")
    report = await look(user, "/api/usage?group_by=model")
    assert response.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    name = f"usage-{report['first_day']}-to-{report['last_day']}.csv"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    (line,) = csv.DictReader(io.StringIO(response.text, newline=""))
    assert line == {name: str(value) for name, value in report["rows"][0].items()}


async def test_names_in_csv_are_no_formulas(user: Caller) -> None:
    formula = await with_key(user, name="=HYPERLINK(A1)")
    await formula.ask_lyria()
    text = (await ask(user, "/api/usage?format=csv&group_by=key")).text
    assert ",'=HYPERLINK(A1)," in text


async def test_a_stranger_has_no_part_in_it(user: Caller, stranger: Caller) -> None:
    assert (await look(stranger, "/api/usage"))["rows"] == []


async def test_days_of_another_zone_can_be_asked_for(user: Caller) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        report = await look(user, f"/api/usage?tz={zone}")
        assert report["zone"] == zone
        assert report["total"]["requests"] == 2
    assert report["from"].endswith("T00:00:00-11:00")


async def test_a_stretch_of_days_can_be_asked_for(user: Caller) -> None:
    report = await look(user, "/api/usage?from=2026-03-01&to=2026-03-31&tz=Europe/Berlin")
    assert (report["from"], report["to"]) == ("2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00")
    assert report["rows"] == []


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("from=01.11.2026", [("from", "wrong_type")]),
        ("to=2026-02-29", [("to", "wrong_type")]),
        ("from=", [("from", "wrong_type")]),
        ("tz=", [("tz", "unknown_zone")]),
        ("from=2026-12-01&to=2026-11-01", [("from", "out_of_range")]),
        ("from=2025-01-01&to=2026-11-01", [("from", "out_of_range")]),
        ("tz=Mars/Olympus", [("tz", "unknown_zone")]),
        ("group_by=tenant", [("group_by", "unknown_value")]),
        ("group_by=day,", [("group_by", "unknown_value")]),
        ("format=xml", [("format", "unknown_value")]),
        ("format=", [("format", "unknown_value")]),
        ("from=2026-11-01&from=2026-11-02", [("from", "duplicate")]),
    ],
)
async def test_what_cannot_be_reported_is_refused_by_name(
    caller: Caller, query: str, fields: list[tuple[str, str]]
) -> None:
    assert await refused(caller, f"/api/usage?{query}") == fields
