"""How far a key may reach: never further than its tenant, and never further than whoever made it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.errors import FieldError
from gateway.model import ALL_SCOPES, ApiKey, Scope, Tenant


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be given to a key. None of a limit, of models or of an expiry means that there is no bound."""

    scopes: frozenset[Scope] = ALL_SCOPES
    allowed_models: tuple[str, ...] | None = None
    rpm: int | None = None
    max_queued: int | None = None
    expires_at_ms: int | None = None


def grant_of_tenant(tenant: Tenant) -> Grant:
    return Grant(allowed_models=tenant.allowed_models, rpm=tenant.rpm, max_queued=tenant.max_queued)


def grant_of_key(key: ApiKey) -> Grant:
    return Grant(key.scopes, key.allowed_models, key.rpm, key.max_queued, key.expires_at_ms)


def narrowed(key: ApiKey, grant: Grant) -> ApiKey:
    """The key with whatever it leaves open bounded as the grant is."""
    return replace(
        key,
        allowed_models=grant.allowed_models if key.allowed_models is None else key.allowed_models,
        rpm=grant.rpm if key.rpm is None else key.rpm,
        max_queued=grant.max_queued if key.max_queued is None else key.max_queued,
        expires_at_ms=grant.expires_at_ms if key.expires_at_ms is None else key.expires_at_ms,
    )


def excesses(key: ApiKey, grant: Grant, whose: str) -> Iterator[FieldError]:
    """What a key asks for beyond the grant, which is ``whose`` ("its tenant's"). Unset limits ask nothing."""
    for scope in sorted(key.scopes - grant.scopes):
        yield FieldError("scopes", "exceeds_grant", f"{scope.value!r} is not one of {whose}.")
    if key.allowed_models is not None and grant.allowed_models is not None:
        for model in sorted(set(key.allowed_models) - set(grant.allowed_models)):
            yield FieldError("allowed_models", "exceeds_grant", f"{model!r} is not one of {whose}.")
    for name in ("rpm", "max_queued"):
        asked, most = getattr(key, name), getattr(grant, name)
        if asked is not None and most is not None and asked > most:
            yield FieldError(name, "exceeds_grant", f"must be at most {whose}, {most}.")
    if (
        key.expires_at_ms is not None
        and grant.expires_at_ms is not None
        and key.expires_at_ms > grant.expires_at_ms
    ):
        yield FieldError("expires_at", "exceeds_grant", f"must not be later than {whose}.")
