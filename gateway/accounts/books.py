"""What an operator does with money: correct it, read it, prove it."""

from dataclasses import dataclass
from typing import Any

from gateway.accounts import derived
from gateway.accounts.calendar import periods_at
from gateway.accounts.checks import require, secret_faults
from gateway.accounts.tenants import require_tenant
from gateway.db import audit, ledger
from gateway.db.audit import AuditEntry
from gateway.db.engine import Database, Tx
from gateway.db.ledger import Balance, LedgerRow
from gateway.db.reconciliation import Difference, find_differences
from gateway.errors import Conflict, ErrorCode, FieldError
from gateway.model import Act, BudgetWindow, Entry, EntryKind, Tenant
from gateway.ports import Clock
from gateway.units import format_usd

__all__ = ["Adjusted", "AuditEntry", "Books", "Difference", "LedgerRow"]

REASON_CHARS = 500
_ADJUST = "ledger.adjust"


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The entry that an adjustment made. ``repeated`` when its request's name had been given before."""

    row: LedgerRow
    repeated: bool = False


class Books:
    """The ledger as its keeper sees it. Raises `InvalidRequest` and `NotFound`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def adjust(
        self, act: Act, tenant_id: str, spent_micros: int, *, reason: str, name: str | None = None
    ) -> Adjusted:
        """Change what a tenant has spent, by hand and for a reason: a credit is negative.

        It counts today and this month, in the tenant's zone. A credit of more than was ever spent is refused.
        Named, it can be repeated: the same name makes one entry, however often it comes. Raises `Conflict`
        for another adjustment under that name.
        """
        reason = reason.strip()
        require(_faults(spent_micros, reason))
        if name is not None:
            derived.check_name(name)
        picture: dict[str, Any] = {"spent_micros": spent_micros, "reason": reason}
        if name is not None:
            picture["name_sha256"] = derived.name_sha256(name)

        def write(tx: Tx) -> Adjusted:
            tenant = require_tenant(tx, tenant_id, lock=True)
            there = _named_before(tx, tenant_id, picture)
            if there is not None:
                return Adjusted(there, repeated=True)
            return Adjusted(self._adjust(tx, act, tenant, picture))

        return await self._database.write(write)

    def _adjust(self, tx: Tx, act: Act, tenant: Tenant, picture: dict[str, Any]) -> LedgerRow:
        now_ms = self._clock.now_ms()
        periods = periods_at(now_ms, tenant.zone)
        total = periods.named(BudgetWindow.TOTAL)
        in_all = ledger.get_balances(tx, tenant.id, periods).get(total, Balance())
        if in_all.spent_micros + picture["spent_micros"] < 0:
            spent = format_usd(in_all.spent_micros)
            detail = f"This tenant has spent ${spent} in all; a credit cannot be more than that."
            require([FieldError("spent_micros", "out_of_range", detail)])
        entry = Entry(
            tenant_id=tenant.id,
            key_id=None,
            task_id=None,
            kind=EntryKind.ADJUST,
            held_micros=0,
            spent_micros=picture["spent_micros"],
            periods=periods,
            at_ms=now_ms,
            actor=act.actor,
            reason=picture["reason"],
        )
        row = ledger.append_entry(tx, entry)
        audit.record(
            tx,
            act,
            _ADJUST,
            tenant_id=tenant.id,
            target=tenant.id,
            before=None,
            after={**picture, "entry_id": row.id},
            at_ms=now_ms,
        )
        return row

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
    ) -> tuple[AuditEntry, ...]:
        """The newest administrative acts first, of one tenant or of all."""

        def read(tx: Tx) -> tuple[AuditEntry, ...]:
            if tenant_id is not None:
                require_tenant(tx, tenant_id)
            return audit.list_entries(tx, tenant_id=tenant_id, before_id=before_id, limit=limit)

        return await self._database.read(read)

    async def reconcile(self) -> tuple[Difference, ...]:
        """Everything about money that does not add up; nothing is the right answer."""
        return await self._database.read_long(find_differences)


def _named_before(tx: Tx, tenant_id: str, picture: dict[str, Any]) -> LedgerRow | None:
    """The entry that a request of this name made. Raises `Conflict` when that asked for something else."""
    if "name_sha256" not in picture:
        return None
    there = audit.find_named(tx, tenant_id, _ADJUST, picture["name_sha256"])
    if there is None or there.after is None:
        return None
    if any(there.after[field] != value for field, value in picture.items()):
        raise Conflict(
            "This Idempotency-Key was sent with another adjustment before; send a new one.",
            code=ErrorCode.IDEMPOTENCY_KEY_REUSED,
        )
    return ledger.get_entry(tx, there.after["entry_id"])


def _faults(spent_micros: int, reason: str) -> list[FieldError]:
    faults = []
    if not reason or len(reason) > REASON_CHARS or not reason.isprintable():
        detail = f"An adjustment needs a reason, of at most {REASON_CHARS} printable characters."
        faults.append(FieldError("reason", "invalid", detail))
    faults += secret_faults("reason", reason)
    if spent_micros == 0:
        faults.append(FieldError("spent_micros", "out_of_range", "An adjustment of nothing changes nothing."))
    return faults
