"""Errors as ``application/problem+json`` (RFC 9457), in one shape, whatever raised them."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from gateway.errors import (
    BudgetSpent,
    BudgetState,
    ErrorCode,
    FieldError,
    GatewayError,
    InvalidRequest,
    LimitReached,
    LimitState,
    NotAnAdmin,
)
from gateway.telemetry import redact
from gateway.web.views import timestamp

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 5.0

#: Status and title of every code that can answer a request. Codes of failed tasks have none.
STATUSES: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.MALFORMED_REQUEST: (400, "This is not HTTP as it should be"),
    ErrorCode.INVALID_REQUEST: (400, "The request is not valid"),
    ErrorCode.MALFORMED_BODY: (400, "The body cannot be read"),
    ErrorCode.UNAUTHORIZED: (401, "A valid API key is needed"),
    ErrorCode.KEY_REVOKED: (401, "The API key was revoked"),
    ErrorCode.KEY_EXPIRED: (401, "The API key has expired"),
    ErrorCode.KEY_DISABLED: (401, "The API key is disabled"),
    ErrorCode.TENANT_SUSPENDED: (403, "The tenant is suspended"),
    ErrorCode.NOT_ALLOWED: (403, "This key may not do this"),
    ErrorCode.ADMIN_CLOSED: (403, "The admin API is closed"),
    ErrorCode.TEST_KEYS_OFF: (403, "Test keys are switched off"),
    ErrorCode.NOT_FOUND: (404, "There is no such thing"),
    ErrorCode.CONFLICT: (409, "It contradicts what is there"),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: (422, "The idempotency key belongs to another request"),
    ErrorCode.LINK_INVALID: (403, "The link is not valid"),
    ErrorCode.SIGN_IN_REFUSED: (403, "Signing in did not work"),
    ErrorCode.SIGN_IN_UNAVAILABLE: (503, "Who you are cannot be asked just now"),
    ErrorCode.ROUTE_NOT_FOUND: (404, "There is nothing here"),
    ErrorCode.TASK_NOT_FOUND: (404, "No such task"),
    ErrorCode.FILE_NOT_FOUND: (404, "No such file"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "This method is not for this address"),
    ErrorCode.BODY_TOO_LARGE: (413, "The body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "This content type is not read here"),
    ErrorCode.RANGE_NOT_SATISFIABLE: (416, "There is nothing in this range"),
    ErrorCode.BUDGET_SPENT: (402, "The budget does not cover this"),
    ErrorCode.RATE_LIMITED: (429, "Too many requests"),
    ErrorCode.QUEUE_FULL: (429, "Too many tasks are waiting"),
    ErrorCode.SLOW_DOWN: (429, "Too many reads or bad keys"),
    ErrorCode.HEADERS_TOO_LARGE: (431, "The headers are too large"),
    ErrorCode.INTERNAL_ERROR: (500, "The gateway made a mistake"),
    ErrorCode.DATABASE_UNAVAILABLE: (503, "The gateway cannot take requests just now"),
    ErrorCode.LIMITS_UNAVAILABLE: (503, "The gateway cannot count requests just now"),
    ErrorCode.STORAGE_UNAVAILABLE: (503, "Audio storage is out of reach just now"),
    ErrorCode.MODEL_UNAVAILABLE: (503, "No model can serve this"),
}


def problem(error: GatewayError, request_id: str, extensions: Mapping[str, Any] | None = None) -> Response:
    """The answer to a request that failed with this error.

    ``extensions`` are further members of the document (RFC 9457 §3.2).
    """
    # A code without a status belongs to tasks; it reaching the edge is a mistake of ours.
    status, title = STATUSES.get(error.code, STATUSES[ErrorCode.INTERNAL_ERROR])
    document: dict[str, Any] = {
        "type": f"urn:gateway:problem:{error.code.value}",
        "title": title,
        "status": status,
        "detail": error.detail,
        "code": error.code.value,
        "request_id": request_id,
        **(extensions or {}),
    }
    # Some of these statuses may be cached unless told otherwise (RFC 9110 §15.1).
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, InvalidRequest):
        document["errors"] = [_field(field) for field in error.fields]
    if isinstance(error, LimitReached):
        document["violated-policies"] = [error.limit.name]
        document["limit"] = _limit(error.limit)
        headers.update(limit_headers(error.limit))
    if isinstance(error, BudgetSpent):
        document["budget"] = _budget(error.budget)
    retry_after_s = error.retry_after_s
    if retry_after_s is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = _RETRY_AFTER_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if status == HTTPStatus.UNAUTHORIZED:  # RFC 9110 §15.5.2 wants a challenge with this one
        key = "" if isinstance(error, NotAnAdmin) else 'ApiKey header="X-Api-Key", '
        headers["WWW-Authenticate"] = f"{key}Bearer"
    # A text may repeat what was sent, such as the name of a field; a key in it goes no further.
    return Response(redact(orjson.dumps(document).decode()), status, headers, MEDIA_TYPE)


def limit_headers(limit: LimitState) -> dict[str, str]:
    """RateLimit fields (draft-ietf-httpapi-ratelimit-headers-10)."""
    if limit.window_s == 0:
        return {"RateLimit-Policy": f'"{limit.name}";q={limit.quota}', "RateLimit": f'"{limit.name}";r=0'}
    return {
        "RateLimit-Policy": f'"{limit.name}";q={limit.quota};w={limit.window_s}',
        "RateLimit": f'"{limit.name}";r={limit.remaining};t={limit.reset_s}',
    }


def _limit(limit: LimitState) -> dict[str, Any]:
    return {
        "name": limit.name,
        "quota": limit.quota,
        "window_s": limit.window_s or None,
        "remaining": limit.remaining,
        "retry_after_s": limit.reset_s,
    }


def _budget(budget: BudgetState) -> dict[str, Any]:
    return {
        "window": budget.window,
        "limit_micros": budget.limit_micros,
        "held_micros": budget.held_micros,
        "spent_micros": budget.spent_micros,
        "price_micros": budget.price_micros,
        "resets_at": timestamp(budget.resets_at_ms),
    }


def _field(field: FieldError) -> dict[str, str]:
    return {"field": field.field, "code": field.code, "detail": field.detail}
