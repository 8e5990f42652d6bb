"""What a key and its tenant may use: scopes, models, formats, and a suspension."""

import httpx
import pytest

from gateway.bootstrap.services import Services
from gateway.model import Scope
from tests.api import Caller
from tests.factories import ACT

ASYNC = {"Prefer": "respond-async"}
BODY = {"prompt": "slow piano", "durationSeconds": 1}


@pytest.fixture
async def tenant_id(services: Services) -> str:
    return (await services.tenants.create(ACT, name="acme")).id


async def a_key(client: httpx.AsyncClient, services: Services, tenant_id: str, **terms) -> Caller:
    _, text = await services.keyring.create(ACT, tenant_id, name="test", **terms)
    return Caller(client, services, tenant_id, text)


async def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "not_allowed"
    return answer.json()["detail"]


async def nothing_was_kept(services: Services) -> bool:
    counts = "SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM ledger)"
    return await services.database.read(lambda tx: tx.exec_driver_sql(counts).scalar_one()) == 0


async def test_a_key_that_may_only_read_cannot_generate(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    reader = await a_key(client, services, tenant_id, scopes=frozenset({Scope.READ}))
    assert "'generate'" in await refusal(await reader.post(json=BODY))
    assert "'generate'" in await refusal(await reader.post("/api/music_generate_lyria", json=BODY))
    assert await nothing_was_kept(services)
    maker = await a_key(client, services, tenant_id, scopes=frozenset({Scope.GENERATE}))
    task = await maker.ask()
    assert (await reader.status(task["task_id"])).status_code == 200
    assert "'read'" in await refusal(await maker.status(task["task_id"]))


async def test_a_route_takes_the_first_of_its_models_that_the_key_may_use(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    anybody = await a_key(client, services, tenant_id)
    assert (await anybody.ask())["model"] == "musicgen"
    bound = await a_key(client, services, tenant_id, allowed_models=("lyria-002",))
    assert (await bound.ask())["model"] == "lyria-002"


async def test_a_model_that_the_key_may_not_use_is_refused(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    bound = await a_key(client, services, tenant_id, allowed_models=("musicgen",))
    assert "it may use: musicgen" in await refusal(
        await bound.post("/api/music_generate_lyria", json={"prompt": "slow piano"})
    )
    assert "it may use: musicgen" in await refusal(await bound.post(json={**BODY, "model": "lyria-002"}))
    quote = await bound.post("/api/music_generate?dry_run=true", json={**BODY, "model": "lyria-002"})
    assert quote.json()["refusal"]["code"] == "not_allowed"
    assert await nothing_was_kept(services)


async def test_a_tenants_models_bound_all_its_keys(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    caller = await a_key(client, services, tenant_id, allowed_models=("musicgen", "lyria-002"))
    await services.tenants.update(ACT, tenant_id, allowed_models=("lyria-002",))
    # Admission reads the tenant anew, whatever this instance remembers of the key.
    assert (await caller.post(json={**BODY, "model": "musicgen"}, headers=ASYNC)).status_code == 403
    await services.tenants.update(ACT, tenant_id, allowed_models=())
    assert "may not use" in await refusal(await caller.post(json={**BODY, "model": "musicgen"}))


async def test_a_format_that_the_tenant_may_not_have_is_refused(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    await services.tenants.update(ACT, tenant_id, allowed_formats=("mp3",))
    caller = await a_key(client, services, tenant_id)
    assert "as wav; outputFormat may be: mp3" in await refusal(await caller.post(json=BODY))
    await services.tenants.update(ACT, tenant_id, allowed_formats=("mp3", "wav"))
    assert (await caller.post(json=BODY, headers=ASYNC)).status_code == 202


async def test_a_suspended_tenant_gets_no_more_and_can_read_what_it_has(caller: Caller) -> None:
    task = await caller.ask()
    await caller.services.tenants.suspend(ACT, caller.tenant_id)
    for path in ("/api/music_generate", "/api/music_generate_lyria"):
        answer = await caller.post(path, json={"prompt": "slow piano"})
        assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")
    quote = await caller.post("/api/music_generate?dry_run=true", json=BODY)
    assert quote.json()["refusal"]["code"] == "tenant_suspended"
    assert (await caller.status(task["task_id"])).status_code == 200
    await caller.services.tenants.activate(ACT, caller.tenant_id)
    assert (await caller.post(json=BODY, headers=ASYNC)).status_code == 202


async def test_a_queue_of_its_own_bounds_a_key_and_leaves_the_others(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    bound = await a_key(client, services, tenant_id, max_queued=2)
    other = await a_key(client, services, tenant_id)
    for _ in range(2):
        await bound.ask()
        await other.ask()
    answer = await bound.post(json=BODY, headers=ASYNC)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert answer.json()["limit"] == {
        "name": "key_queued",
        "quota": 2,
        "window_s": None,
        "remaining": 0,
        "retry_after_s": 10,
    }
    await other.ask()


async def test_a_refusal_for_speed_names_the_limit_its_window_and_when_to_come_back(
    client: httpx.AsyncClient, services: Services, tenant_id: str
) -> None:
    await services.tenants.update(ACT, tenant_id, rpm=2)
    caller = await a_key(client, services, tenant_id)
    for _ in range(2):
        await caller.ask()
    answer = await caller.post(json=BODY)
    assert answer.status_code == 429
    limit = answer.json()["limit"]
    assert (limit["name"], limit["quota"], limit["window_s"], limit["remaining"]) == ("tenant", 2, 60, 0)
    assert str(limit["retry_after_s"]) == answer.headers["Retry-After"]
