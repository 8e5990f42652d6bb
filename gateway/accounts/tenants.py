"""What an operator does with tenants: create, change, suspend; their budgets and their people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

from gateway.accounts import checks, pictures
from gateway.accounts.calendar import periods_at, resets_at_ms
from gateway.accounts.checks import require
from gateway.db import alerts, audit, ledger, tenants
from gateway.db.engine import Database, Tx
from gateway.db.ledger import Balance
from gateway.db.locks import lock_tenant
from gateway.errors import Conflict, ErrorCode, NotFound
from gateway.model import Act, BudgetWindow, Member, Place, Role, Tenant, TenantStatus
from gateway.ports import Clock

NO_BUDGETS: Mapping[BudgetWindow, int | None] = {}


class TenantTerms(TypedDict, total=False):
    """What may be said of a tenant; `gateway.model.Tenant` has the meanings and the defaults."""

    name: str
    zone: str
    price_ppm: int
    rpm: int | None
    max_concurrent: int | None
    max_queued: int | None
    weight: int
    allowed_models: tuple[str, ...] | None
    allowed_formats: tuple[str, ...] | None
    retention_days: int | None
    start_within_s: int | None
    warn_percents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """A tenant's budget of a window, micro-dollars, and what it has used now. None is unlimited.

    ``resets_at_ms`` is when the window's next stretch begins; None for the one that never ends.
    """

    window: BudgetWindow
    limit_micros: int | None
    used: Balance
    resets_at_ms: int | None = None

    @property
    def remaining_micros(self) -> int | None:
        """What the next request may cost. A budget lowered below what is used leaves nothing, not less."""
        return None if self.limit_micros is None else max(0, self.limit_micros - self.used.used_micros)


@dataclass(frozen=True, slots=True)
class Portrait:
    """A tenant with its budgets and its people, as they are at one moment."""

    tenant: Tenant
    budgets: tuple[Budget, ...]
    members: tuple[Member, ...]


class Tenants:
    """Every change is written together with its entry in the audit log.

    Raises `InvalidRequest` naming what will not do, `NotFound` for an id that is nobody's, and `Conflict`
    for a name that is taken.
    """

    def __init__(self, database: Database, clock: Clock, new_id: Callable[[str], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    async def create(
        self,
        act: Act,
        *,
        budgets: Mapping[BudgetWindow, int | None] = NO_BUDGETS,
        **terms: Unpack[TenantTerms],
    ) -> Tenant:
        now_ms = self._clock.now_ms()
        new = Tenant(id=self._new_id("ten"), name="", status=TenantStatus.ACTIVE, created_at_ms=now_ms)
        tenant = _with_terms(new, terms)
        limits = _checked_budgets(budgets)

        def write(tx: Tx) -> None:
            _refuse_taken_name(tx, tenant)
            tenants.insert_tenant(tx, tenant)
            ledger.put_budgets(tx, tenant.id, limits)
            self._record(tx, act, "tenant.create", tenant, None, pictures.of_tenant(tenant))
            if limits:
                after = pictures.of_budgets(limits)
                self._record(tx, act, "tenant.budgets", tenant, pictures.of_budgets({}), after)

        await self._database.write(write)
        return tenant

    async def update(self, act: Act, tenant_id: str, **terms: Unpack[TenantTerms]) -> Tenant:
        """Change what is named; the rest stays. Changing a limit never changes what was used of it."""

        def change(tx: Tx, before: Tenant) -> Tenant:
            after = _with_terms(before, terms)
            _refuse_taken_name(tx, after)
            return after

        return await self._change(act, "tenant.update", tenant_id, change)

    async def suspend(self, act: Act, tenant_id: str) -> Tenant:
        """Stop new work of all its keys at once. What runs is finished, what was made can be read."""
        return await self._set_status(act, "tenant.suspend", tenant_id, TenantStatus.SUSPENDED)

    async def activate(self, act: Act, tenant_id: str) -> Tenant:
        return await self._set_status(act, "tenant.activate", tenant_id, TenantStatus.ACTIVE)

    async def get(self, tenant_id: str) -> Tenant:
        return await self._database.read(lambda tx: require_tenant(tx, tenant_id))

    async def portray(self, tenant_id: str) -> Portrait:
        now_ms = self._clock.now_ms()

        def read(tx: Tx) -> Portrait:
            tenant = require_tenant(tx, tenant_id)
            return Portrait(tenant, budgets_of(tx, tenant, now_ms), tenants.list_members(tx, tenant_id))

        return await self._database.read(read)

    async def list(
        self, *, after: Place | None = None, limit: int | None = None, name_part: str | None = None
    ) -> tuple[Tenant, ...]:
        """Oldest first; those after a place, and those whose name has a part, if they are given."""
        return await self._database.read(
            lambda tx: tenants.list_tenants(tx, after=after, limit=limit, name_part=name_part)
        )

    async def set_budgets(
        self, act: Act, tenant_id: str, limits: Mapping[BudgetWindow, int | None]
    ) -> tuple[Budget, ...]:
        """Set budgets, or lift those that are None. What was used stays used."""
        named = _checked_budgets(limits)

        def write(tx: Tx) -> tuple[Budget, ...]:
            tenant = require_tenant(tx, tenant_id, lock=True)
            before = pictures.of_budgets(ledger.get_budgets(tx, tenant_id))
            ledger.put_budgets(tx, tenant_id, named)
            ledger.drop_budgets(tx, tenant_id, limits.keys() - named.keys())
            periods = periods_at(self._clock.now_ms(), tenant.zone)
            alerts.forget_alerts(tx, tenant_id, [periods.named(window) for window in limits])
            after = pictures.of_budgets(ledger.get_budgets(tx, tenant_id))
            self._record(tx, act, "tenant.budgets", tenant, before, after)
            return budgets_of(tx, tenant, self._clock.now_ms())

        return await self._database.write(write)

    async def list_budgets(self, tenant_id: str) -> tuple[Budget, ...]:
        """The tenant's budget of each window, and what is used of it now."""
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: budgets_of(tx, require_tenant(tx, tenant_id), now_ms))

    async def put_member(self, act: Act, tenant_id: str, email: str, role: Role) -> Member:
        """Add a person, or change their role. Addresses are told apart without regard to case."""
        email = email.strip()
        require(checks.email_faults(email))
        member = Member(tenant_id, email.lower(), role, self._clock.now_ms())

        def write(tx: Tx) -> Member:
            tenant = require_tenant(tx, tenant_id, lock=True)
            before = tenants.put_member(tx, member)
            picture = None if before is None else pictures.of_member(before)
            self._record(
                tx, act, "member.put", tenant, picture, pictures.of_member(member), target=member.email
            )
            return member if before is None else replace(before, role=role)

        return await self._database.write(write)

    async def remove_member(self, act: Act, tenant_id: str, email: str) -> None:
        email = email.strip().lower()

        def write(tx: Tx) -> None:
            tenant = require_tenant(tx, tenant_id, lock=True)
            before = tenants.get_member(tx, tenant_id, email)
            if before is None:
                raise NotFound(f"{email} is not a member of this tenant.", code=ErrorCode.NOT_FOUND)
            tenants.delete_member(tx, tenant_id, email)
            self._record(tx, act, "member.remove", tenant, pictures.of_member(before), None, target=email)

        await self._database.write(write)

    async def list_members(self, tenant_id: str) -> tuple[Member, ...]:
        def read(tx: Tx) -> tuple[Member, ...]:
            require_tenant(tx, tenant_id)
            return tenants.list_members(tx, tenant_id)

        return await self._database.read(read)

    async def _set_status(self, act: Act, action: str, tenant_id: str, status: TenantStatus) -> Tenant:
        return await self._change(act, action, tenant_id, lambda _, before: replace(before, status=status))

    async def _change(
        self, act: Act, action: str, tenant_id: str, change: Callable[[Tx, Tenant], Tenant]
    ) -> Tenant:
        def write(tx: Tx) -> Tenant:
            before = require_tenant(tx, tenant_id, lock=True)
            after = change(tx, before)
            tenants.update_tenant(tx, after)
            self._record(tx, act, action, after, pictures.of_tenant(before), pictures.of_tenant(after))
            return after

        return await self._database.write(write)

    def _record(
        self,
        tx: Tx,
        act: Act,
        action: str,
        tenant: Tenant,
        before: audit.Picture | None,
        after: audit.Picture | None,
        *,
        target: str | None = None,
    ) -> None:
        audit.record(
            tx,
            act,
            action,
            tenant_id=tenant.id,
            target=target or tenant.id,
            before=before,
            after=after,
            at_ms=self._clock.now_ms(),
        )


def budgets_of(tx: Tx, tenant: Tenant, now_ms: int) -> tuple[Budget, ...]:
    """The tenant's budget of each window, and what is used of it."""
    periods = periods_at(now_ms, tenant.zone)
    limits = ledger.get_budgets(tx, tenant.id)
    used = ledger.get_balances(tx, tenant.id, periods)
    return tuple(
        Budget(
            window,
            limits.get(window),
            used.get(periods.named(window), Balance()),
            resets_at_ms(window, now_ms, tenant.zone),
        )
        for window in BudgetWindow
    )


def require_tenant(tx: Tx, tenant_id: str, *, lock: bool = False) -> Tenant:
    """With ``lock`` nobody else changes it, its keys or its money meanwhile. Raises `NotFound`."""
    if lock:
        lock_tenant(tx, tenant_id)
    tenant = tenants.get_tenant(tx, tenant_id)
    if tenant is None:
        raise NotFound(
            f"There is no tenant {tenant_id!r}; `gateway tenant list` shows them.", code=ErrorCode.NOT_FOUND
        )
    return tenant


def _with_terms(tenant: Tenant, terms: TenantTerms) -> Tenant:
    changed = replace(tenant, **terms)
    changed = replace(
        changed, name=changed.name.strip(), warn_percents=tuple(sorted(set(changed.warn_percents)))
    )
    require(checks.tenant_faults(changed))
    return changed


def _refuse_taken_name(tx: Tx, tenant: Tenant) -> None:
    other = tenants.find_tenant(tx, tenant.name)
    if other is not None and other.id != tenant.id:
        raise Conflict(f"There is a tenant named {tenant.name!r} already; choose another name.")


def _checked_budgets(limits: Mapping[BudgetWindow, int | None]) -> dict[BudgetWindow, int]:
    named = {window: micros for window, micros in limits.items() if micros is not None}
    require(fault for window, micros in named.items() for fault in checks.budget_faults(window, micros))
    return named
