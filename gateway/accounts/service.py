"""What an operator does with tenants and keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.accounts import keys
from gateway.accounts.calendar import is_zone, periods_at
from gateway.db import accounts, ledger
from gateway.db.engine import Database, Tx
from gateway.db.ledger import Balance
from gateway.db.reconciliation import Difference, find_differences
from gateway.errors import ErrorCode, GatewayError
from gateway.model import ApiKey, BudgetWindow, Entry, EntryKind, KeyMode, Tenant, TenantStatus, format_usd
from gateway.ports import Clock

_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may do at once. None means the documented default."""

    rpm: int | None = None
    max_concurrent: int | None = None
    max_queued: int | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tenant pays and may spend.

    ``zone`` is an IANA name; ``price_ppm`` multiplies list prices, in millionths; ``budgets`` are
    micro-dollars by window, none meaning unlimited.
    """

    zone: str = "UTC"
    price_ppm: int = 1_000_000
    budgets: Mapping[BudgetWindow, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """A tenant's budget of a window, micro-dollars, and what it has used now. None is unlimited."""

    window: BudgetWindow
    limit_micros: int | None
    used: Balance


class Accounts:
    """Tenants and keys. Raises `GatewayError` (invalid_request) when a name or id will not do."""

    def __init__(
        self, database: Database, clock: Clock, new_id: Callable[[str], str], choose: Callable[[str], str]
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._choose = choose

    async def create_tenant(self, name: str, limits: Limits, terms: Terms | None = None) -> Tenant:
        terms = terms or Terms()
        _check_terms(terms)
        tenant = Tenant(
            id=self._new_id("ten"),
            name=_checked_name(name),
            status=TenantStatus.ACTIVE,
            created_at_ms=self._clock.now_ms(),
            zone=terms.zone,
            price_ppm=terms.price_ppm,
            rpm=limits.rpm,
            max_concurrent=limits.max_concurrent,
            max_queued=limits.max_queued,
            weight=limits.weight,
        )

        def write(tx: Tx) -> None:
            if accounts.find_tenant(tx, tenant.name) is not None:
                raise _invalid(f"There is a tenant named {tenant.name!r} already; choose another name.")
            accounts.insert_tenant(tx, tenant)
            ledger.put_budgets(tx, tenant.id, terms.budgets)

        await self._database.write(write)
        return tenant

    async def set_budgets(self, tenant_id: str, limits: Mapping[BudgetWindow, int | None]) -> None:
        """Set budgets, or lift those that are None. What was used stays used."""
        named = {window: micros for window, micros in limits.items() if micros is not None}
        _check_budgets(named)

        def write(tx: Tx) -> None:
            _require_tenant(tx, tenant_id)
            ledger.put_budgets(tx, tenant_id, named)
            ledger.drop_budgets(tx, tenant_id, limits.keys() - named.keys())

        await self._database.write(write)

    async def list_budgets(self, tenant_id: str) -> tuple[Budget, ...]:
        """The tenant's budget of each window, and what is used of it now."""
        now_ms = self._clock.now_ms()

        def read(tx: Tx) -> tuple[Budget, ...]:
            tenant = _require_tenant(tx, tenant_id)
            periods = periods_at(now_ms, tenant.zone)
            limits = ledger.get_budgets(tx, tenant_id)
            used = ledger.get_balances(tx, tenant_id, periods)
            return tuple(
                Budget(window, limits.get(window), used.get(periods.named(window), Balance()))
                for window in BudgetWindow
            )

        return await self._database.read(read)

    async def adjust(self, tenant_id: str, spent_micros: int, *, reason: str, actor: str) -> None:
        """Change what a tenant has spent, by hand and for a reason: a credit is negative.

        It counts today and this month, in the tenant's zone. A credit of more than was ever spent is refused.
        """
        if not reason.strip():
            raise _invalid("An adjustment needs a reason.")
        if spent_micros == 0:
            raise _invalid("An adjustment of nothing changes nothing.")
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> None:
            tenant = _require_tenant(tx, tenant_id)
            periods = periods_at(now_ms, tenant.zone)
            in_all = ledger.get_balances(tx, tenant_id, periods).get(
                periods.named(BudgetWindow.TOTAL), Balance()
            )
            if in_all.spent_micros + spent_micros < 0:
                spent = format_usd(in_all.spent_micros)
                raise _invalid(f"This tenant has spent ${spent} in all; a credit cannot be more than that.")
            ledger.add_entry(
                tx,
                Entry(
                    tenant_id=tenant_id,
                    key_id=None,
                    task_id=None,
                    kind=EntryKind.ADJUST,
                    held_micros=0,
                    spent_micros=spent_micros,
                    periods=periods,
                    at_ms=now_ms,
                    actor=actor,
                    reason=reason.strip(),
                ),
            )

        await self._database.write(write)

    async def reconcile(self) -> tuple[Difference, ...]:
        """Everything about money that does not add up; nothing is the right answer."""
        return await self._database.read(find_differences)

    async def list_tenants(self) -> tuple[Tenant, ...]:
        return await self._database.read(accounts.list_tenants)

    async def create_key(
        self, tenant_id: str, name: str, *, rpm: int | None, mode: KeyMode = KeyMode.LIVE
    ) -> tuple[ApiKey, str]:
        """The key as kept, and its text, which cannot be had again."""
        minted = keys.mint(self._choose, mode)
        key = ApiKey(
            id=minted.public_id,
            tenant_id=tenant_id,
            name=_checked_name(name),
            sha256=minted.sha256,
            created_at_ms=self._clock.now_ms(),
            rpm=rpm,
            mode=mode,
        )

        def write(tx: Tx) -> None:
            _require_tenant(tx, tenant_id)
            accounts.insert_key(tx, key)

        await self._database.write(write)
        return key, minted.text

    async def list_keys(self, tenant_id: str | None) -> tuple[ApiKey, ...]:
        return await self._database.read(lambda tx: accounts.list_keys(tx, tenant_id))

    async def revoke_key(self, key_id: str) -> bool:
        """True when this call revoked it, False when it was revoked before. Raises when there is none."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> bool:
            if not accounts.get_credentials(tx, [key_id]):
                raise _invalid(f"There is no key {key_id!r}; `gateway key list` shows them.")
            return accounts.revoke_key(tx, key_id, now_ms=now_ms)

        return await self._database.write(write)


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _NAME_LENGTH or not stripped.isprintable():
        raise _invalid(f"A name has 1 to {_NAME_LENGTH} printable characters.")
    return stripped


def _require_tenant(tx: Tx, tenant_id: str) -> Tenant:
    tenant = accounts.get_tenant(tx, tenant_id)
    if tenant is None:
        raise _invalid(f"There is no tenant {tenant_id!r}; `gateway tenant list` shows them.")
    return tenant


def _check_terms(terms: Terms) -> None:
    if not is_zone(terms.zone):
        raise _invalid(f"{terms.zone!r} is not a time zone; write one like Europe/Berlin.")
    if terms.price_ppm < 0:
        raise _invalid("A price multiplier is 0 or more.")
    _check_budgets(terms.budgets)


def _check_budgets(limits: Mapping[BudgetWindow, int]) -> None:
    if any(limit_micros < 0 for limit_micros in limits.values()):
        raise _invalid("A budget is 0 or more.")


def _invalid(detail: str) -> GatewayError:
    return GatewayError(detail, code=ErrorCode.INVALID_REQUEST)
