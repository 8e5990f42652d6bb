"""What ``--json`` prints of each thing: the names of the model's fields, times as ISO 8601 in UTC."""

from typing import Any

from gateway.accounts.keyring import Rotated
from gateway.accounts.tenants import Budget
from gateway.db.audit import AuditEntry
from gateway.db.ledger import LedgerRow
from gateway.model import ApiKey, Member, Tenant
from gateway.web.views import timestamp

Document = dict[str, Any]


def of_tenant(tenant: Tenant) -> Document:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status.value,
        "zone": tenant.zone,
        "price_ppm": tenant.price_ppm,
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "allowed_models": tenant.allowed_models,
        "allowed_formats": tenant.allowed_formats,
        "retention_days": tenant.retention_days,
        "warn_percents": tenant.warn_percents,
        "created_at": timestamp(tenant.created_at_ms),
    }


def of_budget(budget: Budget) -> Document:
    return {
        "window": budget.window.value,
        "limit_micros": budget.limit_micros,
        "spent_micros": budget.used.spent_micros,
        "held_micros": budget.used.held_micros,
        "remaining_micros": budget.remaining_micros,
        "resets_at": timestamp(budget.resets_at_ms),
    }


def of_member(member: Member) -> Document:
    return {
        "email": member.email,
        "role": member.role.value,
        "created_at": timestamp(member.created_at_ms),
    }


def of_key(key: ApiKey, now_ms: int) -> Document:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "mode": key.mode.value,
        "state": key.state_at(now_ms).value,
        "owner": key.owner,
        "tags": key.tags,
        "scopes": sorted(key.scopes),
        "allowed_models": key.allowed_models,
        "rpm": key.rpm,
        "max_queued": key.max_queued,
        "created_at": timestamp(key.created_at_ms),
        "created_by": key.created_by,
        "expires_at": timestamp(key.expires_at_ms),
        "disabled_at": timestamp(key.disabled_at_ms),
        "revoked_at": timestamp(key.revoked_at_ms),
        "rotated_at": timestamp(key.rotated_at_ms),
        "last_used_at": timestamp(key.last_used_at_ms),
    }


def of_new_key(key: ApiKey, text: str, now_ms: int) -> Document:
    return {**of_key(key, now_ms), "key": text}


def of_rotated(rotated: Rotated, now_ms: int) -> Document:
    return {
        **of_new_key(rotated.key, rotated.text, now_ms),
        "old_until": timestamp(rotated.old_until_ms),
    }


def of_entry(row: LedgerRow) -> Document:
    entry = row.entry
    return {
        "id": row.id,
        "at": timestamp(entry.at_ms),
        "tenant_id": entry.tenant_id,
        "key_id": entry.key_id,
        "task_id": entry.task_id,
        "kind": entry.kind.value,
        "held_micros": entry.held_micros,
        "spent_micros": entry.spent_micros,
        "day": entry.periods.day,
        "month": entry.periods.month,
        "actor": entry.actor,
        "reason": entry.reason,
    }


def of_act(entry: AuditEntry) -> Document:
    return {
        "id": entry.id,
        "at": timestamp(entry.at_ms),
        "actor": entry.act.actor,
        "source": entry.act.source,
        "request_id": entry.act.request_id,
        "action": entry.action,
        "tenant_id": entry.tenant_id,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }
