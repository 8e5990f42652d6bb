"""The ledger, its proof and the audit log, over the admin API."""

from typing import Any

import pytest

from tests.api import ADMIN, Administrator, Caller

ON_BOTH_DATABASES = True


async def adjust(admin: Administrator, tenant_id: str, micros: int, reason: str = "moved") -> dict[str, Any]:
    body = {"tenant_id": tenant_id, "spent_micros": micros, "reason": reason}
    return await admin.told("POST", "/ledger/adjust", 201, json=body)


async def test_a_correction_is_an_entry_with_who_and_why(admin: Administrator, caller: Caller) -> None:
    made = await adjust(admin, caller.tenant_id, 70_000, "moved from another")
    assert (made["kind"], made["held_micros"], made["spent_micros"]) == ("adjust", 0, 70_000)
    assert (made["key_id"], made["task_id"], made["reason"]) == (None, None, "moved from another")
    assert made["actor"].startswith("admin:")
    assert (await admin.told("GET", "/ledger"))["data"] == [made]
    assert (await admin.acts())[-1] == ("ledger.adjust", caller.tenant_id)


async def test_a_named_correction_is_made_once(admin: Administrator, caller: Caller) -> None:
    """I6: a credit whose answer was lost must not be given twice."""
    body = {"tenant_id": caller.tenant_id, "spent_micros": 5, "reason": "moved"}
    request: dict[str, Any] = {"json": body, "headers": {"Idempotency-Key": "mine"}}
    first = await admin.ask("POST", "/ledger/adjust", **request)
    again = await admin.ask("POST", "/ledger/adjust", **request)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert len((await admin.told("GET", "/ledger"))["data"]) == 1
    body["spent_micros"] = 6
    assert (await admin.told("POST", "/ledger/adjust", 422, **request))["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"spent_micros": 0}, {"spent_micros": "out_of_range"}),
        ({"spent_micros": -1}, {"spent_micros": "out_of_range"}),
        ({"spent_micros": 10**15 + 1}, {"spent_micros": "out_of_range"}),
        ({"spent_micros": "0.07"}, {"spent_micros": "wrong_type"}),
        ({"reason": ""}, {"reason": "empty"}),
        ({"reason": " "}, {"reason": "invalid"}),
        ({"usd": "0.07"}, {"usd": "unknown_field"}),
    ],
    ids=str,
)
async def test_what_will_not_do_is_named(
    admin: Administrator, caller: Caller, changes: dict[str, Any], faults: dict[str, str]
) -> None:
    body = {"tenant_id": caller.tenant_id, "spent_micros": 5, "reason": "moved", **changes}
    assert await admin.faults("POST", "/ledger/adjust", json=body) == faults
    assert (await admin.told("GET", "/ledger"))["data"] == []


async def test_entries_are_listed_in_pages_newest_first(admin: Administrator, caller: Caller) -> None:
    other = await admin.make_tenant("other")
    for micros in range(1, 6):
        await adjust(admin, caller.tenant_id, micros)
        await adjust(admin, other, 10 * micros)
    for query, expected in (
        ({}, [50, 5, 40, 4, 30, 3, 20, 2, 10, 1]),
        ({"tenant_id": other}, [50, 40, 30, 20, 10]),
    ):
        found = await admin.pages("/ledger", limit=3, **query)
        assert [entry["spent_micros"] for entry in found] == expected


@pytest.mark.parametrize("path", ["/ledger", "/audit"])
async def test_a_list_by_number_takes_what_it_knows(admin: Administrator, path: str) -> None:
    assert await admin.faults("GET", f"{path}?cursor=1.x") == {"cursor": "invalid"}
    assert await admin.faults("GET", f"{path}?cursor={'9' * 19}") == {"cursor": "invalid"}
    assert await admin.faults("GET", f"{path}?key_id=x") == {"key_id": "unknown_field"}
    assert (await admin.told("GET", f"{path}?tenant_id=ten_x", 404))["code"] == "not_found"
    assert (await admin.told("GET", f"{path}?cursor={'9' * 18}"))["next_cursor"] is None


async def test_a_tenant_of_nobody_is_not_corrected(admin: Administrator) -> None:
    body = {"tenant_id": "ten_x", "spent_micros": 5, "reason": "moved"}
    assert (await admin.told("POST", "/ledger/adjust", 404, json=body))["code"] == "not_found"


async def test_right_books_are_clean_and_wrong_ones_say_where(admin: Administrator, caller: Caller) -> None:
    await caller.ask_lyria()
    await adjust(admin, caller.tenant_id, 70_000)
    assert await admin.told("GET", "/reconcile") == {"clean": True, "differences": []}
    await admin.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE balances SET spent_micros = 1 WHERE period = 'total'")
    )
    told = await admin.told("GET", "/reconcile")
    (difference,) = told["differences"]
    assert not told["clean"]
    assert difference == {
        "what": "spent balance",
        "which": f"{caller.tenant_id} total",
        "kept": 1,
        "counted": 70_000,
    }


# The audit log


async def test_an_act_is_logged_with_who_where_from_and_in_which_request(admin: Administrator) -> None:
    response = await admin.ask(
        "POST", "/tenants", json={"name": "acme"}, headers={"X-Request-Id": "checkout-7f3a2b"}
    )
    (entry,) = (await admin.told("GET", "/audit"))["data"]
    tenant_id = response.json()["id"]
    assert (entry["action"], entry["tenant_id"], entry["target"]) == ("tenant.create", tenant_id, tenant_id)
    assert (entry["source"], entry["request_id"]) == ("127.0.0.1", "checkout-7f3a2b")
    assert (entry["before"], entry["after"]["name"]) == (None, "acme")


async def test_acts_are_listed_in_pages_newest_first(admin: Administrator) -> None:
    made = [await admin.make_tenant(str(number)) for number in range(5)]
    found = await admin.pages("/audit", limit=2)
    assert [entry["target"] for entry in found] == made[::-1]
    assert [entry["target"] for entry in await admin.pages("/audit", tenant_id=made[1], limit=2)] == [made[1]]


async def test_neither_reading_nor_a_refusal_is_an_act(admin: Administrator, caller: Caller) -> None:
    before = await admin.acts()
    lists = ("/tenants", "/keys", "/ledger", "/audit", "/tasks", "/queue", "/deployments")
    for path in (*lists, "/reconcile", "/usage"):
        await admin.told("GET", path)
    await admin.told("GET", f"/tenants/{caller.tenant_id}")
    await admin.told("GET", f"/keys/{caller.key_id}")
    await admin.told("POST", "/tenants", 409, json={"name": "acme"})
    await admin.told("POST", "/tenants", 400, json={})
    await admin.told("POST", "/keys/x/revoke", 404)
    refused = await admin.client.post("/admin/api/tenants", json={"name": "new"})
    assert refused.status_code == 401
    assert await admin.acts() == before


async def test_an_act_that_comes_to_nothing_leaves_no_trace(admin: Administrator, caller: Caller) -> None:
    """One transaction: an act and its entry are both there, or neither."""
    before = await admin.acts()
    await rename_table(admin, "audit_log", "out_of_reach")
    path = f"/admin/api/tenants/{caller.tenant_id}/suspend"
    assert (await admin.client.post(path, headers=ADMIN)).status_code == 503
    await rename_table(admin, "out_of_reach", "audit_log")
    assert (await admin.told("GET", f"/tenants/{caller.tenant_id}"))["status"] == "active"
    assert await admin.acts() == before


async def rename_table(admin: Administrator, name: str, other: str) -> None:
    await admin.services.database.write(
        lambda tx: tx.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {other}")
    )


# Usage


async def test_usage_is_told_of_all_tenants_with_what_the_provider_takes(
    admin: Administrator, caller: Caller, stranger: Caller, worker: None
) -> None:
    for each in (caller, stranger):
        await each.ended((await each.ask_lyria())["task_id"])
    await adjust(admin, caller.tenant_id, -10_000, "goodwill")
    report = await admin.told("GET", "/usage", params={"group_by": "tenant"})
    figures = {row["tenant_id"]: row for row in report["rows"]}
    assert report["tenant_id"] is None
    assert figures[caller.tenant_id]["charged_micros"] == 50_000
    assert figures[stranger.tenant_id]["charged_micros"] == 60_000
    assert report["total"]["provider_cost_micros"] == 120_000
    entries = (await admin.told("GET", "/ledger"))["data"]
    assert report["total"]["charged_micros"] == sum(entry["spent_micros"] for entry in entries)


async def test_usage_of_one_tenant_comes_as_csv(admin: Administrator, caller: Caller) -> None:
    await adjust(admin, caller.tenant_id, 5)
    answer = await admin.ask(
        "GET", "/usage", params={"tenant_id": caller.tenant_id, "group_by": "", "format": "csv"}
    )
    assert answer.headers["content-type"].startswith("text/csv")
    names, figures = answer.text.splitlines()
    assert dict(zip(names.split(","), figures.split(","), strict=True))["charged_micros"] == "5"


async def test_usage_of_nobody_is_not_found(admin: Administrator) -> None:
    assert (await admin.told("GET", "/usage", 404, params={"tenant_id": "ten_x"}))["code"] == "not_found"


@pytest.mark.parametrize(
    ("params", "field"),
    [({"group_by": "week"}, "group_by"), ({"tz": "Mars"}, "tz"), ({"tennant_id": "x"}, "tennant_id")],
)
async def test_a_report_that_makes_no_sense_is_refused(
    admin: Administrator, params: dict[str, str], field: str
) -> None:
    assert list(await admin.faults("GET", "/usage", params=params)) == [field]
