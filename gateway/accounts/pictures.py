"""What tenants, keys and members look like in the audit log: what may change, and no secret."""

from collections.abc import Mapping

from gateway.db.audit import Picture
from gateway.model import ApiKey, BudgetWindow, Member, Tenant


def of_tenant(tenant: Tenant) -> Picture:
    return {
        "name": tenant.name,
        "status": tenant.status.value,
        "zone": tenant.zone,
        "price_ppm": tenant.price_ppm,
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "allowed_models": _list(tenant.allowed_models),
        "allowed_formats": _list(tenant.allowed_formats),
        "retention_days": tenant.retention_days,
        "start_within_s": tenant.start_within_s,
        "warn_percents": list(tenant.warn_percents),
    }


def of_budgets(limits: Mapping[BudgetWindow, int]) -> Picture:
    return {window.value: limits.get(window) for window in BudgetWindow}


def of_key(key: ApiKey) -> Picture:
    return {
        "name": key.name,
        "mode": key.mode.value,
        "owner": key.owner,
        "tags": list(key.tags),
        "scopes": sorted(key.scopes),
        "allowed_models": _list(key.allowed_models),
        "rpm": key.rpm,
        "max_queued": key.max_queued,
        "expires_at_ms": key.expires_at_ms,
        "disabled_at_ms": key.disabled_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
        "rotated_at_ms": key.rotated_at_ms,
    }


def of_member(member: Member) -> Picture:
    return {"role": member.role.value}


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
