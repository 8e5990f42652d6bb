"""The parts of webhooks, put together; what they reach the world through is handed in."""

import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpcore

from gateway.db.engine import Database
from gateway.metrics import WebhookMetrics
from gateway.ports import Clock
from gateway.settings import Settings
from gateway.webhooks.addresses import AddressPolicy
from gateway.webhooks.delivery import Pump, PumpPolicy
from gateway.webhooks.guard import Resolver, guarded_pools
from gateway.webhooks.outbox import Announcer
from gateway.webhooks.sender import Sender
from gateway.webhooks.service import Webhooks
from gateway.webhooks.signing import Secrets


@dataclass(frozen=True, slots=True)
class WayOut:
    """How messages leave: what connects, whom TLS trusts, and how they name us."""

    network: httpcore.AsyncNetworkBackend
    trust: ssl.SSLContext
    user_agent: str


@dataclass(frozen=True, slots=True)
class WebhookParts:
    """The pump is not started yet."""

    addresses: AddressPolicy
    announcer: Announcer
    service: Webhooks
    pump: Pump


@asynccontextmanager
async def open_webhooks(
    settings: Settings,
    signing_secret: bytes,
    database: Database,
    clock: Clock,
    new_id: Callable[[str], str],
    metrics: WebhookMetrics,
    way_out: WayOut,
) -> AsyncIterator[WebhookParts]:
    addresses = AddressPolicy(settings.webhook_networks)
    pools = guarded_pools(addresses, Resolver(), way_out.network, way_out.trust)
    derived = Secrets(signing_secret)
    announcer = Announcer(new_id, settings.effective_public_url)
    async with AsyncExitStack() as stack:
        for pool in pools.values():
            await stack.enter_async_context(pool)
        pump = Pump(
            database,
            Sender(pools, clock, user_agent=way_out.user_agent),
            derived,
            announcer,
            metrics,
            clock,
            partial(secrets.token_hex, 16),
            random.SystemRandom().random,
            PumpPolicy(settings.grace_s),
        )
        service = Webhooks(database, clock, new_id, addresses, derived, announcer)
        yield WebhookParts(addresses, announcer, service, pump)
