"""Tenants, their budgets and their people, over the admin API."""

from typing import Any

import pytest

from tests.api import Administrator, Caller

FULL = {
    "name": "Team Radio",
    "zone": "Europe/Berlin",
    "price_ppm": 1_250_000,
    "rpm": 120,
    "max_concurrent": 4,
    "max_queued": 50,
    "weight": 2,
    "allowed_models": ["lyria-002"],
    "allowed_formats": ["wav"],
    "retention_days": 90,
    "start_within_s": 600,
    "warn_percents": [50, 100],
}
OPEN = {
    "zone": "UTC",
    "price_ppm": 1_000_000,
    "rpm": None,
    "max_concurrent": None,
    "max_queued": None,
    "weight": 1,
    "allowed_models": None,
    "allowed_formats": None,
    "retention_days": None,
    "start_within_s": None,
    "warn_percents": [80, 100],
}


def limits(document: dict[str, Any]) -> list[int | None]:
    return [budget["limit_micros"] for budget in document["budgets"]]


# Create


async def test_a_tenant_is_made_of_all_that_can_be_said(admin: Administrator) -> None:
    budgets = {"day_micros": 5_000_000, "month_micros": None}
    made = await admin.told("POST", "/tenants", 201, json={**FULL, "budgets": budgets})
    assert made | FULL == made
    assert (made["status"], limits(made), made["members"]) == ("active", [5_000_000, None, None], [])
    assert await admin.told("GET", f"/tenants/{made['id']}") == made
    assert await admin.acts() == [("tenant.create", made["id"]), ("tenant.budgets", made["id"])]


async def test_a_tenant_needs_nothing_but_a_name(admin: Administrator) -> None:
    made = await admin.told("POST", "/tenants", 201, json={"name": "acme"})
    assert made | OPEN == made
    assert limits(made) == [None, None, None]
    assert await admin.acts() == [("tenant.create", made["id"])]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"name": "missing"}),
        ({"name": " "}, {"name": "invalid"}),
        ({"name": "x" * 101, "rmp": 1}, {"name": "too_long", "rmp": "unknown_field"}),
        ({"name": "x", "zone": "Berlin"}, {"zone": "unknown"}),
        ({"name": "x", "zone": None}, {"zone": "wrong_type"}),
        ({"name": "x", "rpm": 0, "weight": None}, {"rpm": "out_of_range", "weight": "wrong_type"}),
        ({"name": "x", "rpm": "7"}, {"rpm": "wrong_type"}),
        ({"name": "x", "price_ppm": 1.5}, {"price_ppm": "wrong_type"}),
        ({"name": "x", "allowed_models": ["lyria-1"]}, {"allowed_models.0": "unknown_value"}),
        ({"name": "x", "allowed_formats": "wav"}, {"allowed_formats": "wrong_type"}),
        ({"name": "x", "warn_percents": [101]}, {"warn_percents.0": "out_of_range"}),
        ({"name": "x", "budgets": {"day_micros": -1}}, {"budgets.day_micros": "out_of_range"}),
        ({"name": "x", "budgets": {"day_usd": 1}}, {"budgets.day_usd": "unknown_field"}),
        ({"name": "x", "budgets": None}, {"budgets": "wrong_type"}),
    ],
    ids=str,
)
async def test_what_will_not_do_is_named(
    admin: Administrator, body: dict[str, Any], faults: dict[str, str]
) -> None:
    assert await admin.faults("POST", "/tenants", json=body) == faults
    assert await admin.acts() == []


async def test_a_name_that_is_taken_is_a_conflict(admin: Administrator) -> None:
    await admin.make_tenant("acme")
    assert (await admin.told("POST", "/tenants", 409, json={"name": "acme"}))["code"] == "conflict"
    assert len(await admin.acts()) == 1


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_body"),
        (b"[]", "application/json", 400, "malformed_body"),
        (b"", "application/json", 400, "malformed_body"),
        (b"name=acme", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b" " * 65_537, "application/json", 413, "body_too_large"),
    ],
)
async def test_a_body_is_a_json_object(
    admin: Administrator, content: bytes, content_type: str, status: int, code: str
) -> None:
    request = {"content": content, "headers": {"Content-Type": content_type}}
    answer = await admin.told("POST", "/tenants", status, **request)
    assert answer["code"] == code
    assert "prompt" not in answer["detail"]


# Read


async def test_tenants_are_listed_in_pages_and_by_a_part_of_their_name(admin: Administrator) -> None:
    made = [await admin.make_tenant(f"team {number}") for number in range(5)]
    assert [tenant["id"] for tenant in await admin.pages("/tenants", limit=2)] == made
    assert [tenant["id"] for tenant in await admin.pages("/tenants", name="M 3", limit=2)] == [made[3]]
    assert len((await admin.told("GET", "/tenants"))["data"]) == 5
    assert (await admin.told("GET", "/tenants?limit=5"))["next_cursor"] is None
    assert len(await admin.acts()) == 5


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=+5", "limit"),
        ("limit=٣", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("nam=x", "nam"),
    ],
)
async def test_a_list_takes_what_it_knows(admin: Administrator, query: str, fault: str) -> None:
    assert list(await admin.faults("GET", f"/tenants?{query}")) == [fault]


async def test_a_tenant_is_told_with_what_is_used_of_its_budgets(
    admin: Administrator, caller: Caller
) -> None:
    path = f"/tenants/{caller.tenant_id}"
    await admin.told("PUT", f"{path}/budgets", json={"day_micros": 1_000_000})
    await caller.ask_lyria()
    body = {"tenant_id": caller.tenant_id, "spent_micros": 10_000, "reason": "moved"}
    await admin.told("POST", "/ledger/adjust", 201, json=body)
    day, month, total = (await admin.told("GET", path))["budgets"]
    assert (day["held_micros"], day["spent_micros"], day["remaining_micros"]) == (60_000, 10_000, 930_000)
    assert (month["window"], month["held_micros"], month["remaining_micros"]) == ("month", 60_000, None)
    assert total["resets_at"] is None


async def test_a_budget_below_what_is_used_leaves_nothing(admin: Administrator, caller: Caller) -> None:
    await caller.ask_lyria()
    path = f"/tenants/{caller.tenant_id}/budgets"
    told = await admin.told("PUT", path, json={"total_micros": 1})
    assert told["budgets"][2]["remaining_micros"] == 0


# Change


async def test_a_change_leaves_what_it_does_not_name_and_lifts_what_is_null(admin: Administrator) -> None:
    path = f"/tenants/{await admin.make_tenant(**{k: v for k, v in FULL.items() if k != 'name'})}"
    before = await admin.told("GET", path)
    after = await admin.told("PATCH", path, json={"rpm": None, "allowed_models": None, "weight": 3})
    assert after == {**before, "rpm": None, "allowed_models": None, "weight": 3}
    assert await admin.told("PATCH", path, json={"name": "Renamed"}) == {**after, "name": "Renamed"}
    (last,) = (await admin.told("GET", "/audit?limit=1"))["data"]
    assert (last["before"], last["after"]) == ({"name": "acme"}, {"name": "Renamed"})


async def test_a_change_of_nothing_is_no_act(admin: Administrator) -> None:
    path = f"/tenants/{await admin.make_tenant(rpm=5)}"
    await admin.told("PATCH", path, json={})
    await admin.told("PATCH", path, json={"rpm": 5})
    await admin.told("POST", f"{path}/activate")
    assert len(await admin.acts()) == 1


async def test_a_change_takes_no_budgets_and_no_name_that_is_taken(admin: Administrator) -> None:
    await admin.make_tenant("taken")
    path = f"/tenants/{await admin.make_tenant('acme')}"
    assert await admin.faults("PATCH", path, json={"budgets": {}}) == {"budgets": "unknown_field"}
    assert await admin.faults("PATCH", path, json={"name": ""}) == {"name": "empty"}
    await admin.told("PATCH", path, 409, json={"name": "taken"})


async def test_a_suspended_tenant_is_refused_new_work_until_it_is_activated(
    admin: Administrator, caller: Caller
) -> None:
    path = f"/tenants/{caller.tenant_id}"
    task = await caller.ask()
    assert (await admin.told("POST", f"{path}/suspend"))["status"] == "suspended"
    refused = await caller.post(json={"prompt": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "tenant_suspended")
    assert (await caller.status(task["task_id"])).status_code == 200
    assert (await admin.told("POST", f"{path}/activate"))["status"] == "active"
    await caller.ask()
    assert [action for action, _ in await admin.acts()][-2:] == ["tenant.suspend", "tenant.activate"]


async def test_budgets_are_set_all_at_once(admin: Administrator) -> None:
    """PUT: what is left out is lifted."""
    tenant_id = await admin.make_tenant(budgets={"day_micros": 1, "total_micros": 2})
    path = f"/tenants/{tenant_id}/budgets"
    assert limits(await admin.told("PUT", path, json={"month_micros": 3, "day_micros": None})) == [
        None,
        3,
        None,
    ]
    assert limits(await admin.told("PUT", path, json={})) == [None, None, None]
    assert await admin.faults("PUT", path, json={"week_micros": 1}) == {"week_micros": "unknown_field"}
    assert [action for action, _ in await admin.acts()].count("tenant.budgets") == 3


# People


async def test_people_come_change_and_go(admin: Administrator) -> None:
    path = f"/tenants/{await admin.make_tenant()}/members"
    ada = await admin.told("PUT", f"{path}/Ada@Example.com", json={"role": "viewer"})
    assert (ada["email"], ada["role"]) == ("ada@example.com", "viewer")
    promoted = await admin.told("PUT", f"{path}/ada@example.com", json={"role": "owner"})
    assert promoted == {**ada, "role": "owner"}
    assert await admin.told("GET", path) == {"data": [promoted], "next_cursor": None}
    response = await admin.ask("DELETE", f"{path}/ada@example.com")
    assert (response.status_code, response.content) == (204, b"")
    assert (await admin.told("GET", path))["data"] == []
    assert [each for each in await admin.acts() if each[0].startswith("member")] == [
        ("member.put", "ada@example.com"),
        ("member.put", "ada@example.com"),
        ("member.remove", "ada@example.com"),
    ]


async def test_an_address_may_hold_a_slash(admin: Administrator) -> None:
    """RFC 5322 allows one before the @."""
    path = f"/tenants/{await admin.make_tenant()}/members/a%2Fb@example.com"
    assert (await admin.told("PUT", path, json={"role": "viewer"}))["email"] == "a/b@example.com"


async def test_who_is_no_member_and_what_is_no_address_is_told(admin: Administrator) -> None:
    path = f"/tenants/{await admin.make_tenant()}/members"
    assert (await admin.told("DELETE", f"{path}/ada@example.com", 404))["code"] == "not_found"
    assert await admin.faults("PUT", f"{path}/ada", json={"role": "owner"}) == {"email": "invalid"}
    assert await admin.faults("PUT", f"{path}/a@b.c", json={"role": "boss"}) == {"role": "unknown_value"}
    assert len(await admin.acts()) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("POST", "/suspend", None),
        ("POST", "/activate", None),
        ("PUT", "/budgets", {}),
        ("GET", "/members", None),
        ("PUT", "/members/ada@example.com", {"role": "owner"}),
        ("DELETE", "/members/ada@example.com", None),
    ],
)
async def test_nobodys_id_is_told_as_such(
    admin: Administrator, method: str, path: str, body: dict[str, Any] | None
) -> None:
    request = {} if body is None else {"json": body}
    told = await admin.told(method, f"/tenants/ten_x{path}", 404, **request)
    assert told["code"] == "not_found"
    assert await admin.acts() == []


async def test_what_takes_no_query_refuses_one(admin: Administrator) -> None:
    path = f"/tenants/{await admin.make_tenant()}"
    for method, rest in (
        ("GET", ""),
        ("POST", "/suspend"),
        ("DELETE", "/members/a@b.c"),
        ("PUT", "/budgets"),
    ):
        request = {"json": {}} if method == "PUT" else {}
        told = await admin.faults(method, f"{path}{rest}?dry_run=true", **request)
        assert told == {"dry_run": "unknown_field"}
    assert len(await admin.acts()) == 1
