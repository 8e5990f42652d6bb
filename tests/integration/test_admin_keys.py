"""Keys over the admin API: made, bounded, exchanged and ended. Their text is told once."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.api import Administrator, Caller

FULL = {
    "name": "website",
    "mode": "live",
    "owner": "ada@example.com",
    "tags": ["web", "production"],
    "scopes": ["generate", "read"],
    "allowed_models": ["lyria-002"],
    "rpm": 30,
    "max_queued": 10,
    "expires_at": "2099-12-31T00:00:00.000Z",
}


@pytest.fixture
async def tenant_id(admin: Administrator) -> str:
    return await admin.make_tenant("team", rpm=100)


async def opens(caller: Caller, key: str) -> bool:
    response = await replace(caller, key=key).status("task_x")
    assert response.status_code in {401, 404}
    return response.status_code == 404


def without_text(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in {"key", "old_until"}}


# Create


async def test_a_key_is_made_of_all_that_can_be_said(admin: Administrator, tenant_id: str) -> None:
    made = await admin.make_key(tenant_id, **FULL)
    assert made | FULL == made
    assert made["key"].startswith(f"mg_live_{made['id']}_")
    assert (made["state"], made["tenant_id"]) == ("active", tenant_id)
    assert made["created_by"].startswith("admin:")
    assert await admin.acts() == [("tenant.create", tenant_id), ("key.create", made["id"])]


async def test_a_key_needs_nothing_but_a_tenant_and_a_name(
    admin: Administrator, tenant_id: str, caller: Caller
) -> None:
    made = await admin.make_key(tenant_id)
    assert (made["mode"], made["scopes"], made["rpm"]) == ("live", ["generate", "read"], None)
    assert await opens(caller, made["key"])


async def test_a_text_is_told_once_and_not_to_be_kept_on_the_way(
    admin: Administrator, tenant_id: str
) -> None:
    """S1: neither lists, nor the key itself, nor the audit log have it, whole or hashed."""
    body = {"tenant_id": tenant_id, "name": "k"}
    response = await admin.ask("POST", "/keys", json=body)
    assert response.headers["cache-control"] == "no-store"
    secret = response.json()["key"].rsplit("_", 1)[1]
    for path in ("/keys", f"/keys/{response.json()['id']}", "/audit"):
        told = json.dumps(await admin.told("GET", path))
        assert secret not in told
        assert "sha256" not in told


@pytest.mark.parametrize(
    ("terms", "faults"),
    [
        ({"name": None}, {"name": "wrong_type"}),
        ({"tenant": "x"}, {"tenant": "unknown_field"}),
        ({"mode": "free"}, {"mode": "unknown_value"}),
        ({"scopes": []}, {"scopes": "empty"}),
        ({"scopes": ["write"]}, {"scopes.0": "unknown_value"}),
        ({"tags": ["x" * 51]}, {"tags.0": "too_long"}),
        ({"tags": ["two\nlines"]}, {"tags": "invalid"}),
        ({"rpm": 101}, {"rpm": "exceeds_grant"}),
        ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "past"}),
        ({"expires_at": "tomorrow"}, {"expires_at": "wrong_type"}),
        ({"expires_at": 1_900_000_000}, {"expires_at": "wrong_type"}),
        ({"expires_at": "2030-02-30T00:00:00Z"}, {"expires_at": "wrong_type"}),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, {"expires_at": "wrong_type"}),
    ],
    ids=str,
)
async def test_what_will_not_do_is_named(
    admin: Administrator, tenant_id: str, terms: dict[str, Any], faults: dict[str, str]
) -> None:
    body = {"tenant_id": tenant_id, "name": "k", **terms}
    assert await admin.faults("POST", "/keys", json=body) == faults
    assert len(await admin.acts()) == 1


async def test_a_moment_may_be_in_any_zone(admin: Administrator, tenant_id: str) -> None:
    made = await admin.make_key(tenant_id, expires_at="2030-06-01t12:00:00.5+02:00")
    assert made["expires_at"] == "2030-06-01T10:00:00.500Z"


async def test_a_named_request_can_be_repeated(admin: Administrator, tenant_id: str) -> None:
    """I6: its answer was lost."""
    request = {"json": {"tenant_id": tenant_id, "name": "k"}, "headers": {"Idempotency-Key": '"mine"'}}
    first = await admin.ask("POST", "/keys", **request)
    again = await admin.ask("POST", "/keys", **request)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await admin.told("GET", "/keys"))["data"]) == 1
    assert len(await admin.acts()) == 2
    request["json"]["name"] = "other"
    assert (await admin.told("POST", "/keys", 422, **request))["code"] == "idempotency_key_reused"


async def test_a_name_of_a_request_is_one(admin: Administrator, tenant_id: str) -> None:
    request = {"json": {"tenant_id": tenant_id, "name": "k"}, "headers": {"Idempotency-Key": "two words"}}
    assert await admin.faults("POST", "/keys", **request) == {"Idempotency-Key": "invalid"}


async def test_a_key_of_nobody_is_not_made(admin: Administrator) -> None:
    told = await admin.told("POST", "/keys", 404, json={"tenant_id": "ten_x", "name": "k"})
    assert told["code"] == "not_found"


# Read


async def test_keys_are_listed_in_pages_of_a_tenant_and_by_state(
    admin: Administrator, tenant_id: str
) -> None:
    other = await admin.make_tenant("other")
    made = [await admin.make_key(each) for each in (tenant_id, other, tenant_id, tenant_id)]
    await admin.told("POST", f"/keys/{made[2]['id']}/disable")
    ids = [key["id"] for key in made]
    assert sorted(key["id"] for key in await admin.pages("/keys", limit=3)) == sorted(ids)
    of_tenant = await admin.pages("/keys", tenant_id=tenant_id, limit=2)
    assert sorted(key["id"] for key in of_tenant) == sorted([ids[0], ids[2], ids[3]])
    disabled = await admin.pages("/keys", tenant_id=tenant_id, state="disabled", limit=2)
    assert [key["id"] for key in disabled] == [ids[2]]
    assert await admin.faults("GET", "/keys?state=gone") == {"state": "unknown_value"}
    assert (await admin.told("GET", "/keys?tenant_id=ten_x", 404))["code"] == "not_found"


async def test_a_key_tells_when_it_was_used_last(admin: Administrator, caller: Caller) -> None:
    await caller.status("task_x")
    await admin.services.last_use.flush()
    assert (await admin.told("GET", f"/keys/{caller.key_id}"))["last_used_at"] is not None


# Change


async def test_a_change_leaves_what_it_does_not_name_and_lifts_what_is_null(
    admin: Administrator, tenant_id: str
) -> None:
    made = without_text(await admin.make_key(tenant_id, **FULL))
    path = f"/keys/{made['id']}"
    changes = {"scopes": ["read"], "rpm": None, "expires_at": None, "tags": []}
    assert await admin.told("PATCH", path, json=changes) == {**made, **changes}
    assert await admin.faults("PATCH", path, json={"mode": "test"}) == {"mode": "unknown_field"}
    assert await admin.faults("PATCH", path, json={"scopes": None}) == {"scopes": "wrong_type"}
    assert await admin.faults("PATCH", path, json={"rpm": 101}) == {"rpm": "exceeds_grant"}
    assert await admin.told("PATCH", path, json={}) == {**made, **changes}
    assert [action for action, _ in await admin.acts()].count("key.update") == 1


async def test_a_change_holds_at_once(admin: Administrator, caller: Caller) -> None:
    """B3: a limit that was set is a limit that holds."""
    await caller.ask()
    await admin.told("PATCH", f"/keys/{caller.key_id}", json={"scopes": ["read"]})
    assert (await caller.post(json={"prompt": "x"})).status_code == 403
    await admin.told("PATCH", f"/keys/{caller.key_id}", json={"scopes": ["generate"], "rpm": 1})
    assert (await caller.post(json={"prompt": "x"})).status_code == 429


async def test_a_key_is_disabled_enabled_and_revoked(admin: Administrator, caller: Caller) -> None:
    path = f"/keys/{caller.key_id}"
    assert (await admin.told("POST", f"{path}/disable"))["state"] == "disabled"
    assert not await opens(caller, caller.key)
    assert (await admin.told("POST", f"{path}/enable"))["state"] == "active"
    assert await opens(caller, caller.key)
    revoked = await admin.told("POST", f"{path}/revoke")
    assert revoked["state"] == "revoked"
    assert not await opens(caller, caller.key)
    assert await admin.told("POST", f"{path}/revoke") == revoked
    for verb in ("disable", "enable", "rotate"):
        assert (await admin.told("POST", f"{path}/{verb}", 409))["code"] == "conflict"
    await admin.told("PATCH", path, 409, json={"rpm": 1})
    assert [action for action, _ in await admin.acts()][-3:] == ["key.disable", "key.enable", "key.revoke"]


# Rotate


async def test_both_texts_open_until_the_stated_moment(admin: Administrator, caller: Caller) -> None:
    """K1, K5."""
    path = f"/keys/{caller.key_id}/rotate"
    rotated = await admin.told("POST", path, json={"overlap_s": 3600})
    assert rotated["id"] == caller.key_id
    assert rotated["old_until"] > rotated["rotated_at"]
    assert [await opens(caller, key) for key in (caller.key, rotated["key"])] == [True, True]
    again = await admin.told("POST", path, json={"overlap_s": 0})
    assert [await opens(caller, key) for key in (rotated["key"], again["key"])] == [False, True]


async def test_without_a_body_the_overlap_is_a_day(admin: Administrator, caller: Caller) -> None:
    rotated = await admin.told("POST", f"/keys/{caller.key_id}/rotate")
    before, after = rotated["rotated_at"], rotated["old_until"]
    assert (before[10:], before[:10] < after[:10]) == (after[10:], True)


async def test_a_named_rotation_can_be_repeated(admin: Administrator, caller: Caller) -> None:
    """K2, I6."""
    path, named = f"/keys/{caller.key_id}/rotate", {"headers": {"Idempotency-Key": "spring"}}
    first = await admin.ask("POST", path, json={"overlap_s": 60}, **named)
    again = await admin.ask("POST", path, json={"overlap_s": 60}, **named)
    assert again.json() == first.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    await admin.told("POST", path)
    assert "came after" in (await admin.told("POST", path, 409, **named))["detail"]
    assert [action for action, _ in await admin.acts()].count("key.rotate") == 2


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"overlap_s": -1}, {"overlap_s": "out_of_range"}),
        ({"overlap_s": 2_592_001}, {"overlap_s": "out_of_range"}),
        ({"overlap": 1}, {"overlap": "unknown_field"}),
    ],
)
async def test_an_overlap_has_bounds(
    admin: Administrator, caller: Caller, body: dict[str, int], faults: dict[str, str]
) -> None:
    assert await admin.faults("POST", f"/keys/{caller.key_id}/rotate", json=body) == faults
    assert await opens(caller, caller.key)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        *(("POST", f"/{verb}") for verb in ("disable", "enable", "rotate", "revoke")),
    ],
)
async def test_nobodys_id_is_told_as_such(admin: Administrator, method: str, path: str) -> None:
    request = {"json": {}} if method == "PATCH" else {}
    assert (await admin.told(method, f"/keys/none{path}", 404, **request))["code"] == "not_found"
    assert await admin.acts() == []


async def test_a_key_put_into_an_address_is_not_told_back(admin: Administrator, caller: Caller) -> None:
    """S1: whoever pastes a whole key where its id belongs."""
    told = await admin.told("GET", f"/keys/{caller.key}", 404)
    assert caller.key not in json.dumps(told)
    assert caller.key_id in told["detail"]


async def test_a_key_in_a_text_that_is_kept_is_refused(admin: Administrator, caller: Caller) -> None:
    """S1: names, owners and reasons are told in lists and stay in the audit log."""
    before = await admin.acts()
    body = {"tenant_id": caller.tenant_id, "name": "k"}
    for field, value in (("name", caller.key), ("owner", f"ada {caller.key}")):
        faults = await admin.faults("POST", "/keys", json={**body, field: value})
        assert faults == {field: "contains_key"}
    assert await admin.faults("POST", "/tenants", json={"name": caller.key}) == {"name": "contains_key"}
    reason = {"tenant_id": caller.tenant_id, "spent_micros": 5, "reason": caller.key}
    assert await admin.faults("POST", "/ledger/adjust", json=reason) == {"reason": "contains_key"}
    member = f"/tenants/{caller.tenant_id}/members/{caller.key}@example.com"
    assert await admin.faults("PUT", member, json={"role": "viewer"}) == {"email": "contains_key"}
    assert await admin.acts() == before
