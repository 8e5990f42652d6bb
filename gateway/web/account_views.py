"""What a caller's own standing looks like to it."""

from collections.abc import Iterable
from typing import Any

from gateway.accounts.tenants import Budget
from gateway.errors import LimitState
from gateway.tasks.catalog import RouteOffer
from gateway.tasks.standing import Level, PricedOffer, Standing
from gateway.units import format_usd
from gateway.web.schemas import MAX_SAMPLES, MAX_SEED
from gateway.web.views import timestamp


def render_standing(standing: Standing) -> dict[str, Any]:
    """The account document of openapi.yaml."""
    tenant, key = standing.tenant, standing.key
    rates = [standing.key_rate, *([standing.tenant_rate] if standing.tenant_rate else [])]
    levels = [standing.queued, *([standing.key_queued] if standing.key_queued else []), standing.running]
    return {
        "tenant": {
            "id": tenant.id,
            "name": tenant.name,
            "status": tenant.status.value,
            "zone": tenant.zone,
            "start_within_s": tenant.start_within_s,
            "allowed_models": _listed(tenant.allowed_models),
            "allowed_formats": _listed(tenant.allowed_formats),
        },
        "key": {
            "id": key.id,
            "name": key.name,
            "mode": key.mode.value,
            "state": standing.key_state.value,
            "scopes": sorted(key.scopes),
            "allowed_models": _listed(key.allowed_models),
            "created_at": timestamp(key.created_at_ms),
            "expires_at": timestamp(key.expires_at_ms),
        },
        "rates": [_rate(rate) for rate in rates],
        "tasks": [_level(level) for level in levels],
        "budgets": [render_budget(budget) for budget in standing.budgets],
    }


def render_offers(offers: Iterable[PricedOffer]) -> list[dict[str, Any]]:
    """Models as openapi.yaml has them."""
    return [
        {
            "name": priced.offer.deployment.kind,
            "routes": [_route(route) for route in priced.offer.routes],
            "formats": [each.value for each in priced.formats],
            "samples": {"min": 1, "max": MAX_SAMPLES},
            "native_format": priced.offer.traits.native.value,
            "seed": {"min": 0, "max": MAX_SEED} if priced.offer.traits.seeded else None,
            "negative_prompt": priced.offer.traits.negative_prompt,
            "take_max_seconds": priced.offer.traits.longest_s,
            "price_per_clip": {
                "currency": "USD",
                "micros": priced.price_micros,
                "usd": format_usd(priced.price_micros),
            },
            "emulated": priced.emulated,
        }
        for priced in offers
    ]


def _rate(rate: LimitState) -> dict[str, Any]:
    return {
        "name": rate.name,
        "limit": rate.quota,
        "window_s": rate.window_s,
        "remaining": rate.remaining,
        "resets_in_s": rate.reset_s,
    }


def _level(level: Level) -> dict[str, Any]:
    return {"name": level.name, "limit": level.limit, "used": level.used, "remaining": level.remaining}


def render_budget(budget: Budget) -> dict[str, Any]:
    return {
        "window": budget.window.value,
        "limit_micros": budget.limit_micros,
        "held_micros": budget.used.held_micros,
        "spent_micros": budget.used.spent_micros,
        "remaining_micros": budget.remaining_micros,
        "resets_at": timestamp(budget.resets_at_ms),
    }


def _route(route: RouteOffer) -> dict[str, Any]:
    return {
        "path": f"/api/{route.route.value}",
        "chosen": route.chosen,
        "seconds": {"min": route.shortest_s, "max": route.longest_s, "default": route.default_s},
    }


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)
