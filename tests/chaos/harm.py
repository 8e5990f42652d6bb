"""What data centres do to programs: processes die, connections break, the provider has a bad day."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import httpx

from tests.chaos.callers import Tenant
from tests.emulator import RunningEmulator
from tests.running import RunningGateway

_LONGEST_ABSENCE_S = 1.0
_STARTS = 3
# Half of what is connected, whatever it is doing.
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'gateway' AND random() < 0.5"
)
_FAULTS = (
    {"preset": "quota", "retry_after": 1},
    {"preset": "quota"},
    {"preset": "internal"},
    {"cut_at_byte": 5_000},
    {"cut_at_byte": 20_000, "reset": True},
    {"drop": True},
    {"delay_s": 1.0},
)


class Harm:
    """Does something bad every so often, one thing after another, until it is stopped."""

    def __init__(
        self,
        gateways: Sequence[RunningGateway],
        emulator: RunningEmulator,
        database: asyncpg.Connection,
        rng: random.Random,
    ) -> None:
        self._gateways = gateways
        self._emulator = emulator
        self._database = database
        self._rng = rng
        self.done: Counter[str] = Counter()
        self.complaints: list[str] = []

    async def run(self, every_s: float, stop: asyncio.Event) -> None:
        """Each kind once in a round, in any order; whoever was killed is there again when this returns."""
        kinds: list[Callable[[], Awaitable[None]]] = [self._kill, self._cut, self._fault]
        while True:
            self._rng.shuffle(kinds)
            for harm in kinds:
                try:
                    async with asyncio.timeout(every_s * (0.5 + self._rng.random())):
                        await stop.wait()
                except TimeoutError:
                    await harm()
                else:
                    return

    async def _kill(self) -> None:
        gateway = self._rng.choice(self._gateways)
        process = gateway.process
        if process is None or process.poll() is not None:
            self.complaints.append(f"a gateway ended by itself:\n{gateway.log()[-2000:]}")
        await asyncio.to_thread(gateway.kill)
        self.done["killed"] += 1
        await asyncio.sleep(self._rng.random() * _LONGEST_ABSENCE_S)
        for _ in range(_STARTS - 1):
            # As whoever supervises it would: what it needs to start may be broken at that moment.
            try:
                await asyncio.to_thread(gateway.start)
            except AssertionError:
                self.done["did not start"] += 1
            else:
                return
        await asyncio.to_thread(gateway.start)

    async def _cut(self) -> None:
        self.done["connections cut"] += len(await self._database.fetch(_CUT))

    async def _fault(self) -> None:
        faults = [{**self._rng.choice(_FAULTS), "times": self._rng.randrange(1, 3)} for _ in range(2)]
        await asyncio.to_thread(self._emulator.script, *faults)
        self.done["faults"] += len(faults)


class Rotator:
    """An administrator who changes keys, the old text good for nothing at once."""

    def __init__(self, office: httpx.AsyncClient, tenants: Sequence[Tenant], rng: random.Random) -> None:
        self._office = office
        self._tenants = tenants
        self._rng = rng
        self.rotations = 0

    async def run(self, every_s: float, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._rotate(self._rng.choice(self._tenants))
            try:
                async with asyncio.timeout(every_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _rotate(self, tenant: Tenant) -> None:
        """Named, so that it can be sent again until it is answered."""
        self.rotations += 1
        name = {"Idempotency-Key": f"rotation-{self.rotations}"}
        tenant.rotating = True
        while True:
            address = f"/admin/api/keys/{tenant.key_id}/rotate"
            try:
                answer = await self._office.post(address, headers=name, json={"overlap_s": 0})
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 503:
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == 200, answer.text
            tenant.key = str(answer.json()["key"])
            tenant.rotating = False
            return
