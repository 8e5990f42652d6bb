"""Fixtures that many tests share. Helpers that need no fixture are plain modules beside this one."""

import logging
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.bootstrap.services import Services, open_services
from gateway.db.engine import Database
from gateway.db.sqlite import SqliteDatabase
from gateway.model import Tenant
from gateway.settings import Settings
from tests.api import (
    ADMIN_TOKEN,
    BASE_URL,
    Administrator,
    Caller,
    checked_client,
    make_apis,
    make_app,
    make_caller,
    serving,
)
from tests.clock import SetClock
from tests.databases import (
    BACKENDS,
    PostgresStore,
    SqliteStore,
    Store,
    copy_of_file,
    copy_of_template,
    make_migrated_file,
    make_template,
    open_store,
)
from tests.emulator import RunningEmulator, start_emulator
from tests.factories import ACT, NOW_MS
from tests.office import TestOffice
from tests.postgres import Server, start_postgres
from tests.redis import RunningRedis, start_redis, why_unavailable
from tests.secrecy import Watch, WatchedLog
from tests.shell import Shell, TenantShell
from tests.specification import Specification


@pytest.fixture(scope="session", autouse=True)
def _one_trust_store() -> Iterator[None]:
    """Clients that trust the usual authorities share one list of them: reading it takes 50 ms a client."""
    make = httpx.create_ssl_context
    usual = make()

    def shared(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        return usual if verify is True and cert is None else make(verify, cert, trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", shared)
        patch.setattr("httpx.create_ssl_context", shared)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_secret_gets_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Over the whole run: see `tests.secrecy`."""
    watch = Watch()
    log, root = WatchedLog(watch), logging.getLogger()
    read, aread = httpx.Response.read, httpx.Response.aread

    def watched_read(response: httpx.Response) -> bytes:
        content = read(response)
        watch.look_at_answer(response)
        return content

    async def watched_aread(response: httpx.Response) -> bytes:
        content = await aread(response)
        watch.look_at_answer(response)
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Response, "read", watched_read)
        patch.setattr(httpx.Response, "aread", watched_aread)
        root.addHandler(log)
        yield
        root.removeHandler(log)
    watch.look_at_files(tmp_path_factory.getbasetemp())
    assert not watch.leaks, "\n".join(watch.leaks)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's reaches a test."""
    for name in list(os.environ):  # noqa: TID251 - cleared, not read
        if name.startswith("GATEWAY_") or name in {"HOST", "PORT", "NO_COLOR", "STORAGE_EMULATOR_HOST"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _emulator_process() -> Iterator[RunningEmulator]:
    with start_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(_emulator_process: RunningEmulator) -> RunningEmulator:
    """The emulator, with no faults scripted and no calls counted. Lyria clips are one second long."""
    _emulator_process.reset()
    return _emulator_process


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep groups together: pytest-xdist 3.8 marks them where pytest 9.2 no longer looks (its issue 1386).

    Without, each worker would build an image and start servers of its own.
    """
    if not config.getoption("loadgroup", default=False):
        return
    for item in items:
        names = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        suffix = f"@{'_'.join(names)}"
        if names and not item.nodeid.endswith(suffix):
            item._id = type(item._id).parse(item.nodeid + suffix)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is about the database runs on both kinds: every test that asks for `database`, and every module
    that says so. All others use a database too, but are not about it."""
    asks = "database" in metafunc.fixturenames or getattr(metafunc.module, "ON_BOTH_DATABASES", False)
    if "backend" in metafunc.fixturenames and asks:
        metafunc.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied: migrating takes longer than most tests."""
    return make_migrated_file(tmp_path_factory.mktemp("migrated") / "gateway.db")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Started for the first test that needs it, with a migrated database in it to be copied."""
    with start_postgres() as server:
        make_template(server)
        yield server


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Which kind of database the test runs on."""
    return getattr(request, "param", BACKENDS[0])


@pytest.fixture
def store(backend: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty, migrated database. SQLite's is ``gateway.db`` in the test's directory."""
    return request.getfixturevalue(f"{backend}_store")


@pytest.fixture
def sqlite_store(tmp_path: Path, migrated_file: Path) -> SqliteStore:
    return copy_of_file(migrated_file, tmp_path)


@pytest.fixture
def postgres_store(postgres_server: Server) -> Iterator[PostgresStore]:
    with copy_of_template(postgres_server) as store:
        yield store


@pytest.fixture
async def database(store: Store) -> AsyncIterator[Database]:
    """`store`, opened. Every test that asks for it runs on both kinds."""
    opened = await open_store(store)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_database(sqlite_store: SqliteStore) -> AsyncIterator[SqliteDatabase]:
    opened = await SqliteDatabase.open(sqlite_store.path)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_database(postgres_store: PostgresStore) -> AsyncIterator[Database]:
    opened = await open_store(postgres_store)
    yield opened
    await opened.close()


@pytest.fixture
def settings(tmp_path: Path, emulator: RunningEmulator, store: Store) -> Settings:
    """A gateway on the emulator with both models, its data in a directory of its own, on `store`."""
    (tmp_path / "data").mkdir()
    return Settings(
        data_dir=tmp_path / "data",
        database_url=store.url,
        project="test-project",
        musicgen_endpoint="projects/test-project/locations/us-central1/endpoints/7",
        vertex_url=emulator.url,
        google_auth="anonymous",
        wait_s=30,
        default_rpm=10_000,
        default_max_queued=10_000,
        admin_token=ADMIN_TOKEN,
    )


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """A whole gateway without its HTTP server. The worker is not started: a test that wants it does that."""
    async with open_services(settings) as opened:
        yield opened
        await opened.drain()


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RunningRedis]:
    if reason := why_unavailable():
        pytest.skip(reason)
    # A socket's path is short: the directories of tests may be too deep for one.
    with tempfile.TemporaryDirectory() as directory, start_redis(Path(directory)) as redis:
        yield redis


@pytest.fixture
def redis(_redis_process: RunningRedis) -> RunningRedis:
    """A Redis with nothing in it. A test that kills it starts it again."""
    _redis_process.command("FLUSHALL")
    return _redis_process


# The administration


@pytest.fixture
def clock() -> SetClock:
    """It stands at `tests.factories.NOW_MS`."""
    return SetClock(NOW_MS)


@pytest.fixture
def office(database: Database, clock: SetClock) -> TestOffice:
    return TestOffice(database, clock)


@pytest.fixture
async def tenant(office: TestOffice) -> Tenant:
    return await office.tenants.create(ACT, name="acme")


# The command line


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """On a data directory that is not there yet."""
    return Shell(tmp_path / "data")


@pytest.fixture
def acme(tmp_path: Path, migrated_file: Path) -> TenantShell:
    """With a tenant."""
    (tmp_path / "data").mkdir()
    shutil.copy(migrated_file, tmp_path / "data" / "gateway.db")
    return TenantShell(tmp_path / "data")


# The HTTP API in process


@pytest.fixture(scope="session")
def specification() -> Specification:
    return Specification.load()


@pytest.fixture
def app(settings: Settings, services: Services) -> ASGIApp:
    return make_app(make_apis(settings, services), services)


@pytest.fixture
async def client(app: ASGIApp, specification: Specification) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key. Every answer it receives is held to openapi.yaml."""
    async with checked_client(specification, transport=httpx.ASGITransport(app), base_url=BASE_URL) as opened:
        yield opened


@pytest.fixture
async def caller(client: httpx.AsyncClient, services: Services) -> Caller:
    """A tenant with a key."""
    return await make_caller(client, services, "acme")


@pytest.fixture
async def stranger(client: httpx.AsyncClient, services: Services) -> Caller:
    """Another tenant with a key."""
    return await make_caller(client, services, "other")


@pytest.fixture
async def admin(client: httpx.AsyncClient, services: Services) -> Administrator:
    """An administrator; nothing was done yet."""
    return Administrator(client, services)


@pytest.fixture
async def worker(services: Services) -> None:
    """The worker runs: tasks are made into music."""
    services.runner.start()


@pytest.fixture
async def url(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a real socket."""
    async with serving(app) as running:
        yield running
