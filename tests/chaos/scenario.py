"""A run of chaos from the first process to the last sum."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from tests.balancer import open_balancer
from tests.chaos.books import CallBook, find_faults
from tests.chaos.callers import ENDED, Caller, Notes, Tenant
from tests.chaos.harm import Harm, Rotator
from tests.chaos.scale import CLIP_MICROS, Scale
from tests.emulator import RunningEmulator
from tests.postgres import USER, Server
from tests.proxy import Proxy, open_proxy
from tests.running import RunningGateway, start_gateway
from tests.secrecy import issue

TOKEN = issue("an-admin-token-of-the-chaos-tests-0123456789")
SECRET = issue("a-signing-secret-of-the-chaos-tests-0123456789")
_UNLIMITED = 1_000_000
_LATENCY_S = 0.1
_BOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """``faults`` must be empty; the rest says what the run was like."""

    faults: list[str]
    states: Counter[str]
    answers: Counter[str]
    harm: Counter[str]


@dataclass(frozen=True)
class World:
    gateways: Sequence[RunningGateway]
    emulator: RunningEmulator
    database: asyncpg.Connection
    http: httpx.AsyncClient
    office: httpx.AsyncClient
    network: Proxy


async def run(scale: Scale, directory: Path, server: Server, emulator: RunningEmulator) -> Outcome:
    """Raises `TimeoutError` where it does not come to its end in time."""
    async with open_world(scale, directory, server, emulator) as world, asyncio.timeout(scale.limit_s):
        tenants = [await _make_tenant(world.office, number, scale) for number in range(scale.tenants)]
        notes, book = Notes(), CallBook(emulator)
        harm = Harm(world.gateways, emulator, world.database, random.Random(f"{scale.seed} harm"))
        rotator = Rotator(world.office, tenants, random.Random(f"{scale.seed} keys"))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(harm.run(scale.harm_every_s, stop))
            group.create_task(rotator.run(scale.harm_every_s, stop))
            group.create_task(book.run(_BOOK_EVERY_S, stop))
            group.create_task(_take_database_away(world.network, scale))
            await _ask_for_everything(world.http, tenants, notes, scale)
            stop.set()
        await _look_at_all(world.http, notes, scale)
        await _until_quiet(book)
        faults = await find_faults(world.database, notes, tenants, book, scale)
        faults += [*harm.complaints, *await asyncio.to_thread(_of_processes, world.gateways)]
        states = Counter(notes.ends.values())
        return Outcome(faults, states, notes.answers, harm.done + Counter(rotated=rotator.rotations))


@asynccontextmanager
async def open_world(
    scale: Scale, directory: Path, server: Server, emulator: RunningEmulator
) -> AsyncIterator[World]:
    """Processes that share a database, behind a balancer, with a network of the tests' own in between."""
    name = f"chaos_{directory.name}".replace("-", "_").lower()
    await asyncio.to_thread(server.execute, f"CREATE DATABASE {name}")
    emulator.settings(latency_s=_LATENCY_S, default_seed=1)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(open_proxy(server.port))
        environment = {
            "GATEWAY_DATABASE_URL": server.url(name).replace(f":{server.port}/", f":{network.port}/"),
            "GATEWAY_SIGNING_SECRET": SECRET,
            "GATEWAY_ADMIN_TOKEN": TOKEN,
            "GATEWAY_STORAGE_URL": f"file://{directory / 'audio'}",
            "GATEWAY_LEASE_S": "3",
            "GATEWAY_MAX_ATTEMPTS": "20",
            "GATEWAY_READS_PER_MINUTE": str(_UNLIMITED),
        }
        for number in range(scale.processes):
            (directory / f"gateway-{number}").mkdir()
        starting = [
            _start(stack, directory / f"gateway-{number}", emulator.url, environment)
            for number in range(scale.processes)
        ]
        gateways = await asyncio.gather(*starting)
        balancer = await stack.enter_async_context(open_balancer([each.port for each in gateways]))
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=balancer.url,
                    headers=headers,
                    timeout=30.0,
                    trust_env=False,
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                )
            )
            for headers in ({}, {"Authorization": f"Bearer {TOKEN}"})
        ]
        database = await asyncpg.connect(f"postgresql://{USER}@127.0.0.1:{server.port}/{name}")
        stack.push_async_callback(database.close)
        yield World(gateways, emulator, database, *clients, network)


async def _start(
    stack: AsyncExitStack, directory: Path, emulator_url: str, environment: dict[str, str]
) -> RunningGateway:
    """In a thread, like all that waits for a process: what it waits for may go through this loop."""
    starting = start_gateway(directory, emulator_url, **environment)
    gateway = await asyncio.to_thread(starting.__enter__)
    stack.push_async_callback(asyncio.to_thread, starting.__exit__, None, None, None)
    return gateway


async def _make_tenant(office: httpx.AsyncClient, number: int, scale: Scale) -> Tenant:
    clips = None if number % scale.budget_every else scale.clips_in_budget
    budgets = {} if clips is None else {"total_micros": clips * CLIP_MICROS}
    body = {"name": f"team {number}", "max_queued": _UNLIMITED, "budgets": budgets}
    tenant = await office.post("/admin/api/tenants", json=body)
    assert tenant.status_code == 201, tenant.text
    tenant_id = tenant.json()["id"]
    body = {"tenant_id": tenant_id, "name": "chaos", "rpm": _UNLIMITED}
    key = await office.post("/admin/api/keys", json=body)
    assert key.status_code == 201, key.text
    return Tenant(tenant_id, key.json()["id"], key.json()["key"], clips)


async def _ask_for_everything(
    http: httpx.AsyncClient, tenants: Sequence[Tenant], notes: Notes, scale: Scale
) -> None:
    rng = random.Random(f"{scale.seed} callers")
    callers = [
        Caller(http, rng.choice(tenants), notes, f"name-{number}", scale) for number in range(scale.tasks)
    ]
    room = asyncio.Semaphore(scale.callers)

    async def call(caller: Caller) -> None:
        async with room:
            await caller.run()

    await asyncio.gather(*map(call, callers))


async def _take_database_away(network: Proxy, scale: Scale) -> None:
    if scale.database_away_s:
        await asyncio.sleep(scale.harm_every_s * 5)
        network.close()
        await asyncio.sleep(scale.database_away_s)
        network.open()


async def _look_at_all(http: httpx.AsyncClient, notes: Notes, scale: Scale) -> None:
    """Until each accepted task has ended, that of a caller who went away too."""
    for name, task_id in notes.accepted.items():
        caller = Caller(http, notes.tenant_of[task_id], notes, name, scale)
        while await caller.look(task_id) not in ENDED:  # noqa: ASYNC110 - nothing here could tell
            await asyncio.sleep(0.1)


async def _until_quiet(book: CallBook) -> None:
    """Until the emulator has nothing to do any more: calls of those who were killed may be on their way."""
    while (await book.look())["running"]:  # noqa: ASYNC110 - the emulator is another process
        await asyncio.sleep(0.1)


def _of_processes(gateways: Sequence[RunningGateway]) -> list[str]:
    faults = []
    for each in gateways:
        if each.process is None or each.process.poll() is not None:
            faults.append(f"a gateway ended by itself:\n{each.log()[-2000:]}")
        faults += [
            f"mistake in a log: {line[:2000]}" for line in each.log().splitlines() if "Traceback" in line
        ]
    if (said := gateways[0].command("reconcile")) != "Everything adds up.\n":
        faults.append(said)
    return faults
