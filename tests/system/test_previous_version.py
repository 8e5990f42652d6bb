"""An upgrade and the way back: the version before, its own code, on the schema that this one makes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.postgres import Server
from tests.previous import unpack
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S

LYRIA = "/api/music_generate_lyria"
TOKEN = "administers-whichever-version-serves"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the version before."""
    return unpack(tmp_path_factory.mktemp("previous"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that is not there yet, or empty."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
        return
    server: Server = request.getfixturevalue("postgres_server")
    server.execute("CREATE DATABASE upgraded")
    yield server.url("upgraded")
    server.execute("DROP DATABASE upgraded WITH (FORCE)")


def settings(tmp_path: Path, database_url: str) -> dict[str, str]:
    return {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_STORAGE_URL": f"file://{tmp_path / 'audio'}",
        "GATEWAY_SIGNING_SECRET": "the same whichever version serves",
        "GATEWAY_ADMIN_TOKEN": TOKEN,
    }


def caller_of(gateway: RunningGateway, key: str) -> httpx.Client:
    headers = {"X-Api-Key": key}
    return httpx.Client(base_url=gateway.url, headers=headers, timeout=PATIENCE_S, trust_env=False)


def make_music(gateway: RunningGateway, key: str, name: str) -> str:
    """A task that ends well, asked for by name and once more; its id."""
    with caller_of(gateway, key) as caller:
        headers = {"Idempotency-Key": name, "Prefer": f"wait={int(PATIENCE_S)}"}
        body = {"prompt": "slow piano", "sampleCount": 2}
        first, again = (caller.post(LYRIA, json=body, headers=headers) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["task_id"] == again.json()["task_id"]
    return str(first.json()["task_id"])


def check_music(gateway: RunningGateway, key: str, task_id: str) -> None:
    with caller_of(gateway, key) as caller:
        task = caller.get(f"/api/task-status/{task_id}").json()
        assert (task["status"], task["price"]["charged_micros"]) == ("succeeded", 120_000)
        for path in (httpx.URL(url).raw_path.decode() for url in task["audio_urls"]):
            assert caller.get(path).content.startswith(b"RIFF")


def cancel_one(gateway: RunningGateway, key: str, emulator: RunningEmulator) -> None:
    emulator.script({"delay_s": 30})
    with caller_of(gateway, key) as caller:
        asked = caller.post(LYRIA, json={"prompt": "rain"}, headers={"Prefer": "respond-async"})
        canceled = caller.post(f"/api/tasks/{asked.json()['task_id']}/cancel")
        assert canceled.json()["status"] == "canceled", canceled.text


def delete_one(gateway: RunningGateway, key: str) -> None:
    task_id = make_music(gateway, key, "deleted")
    with caller_of(gateway, key) as caller:
        assert caller.delete(f"/api/tasks/{task_id}").status_code == 204
        assert caller.get(f"/api/task-status/{task_id}").status_code == 404


def admin_of(gateway: RunningGateway) -> httpx.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(
        base_url=f"{gateway.url}/admin/api", headers=headers, timeout=PATIENCE_S, trust_env=False
    )


def administer(gateway: RunningGateway, tenant_id: str) -> str:
    """All kinds of changes, and a new key."""
    with admin_of(gateway) as admin:
        answers = [
            admin.patch(f"/tenants/{tenant_id}", json={"max_queued": 100}),
            admin.put(f"/tenants/{tenant_id}/budgets", json={"month_micros": 1_000_000_000}),
            admin.put(f"/tenants/{tenant_id}/members/ada@example.com", json={"role": "owner"}),
            admin.post(
                "/ledger/adjust", json={"tenant_id": tenant_id, "spent_micros": -1, "reason": "a gift"}
            ),
            admin.get("/usage"),
            admin.get("/audit", params={"tenant_id": tenant_id}),
            admin.get("/tasks", params={"tenant_id": tenant_id}),
            admin.post("/keys", json={"tenant_id": tenant_id, "name": "another"}),
        ]
    assert [answer.text for answer in answers if not answer.is_success] == []
    return str(answers[-1].json()["key"])


def make_tenant(gateway: RunningGateway) -> tuple[str, str]:
    """A new one, and a key of it."""
    with admin_of(gateway) as admin:
        tenant_id = str(admin.post("/tenants", json={"name": "acme"}).json()["id"])
        return tenant_id, str(admin.post("/keys", json={"tenant_id": tenant_id, "name": "k"}).json()["key"])


def check_books(gateway: RunningGateway) -> None:
    with admin_of(gateway) as admin:
        assert admin.get("/reconcile").json() == {"clean": True, "differences": []}


def test_the_version_before_takes_over_from_this_one_and_gives_back(
    tmp_path: Path, database_url: str, code: Path, emulator: RunningEmulator
) -> None:
    environment = settings(tmp_path, database_url)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    with start_gateway(tmp_path / "new", emulator.url, **environment) as new:
        tenant_id, key = make_tenant(new)
        made = make_music(new, key, "new")
        administer(new, tenant_id)
    with start_gateway(tmp_path / "old", emulator.url, code=code, **environment) as old:
        check_music(old, key, made)
        assert make_music(old, key, "new") == made
        other_key = administer(old, tenant_id)
        made_before = make_music(old, other_key, "old")
        cancel_one(old, other_key, emulator)
        delete_one(old, other_key)
        check_books(old)
    with start_gateway(tmp_path / "new", emulator.url, **environment) as new:
        check_music(new, other_key, made_before)
        check_books(new)


def test_both_versions_serve_while_one_replaces_the_other(
    tmp_path: Path, code: Path, emulator: RunningEmulator, postgres_server: Server
) -> None:
    postgres_server.execute("CREATE DATABASE rolling")
    environment = settings(tmp_path, postgres_server.url("rolling")) | {"GATEWAY_LEASE_S": "1"}
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        # The old one is there first, on its own schema, and does not start again when the new one migrates.
        old = stack.enter_context(start_gateway(tmp_path / "old", emulator.url, code=code, **environment))
        _, key = make_tenant(old)
        new = stack.enter_context(start_gateway(tmp_path / "new", emulator.url, **environment))
        tasks = [ask(each, key) for each in (old, new) * 4]
        for task_id, reader in zip(tasks, (new, old) * 4, strict=True):
            assert end_of(reader, key, task_id) == "succeeded"
        # Killed in the middle of a call, the one leaves it to the other.
        emulator.script({"delay_s": 30})
        left = ask(new, key)
        new.kill()
        assert end_of(old, key, left) == "succeeded"
        check_books(old)


def ask(gateway: RunningGateway, key: str) -> str:
    with caller_of(gateway, key) as caller:
        asked = caller.post(LYRIA, json={"prompt": "slow piano"}, headers={"Prefer": "respond-async"})
        assert asked.status_code == 202, asked.text
        return str(asked.json()["task_id"])


def end_of(gateway: RunningGateway, key: str, task_id: str) -> str:
    with caller_of(gateway, key) as caller:
        headers = {"Prefer": f"wait={int(PATIENCE_S)}"}
        return str(caller.get(f"/api/task-status/{task_id}", headers=headers).json()["status"])
