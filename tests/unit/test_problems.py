"""Errors as problem documents."""

import json
import secrets

import pytest

from gateway.accounts import keys
from gateway.errors import (
    BodyTooLarge,
    ErrorCode,
    FieldError,
    GatewayError,
    InvalidRequest,
    LimitReached,
    LimitState,
    NotAnAdmin,
    NotFound,
    StorageError,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from gateway.web.problems import STATUSES, limit_headers, problem

KEY_LIMIT = LimitState("key", quota=60, window_s=60, remaining=0, reset_s=12)


@pytest.mark.parametrize("code", list(STATUSES))
def test_every_code_has_one_shape(code: ErrorCode) -> None:
    status, title = STATUSES[code]
    response = problem(GatewayError("what to do", code=code), "request-0001")
    document = json.loads(response.body)
    assert response.status_code == status
    assert response.media_type == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert document == {
        "type": f"urn:gateway:problem:{code.value}",
        "title": title,
        "status": status,
        "detail": "what to do",
        "code": code.value,
        "request_id": "request-0001",
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest((FieldError("prompt", "missing", "is required."),)), 400),
        (Unauthorized("x"), 401),
        (NotAnAdmin("x"), 401),
        (NotFound("x"), 404),
        (BodyTooLarge("x"), 413),
        (UnsupportedMedia("x"), 415),
        (LimitReached("x", code=ErrorCode.RATE_LIMITED, limit=KEY_LIMIT), 429),
        (Unavailable("x"), 503),
        (StorageError("x"), 503),
        (GatewayError("x"), 500),
    ],
)
def test_every_kind_of_error_has_its_status(error: GatewayError, status: int) -> None:
    assert problem(error, "request-0001").status_code == status


def test_the_internal_text_stays_inside() -> None:
    response = problem(Unavailable("sorry", internal="disk /dev/sda1 is on fire"), "request-0001")
    assert b"fire" not in response.body


def test_fields_are_named_each() -> None:
    fields = (
        FieldError("prompt", "missing", "is required."),
        FieldError("tempo", "unknown_field", "is not."),
    )
    document = json.loads(problem(InvalidRequest(fields), "request-0001").body)
    assert document["errors"] == [
        {"field": "prompt", "code": "missing", "detail": "is required."},
        {"field": "tempo", "code": "unknown_field", "detail": "is not."},
    ]
    assert document["detail"] == "prompt: is required. tempo: is not."


def test_a_limit_says_which_and_when_to_come_back() -> None:
    response = problem(LimitReached("x", code=ErrorCode.RATE_LIMITED, limit=KEY_LIMIT), "request-0001")
    assert json.loads(response.body)["violated-policies"] == ["key"]
    assert response.headers["retry-after"] == "12"
    assert response.headers["ratelimit"] == '"key";r=0;t=12'


@pytest.mark.parametrize(
    ("limit", "policy", "state"),
    [
        (KEY_LIMIT, '"key";q=60;w=60', '"key";r=0;t=12'),
        (LimitState("queued", 100, 0, 0, 10), '"queued";q=100', '"queued";r=0'),
    ],
)
def test_limits_as_headers(limit: LimitState, policy: str, state: str) -> None:
    assert limit_headers(limit) == {"RateLimit-Policy": policy, "RateLimit": state}


@pytest.mark.parametrize(
    ("after_s", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (60.0, "60")]
)
def test_nobody_is_asked_back_too_early(after_s: float, header: str) -> None:
    response = problem(Unavailable("x", retry_after_s=after_s), "request-0001")
    assert response.headers["retry-after"] == header


def test_unavailable_always_says_when_to_come_back() -> None:
    assert problem(StorageError("x"), "request-0001").headers["retry-after"] == "5"


def test_only_a_missing_key_is_challenged() -> None:
    assert "X-Api-Key" in problem(Unauthorized("x"), "request-0001").headers["www-authenticate"]
    assert "www-authenticate" not in problem(NotFound("x"), "request-0001").headers


def test_a_code_of_tasks_that_reaches_the_edge_is_a_mistake_of_ours() -> None:
    response = problem(GatewayError("x", code=ErrorCode.SAFETY_BLOCKED), "request-0001")
    assert response.status_code == 500


def test_further_members_stand_beside_the_rest() -> None:
    document = json.loads(problem(Unavailable("x"), "request-0001", {"checks": {"database": "gone"}}).body)
    assert document["checks"] == {"database": "gone"}


def test_a_challenge_names_what_is_taken_there() -> None:
    """RFC 9110 §11.6.1."""
    assert problem(Unauthorized("x"), "r").headers["www-authenticate"] == 'ApiKey header="X-Api-Key", Bearer'
    assert problem(NotAnAdmin("x"), "r").headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_wrong_place_is_not_told_back() -> None:
    """S1: in an address, in a field, in the name of a field."""
    key = keys.mint(secrets.choice)
    error = InvalidRequest((FieldError(key.text, "unknown", f"{key.text!r} is none."),))
    body = bytes(problem(error, "request-0001").body).decode()
    assert key.text not in body
    assert f"{key.public_id}_***" in body
    assert json.loads(body)["status"] == 400
