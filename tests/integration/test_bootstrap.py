"""The composition root: what is built from which settings, and what is said when something cannot be had."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.bootstrap.ground import signing_secret
from gateway.bootstrap.services import (
    SystemClock,
    migrate,
    open_database,
    open_office,
    open_services,
)
from gateway.errors import ConfigurationError, GatewayError, StorageError
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import KeyMode
from gateway.settings import Settings
from gateway.storage.gcs import GcsStorage
from gateway.storage.local import LocalStorage
from tests.databases import BACKENDS, Store
from tests.factories import a_caller
from tests.gcs import key_file

#: What a running server must not have loaded: seconds to import, hundreds of megabytes to keep.
HEAVY = (
    "alembic",
    "google.cloud.",
    "google.auth.transport.requests",
    "requests",
    "numpy",
    "gateway.emulator",
    "limits",
    "redis",
)
#: What only a gateway on PostgreSQL has loaded.
POSTGRES = ("asyncpg", "greenlet", "gateway.db.postgres", "sqlalchemy.dialects.postgresql", "sqlalchemy.ext")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_gateway_is_built_from_an_empty_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "deep" / "data")
    async with open_services(settings) as services:
        assert isinstance(services.storage, LocalStorage)
        assert services.files is services.storage
        principal, text = await a_caller(services.database)
        assert await services.authenticator.authenticate(text) == principal
        await services.check_database()
        await services.storage.check()
        assert (await services.look_at_backlog()).waiting == {}
    assert {"gateway.db", "audio", "signing-secret"} <= names(settings.data_dir)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_a_second_start_finds_what_the_first_left(tmp_path: Path, store: Store) -> None:
    settings = Settings(data_dir=tmp_path, database_url=store.url)
    async with open_services(settings) as services:
        principal, text = await a_caller(services.database)
    async with open_services(settings) as services:
        assert await services.authenticator.authenticate(text) == principal


async def test_everything_is_closed_in_the_end(tmp_path: Path) -> None:
    threads = threading.active_count()
    async with open_services(Settings(data_dir=tmp_path)) as services:
        pass
    with pytest.raises(GatewayError):
        await services.check_database()
    for thread in threading.enumerate():
        if "connection_worker" in thread.name:
            thread.join(30)
    assert threading.active_count() <= threads + 2  # the loop's own helpers


async def test_parts_stand_where_settings_say(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=f"sqlite+aiosqlite:///{tmp_path}/elsewhere/g.db",
        storage_url=f"file://{tmp_path}/my%20music",
        signing_secret="s" * 32,
    )
    async with open_services(settings):
        pass
    assert names(tmp_path) == {"elsewhere", "my music"}


async def test_audio_in_cloud_storage_is_not_served_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.json").write_text(json.dumps(key_file()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    settings = Settings(data_dir=tmp_path, project="acme", storage_url="gs://bucket/music/")
    async with open_services(settings) as services:
        assert isinstance(services.storage, GcsStorage)
        assert services.files is None
        url = (await services.storage.signed_url("a.wav")).url
    assert url.startswith("https://storage.googleapis.com/bucket/music/a.wav?")
    assert "X-Goog-Signature=" in url


@pytest.mark.parametrize("host", ["localhost:4443", "http://localhost:4443"])
async def test_an_emulator_of_cloud_storage_is_used_where_one_is_named(tmp_path: Path, host: str) -> None:
    settings = Settings(
        data_dir=tmp_path, storage_url="gs://bucket", STORAGE_EMULATOR_HOST=host, google_auth="anonymous"
    )
    async with open_services(settings) as services:
        assert (await services.storage.signed_url("a.wav")).url.startswith(
            "http://localhost:4443/bucket/a.wav"
        )


async def test_a_bucket_has_a_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, storage_url="gs:///music", google_auth="anonymous")
    with pytest.raises(ConfigurationError, match="names no bucket"):
        async with open_services(settings):
            pass


async def test_missing_credentials_are_the_operators_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(ConfigurationError, match=r"absent\.json"):
        async with open_services(Settings(data_dir=tmp_path, project="acme")):
            pass


async def test_models_are_those_of_the_settings(settings: Settings) -> None:
    async with open_services(settings) as services:
        kinds = [deployment.kind for deployment in services.tasks._catalog.deployments]
    assert kinds == [MUSICGEN, LYRIA2]


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://vertex.example"),
        ({"test_emulator_url": "http://emulator.example/"}, "http://emulator.example"),
        ({"google_auth": "adc"}, None),
        ({"google_auth": "adc", "test_emulator_url": "http://emulator.example"}, "http://emulator.example"),
        # Nothing of Google's answers without credentials, and test keys must not try.
        ({"vertex_url": ""}, None),
    ],
)
async def test_test_keys_are_served_where_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], url: str | None
) -> None:
    """None is an emulator of the gateway's own, which nobody has started yet."""
    (tmp_path / "key.json").write_text(json.dumps(key_file()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    settings = Settings(
        data_dir=tmp_path, project="acme", vertex_url="http://vertex.example", google_auth="anonymous"
    ).model_copy(update=changes)
    async with open_services(settings) as services:
        for model in services.runner._pipeline._models[KeyMode.TEST].values():
            assert model._client._base_url == url
            assert (model._client._locate is None) is (url is not None)
            assert await model._client._tokens.token() is None


async def test_without_test_keys_there_are_no_models_for_them(tmp_path: Path) -> None:
    async with open_services(Settings(data_dir=tmp_path, test_keys=False)) as services:
        assert list(services.runner._pipeline._models) == [KeyMode.LIVE]


def occupy(path: Path) -> None:
    path.write_text("in the way")


def no_database(path: Path) -> None:
    path.mkdir()
    (path / "gateway.db").write_text("no database at all, but a long text " * 100)


def newer_database(path: Path) -> None:
    path.mkdir()
    with closing(sqlite3.connect(path / "gateway.db")) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")


def directory_for_database(path: Path) -> None:
    (path / "gateway.db").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [occupy, no_database, newer_database, directory_for_database])
async def test_an_unusable_database_is_the_operators_to_mend(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "data")
    with pytest.raises(ConfigurationError) as caught:
        async with open_database(Settings(data_dir=tmp_path / "data")):
            pass
    assert str(tmp_path / "data" / "gateway.db") in caught.value.detail


async def test_an_unusable_directory_for_audio_is_said(tmp_path: Path) -> None:
    occupy(tmp_path / "audio")
    with pytest.raises(StorageError):
        async with open_services(Settings(data_dir=tmp_path)):
            pass


async def test_a_secret_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    occupy(tmp_path / "data")
    settings = Settings(data_dir=tmp_path / "data", database_url=f"sqlite+aiosqlite:///{tmp_path}/g.db")
    with pytest.raises(ConfigurationError, match="signing secret"):
        async with open_services(settings):
            pass


async def test_migrating_says_whether_there_was_something_to_do(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert await migrate(settings)
    assert not await migrate(settings)


def test_a_secret_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = signing_secret(settings)
    assert len(made) >= 32
    assert signing_secret(settings) == made
    assert (settings.data_dir / "signing-secret").stat().st_mode & 0o777 == 0o600
    assert names(settings.data_dir) == {"signing-secret"}
    assert signing_secret(Settings(data_dir=tmp_path / "other")) != made


def test_a_configured_secret_is_not_kept(tmp_path: Path) -> None:
    assert signing_secret(Settings(data_dir=tmp_path / "data", signing_secret="s" * 40)) == b"s" * 40
    assert not (tmp_path / "data").exists()


def test_a_secret_that_was_cut_short_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "signing-secret").write_text("short")
    with pytest.raises(ConfigurationError, match="delete it"):
        signing_secret(Settings(data_dir=tmp_path))


def test_starts_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    found: list[bytes] = []

    def start() -> None:
        barrier.wait()
        found.append(signing_secret(Settings(data_dir=tmp_path)))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert names(tmp_path) == {"signing-secret"}


async def test_commands_need_the_database_alone(tmp_path: Path) -> None:
    async with open_office(Settings(data_dir=tmp_path)) as office:
        assert await office.tenants.list() == ()
    assert "audio" not in names(tmp_path)


async def test_the_systems_clock_goes_on() -> None:
    clock = SystemClock()
    before = clock.now_ms(), clock.monotonic_s()
    await clock.sleep(0.002)
    assert clock.now_ms() > 1_700_000_000_000
    assert clock.now_ms() >= before[0]
    assert clock.monotonic_s() > before[1]


_SERVING = """
import asyncio, sys
from pathlib import Path
import gateway.cli.serve
from gateway.bootstrap.services import open_services
from gateway.settings import Settings

async def main():
    where = {"data_dir": Path(sys.argv[1]), "database_url": sys.argv[2]}
    settings = Settings(**where, project="p", google_auth="anonymous")
    async with open_services(settings) as services:
        services.runner.start()
        await services.runner.drain()
        print("\\n".join(sys.modules))
        await services.guard.read("key")
        print("once it counts", *sys.modules, sep="\\n")

asyncio.run(main())
"""


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_nothing_heavy_is_loaded_to_serve(tmp_path: Path, store: Store, backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SERVING, str(tmp_path), store.url], capture_output=True, text=True, check=True
    )
    at_start, _, counting = done.stdout.partition("once it counts")
    assert [name for name in at_start.split() if name.startswith(HEAVY)] == []
    assert "limits" in counting.split()
    assert [name for name in counting.split() if name.startswith("redis")] == []
    of_postgres = [name for name in at_start.split() if name.startswith(POSTGRES)]
    assert (of_postgres == []) is (backend == "sqlite")
