"""The judge of answers lets nothing undocumented pass."""

import json
from typing import Any

import httpx
import pytest

from tests.specification import Specification

PROBLEM = {
    "type": "urn:gateway:problem:unauthorized",
    "title": "A valid API key is needed",
    "status": 401,
    "detail": "Send a valid API key.",
    "code": "unauthorized",
    "request_id": "request-0001",
}
HEADERS = {
    "Content-Type": "application/problem+json",
    "X-Request-Id": "request-0001",
    "Cache-Control": "no-store",
    "WWW-Authenticate": "Bearer",
}


def answer(
    status: int = 401,
    body: dict[str, Any] | None = None,
    *,
    method: str = "GET",
    path: str = "/api/task-status/x",
    **headers: str | None,
) -> httpx.Response:
    """A right refusal, but for what is named."""
    changed = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.Response(
        status,
        content=json.dumps({**PROBLEM, **(body or {})}),
        headers={name: value for name, value in changed.items() if value is not None},
        request=httpx.Request(method, f"http://gateway{path}"),
    )


def test_a_documented_answer_passes(specification: Specification) -> None:
    specification.check(answer())


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (answer(418), "418 is not among"),
        (answer(401, path="/nowhere"), "is not documented"),
        (answer(401, method="DELETE"), "is not documented"),
        (answer(X_Request_Id=None), "X-Request-Id is missing"),
        (answer(X_Request_Id="!"), "header X-Request-Id"),
        (answer(WWW_Authenticate=None), "WWW-Authenticate is missing"),
        (answer(Retry_After="5"), "undocumented headers"),
        (answer(Content_Type="text/plain"), "text/plain is not among"),
        (answer(body={"code": "forbidden"}), "'forbidden' is not one of"),
        (answer(body={"status": 400}), "401 was expected"),
        (answer(body={"stack": "…"}), "'stack' was unexpected"),
        (answer(body={"detail": 1}), "is not of type 'string'"),
        (answer(body={"type": "urn:gateway:problem:other"}), ""),
        (answer(body={"request_id": "request-0002"}), ""),
    ],
)
def test_what_is_not_documented_fails(
    specification: Specification, wrong: httpx.Response, complaint: str
) -> None:
    with pytest.raises(AssertionError) as failed:
        specification.check(wrong)
    assert complaint in str(failed.value)


def test_what_has_no_body_is_held_to_that(specification: Specification) -> None:
    path = "/admin/api/tenants/ten_x/members/ada@example.com"
    headers = {"X-Request-Id": "request-0001", "Cache-Control": "no-store"}
    request = httpx.Request("DELETE", f"http://gateway{path}")
    specification.check(httpx.Response(204, headers=headers, request=request))
    with pytest.raises(AssertionError, match="a body where none is documented"):
        specification.check(httpx.Response(204, headers=headers, content=b"{}", request=request))


def test_nowhere_is_a_404_and_a_wrong_method_a_405(specification: Specification) -> None:
    nowhere = {"type": "urn:gateway:problem:route_not_found", "status": 404, "code": "route_not_found"}
    specification.check(answer(404, nowhere, path="/nowhere", WWW_Authenticate=None))
    wrong = {"type": "urn:gateway:problem:method_not_allowed", "status": 405, "code": "method_not_allowed"}
    specification.check(answer(405, wrong, method="PUT", Allow="GET, HEAD", WWW_Authenticate=None))
