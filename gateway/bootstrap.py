"""The composition root: every collaborator is built here, once, and closed here, in reverse.

The only module that names adapters. Production parts are the defaults; a test hands in its own.
"""

import asyncio
import contextlib
import importlib
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from gateway import __version__
from gateway.accounts.authentication import Authenticator
from gateway.accounts.books import Books
from gateway.accounts.counts import open_counts
from gateway.accounts.guard import Guard, GuardPolicy
from gateway.accounts.keyring import Keyring
from gateway.accounts.lastuse import LastUse
from gateway.accounts.tenants import Tenants
from gateway.accounts.usage import UsageReports
from gateway.companion import Companion
from gateway.db import work
from gateway.db.engine import Database
from gateway.db.revision import current_revision
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError
from gateway.google import AnonymousTokens, GoogleTokens, load_credentials, open_transport
from gateway.metrics import CallMetrics, Metrics
from gateway.model import KeyMode, ModelKind
from gateway.ports import Clock, FileSource, MusicModel, Storage, TokenSource
from gateway.settings import Settings
from gateway.storage.api import GoogleApi
from gateway.storage.gcs import GCS_URL, GcsStorage
from gateway.storage.local import LocalStorage
from gateway.storage.signers import EmulatorSigner, signer_for
from gateway.storage.signing import Signer
from gateway.tasks.admission import Defaults
from gateway.tasks.archive import TaskArchive
from gateway.tasks.catalog import Catalog
from gateway.tasks.ids import IdMaker
from gateway.tasks.pipeline import Pipeline, PipelinePolicy
from gateway.tasks.repeating import Chore, Chores
from gateway.tasks.runner import Runner, RunnerPolicy
from gateway.tasks.service import TaskPolicy, TaskService
from gateway.tasks.signals import Signals
from gateway.tasks.standing import Standings
from gateway.tasks.sweeper import Sweeper
from gateway.upstream.client import VertexClient
from gateway.upstream.lyria2 import Lyria2
from gateway.upstream.musicgen import MusicGen
from gateway.upstream.network import pulling_transport
from gateway.upstream.trust import LateContext

_SECRET_BYTES = 32
# Each running task holds one connection to Vertex, and its clips one to Cloud Storage.
_CONNECTIONS_PER_TASK = 2
_SPARE_CONNECTIONS = 16
_EXPIRE_EVERY_S = 2.0
_FORGET_EVERY_S = 600.0
_NOTE_EVERY_S = 15.0


class SystemClock:
    """`gateway.ports.Clock` on the machine's own."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Services:
    """What a running gateway is made of. ``files`` is None where Cloud Storage serves the audio."""

    clock: Clock
    metrics: Metrics
    database: Database
    storage: Storage
    files: FileSource | None
    tenants: Tenants
    keyring: Keyring
    books: Books
    usage: UsageReports
    standings: Standings
    last_use: LastUse
    authenticator: Authenticator
    guard: Guard
    tasks: TaskService
    archive: TaskArchive
    runner: Runner
    chores: Chores
    signals: Signals
    new_id: IdMaker

    async def count_waiting(self) -> dict[str, int]:
        return await self.database.read(work.count_waiting)

    async def check_database(self) -> None:
        await self.database.read(work.count_waiting)


async def migrate(settings: Settings) -> bool:
    """Bring the database to this version's schema; True when there was something to do.

    Raises `ConfigurationError` when the database is newer than this version, or cannot be made or read.
    """
    path = settings.database_path
    try:
        if await asyncio.to_thread(current_revision, path) == SCHEMA_REVISION:
            return False
        # Alembic takes a fifth of a second to import and most starts have nothing to migrate.
        migrations = importlib.import_module("gateway.db.migrate")
        await asyncio.to_thread(migrations.migrate, path)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"The database {path} cannot be used: {error}.") from error
    return True


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The migrated database alone: for commands."""
    await migrate(settings)
    database = await Database.open(settings.database_path)
    try:
        yield database
    finally:
        await database.close()


@dataclass(frozen=True, slots=True)
class Office:
    """What administers tenants, keys, money and tasks: all that commands need."""

    tenants: Tenants
    keyring: Keyring
    books: Books
    usage: UsageReports
    archive: TaskArchive


@asynccontextmanager
async def open_office(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Office]:
    """For commands: the database, and nothing that reaches further."""
    clock = clock or SystemClock()
    async with open_database(settings) as database:
        yield await _make_office(settings, database, clock, lambda _: None)


async def _make_office(
    settings: Settings, database: Database, clock: Clock, forget: Callable[[str], None]
) -> Office:
    secret = await _signing_secret(settings)
    return Office(
        Tenants(database, clock, IdMaker(clock, secrets.token_bytes)),
        Keyring(database, clock, secrets.choice, secret, forget),
        Books(database, clock),
        UsageReports(database, clock),
        TaskArchive(database),
    )


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Everything, connected and checked as far as it costs nothing. The runner is built but not started.

    Raises `ConfigurationError` or `StorageError` when something cannot be had.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        http = await stack.enter_async_context(_http_client(settings))
        identity = await _open_identity(settings, clock, stack)
        storage, files = await _open_storage(settings, clock, http, identity, stack)
        metrics = Metrics(__version__)
        signals = Signals()
        catalog = Catalog(settings.deployments())
        defaults = Defaults(settings.default_rpm, settings.default_max_queued)
        new_id = IdMaker(clock, secrets.token_bytes)
        models = _make_models(settings, clock, http, identity.tokens, metrics, stack)
        pipeline = Pipeline(
            database, storage, models, catalog, metrics, clock, new_id, random.SystemRandom().random,
            PipelinePolicy(settings.max_attempts, settings.call_timeout_s),
        )  # fmt: skip
        runner = Runner(
            database, pipeline, signals, metrics, clock, partial(secrets.token_hex, 16),
            RunnerPolicy(settings.concurrency, settings.lease_s, settings.grace_s),
        )  # fmt: skip
        tasks = TaskService(
            database, storage, catalog, runner, signals, metrics, clock, new_id,
            lambda kind, spec: len(models[KeyMode.LIVE][kind].calls(spec, range(spec.sample_count))),
            TaskPolicy(
                defaults,
                settings.task_timeout_s,
                settings.emulated,
                settings.test_keys,
            ),
        )  # fmt: skip
        last_use = LastUse(database, clock)
        authenticator = Authenticator(database, clock, last_use.note)
        office = await _make_office(settings, database, clock, authenticator.forget)
        yield Services(
            clock=clock,
            metrics=metrics,
            database=database,
            storage=storage,
            files=files,
            tenants=office.tenants,
            keyring=office.keyring,
            books=office.books,
            usage=office.usage,
            standings=Standings(database, catalog, clock, defaults, emulated=settings.emulated),
            last_use=last_use,
            authenticator=authenticator,
            guard=_open_guard(settings, metrics, clock, stack),
            tasks=tasks,
            archive=office.archive,
            runner=runner,
            chores=_make_chores(clock, Sweeper(database, signals, metrics, clock), last_use),
            signals=signals,
            new_id=new_id,
        )


def _make_models(
    settings: Settings,
    clock: Clock,
    http: httpx.AsyncClient,
    tokens: TokenSource,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> dict[KeyMode, Mapping[ModelKind, MusicModel]]:
    """The models for live keys, and unless those are switched off the emulator's for test keys."""
    base_url = settings.vertex_url.rstrip("/") or None
    live, test = CallMetrics(metrics, KeyMode.LIVE), CallMetrics(metrics, KeyMode.TEST)
    models = {KeyMode.LIVE: _models_at(VertexClient(http, tokens, base_url, clock, observer=live))}
    if not settings.test_keys:
        return models
    # Where everything is emulated, test keys need no emulator of their own.
    emulator_url = settings.test_emulator_url.rstrip("/") or (base_url if settings.emulated else None)
    locate = None
    if emulator_url is None:
        companion = Companion(clock)
        stack.push_async_callback(companion.close)
        locate = companion.url
    vertex = VertexClient(http, AnonymousTokens(), emulator_url, clock, locate=locate, observer=test)
    return {**models, KeyMode.TEST: _models_at(vertex)}


def _models_at(vertex: VertexClient) -> Mapping[ModelKind, MusicModel]:
    return {ModelKind.LYRIA2: Lyria2(vertex), ModelKind.MUSICGEN: MusicGen(vertex)}


def _make_chores(clock: Clock, sweeper: Sweeper, last_use: LastUse) -> Chores:
    return Chores(
        clock,
        (
            Chore("expiring tasks", _EXPIRE_EVERY_S, sweeper.expire_overdue),
            Chore("forgetting names of requests", _FORGET_EVERY_S, sweeper.forget_names),
            Chore("noting the use of keys", _NOTE_EVERY_S, last_use.flush, at_end=True),
        ),
    )


def _open_guard(settings: Settings, metrics: Metrics, clock: Clock, stack: AsyncExitStack) -> Guard:
    policy = GuardPolicy(
        settings.reads_per_minute, settings.bad_keys_per_minute, settings.limits_on_error == "refuse"
    )
    url = settings.limits_url.get_secret_value()
    guard = Guard(partial(open_counts, url, clock), policy, metrics.guard, clock)
    stack.push_async_callback(guard.close)
    return guard


def _http_client(settings: Settings) -> httpx.AsyncClient:
    connections = settings.concurrency * _CONNECTIONS_PER_TASK + _SPARE_CONNECTIONS
    context = LateContext(httpx.create_ssl_context)
    return httpx.AsyncClient(
        verify=context,
        # Mounted rather than given as the transport, so that proxy variables are still honoured; but no proxy
        # reaches an emulator on this very machine.
        mounts={
            "all://": pulling_transport(max_connections=connections, verify=context),
            "all://127.0.0.1": pulling_transport(max_connections=connections, verify=context),
        },
        follow_redirects=False,
        headers={"User-Agent": f"music-gateway/{__version__}"},
    )


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who the gateway is to Google: its tokens, and its signer once there is an API to sign with."""

    tokens: TokenSource
    make_signer: Callable[[GoogleApi], Signer]


async def _open_identity(settings: Settings, clock: Clock, stack: AsyncExitStack) -> _Identity:
    if settings.google_auth == "anonymous":
        return _Identity(AnonymousTokens(), lambda _: EmulatorSigner())
    if not (settings.deployments() or settings.storage_url.startswith("gs://")):
        return _Identity(AnonymousTokens(), lambda _: EmulatorSigner())
    credentials = await load_credentials()
    tokens = GoogleTokens(credentials, clock, transport=open_transport())
    stack.push_async_callback(tokens.close)
    return _Identity(tokens, lambda api: signer_for(credentials, api, tokens.service_account_email))


async def _open_storage(
    settings: Settings, clock: Clock, http: httpx.AsyncClient, identity: _Identity, stack: AsyncExitStack
) -> tuple[Storage, FileSource | None]:
    if settings.storage_url.startswith("gs://"):
        bucket, prefix = _bucket_and_prefix(settings.storage_url)
        api = GoogleApi(http, identity.tokens, clock, random.SystemRandom())
        gcs = GcsStorage(
            api,
            bucket,
            prefix,
            identity.make_signer(api),
            clock,
            base_url=_emulator_url(settings.storage_emulator_host) or GCS_URL,
            url_ttl_s=settings.url_ttl_s,
        )
        stack.push_async_callback(gcs.close)
        return gcs, None
    local = LocalStorage(
        _local_directory(settings),
        await _signing_secret(settings),
        settings.effective_public_url,
        clock,
        url_ttl_s=settings.url_ttl_s,
    )
    await local.open()
    stack.push_async_callback(local.close)
    return local, local


async def _signing_secret(settings: Settings) -> bytes:
    try:
        return await asyncio.to_thread(signing_secret, settings)
    except OSError as error:
        raise ConfigurationError(f"The signing secret cannot be kept: {error}.") from error


def signing_secret(settings: Settings) -> bytes:
    """The configured secret, or one made at the first start and kept under the data directory."""
    if settings.signing_secret is not None:
        return settings.signing_secret.get_secret_value().encode()
    path = settings.data_dir / "signing-secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written aside and linked into place: of two processes that start at once, both read one secret.
        aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_hex(_SECRET_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
        aside.unlink()
    secret = path.read_bytes()
    if len(secret) < _SECRET_BYTES:
        raise ConfigurationError(f"{path} is too short to sign with; delete it to have a new one made.")
    return secret


def _local_directory(settings: Settings) -> Path:
    if settings.storage_url:
        return Path(unquote(urlsplit(settings.storage_url).path))
    return settings.data_dir / "audio"


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if not parts.netloc:
        raise ConfigurationError("GATEWAY_STORAGE_URL names no bucket: write gs://bucket/prefix.")
    return parts.netloc, parts.path.strip("/")


def _emulator_url(host: str) -> str:
    return host if "://" in host or not host else f"http://{host}"
