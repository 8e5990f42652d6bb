"""What an operator does with money: correct it, read it, prove it."""

from gateway.accounts.calendar import periods_at
from gateway.accounts.checks import require
from gateway.accounts.tenants import require_tenant
from gateway.db import audit, ledger
from gateway.db.engine import Database, Tx
from gateway.db.ledger import Balance, LedgerRow
from gateway.db.reconciliation import Difference, find_differences
from gateway.errors import FieldError
from gateway.model import Act, BudgetWindow, Entry, EntryKind, format_usd
from gateway.ports import Clock

REASON_CHARS = 500


class Books:
    """The ledger as its keeper sees it. Raises `InvalidRequest` and `NotFound`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def adjust(self, act: Act, tenant_id: str, spent_micros: int, *, reason: str) -> None:
        """Change what a tenant has spent, by hand and for a reason: a credit is negative.

        It counts today and this month, in the tenant's zone. A credit of more than was ever spent is refused.
        """
        reason = reason.strip()
        require(_faults(spent_micros, reason))
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> None:
            tenant = require_tenant(tx, tenant_id)
            periods = periods_at(now_ms, tenant.zone)
            total = periods.named(BudgetWindow.TOTAL)
            in_all = ledger.get_balances(tx, tenant_id, periods).get(total, Balance())
            if in_all.spent_micros + spent_micros < 0:
                spent = format_usd(in_all.spent_micros)
                detail = f"This tenant has spent ${spent} in all; a credit cannot be more than that."
                require([FieldError("spent_micros", "out_of_range", detail)])
            entry = Entry(
                tenant_id=tenant_id,
                key_id=None,
                task_id=None,
                kind=EntryKind.ADJUST,
                held_micros=0,
                spent_micros=spent_micros,
                periods=periods,
                at_ms=now_ms,
                actor=act.actor,
                reason=reason,
            )
            ledger.add_entry(tx, entry)
            after = {"spent_micros": spent_micros, "reason": reason}
            audit.record(
                tx,
                act,
                "ledger.adjust",
                tenant_id=tenant_id,
                target=tenant_id,
                before=None,
                after=after,
                at_ms=now_ms,
            )

        await self._database.write(write)

    async def entries(
        self, tenant_id: str | None, *, before_id: int | None = None, limit: int = 100
    ) -> tuple[LedgerRow, ...]:
        """The newest entries first, of one tenant or of all."""

        def read(tx: Tx) -> tuple[LedgerRow, ...]:
            if tenant_id is not None:
                require_tenant(tx, tenant_id)
            return ledger.list_entries(tx, tenant_id=tenant_id, before_id=before_id, limit=limit)

        return await self._database.read(read)

    async def audit_log(
        self, tenant_id: str | None, *, before_id: int | None = None, limit: int = 100
    ) -> tuple[audit.AuditEntry, ...]:
        """The newest administrative acts first, of one tenant or of all."""
        return await self._database.read(
            lambda tx: audit.list_entries(tx, tenant_id=tenant_id, before_id=before_id, limit=limit)
        )

    async def reconcile(self) -> tuple[Difference, ...]:
        """Everything about money that does not add up; nothing is the right answer."""
        return await self._database.read(find_differences)


def _faults(spent_micros: int, reason: str) -> list[FieldError]:
    faults = []
    if not reason or len(reason) > REASON_CHARS or not reason.isprintable():
        detail = f"An adjustment needs a reason, of at most {REASON_CHARS} printable characters."
        faults.append(FieldError("reason", "invalid", detail))
    if spent_micros == 0:
        faults.append(FieldError("spent_micros", "out_of_range", "An adjustment of nothing changes nothing."))
    return faults
