"""`gateway check`: what is configured is tried for real, at no cost, and everything is left as it was."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway.bootstrap.checkup import check_up
from gateway.bootstrap.services import SystemClock
from gateway.db.tables import SCHEMA_REVISION
from gateway.findings import Finding, Outcome
from gateway.ports import Clock
from gateway.settings import Settings
from gateway.storage.local import LocalStorage
from gateway.storage.probing import probe_storage
from gateway.tasks.naming import owner_of, probe_name
from tests.databases import PostgresStore, Store
from tests.emulator import RunningEmulator
from tests.gcs import BUCKET, EMAIL, TOKEN, Fault, Gcs, key_file, start_gcs
from tests.httpstub import Answer, start_stub
from tests.redis import RunningRedis
from tests.shell import Shell


class LateClock(SystemClock):
    """An hour behind."""

    def now_ms(self) -> int:
        return super().now_ms() - 3_600_000


async def checked(
    settings: Settings, clock: Clock | None = None, *, timeout_s: float = 8.0, **changes: Any
) -> dict[str, Finding]:
    found = await check_up(settings.model_copy(update=changes), clock, timeout_s=timeout_s)
    return {finding.check: finding for finding in found}


def all_that_lies_in(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def outcomes(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.outcome.value for name, finding in findings.items()}


# A whole configuration


async def test_what_is_well_is_said_to_be_and_nothing_is_paid_or_changed(
    settings: Settings, emulator: RunningEmulator, tmp_path: Path
) -> None:
    before = all_that_lies_in(tmp_path)
    found = await checked(settings, lyria3=True)
    assert outcomes(found) == {
        **dict.fromkeys(("database", "scratch", "signing secret", "storage", "google token"), "ok"),
        **dict.fromkeys(("deployment musicgen", "deployment lyria-002"), "ok"),
        **dict.fromkeys(("deployment lyria-3-clip-preview", "deployment lyria-3-pro-preview"), "ok"),
        "clock": "ok",
    }
    calls = emulator.calls()
    assert (calls["received"], calls["invalid"], calls["paid"]) == (3, 3, 0)
    assert all_that_lies_in(tmp_path) == before


async def test_what_is_embedded_is_well_before_the_first_start_and_is_not_made(tmp_path: Path) -> None:
    found = await checked(Settings(data_dir=tmp_path / "data"))
    assert [name for name, outcome in outcomes(found).items() if outcome == "failed"] == []
    assert outcomes(found)["database"] == outcomes(found)["deployments"] == "warning"
    assert all_that_lies_in(tmp_path) == {}


def test_the_command_has_a_line_for_each_and_says_by_its_end_whether_all_is_well(shell: Shell) -> None:
    well = shell.run("check")
    assert well.exit_code == 0
    lines = well.stdout.splitlines()
    assert lines[0].startswith("warning  database: ")
    assert "gateway migrate" in lines[0]
    assert all(line.startswith(("ok ", "warning ")) for line in lines)
    failed = shell.run(
        "check", "--json", GATEWAY_DATABASE_URL="postgresql+asyncpg://u:pass-word@127.0.0.1:1/x"
    )
    assert failed.exit_code == 1
    document = json.loads(failed.stdout)
    assert document["ok"] is False
    assert {each["check"]: each["outcome"] for each in document["checks"]}["database"] == "failed"
    assert "pass-word" not in failed.output


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_it_ends_whoever_does_not_answer(settings: Settings, silent: str) -> None:
    found = await checked(
        settings,
        timeout_s=0.3,
        vertex_url=f"http://{silent}",
        database_url=SecretStr(f"postgresql+asyncpg://u@{silent}/x"),
        storage_url=f"gs://{BUCKET}",
        storage_emulator_host=silent,
        test_emulator_url=f"http://{silent}",
    )
    silenced = {name for name, finding in found.items() if finding.found == "no answer within 0.3 s"}
    assert silenced == {
        *("database", "storage", "deployment musicgen", "deployment lyria-002", "clock"),
        "emulator for test keys",
    }


# The database


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_a_database_is_written_and_what_was_written_taken_back(
    settings: Settings, store: Store
) -> None:
    found = (await checked(settings))["database"]
    assert found.outcome is Outcome.OK
    assert found.found.endswith(f"schema {SCHEMA_REVISION}")
    assert await store.fetch("SELECT count(*) FROM deployments") == [(0,)]


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize(
    ("revision", "outcome"),
    [
        ("0001", Outcome.WARNING),
        (f"{int(SCHEMA_REVISION) + 1:04}", Outcome.OK),
        ("9999", Outcome.FAILED),
    ],
)
async def test_another_schema_is_told(
    settings: Settings, store: Store, revision: str, outcome: Outcome
) -> None:
    await store.execute(f"UPDATE alembic_version SET version_num = '{revision}'")
    found = (await checked(settings))["database"]
    assert (found.outcome, revision in found.found) == (outcome, True)
    assert await store.fetch("SELECT version_num FROM alembic_version") == [(revision,)]


async def test_who_may_only_read_is_told(settings: Settings, postgres_store: PostgresStore) -> None:
    await postgres_store.execute(
        "CREATE ROLE looker LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker"
    )
    try:
        url = postgres_store.server.url(postgres_store.name, "looker")
        found = (await checked(settings, database_url=SecretStr(url)))["database"]
    finally:
        await postgres_store.execute("DROP OWNED BY looker; DROP ROLE looker")
    assert found.outcome is Outcome.FAILED
    assert "permission denied" in found.found


async def test_a_file_that_is_no_database_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database at all. " * 100)
    url = SecretStr(f"sqlite+aiosqlite:///{tmp_path / 'text.db'}")
    assert (await checked(settings, database_url=url))["database"].outcome is Outcome.FAILED


# Storage, and who the gateway is to Google


@pytest.fixture(scope="module")
def _gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture
def gcs(_gcs: Gcs) -> Gcs:
    _gcs.reset()
    return _gcs


@pytest.fixture
def token_answers() -> list[Answer]:
    """What Google's token service says, the last for ever; a test may put another."""
    return [
        Answer(200, json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode())
    ]


@pytest.fixture
def on_google(
    settings: Settings,
    gcs: Gcs,
    token_answers: list[Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """With a key file, and a bucket."""
    with start_stub(lambda _: token_answers[-1]) as url:
        (tmp_path / "key.json").write_text(json.dumps(key_file(f"{url}/token")))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        yield settings.model_copy(
            update={
                "google_auth": "adc",
                "storage_url": f"gs://{BUCKET}/clips",
                "storage_emulator_host": gcs.url,
            }
        )


async def test_a_bucket_is_written_signed_read_and_emptied(on_google: Settings, gcs: Gcs) -> None:
    found = await checked(on_google)
    assert (outcomes(found)["storage"], gcs.names()) == ("ok", [])
    assert "clips/gateway-check/" in gcs.calls[0][1].query["name"]
    assert found["google token"].found == f"for {EMAIL}"


@pytest.mark.parametrize(
    ("spoil", "step"),
    [
        (lambda gcs: gcs.script("multipart", 1, Fault.DENIED), "Writing"),
        (lambda gcs: setattr(gcs, "now_ms", lambda: 4_000_000_000_000), "Reading by a signed link"),
        (lambda gcs: gcs.script("delete", 1, Fault.DENIED), "Deleting"),
    ],
)
async def test_the_step_that_fails_is_named_and_nothing_stays_in_the_bucket(
    on_google: Settings, gcs: Gcs, spoil: Callable[[Gcs], None], step: str
) -> None:
    spoil(gcs)
    found = (await checked(on_google))["storage"]
    assert found.outcome is Outcome.FAILED
    assert found.found.startswith(f"{step}")
    assert "roles/storage.objectUser" in found.advice
    assert gcs.names() == []


async def test_credentials_that_google_refuses_are_told(
    on_google: Settings, token_answers: list[Answer]
) -> None:
    token_answers.append(Answer(400, json.dumps({"error": "invalid_grant"}).encode()))
    found = outcomes(await checked(on_google))
    assert found["google token"] == found["deployment lyria-002"] == found["storage"] == "failed"


async def test_no_credentials_at_all_are_told(
    on_google: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    found = await checked(on_google)
    assert outcomes(found)["google token"] == "failed"
    assert "nowhere.json" in found["google token"].found


async def test_a_directory_that_cannot_be_written_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("a file")
    found = await checked(settings, storage_url=f"file://{tmp_path / 'in-the-way' / 'audio'}")
    assert outcomes(found)["storage"] == "failed"


async def test_nothing_stays_when_time_is_over_in_the_middle(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "audio", b"s" * 32, "http://gateway", SystemClock())
    reading = asyncio.Event()

    async def read(_link: str) -> bytes:
        reading.set()
        await asyncio.Event().wait()
        return b""

    trying = asyncio.create_task(probe_storage(storage, probe_name("x"), read))
    await reading.wait()
    assert list((tmp_path / "audio" / "gateway-check").iterdir()) != []
    trying.cancel()
    await asyncio.wait((trying,))
    assert not (tmp_path / "audio" / "gateway-check").exists()
    await storage.close()


def test_what_is_written_to_try_is_never_taken_for_a_clip() -> None:
    assert owner_of(probe_name("0123456789abcdef")) is None


# Deployments


@pytest.mark.parametrize(("status", "reason"), [(403, "PERMISSION_DENIED"), (404, "NOT_FOUND")])
async def test_a_deployment_that_may_not_be_called_is_told(
    settings: Settings, status: int, reason: str
) -> None:
    body = json.dumps({"error": {"code": status, "message": "not yours", "status": reason}}).encode()
    with start_stub(lambda _: Answer(status, body)) as url:
        found = await checked(settings, vertex_url=url)
    for name in ("deployment lyria-002", "deployment musicgen"):
        assert (found[name].outcome, found[name].found) == (Outcome.FAILED, f"{status} not yours")


async def test_a_file_of_deployments_that_cannot_be_read_is_told(settings: Settings, tmp_path: Path) -> None:
    found = await checked(settings, deployments_file=tmp_path / "nowhere.yaml")
    assert outcomes(found)["deployments"] == "failed"
    assert outcomes(found)["database"] == "ok"


def test_the_emulator_describes_an_endpoint_as_google_does_and_counts_no_call(
    emulator: RunningEmulator,
) -> None:
    name = "projects/p/locations/us-central1/endpoints/7"
    answer = httpx.get(f"{emulator.url}/v1/{name}", trust_env=False)
    assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert len(answer.json()["deployedModels"]) == 1
    assert emulator.calls()["received"] == 0


# The rest


async def test_a_redis_that_answers_is_well_and_one_that_does_not_is_not(
    settings: Settings, redis: RunningRedis
) -> None:
    url = SecretStr(redis.url)
    assert outcomes(await checked(settings, limits_url=url))["redis"] == "ok"
    assert redis.command("DBSIZE") == ":0\r\n"
    redis.stop_answering()
    try:
        assert outcomes(await checked(settings, limits_url=url))["redis"] == "failed"
    finally:
        redis.answer_again()


async def test_a_clock_that_is_wrong_is_told(settings: Settings) -> None:
    found = (await checked(settings, LateClock()))["clock"]
    assert found.outcome is Outcome.WARNING
    assert "s behind" in found.found


async def test_less_room_than_the_spool_may_take_is_told(settings: Settings) -> None:
    found = (await checked(settings, spool_mib=1 << 40))["scratch"]
    assert (found.outcome, "GATEWAY_SPOOL_MIB" in found.advice) == (Outcome.WARNING, True)


async def test_a_data_directory_that_cannot_be_written_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert outcomes(await checked(settings, data_dir=tmp_path / "file"))["scratch"] == "failed"


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_a_secret_for_one_machine_is_told_where_there_may_be_several(
    settings: Settings, backend: str
) -> None:
    expected = Outcome.OK if backend == "sqlite" else Outcome.WARNING
    assert (await checked(settings))["signing secret"].outcome is expected
    given = await checked(settings, signing_secret=SecretStr("s" * 32))
    assert given["signing secret"].outcome is Outcome.OK


async def test_a_secret_that_is_too_short_is_told(settings: Settings) -> None:
    (settings.data_dir / "signing-secret").write_text("short")
    assert outcomes(await checked(settings))["signing secret"] == "failed"


async def test_an_emulator_for_test_keys_is_asked_for(settings: Settings, emulator: RunningEmulator) -> None:
    found = await checked(settings, test_emulator_url=emulator.url)
    assert outcomes(found)["emulator for test keys"] == "ok"
    found = await checked(settings, test_emulator_url="http://127.0.0.1:1")
    assert outcomes(found)["emulator for test keys"] == "failed"


async def test_checks_at_one_time_do_not_disturb_each_other(settings: Settings) -> None:
    for found in await asyncio.gather(*(checked(settings) for _ in range(3))):
        assert set(outcomes(found).values()) == {"ok"}
