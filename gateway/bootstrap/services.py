"""The composition root: every collaborator is built here, once, and closed here, in reverse.

Only this package names adapters. Production parts are the defaults; a test hands in its own.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx

from gateway import __version__
from gateway.accounts.authentication import Authenticator
from gateway.accounts.books import Books
from gateway.accounts.counts import open_counts
from gateway.accounts.guard import Guard, GuardPolicy
from gateway.accounts.keyring import Keyring
from gateway.accounts.lastuse import LastUse
from gateway.accounts.people import People
from gateway.accounts.sessions import Sessions
from gateway.accounts.tenants import Tenants
from gateway.accounts.usage import UsageReports
from gateway.bootstrap.ground import (
    USER_AGENT,
    http_client,
    keep_secret,
    make_models,
    make_storage_api,
    open_identity,
    open_storage,
)
from gateway.db import deliveries, lines, opening, work
from gateway.db.engine import Database, Tx
from gateway.metrics import Backlog, Metrics, RetentionMetrics
from gateway.model import KeyMode, ModelKind
from gateway.ports import Clock, FileSource, MusicModel, Storage
from gateway.settings import Settings
from gateway.tasks.admission import Defaults
from gateway.tasks.archive import TaskArchive
from gateway.tasks.batch import Tools
from gateway.tasks.budget import CancelCharge
from gateway.tasks.canceler import Canceler
from gateway.tasks.catalog import Catalog
from gateway.tasks.claiming import Claimer
from gateway.tasks.closing import Closing
from gateway.tasks.discards import Discards
from gateway.tasks.feeds import Feeds
from gateway.tasks.ids import IdMaker
from gateway.tasks.orphans import OrphanSearch
from gateway.tasks.pipeline import Pipeline, PipelinePolicy
from gateway.tasks.pool import Pool
from gateway.tasks.queueview import QueueView
from gateway.tasks.repeating import Chore, Chores
from gateway.tasks.retention import Retention
from gateway.tasks.runner import Runner, RunnerPolicy
from gateway.tasks.scratch import Scratch
from gateway.tasks.service import TaskPolicy, TaskService
from gateway.tasks.signals import Signals
from gateway.tasks.standing import Standings
from gateway.tasks.studio import Studio
from gateway.tasks.sweeper import Sweeper
from gateway.upstream.network import PullingBackend
from gateway.upstream.trust import LateContext
from gateway.webhooks.assembly import WayOut, open_webhooks
from gateway.webhooks.delivery import Pump
from gateway.webhooks.outbox import Announcer
from gateway.webhooks.service import Webhooks

# Two probes of an index where nothing is to be done.
_EXPIRE_EVERY_S = 0.5
_FORGET_EVERY_S = 600.0
_NOTE_EVERY_S = 15.0
_DISCARD_EVERY_S = 60.0
_RETIRE_EVERY_S = 300.0
# What a call to a model that is joined with others takes at the worst, most of the time.
_FURTHER_CALL_S = 60.0
# How often it is looked whether a walk is due, or was broken off.
_WALK_AGAIN_S = 600.0


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
    people: People
    sessions: Sessions
    standings: Standings
    last_use: LastUse
    authenticator: Authenticator
    guard: Guard
    tasks: TaskService
    feeds: Feeds
    canceler: Canceler
    queue: QueueView
    archive: TaskArchive
    retention: Retention
    runner: Runner
    webhooks: Webhooks
    pump: Pump
    announcer: Announcer
    chores: Chores
    signals: Signals
    new_id: IdMaker

    async def look_at_backlog(self) -> Backlog:
        return await self.database.read(partial(_backlog, now_ms=self.clock.now_ms()))

    async def drain(self) -> None:
        """Stop claiming tasks and webhooks, and end or give back what is under way, within one grace time."""
        await asyncio.gather(self.runner.drain(), self.pump.drain())

    async def check_database(self) -> None:
        await self.database.read(work.count_waiting)


def _backlog(tx: Tx, *, now_ms: int) -> Backlog:
    oldest_s = {
        (lane.model, KeyMode.TEST if lane.test else KeyMode.LIVE): max(0, now_ms - since_ms) / 1000
        for lane, since_ms in lines.find_oldest(tx).items()
    }
    return Backlog(work.count_waiting(tx), oldest_s, deliveries.count_pending(tx))


async def migrate(settings: Settings) -> bool:
    """Bring the database to this version's schema; True when there was something to do.

    Raises `ConfigurationError` when the database is newer than this version, or cannot be made or read.
    """
    return await opening.migrate(settings.effective_database_url)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The migrated database alone: for commands."""
    await migrate(settings)
    database = await opening.open_database(
        settings.effective_database_url,
        pool_size=settings.database_pool,
        jitter=random.SystemRandom().random,
    )
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
    people: People
    sessions: Sessions


@asynccontextmanager
async def open_office(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Office]:
    """For commands: the database, and nothing that reaches further."""
    clock = clock or SystemClock()
    async with open_database(settings) as database:
        yield _make_office(settings, await keep_secret(settings), database, clock, lambda _: None)


def _make_office(
    settings: Settings, secret: bytes, database: Database, clock: Clock, forget: Callable[[str], None]
) -> Office:
    return Office(
        Tenants(database, clock, IdMaker(clock, secrets.token_bytes)),
        Keyring(database, clock, secrets.choice, secret, forget),
        Books(database, clock),
        UsageReports(database, clock),
        TaskArchive(database),
        People(database, settings.admin_emails),
        Sessions(database, clock, secrets.token_bytes, secret, life_s=settings.session_s),
    )


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Everything, connected and checked as far as it costs nothing. Runner and pump are not started yet.

    Raises `ConfigurationError` or `StorageError` when something cannot be had.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        trust, metrics = LateContext(httpx.create_ssl_context), Metrics(__version__)
        http = await stack.enter_async_context(http_client(settings, trust))
        identity = await open_identity(settings, clock, stack)
        secret, api = await keep_secret(settings), make_storage_api(http, identity, clock)
        storage, files = await open_storage(settings, secret, clock, api, identity, stack)
        signals, catalog = Signals(database), Catalog(settings.deployments(), settings.standard_order)
        new_id, way_out = IdMaker(clock, secrets.token_bytes), WayOut(PullingBackend(), trust, USER_AGENT)
        webhooks = await stack.enter_async_context(
            open_webhooks(settings, secret, database, clock, new_id, metrics.webhooks, way_out)
        )
        models = make_models(settings, clock, http, identity.tokens, api, metrics, stack)
        runner = _make_runner(
            settings, database, _make_tools(settings, storage, metrics, clock, stack), models, catalog,
            metrics, clock, webhooks.announcer, new_id, signals,
        )  # fmt: skip
        way_in = (webhooks.addresses, webhooks.announcer, _task_policy(settings))
        tasks = TaskService(database, storage, catalog, runner, signals, metrics, clock, new_id, *way_in)
        queue = QueueView(database, clock, catalog.deployments, slots=settings.concurrency)
        authenticator = Authenticator(database, clock, (last_use := LastUse(database, clock)).note)
        office = _make_office(settings, secret, database, clock, authenticator.forget)
        retention, forgetting = _make_retention(database, storage, metrics.retention, clock, office.sessions)
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
            people=office.people,
            sessions=office.sessions,
            standings=Standings(database, catalog, clock, _defaults(settings), emulated=settings.emulated),
            last_use=last_use,
            authenticator=authenticator,
            guard=_open_guard(settings, metrics, clock, stack),
            tasks=tasks,
            canceler=_make_canceler(settings, database, webhooks.announcer, runner, signals, metrics, clock),
            feeds=Feeds(database, signals, clock, queue),
            queue=queue,
            archive=office.archive,
            retention=retention,
            runner=runner,
            webhooks=webhooks.service,
            pump=webhooks.pump,
            announcer=webhooks.announcer,
            chores=_make_chores(database, webhooks.announcer, signals, metrics, clock, last_use, forgetting),
            signals=signals,
            new_id=new_id,
        )


def _open_guard(settings: Settings, metrics: Metrics, clock: Clock, stack: AsyncExitStack) -> Guard:
    policy = GuardPolicy(
        settings.reads_per_minute, settings.bad_keys_per_minute, settings.limits_on_error == "refuse"
    )
    url = settings.limits_url.get_secret_value()
    guard = Guard(partial(open_counts, url, clock), policy, metrics.guard, clock)
    stack.push_async_callback(guard.close)
    return guard


def _make_tools(
    settings: Settings, storage: Storage, metrics: Metrics, clock: Clock, stack: AsyncExitStack
) -> Tools:
    scratch = Scratch(settings.data_dir / "spool", settings.spool_mib << 20)
    studio = Studio(settings.audio_workers)
    stack.callback(studio.close)
    return Tools(storage, scratch, studio, metrics.uploads, clock, random.SystemRandom().random)


def _make_runner(
    settings: Settings,
    database: Database,
    tools: Tools,
    models: dict[KeyMode, Mapping[ModelKind, MusicModel]],
    catalog: Catalog,
    metrics: Metrics,
    clock: Clock,
    announcer: Announcer,
    new_id: IdMaker,
    signals: Signals,
) -> Runner:
    pool = Pool(catalog, tools.jitter)
    closing = Closing(database, pool, announcer, signals, metrics, clock, tools.jitter)
    pipeline = Pipeline(
        database, tools, models, catalog, pool, closing, metrics, clock, new_id,
        PipelinePolicy(settings.max_attempts, settings.call_timeout_s),
    )  # fmt: skip
    claimer = Claimer(pool, pipeline.open, clock, partial(secrets.token_hex, 16), settings.lease_s)
    return Runner(
        database, pipeline, claimer, signals, metrics, clock,
        RunnerPolicy(settings.concurrency, settings.lease_s, settings.grace_s),
    )  # fmt: skip


def _defaults(settings: Settings) -> Defaults:
    return Defaults(settings.default_rpm, settings.default_max_queued)


def _make_canceler(
    settings: Settings,
    database: Database,
    announcer: Announcer,
    runner: Runner,
    signals: Signals,
    metrics: Metrics,
    clock: Clock,
) -> Canceler:
    charge = CancelCharge(settings.cancel_charge)
    return Canceler(database, announcer, runner, signals, metrics, clock, charge)


def _task_policy(settings: Settings) -> TaskPolicy:
    return TaskPolicy(
        _defaults(settings), settings.task_timeout_s, _FURTHER_CALL_S, settings.emulated, settings.test_keys
    )


def _make_retention(
    database: Database, storage: Storage, metrics: RetentionMetrics, clock: Clock, sessions: Sessions
) -> tuple[Retention, tuple[Chore, ...]]:
    discards = Discards(database, storage, metrics)
    retention = Retention(database, discards, metrics, clock)
    orphans = OrphanSearch(database, storage, metrics, clock)
    return retention, (
        Chore("deleting what was kept long enough", _RETIRE_EVERY_S, retention.retire),
        Chore("deleting discarded audio", _DISCARD_EVERY_S, discards.remove_all),
        Chore("looking for orphaned audio", _WALK_AGAIN_S, orphans.look),
        Chore("forgetting sessions", _FORGET_EVERY_S, sessions.forget_ended),
    )


def _make_chores(
    database: Database,
    announcer: Announcer,
    signals: Signals,
    metrics: Metrics,
    clock: Clock,
    last_use: LastUse,
    others: tuple[Chore, ...],
) -> Chores:
    sweeper = Sweeper(database, announcer, signals, metrics, clock)
    return Chores(
        clock,
        (
            Chore("expiring tasks", _EXPIRE_EVERY_S, sweeper.expire_overdue),
            Chore("forgetting names of requests", _FORGET_EVERY_S, sweeper.forget_names),
            Chore("forgetting webhooks", _FORGET_EVERY_S, sweeper.forget_deliveries),
            *others,
            Chore("noting the use of keys", _NOTE_EVERY_S, last_use.flush, at_end=True),
        ),
    )
