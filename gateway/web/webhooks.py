"""The webhook API: endpoints, their secrets, and the log of deliveries."""

import re
from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope as RequestScope

from gateway.errors import ErrorCode, FieldError, InvalidRequest, NotFound
from gateway.messages import Delivery, DeliveryState, Endpoint, Try
from gateway.model import Act, Scope
from gateway.ports import Clock
from gateway.units import format_time
from gateway.web.answers import answer, nothing
from gateway.web.bodies import read_json, read_json_or_nothing
from gateway.web.callers import CallerSource
from gateway.web.queries import read_query
from gateway.web.schemas import parse_body
from gateway.web.webhook_schemas import (
    EVERYTHING,
    RotationBody,
    WebhookBody,
    WebhookChangesBody,
    wanted_events,
)
from gateway.webhooks.service import MAX_PAGE, Secret, Webhooks

_DEFAULT_PAGE = 20
_ID = re.compile(r"[0-9a-z_]{1,64}")
_LIMIT = re.compile(r"[0-9]{1,4}")


class WebhookApi:
    """``/api/webhooks``. Looking needs the scope `read`; changing, and seeing a secret, needs `generate`."""

    def __init__(
        self,
        callers: CallerSource,
        webhooks: Webhooks,
        clock: Clock,
        source_of: Callable[[RequestScope], str],
    ) -> None:
        self._callers = callers
        self._webhooks = webhooks
        self._clock = clock
        self._source_of = source_of

    # Endpoints

    async def list(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.READ)
        found = await self._webhooks.list(tenant_id)
        return answer({"endpoints": [self._endpoint(endpoint) for endpoint in found]})

    async def create(self, request: Request) -> Response:
        act, tenant_id = await self._actor(request)
        body = parse_body(WebhookBody, await read_json(request))
        endpoint = await self._webhooks.create(
            act,
            tenant_id,
            body.url,
            description=body.description,
            events=wanted_events(body.events) or None,
        )
        secret = await self._webhooks.secret(tenant_id, endpoint.id)
        document = {**self._endpoint(endpoint), "secret": secret.text}
        return answer(document, 201, {"Location": f"/api/webhooks/{endpoint.id}"})

    async def show(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.READ)
        return answer(self._endpoint(await self._webhooks.get(tenant_id, _id(request, "endpoint_id"))))

    async def change(self, request: Request) -> Response:
        act, tenant_id = await self._actor(request)
        body = parse_body(WebhookChangesBody, await read_json(request))
        changed = await self._webhooks.change(act, tenant_id, _id(request, "endpoint_id"), body.changes())
        return answer(self._endpoint(changed))

    async def delete(self, request: Request) -> Response:
        act, tenant_id = await self._actor(request)
        await self._webhooks.delete(act, tenant_id, _id(request, "endpoint_id"))
        return nothing()

    async def test(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.GENERATE)
        return answer(_delivery(await self._webhooks.test(tenant_id, _id(request, "endpoint_id")), None), 202)

    # Secrets

    async def secret(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.GENERATE)
        return self._secret(await self._webhooks.secret(tenant_id, _id(request, "endpoint_id")))

    async def rotate_secret(self, request: Request) -> Response:
        act, tenant_id = await self._actor(request)
        return await self._rotated(request, act, tenant_id, _id(request, "endpoint_id"))

    async def tenant_secret(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.GENERATE)
        return self._secret(await self._webhooks.secret(tenant_id, None))

    async def rotate_tenant_secret(self, request: Request) -> Response:
        return await self._rotated(request, *await self._actor(request), None)

    async def _rotated(self, request: Request, act: Act, tenant_id: str, endpoint_id: str | None) -> Response:
        body = parse_body(RotationBody, await read_json_or_nothing(request))
        secret = await self._webhooks.rotate(act, tenant_id, endpoint_id, overlap_s=body.overlap_s)
        return self._secret(secret)

    # Deliveries

    async def deliveries(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.READ)
        query = read_query(request, ("status", "cursor", "limit"))
        page = await self._webhooks.deliveries(
            tenant_id,
            state=_state(query.get("status")),
            cursor=query.get("cursor"),
            limit=_limit(query.get("limit")),
        )
        shown = [_delivery(each, page.last_tries.get(each.id)) for each in page.deliveries]
        return answer({"deliveries": shown, "next_cursor": page.cursor})

    async def delivery(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.READ)
        found, tries = await self._webhooks.delivery(tenant_id, _id(request, "delivery_id"))
        document = _delivery(found, tries[-1] if tries else None)
        message = orjson.Fragment(found.body)
        return answer({**document, "message": message, "tries": [_try(each) for each in tries]})

    async def replay(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.GENERATE)
        replayed = await self._webhooks.replay(tenant_id, _id(request, "delivery_id"))
        return answer(_delivery(replayed, None), 202)

    async def replay_failed(self, request: Request) -> Response:
        tenant_id = await self._tenant(request, Scope.GENERATE)
        return answer({"replayed": await self._webhooks.replay_failed(tenant_id)}, 202)

    # Help

    async def _tenant(self, request: Request, scope: Scope) -> str:
        return (await self._callers.identify(request, scope)).tenant_id

    async def _actor(self, request: Request) -> tuple[Act, str]:
        """Who changes something, for the audit log, and whose it is."""
        principal = await self._callers.identify(request, Scope.GENERATE)
        source = self._source_of(request.scope)
        return Act(f"key:{principal.key_id}", source, request.scope["request_id"]), principal.tenant_id

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        return {
            "id": endpoint.id,
            "url": endpoint.url,
            "description": endpoint.description,
            "events": [EVERYTHING] if endpoint.events is None else list(endpoint.events),
            "enabled": endpoint.disabled_at_ms is None,
            "disabled_reason": endpoint.disabled_reason,
            "disabled_at": format_time(endpoint.disabled_at_ms),
            "failing_since": format_time(endpoint.failing_since_ms),
            "created_at": format_time(endpoint.created_at_ms),
        }

    def _secret(self, secret: Secret) -> Response:
        until_ms = secret.state.previous_until_ms
        overlaps = until_ms is not None and self._clock.now_ms() < until_ms
        return answer(
            {
                "secret": secret.text,
                "version": secret.state.version,
                "previous_until": format_time(until_ms) if overlaps else None,
            }
        )


def _delivery(delivery: Delivery, last: Try | None) -> dict[str, Any]:
    pending = delivery.state is DeliveryState.PENDING
    return {
        "id": delivery.id,
        "type": delivery.kind,
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.url,
        "task_id": delivery.task_id,
        "status": delivery.state,
        "try_count": delivery.tries,
        "last_try": _try(last) if last is not None else None,
        "next_try_at": format_time(delivery.next_attempt_at_ms) if pending else None,
        "created_at": format_time(delivery.created_at_ms),
        "finished_at": format_time(delivery.finished_at_ms),
    }


def _try(tried: Try) -> dict[str, Any]:
    return {
        "number": tried.number,
        "at": format_time(tried.at_ms),
        "duration_ms": tried.duration_ms,
        "http_status": tried.status,
        "error": tried.error,
    }


def _id(request: Request, name: str) -> str:
    """An id from the address. What cannot be one of ours need not be looked up."""
    value = str(request.path_params[name])
    if _ID.fullmatch(value) is None:
        raise NotFound("There is nothing of yours under this id.", code=ErrorCode.NOT_FOUND)
    return value


def _state(value: str | None) -> DeliveryState | None:
    if value is None:
        return None
    try:
        return DeliveryState(value)
    except ValueError:
        detail = f"must be one of: {', '.join(DeliveryState)}."
        raise InvalidRequest((FieldError("status", "unknown_status", detail),)) from None


def _limit(value: str | None) -> int:
    if value is None:
        return _DEFAULT_PAGE
    if _LIMIT.fullmatch(value) is None or not 1 <= int(value) <= MAX_PAGE:
        raise InvalidRequest((FieldError("limit", "out_of_range", f"must be 1 to {MAX_PAGE}."),))
    return int(value)
