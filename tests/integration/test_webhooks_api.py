"""The webhook API, one test for each thing that it promises; every answer is held to openapi.yaml."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.bootstrap.services import Services
from gateway.db import deliveries, webhooks
from gateway.db.engine import Tx
from gateway.errors import NotFound
from gateway.messages import DeliveryState, DisabledReason, TryOutcome
from gateway.model import Scope
from gateway.settings import Settings
from gateway.webhooks.outbox import BudgetAlert
from gateway.webhooks.service import MAX_ENDPOINTS
from tests.api import BASE_URL, Caller, make_apis, make_app
from tests.factories import ACT

HOOK = "https://hooks.example.com/music"
HOUR_S = 3600


class Hooks:
    """A caller's webhooks, as requests."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def send(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        headers = {"X-Api-Key": self.caller.key, **options.pop("headers", {})}
        return await self.caller.client.request(method, f"/api/webhooks{path}", headers=headers, **options)

    async def get(self, path: str = "", **query: Any) -> dict[str, Any]:
        response = await self.send("GET", path, params=query)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def made(self, url: str = HOOK, **fields: Any) -> dict[str, Any]:
        response = await self.send("POST", json={"url": url, **fields})
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def changed(self, endpoint_id: str, **fields: Any) -> dict[str, Any]:
        response = await self.send("PATCH", f"/{endpoint_id}", json=fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def rotated(self, path: str, **fields: Any) -> dict[str, Any]:
        response = await self.send("POST", f"{path}/rotate-secret", json=fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def announce(self, times: int = 1) -> list[str]:
        """Events for the tenant's endpoints; the ids of all deliveries there are, newest first."""
        services = self.caller.services
        alert = BudgetAlert("day", "2027-01-15", 80, 1_000_000, 800_000, 0)
        for _ in range(times):
            now_ms = services.clock.now_ms()
            await services.database.write(
                lambda tx, now_ms=now_ms: services.announcer.announce_budget(  # type: ignore[misc]
                    tx, self.caller.tenant_id, alert, now_ms=now_ms
                )
            )
        return [each["id"] for each in (await self.get("/deliveries", limit=100))["deliveries"]]

    async def settle(self, delivery_id: str, outcome: TryOutcome) -> None:
        """As if the pump had tried it, for the last time if it failed."""
        state = DeliveryState.DELIVERED if outcome is TryOutcome.DELIVERED else DeliveryState.FAILED

        def write(tx: Tx) -> None:
            now_ms = self.caller.services.clock.now_ms()
            (due,) = tx.exec_driver_sql(
                f"SELECT lane FROM webhook_deliveries WHERE id = '{delivery_id}'"
            ).one()
            claims = deliveries.claim(
                tx, {due: 100}, token="t", now_ms=now_ms + 1, expires_at_ms=now_ms + 60_000
            )
            for claimed in claims:
                if claimed.delivery.id == delivery_id:
                    deliveries.record_try(
                        tx, claimed, at_ms=now_ms, duration_ms=5, status=None, outcome=outcome
                    )
                    deliveries.finish(tx, claimed, state, now_ms=now_ms)
                else:
                    deliveries.put_off(tx, claimed, due_at_ms=now_ms)

        await self.caller.services.database.write(write)


@pytest.fixture
def hooks(caller: Caller) -> Hooks:
    return Hooks(caller)


@pytest.fixture
def strangers(stranger: Caller) -> Hooks:
    return Hooks(stranger)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


# Making


async def test_an_endpoint_is_made_and_its_secret_shown(hooks: Hooks) -> None:
    response = await hooks.send("POST", json={"url": HOOK})
    made = response.json()
    assert response.headers["location"] == f"/api/webhooks/{made['id']}"
    assert (made["url"], made["events"], made["enabled"]) == (HOOK, ["*"], True)
    secret = made.pop("secret")
    assert secret == (await hooks.get(f"/{made['id']}/secret"))["secret"]
    assert await hooks.get(f"/{made['id']}") == made
    assert await hooks.get() == {"endpoints": [made]}


async def test_an_endpoint_may_ask_for_some_events_only(hooks: Hooks) -> None:
    made = await hooks.made(events=["task.failed", "budget.warning"], description="wakes the team")
    assert (made["events"], made["description"]) == (["task.failed", "budget.warning"], "wakes the team")


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "url", "missing"),
        ({"url": None}, "url", "wrong_type"),
        ({"url": 5}, "url", "wrong_type"),
        ({"url": "x" * 2001}, "url", "too_long"),
        ({"url": "http://hooks.example.com/"}, "url", "https_required"),
        ({"url": "https://u:p@hooks.example.com/"}, "url", "credentials"),
        ({"url": "https://hooks.example.com/#a"}, "url", "fragment"),
        ({"url": "https://10.0.0.1/"}, "url", "address_refused"),
        ({"url": HOOK, "events": []}, "events", "empty"),
        ({"url": HOOK, "events": "*"}, "events", "wrong_type"),
        ({"url": HOOK, "events": ["task.done"]}, "events.0", "unknown_event"),
        ({"url": HOOK, "events": ["*", "*"]}, "events", "duplicate"),
        ({"url": HOOK, "description": "d" * 201}, "description", "too_long"),
        ({"url": HOOK, "description": "\x1b[31m"}, "description", "control_character"),
        ({"url": HOOK, "secret": "mine"}, "secret", "unknown_field"),
    ],
)
async def test_what_will_not_do_is_named(hooks: Hooks, body: dict[str, Any], field: str, code: str) -> None:
    response = await hooks.send("POST", json=body)
    assert problem(response) == (400, "invalid_request")
    assert [(each["field"], each["code"]) for each in response.json()["errors"]] == [(field, code)]
    assert await hooks.get() == {"endpoints": []}


async def test_a_key_in_an_address_is_refused(hooks: Hooks) -> None:
    """It would be kept, and sent with every message's log line at the receiver."""
    response = await hooks.send("POST", json={"url": f"{HOOK}?key={hooks.caller.key}"})
    assert [each["code"] for each in response.json()["errors"]] == ["contains_key"]
    asked = await hooks.caller.post(json={"prompt": "x", "webhook_url": f"{HOOK}?key={hooks.caller.key}"})
    assert [each["code"] for each in asked.json()["errors"]] == ["contains_key"]


async def test_the_same_address_twice_is_refused_and_says_which_has_it(hooks: Hooks) -> None:
    """A request that was repeated because its answer was lost must not double every message."""
    made = await hooks.made()
    response = await hooks.send("POST", json={"url": HOOK})
    assert problem(response) == (409, "conflict")
    assert made["id"] in response.json()["detail"]
    other = await hooks.made(f"{HOOK}/2")
    assert problem(await hooks.send("PATCH", f"/{other['id']}", json={"url": HOOK})) == (409, "conflict")
    assert (await hooks.changed(made["id"], url=HOOK))["url"] == HOOK


async def test_there_are_twenty_at_most(hooks: Hooks, strangers: Hooks) -> None:
    made = [await hooks.made(f"{HOOK}/{number}") for number in range(MAX_ENDPOINTS)]
    assert problem(await hooks.send("POST", json={"url": HOOK})) == (409, "conflict")
    await strangers.made()
    await hooks.send("DELETE", f"/{made[0]['id']}")
    await hooks.made()


# Changing


async def test_what_is_left_out_stays_as_it_is(hooks: Hooks) -> None:
    made = await hooks.made(description="first", events=["task.failed"])
    made.pop("secret")
    assert await hooks.changed(made["id"]) == made
    moved = await hooks.changed(made["id"], url=f"{HOOK}/2", description="second")
    assert moved == {**made, "url": f"{HOOK}/2", "description": "second"}
    assert (await hooks.changed(made["id"], events=["task.succeeded", "*"]))["events"] == ["*"]


async def test_an_endpoint_is_disabled_and_enabled(hooks: Hooks) -> None:
    made = await hooks.made()
    disabled = await hooks.changed(made["id"], enabled=False)
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "requested")
    assert await hooks.changed(made["id"], enabled=False) == disabled
    assert await hooks.announce() == []
    enabled = await hooks.changed(made["id"], enabled=True)
    assert (enabled["enabled"], enabled["disabled_reason"], enabled["disabled_at"]) == (True, None, None)
    assert len(await hooks.announce()) == 1


async def test_enabling_what_the_gateway_disabled_forgets_that_it_failed(hooks: Hooks) -> None:
    made = await hooks.made()

    def fail(tx: Tx) -> None:
        webhooks.note_failure(tx, made["id"], now_ms=1000)
        webhooks.disable_endpoint(tx, made["id"], DisabledReason.FAILING, now_ms=2000)

    await hooks.caller.services.database.write(fail)
    shown = await hooks.get(f"/{made['id']}")
    assert (shown["disabled_reason"], shown["failing_since"]) == ("failing", "1970-01-01T00:00:01.000Z")
    enabled = await hooks.changed(made["id"], enabled=True)
    assert (enabled["enabled"], enabled["failing_since"]) == (True, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "https://127.0.0.1/"}, "address_refused"),
        ({"enabled": "yes"}, "wrong_type"),
        ({"enabled": None}, "wrong_type"),
        ({"id": "whep_2"}, "unknown_field"),
    ],
)
async def test_a_change_that_will_not_do_changes_nothing(
    hooks: Hooks, body: dict[str, Any], code: str
) -> None:
    made = await hooks.made()
    response = await hooks.send("PATCH", f"/{made['id']}", json={"description": "new", **body})
    assert response.json()["errors"][0]["code"] == code
    assert (await hooks.get(f"/{made['id']}"))["description"] == ""


async def test_a_deleted_endpoint_is_gone_and_its_deliveries_stay_in_the_log(hooks: Hooks) -> None:
    made = await hooks.made()
    ids = await hooks.announce()
    assert (await hooks.send("DELETE", f"/{made['id']}")).status_code == 204
    assert problem(await hooks.send("DELETE", f"/{made['id']}")) == (404, "not_found")
    assert problem(await hooks.send("GET", f"/{made['id']}")) == (404, "not_found")
    assert await hooks.get() == {"endpoints": []}
    assert await hooks.announce() == ids
    assert problem(await hooks.send("POST", f"/deliveries/{ids[0]}/replay")) == (409, "conflict")
    again = await hooks.made()
    assert again["id"] != made["id"]
    assert again["secret"] != made["secret"]


# Secrets


async def test_a_rotation_gives_a_new_secret_and_says_until_when_the_old_one_signs(hooks: Hooks) -> None:
    made = await hooks.made()
    first = await hooks.get(f"/{made['id']}/secret")
    assert (first["version"], first["previous_until"]) == (1, None)
    rotated = await hooks.rotated(f"/{made['id']}")
    assert rotated["secret"] != first["secret"]
    assert rotated["version"] == 2
    assert await hooks.get(f"/{made['id']}/secret") == rotated


async def test_a_rotation_needs_no_body(hooks: Hooks) -> None:
    made = await hooks.made()
    response = await hooks.send("POST", f"/{made['id']}/rotate-secret")
    assert response.json()["version"] == 2


async def test_a_rotation_whose_answer_was_lost_can_be_repeated(hooks: Hooks) -> None:
    """A third secret would drop the one that receivers have (compare peers.md K2, I6)."""
    made = await hooks.made()
    rotated = await hooks.rotated(f"/{made['id']}", overlap_s=HOUR_S)
    assert await hooks.rotated(f"/{made['id']}", overlap_s=HOUR_S) == rotated
    assert await hooks.rotated(f"/{made['id']}", overlap_s=7 * 24 * HOUR_S) == rotated
    shorter = await hooks.rotated(f"/{made['id']}", overlap_s=60)
    assert shorter["secret"] == rotated["secret"]
    assert shorter["previous_until"] < rotated["previous_until"]


async def test_after_the_overlap_there_is_another(hooks: Hooks) -> None:
    made = await hooks.made()
    await hooks.rotated(f"/{made['id']}")

    def end(tx: Tx) -> None:
        webhooks.change_endpoint(tx, made["id"], {"previous_until_ms": 1})

    await hooks.caller.services.database.write(end)
    assert (await hooks.get(f"/{made['id']}/secret"))["previous_until"] is None
    assert (await hooks.rotated(f"/{made['id']}"))["version"] == 3


@pytest.mark.parametrize("overlap_s", [0, 59, 604_801, -1, "60", 60.5, None])
async def test_an_overlap_has_its_bounds(hooks: Hooks, overlap_s: Any) -> None:
    made = await hooks.made()
    response = await hooks.send("POST", f"/{made['id']}/rotate-secret", json={"overlap_s": overlap_s})
    assert problem(response) == (400, "invalid_request")
    assert (await hooks.get(f"/{made['id']}/secret"))["version"] == 1


async def test_addresses_that_requests_name_have_a_secret_of_the_tenants(
    hooks: Hooks, strangers: Hooks
) -> None:
    first = await hooks.get("/secret")
    assert first["version"] == 1
    assert first["secret"] != (await strangers.get("/secret"))["secret"]
    rotated = await hooks.rotated("")
    assert (rotated["version"], rotated["secret"] != first["secret"]) == (2, True)
    assert await hooks.rotated("") == rotated == await hooks.get("/secret")
    assert (await strangers.get("/secret"))["version"] == 1


async def test_each_endpoint_has_a_secret_of_its_own(hooks: Hooks) -> None:
    secrets = [(await hooks.made(f"{HOOK}/{number}"))["secret"] for number in range(3)]
    assert len({*secrets, (await hooks.get("/secret"))["secret"]}) == 4


async def test_no_secret_is_in_the_database(hooks: Hooks) -> None:
    made = await hooks.made()
    await hooks.rotated(f"/{made['id']}")
    await hooks.rotated("")
    kept = await hooks.caller.services.database.read(
        lambda tx: [
            str(tuple(row))
            for table in ("webhook_endpoints", "webhook_secrets", "webhook_deliveries")
            for row in tx.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    )
    assert len(kept) == 2
    assert not [row for row in kept if "whsec" in row or made["secret"].removeprefix("whsec_") in row]


# The audit log


async def test_changes_are_in_the_audit_log_without_secrets_or_paths(hooks: Hooks) -> None:
    made = await hooks.made(f"{HOOK}/s3cret?token=t0ken")
    await hooks.changed(made["id"])
    await hooks.changed(made["id"], url="https://other.example.com/", events=["task.failed"])
    await hooks.rotated(f"/{made['id']}")
    await hooks.rotated(f"/{made['id']}")
    await hooks.rotated("")
    await hooks.send("DELETE", f"/{made['id']}")
    tenant_id = hooks.caller.tenant_id
    acts = list(reversed(await hooks.caller.services.books.audit_log(tenant_id)))
    told = [(entry.action, entry.target) for entry in acts if entry.action.startswith("webhook.")]
    assert told == [
        ("webhook.create", made["id"]),
        ("webhook.update", made["id"]),
        ("webhook.rotate", made["id"]),
        ("webhook.rotate", tenant_id),
        ("webhook.delete", made["id"]),
    ]
    update = next(entry for entry in acts if entry.action == "webhook.update")
    assert update.after is not None
    assert (update.after["host"], update.after["events"]) == ("other.example.com", ["task.failed"])
    assert update.act.actor == f"key:{hooks.caller.key.split('_')[2]}"
    for hidden in ("s3cret", "t0ken", "whsec", made["secret"].removeprefix("whsec_")):
        assert hidden not in str(acts)


async def test_behind_proxies_the_audit_log_has_the_address_that_they_say(
    settings: Settings, caller: Caller
) -> None:
    services = caller.services
    apis = make_apis(settings.model_copy(update={"trusted_proxies": "1"}), services)
    transport = httpx.ASGITransport(make_app(apis, services), client=("169.254.1.1", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        hooks = Hooks(replace(caller, client=client))
        said = {"X-Forwarded-For": "10.0.0.1, 203.0.113.7"}
        await hooks.send("POST", json={"url": HOOK}, headers=said)
    (newest, *_) = await services.books.audit_log(caller.tenant_id)
    assert (newest.action, newest.act.source) == ("webhook.create", "203.0.113.7")


# Testing


async def test_a_test_reaches_the_endpoint_whatever_it_asks_for(hooks: Hooks) -> None:
    made = await hooks.made(events=["task.failed"])
    response = await hooks.send("POST", f"/{made['id']}/test")
    assert response.status_code == 202
    sent = response.json()
    assert (sent["type"], sent["status"], sent["endpoint_id"]) == ("webhook.test", "pending", made["id"])
    assert (await hooks.send("POST", f"/{made['id']}/test")).json()["id"] == sent["id"]
    await hooks.settle(sent["id"], TryOutcome.TIMED_OUT)
    assert (await hooks.send("POST", f"/{made['id']}/test")).json()["id"] != sent["id"]
    shown = await hooks.get(f"/deliveries/{sent['id']}")
    assert shown["message"]["data"] == {"endpoint_id": made["id"], "description": ""}


async def test_a_test_that_is_under_way_for_long_does_not_stand_for_a_new_one(hooks: Hooks) -> None:
    made = await hooks.made()
    first = (await hooks.send("POST", f"/{made['id']}/test")).json()["id"]
    await hooks.caller.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE webhook_deliveries SET created_at_ms = created_at_ms - 60001")
    )
    assert (await hooks.send("POST", f"/{made['id']}/test")).json()["id"] != first


async def test_a_tenant_that_is_not_there_has_no_webhooks(services: Services) -> None:
    """For whoever administers them: callers have a tenant."""
    with pytest.raises(NotFound):
        await services.webhooks.create(ACT, "ten_x", HOOK)
    with pytest.raises(NotFound):
        await services.webhooks.rotate(ACT, "ten_x", None, overlap_s=60)


async def test_a_disabled_endpoint_is_not_tested(hooks: Hooks) -> None:
    made = await hooks.made()
    await hooks.changed(made["id"], enabled=False)
    assert problem(await hooks.send("POST", f"/{made['id']}/test")) == (409, "conflict")


# The log


async def test_deliveries_are_listed_newest_first_in_pages(hooks: Hooks) -> None:
    await hooks.made()
    ids = await hooks.announce(7)
    assert len(ids) == 7
    seen, cursor = [], {}
    for size in (3, 3, 1):
        page = await hooks.get("/deliveries", limit=3, **cursor)
        assert len(page["deliveries"]) == size
        seen += [each["id"] for each in page["deliveries"]]
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids
    assert page["next_cursor"] is None


async def test_deliveries_are_listed_by_how_they_stand(hooks: Hooks) -> None:
    await hooks.made()
    third, second, first = await hooks.announce(3)
    await hooks.settle(first, TryOutcome.DELIVERED)
    await hooks.settle(second, TryOutcome.REDIRECTED)
    for status, id_ in (("delivered", first), ("failed", second), ("pending", third)):
        (found,) = (await hooks.get("/deliveries", status=status))["deliveries"]
        assert (found["id"], found["status"]) == (id_, status)


async def test_a_delivery_tells_its_message_and_its_tries(hooks: Hooks) -> None:
    made = await hooks.made()
    (id_,) = await hooks.announce()
    pending = await hooks.get(f"/deliveries/{id_}")
    assert (pending["tries"], pending["last_try"], pending["finished_at"]) == ([], None, None)
    assert pending["next_try_at"] == pending["created_at"]
    await hooks.settle(id_, TryOutcome.TLS_FAILED)
    failed = await hooks.get(f"/deliveries/{id_}")
    (tried,) = failed["tries"]
    assert (tried["number"], tried["error"], tried["http_status"]) == (1, "tls_failed", None)
    assert failed["last_try"] == tried
    assert (failed["try_count"], failed["next_try_at"]) == (1, None)
    assert failed["message"]["type"] == "budget.warning"
    assert (failed["endpoint_id"], failed["url"], failed["task_id"]) == (made["id"], HOOK, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"stauts": "failed"}, "stauts"),
        ({"limit": ["1", "2"]}, "limit"),
    ],
)
async def test_a_query_that_will_not_do_is_named(hooks: Hooks, query: dict[str, Any], field: str) -> None:
    response = await hooks.send("GET", "/deliveries", params=query)
    assert problem(response) == (400, "invalid_request")
    assert [each["field"] for each in response.json()["errors"]] == [field]


# Replaying


async def test_a_delivery_is_replayed_under_its_own_id(hooks: Hooks) -> None:
    await hooks.made()
    (id_,) = await hooks.announce()
    await hooks.settle(id_, TryOutcome.DELIVERED)
    response = await hooks.send("POST", f"/deliveries/{id_}/replay")
    assert response.status_code == 202
    replayed = response.json()
    assert (replayed["id"], replayed["status"], replayed["try_count"]) == (id_, "pending", 0)
    assert replayed["finished_at"] is None
    assert (await hooks.send("POST", f"/deliveries/{id_}/replay")).json()["status"] == "pending"


async def test_what_is_under_way_is_not_disturbed_by_a_replay(hooks: Hooks) -> None:
    made = await hooks.made()
    (id_,) = await hooks.announce()
    services = hooks.caller.services
    now_ms = services.clock.now_ms()
    lane = f"{hooks.caller.tenant_id}:{made['id']}"
    await services.database.write(
        lambda tx: deliveries.claim(tx, {lane: 1}, token="t", now_ms=now_ms, expires_at_ms=now_ms + 60_000)
    )
    assert (await hooks.send("POST", f"/deliveries/{id_}/replay")).status_code == 202
    (token,) = await services.database.read(
        lambda tx: tx.exec_driver_sql("SELECT lease_token FROM webhook_deliveries").one()
    )
    assert token == "t"


async def test_all_that_failed_is_replayed_but_for_endpoints_that_are_disabled(
    hooks: Hooks, strangers: Hooks
) -> None:
    enabled, disabled = await hooks.made(), await hooks.made(f"{HOOK}/2")
    await strangers.made()
    (theirs,) = await strangers.announce()
    await strangers.settle(theirs, TryOutcome.REJECTED)
    ids = await hooks.announce(3)
    for id_ in ids[:5]:
        await hooks.settle(id_, TryOutcome.REJECTED)
    await hooks.settle(ids[5], TryOutcome.DELIVERED)
    await hooks.changed(disabled["id"], enabled=False)
    failed = (await hooks.get("/deliveries", status="failed"))["deliveries"]
    replayable = [each for each in failed if each["endpoint_id"] == enabled["id"]]
    response = await hooks.send("POST", "/deliveries/replay-failed")
    assert (response.status_code, response.json()) == (202, {"replayed": len(replayable)})
    assert (await hooks.send("POST", "/deliveries/replay-failed")).json() == {"replayed": 0}
    pending = (await hooks.get("/deliveries", status="pending"))["deliveries"]
    assert {each["id"] for each in pending} == {each["id"] for each in replayable}
    assert (await strangers.get(f"/deliveries/{theirs}"))["status"] == "failed"


async def test_more_than_one_transaction_takes_is_replayed_too(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.service._REPLAY_AT_ONCE", 2)
    await hooks.made()
    for id_ in await hooks.announce(5):
        await hooks.settle(id_, TryOutcome.REJECTED)
    assert (await hooks.send("POST", "/deliveries/replay-failed")).json() == {"replayed": 5}


async def test_what_goes_to_a_disabled_endpoint_is_not_replayed(hooks: Hooks) -> None:
    made = await hooks.made()
    (id_,) = await hooks.announce()
    await hooks.settle(id_, TryOutcome.REJECTED)
    await hooks.changed(made["id"], enabled=False)
    assert problem(await hooks.send("POST", f"/deliveries/{id_}/replay")) == (409, "conflict")


# Whose


ROUTES = [
    ("GET", "", Scope.READ),
    ("POST", "", Scope.GENERATE),
    ("GET", "/secret", Scope.GENERATE),
    ("POST", "/rotate-secret", Scope.GENERATE),
    ("GET", "/deliveries", Scope.READ),
    ("POST", "/deliveries/replay-failed", Scope.GENERATE),
    ("GET", "/deliveries/{delivery}", Scope.READ),
    ("POST", "/deliveries/{delivery}/replay", Scope.GENERATE),
    ("GET", "/{endpoint}", Scope.READ),
    ("PATCH", "/{endpoint}", Scope.GENERATE),
    ("GET", "/{endpoint}/secret", Scope.GENERATE),
    ("POST", "/{endpoint}/rotate-secret", Scope.GENERATE),
    ("POST", "/{endpoint}/test", Scope.GENERATE),
    ("DELETE", "/{endpoint}", Scope.GENERATE),
]


@pytest.fixture
async def theirs(strangers: Hooks) -> dict[str, str]:
    """An endpoint and a delivery of somebody else's."""
    made = await strangers.made()
    (id_,) = await strangers.announce()
    return {"endpoint": made["id"], "delivery": id_}


@pytest.mark.parametrize(("method", "path", "_scope"), ROUTES)
async def test_nothing_is_told_without_a_key(
    client: httpx.AsyncClient, theirs: dict[str, str], method: str, path: str, _scope: Scope
) -> None:
    response = await client.request(method, f"/api/webhooks{path.format(**theirs)}")
    assert problem(response) == (401, "unauthorized")


@pytest.mark.parametrize(("method", "path", "_scope"), [route for route in ROUTES if "{" in route[1]])
async def test_what_is_somebody_elses_does_not_exist(
    hooks: Hooks, theirs: dict[str, str], method: str, path: str, _scope: Scope
) -> None:
    body = {"json": {}} if method == "PATCH" else {}
    assert problem(await hooks.send(method, path.format(**theirs), **body)) == (404, "not_found")


@pytest.mark.parametrize(
    "id_", ["nothing", "whep_" + "0" * 26, "%00", "%F0%9F%8E%B5", "a" * 100, "-1", "msg_1"]
)
async def test_ids_of_nothing_are_not_found(hooks: Hooks, id_: str) -> None:
    assert problem(await hooks.send("GET", f"/{id_}")) == (404, "not_found")
    assert problem(await hooks.send("GET", f"/deliveries/{id_}")) == (404, "not_found")


async def test_a_key_that_may_only_read_looks_and_changes_nothing(hooks: Hooks, services: Services) -> None:
    made = await hooks.made()
    (id_,) = await hooks.announce()
    caller = hooks.caller
    _, key = await services.keyring.create(
        ACT, caller.tenant_id, name="reader", scopes=frozenset({Scope.READ})
    )
    hooks = Hooks(Caller(caller.client, services, caller.tenant_id, key))
    for method, path, scope in ROUTES:
        body = {"json": {"url": HOOK}} if (method, path) in {("POST", ""), ("PATCH", "/{endpoint}")} else {}
        response = await hooks.send(method, path.format(endpoint=made["id"], delivery=id_), **body)
        if scope is Scope.READ:
            assert response.status_code == 200, (method, path)
        else:
            assert problem(response) == (403, "not_allowed"), (method, path)


async def test_a_method_that_an_address_does_not_have_is_told_all_it_has(hooks: Hooks) -> None:
    """What is spelled out is nobody's id, whatever the method."""
    for method, path, allow in (
        ("DELETE", "", "GET, HEAD, POST"),
        ("PUT", "/whep_1", "DELETE, GET, HEAD, PATCH"),
        ("PATCH", "/secret", "GET, HEAD"),
        ("DELETE", "/deliveries", "GET, HEAD"),
        ("GET", "/deliveries/replay-failed", "POST"),
        ("POST", "/deliveries/msg_1", "GET, HEAD"),
        ("GET", "/whep_1/test", "POST"),
    ):
        response = await hooks.send(method, path)
        assert problem(response) == (405, "method_not_allowed"), path
        assert response.headers["allow"] == allow


async def test_head_is_answered_where_get_is(hooks: Hooks) -> None:
    made = await hooks.made()
    for path in ("", f"/{made['id']}", "/deliveries", "/secret"):
        assert (await hooks.send("HEAD", path)).status_code == 200


# Requests that name an address


@pytest.mark.parametrize("path", ["/api/music_generate", "/api/music_generate_lyria"])
async def test_a_request_may_name_an_address(caller: Caller, path: str) -> None:
    response = await caller.post(
        path, json={"prompt": "x", "webhook_url": HOOK}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    task = response.json()
    assert task["request"]["webhook_url"] == HOOK
    assert (await caller.status(task["task_id"])).json()["request"]["webhook_url"] == HOOK


async def test_a_form_may_name_an_address(caller: Caller) -> None:
    response = await caller.post(
        data={"prompt": "x", "durationSeconds": "1", "webhook_url": HOOK}, headers={"Prefer": "respond-async"}
    )
    assert response.json()["request"]["webhook_url"] == HOOK


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://hooks.example.com/", "https_required"),
        ("https://169.254.169.254/", "address_refused"),
        ("https://u:p@example.com/", "credentials"),
        ("https://example.com/#a", "fragment"),
        ("not an address", "not_a_url"),
        ("https://example.com/" + "a" * 2000, "too_long"),
        (None, "wrong_type"),
        (7, "wrong_type"),
    ],
)
async def test_an_address_that_will_not_do_is_a_400_and_nothing_runs(
    caller: Caller, url: Any, code: str
) -> None:
    for query in ("", "?dry_run=true"):
        response = await caller.post(
            f"/api/music_generate_lyria{query}", json={"prompt": "x", "webhook_url": url}
        )
        assert problem(response) == (400, "invalid_request")
        (error,) = response.json()["errors"]
        assert (error["field"], error["code"]) == ("webhook_url", code)


async def test_messages_are_those_that_the_document_describes(
    hooks: Hooks, caller: Caller, worker: None, specification: Any
) -> None:
    """Of every kind that can be brought about here."""
    made = await hooks.made()
    await caller.ended((await caller.ask_lyria())["task_id"])
    await hooks.send("POST", f"/{made['id']}/test")
    await hooks.announce()
    kinds = set()
    for each in (await hooks.get("/deliveries", limit=100))["deliveries"]:
        shown = await hooks.get(f"/deliveries/{each['id']}")
        pointer = f"/webhooks/{shown['type']}/post/requestBody/content/application~1json/schema"
        errors = list(specification.validator(pointer).iter_errors(shown["message"]))
        assert errors == []
        kinds.add(shown["type"])
    assert kinds == {"task.succeeded", "webhook.test", "budget.warning"}
