"""A gateway whose pump runs against receivers on loopback, and hands to write to its outbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.bootstrap.services import Services, open_services
from gateway.messages import Endpoint, EventType
from gateway.model import Principal
from gateway.ports import Clock
from gateway.settings import Settings
from gateway.webhooks.outbox import BudgetAlert
from tests.api import until
from tests.factories import ACT, a_caller

LOOPBACK = "127.0.0.0/8"
ALERT = BudgetAlert("day", "2027-01-15", 80, 1_000_000, 800_000, 0)


@dataclass
class PostOffice:
    """A tenant's webhooks. The pump is started by the test."""

    services: Services
    principal: Principal

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id

    async def register(self, url: str, *events: EventType) -> Endpoint:
        return await self.services.webhooks.create(ACT, self.tenant_id, url, events=events or None)

    async def endpoint(self, endpoint: Endpoint) -> Endpoint:
        return await self.services.webhooks.get(self.tenant_id, endpoint.id)

    async def secret(self, endpoint: Endpoint | None = None) -> str:
        found = await self.services.webhooks.secret(self.tenant_id, endpoint.id if endpoint else None)
        return found.text

    async def announce(self, times: int = 1) -> None:
        """Something happened: each of the tenant's endpoints is to be told, so many times."""
        announcer = self.services.announcer
        now_ms = self.services.clock.now_ms()

        def write(tx: Any) -> None:
            for _ in range(times):
                announcer.announce_budget(tx, self.tenant_id, ALERT, now_ms=now_ms)

        await self.services.database.write(write)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self.services.database.read(lambda tx: [tuple(row) for row in tx.exec_driver_sql(query)])

    async def states(self) -> list[str]:
        """Of all deliveries, in the order of the alphabet."""
        return [row[0] for row in await self.rows("SELECT state FROM webhook_deliveries ORDER BY state")]

    async def tries(self) -> list[tuple[Any, ...]]:
        """(number, status, error) of every try."""
        return await self.rows(
            "SELECT number, status, error FROM webhook_attempts ORDER BY delivery_id, number"
        )

    async def until_states(self, *states: str) -> None:
        """Wait for these to be the states of all deliveries."""
        wanted = sorted(states)

        async def reached() -> bool:
            return await self.states() == wanted

        await until(reached)

    async def until_tries(self, count: int) -> list[tuple[Any, ...]]:
        """Every try, once there are so many."""

        async def reached() -> bool:
            return len(await self.tries()) >= count

        await until(reached)
        return await self.tries()

    async def due_in_s(self) -> float:
        """Seconds until the one delivery there is will be tried."""
        ((due_at_ms,),) = await self.rows("SELECT next_attempt_at_ms FROM webhook_deliveries")
        return float(due_at_ms - self.services.clock.now_ms()) / 1000


@asynccontextmanager
async def open_post_office(settings: Settings, clock: Clock | None = None) -> AsyncIterator[PostOffice]:
    """One that may send to loopback. Chance is even: back-off is what it is on average."""
    settings = settings.model_copy(update={"webhook_allow": LOOPBACK})
    async with open_services(settings, clock) as services:
        services.pump._chance = lambda: 0.5
        principal, _ = await a_caller(services.database)
        yield PostOffice(services, principal)
        await services.drain()
