"""How a caller stands: what its key and tenant may do, what remains of it now, which models at what price.

Read for those who ask; admission decides by itself, in its own transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.accounts.authentication import usable_caller
from gateway.accounts.tenants import Budget, budgets_of
from gateway.db import tasks
from gateway.db.accounts import Caller
from gateway.db.engine import Database, Tx
from gateway.errors import LimitState
from gateway.model import ApiKey, AudioFormat, KeyMode, KeyState, Principal, Tenant
from gateway.ports import Clock
from gateway.tasks.admission import Defaults
from gateway.tasks.budget import price_for
from gateway.tasks.catalog import Catalog, Offer
from gateway.tasks.limits import WINDOW_MS, rate_now

# Far beyond any queue; only so that counting has an end.
_MOST_COUNTED = 1_000_000


@dataclass(frozen=True, slots=True)
class Level:
    """How many tasks there are at once, and how many there may be. ``limit`` None is unlimited."""

    name: str
    used: int
    limit: int | None

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Standing:
    """One moment's view. ``tenant_rate`` is None where the tenant as a whole has no rate."""

    tenant: Tenant
    key: ApiKey
    key_state: KeyState
    key_rate: LimitState
    tenant_rate: LimitState | None
    queued: Level
    key_queued: Level | None
    running: Level
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class PricedOffer:
    """A model that the caller may use, at its price in micro-dollars for a clip that needs no joining."""

    offer: Offer
    formats: tuple[AudioFormat, ...]
    price_micros: int
    emulated: bool


class Standings:
    """Answers callers about themselves. Raises `Unauthorized` for a key that has been stopped meanwhile."""

    def __init__(
        self, database: Database, catalog: Catalog, clock: Clock, defaults: Defaults, *, emulated: bool
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self._defaults = defaults
        self._emulated = emulated

    async def look(self, principal: Principal) -> Standing:
        """What the caller may do, and what remains of it, all of one moment."""
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: self._look(tx, principal, now_ms))

    async def offers(self, principal: Principal) -> tuple[PricedOffer, ...]:
        """The models that both the key and its tenant may use, in order of preference."""
        now_ms = self._clock.now_ms()
        caller = await self._database.read(lambda tx: usable_caller(tx, principal.key_id, now_ms))
        return tuple(self._priced(caller, principal))

    def _look(self, tx: Tx, principal: Principal, now_ms: int) -> Standing:
        caller = usable_caller(tx, principal.key_id, now_ms)
        key, tenant = caller.key, caller.tenant
        rpm = key.rpm or self._defaults.rpm
        since_ms = now_ms - WINDOW_MS
        key_rate = tasks.read_key_rate(tx, key.id, rpm=rpm, since_ms=since_ms)
        tenant_rate = None
        if tenant.rpm is not None:
            made = tasks.read_tenant_rate(tx, tenant.id, rpm=tenant.rpm, since_ms=since_ms)
            tenant_rate = rate_now("tenant", made, now_ms, tenant.rpm)
        return Standing(
            tenant=tenant,
            key=key,
            key_state=key.state_at(now_ms),
            key_rate=rate_now("key", key_rate, now_ms, rpm),
            tenant_rate=tenant_rate,
            queued=self._queued(tx, tenant),
            key_queued=_key_queued(tx, key),
            running=Level("running", tasks.count_running(tx, tenant.id), tenant.max_concurrent),
            budgets=budgets_of(tx, tenant, now_ms),
        )

    def _queued(self, tx: Tx, tenant: Tenant) -> Level:
        limit = tenant.max_queued or self._defaults.max_queued
        return Level("queued", tasks.count_queued(tx, tenant.id, at_most=_MOST_COUNTED), limit)

    def _priced(self, caller: Caller, principal: Principal) -> Iterator[PricedOffer]:
        tenant, test = caller.tenant, caller.key.mode is KeyMode.TEST
        formats = tuple(
            each
            for each in AudioFormat
            if tenant.allowed_formats is None or each.value in tenant.allowed_formats
        )
        if not formats:
            return
        for offer in self._catalog.offers(principal.allowed_models):
            price_micros = 0 if test else price_for(tenant, offer.deployment.price_micros)
            yield PricedOffer(offer, formats, price_micros, self._emulated or test)


def _key_queued(tx: Tx, key: ApiKey) -> Level | None:
    if key.max_queued is None:
        return None
    used = tasks.count_queued(tx, key.tenant_id, key_id=key.id, at_most=_MOST_COUNTED)
    return Level("key_queued", used, key.max_queued)
