"""The running gateway over HTTP: keys, tenants, limits, preferences, callers that hang up."""

import socket
from typing import Any

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway
from tests.specification import PATH, Specification
from tests.system.patience import until

BODY = {"prompt": "slow piano", "durationSeconds": 1}
AT_ONCE = {"Prefer": "respond-async"}


# Keys and tenants


@pytest.mark.parametrize("sent", [{}, {"X-Api-Key": "YOUR_API_KEY"}, {"Authorization": "Bearer nonsense"}])
def test_without_a_key_of_ours_there_is_nothing(http: httpx.Client, sent: dict[str, str]) -> None:
    for response in (
        http.post("/api/music_generate", json=BODY, headers=sent),
        http.post("/api/music_generate_lyria", json=BODY, headers=sent),
        http.get("/api/task-status/task_1", headers=sent),
    ):
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"]


def test_a_key_works_as_a_bearer_token(http: httpx.Client, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"} | AT_ONCE
    assert http.post("/api/music_generate", json=BODY, headers=headers).status_code == 202


def test_a_task_is_its_tenants_alone(gateway: RunningGateway, http: httpx.Client, api: httpx.Client) -> None:
    task = api.post("/api/music_generate", json=BODY, headers=AT_ONCE).json()
    path = f"/api/task-status/{task['task_id']}"
    stranger = {"X-Api-Key": gateway.create_key(gateway.create_tenant("stranger"))}
    response = http.get(path, headers=stranger)
    assert (response.status_code, response.json()["code"]) == (404, "task_not_found")
    assert api.get(path).status_code == 200


def test_a_revoked_key_stops_working_on_the_running_process(
    gateway: RunningGateway, tenant_id: str, http: httpx.Client
) -> None:
    key = gateway.create_key(tenant_id)
    headers = {"X-Api-Key": key}
    assert http.get("/api/task-status/x", headers=headers).status_code == 404
    gateway.command("key", "revoke", key.split("_")[2])
    assert http.post("/api/music_generate", json=BODY, headers=headers).status_code == 401
    until(lambda: http.get("/api/task-status/x", headers=headers).status_code == 401)


# Limits


def test_a_key_has_its_requests_a_minute(gateway: RunningGateway, tenant_id: str, http: httpx.Client) -> None:
    headers = {"X-Api-Key": gateway.create_key(tenant_id, "--rpm", "2")} | AT_ONCE
    answers = [http.post("/api/music_generate", json=BODY, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"key";q=2;w=60'}
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    assert answers[2].json()["code"] == "rate_limited"
    # Looking is not asking: the status of a task costs nothing of the rate.
    assert http.get("/api/task-status/x", headers=headers).status_code == 404


# Preferences and names


@pytest.mark.parametrize(
    ("prefer", "status", "applied"),
    [
        (None, 200, None),
        ("wait=50", 200, "wait=50"),
        ("respond-async, wait=50", 200, "wait=50"),
        ("wait=9999", 200, "wait=60"),
        ("respond-async", 202, "respond-async"),
        ("wait=0", 202, "wait=0"),
    ],
)
def test_the_caller_says_how_long_to_wait(
    api: httpx.Client, prefer: str | None, status: int, applied: str | None
) -> None:
    headers = {"Prefer": prefer} if prefer else {}
    response = api.post("/api/music_generate", json=BODY, headers=headers)
    assert (response.status_code, response.headers.get("preference-applied")) == (status, applied)


def test_a_wait_that_is_over_is_answered_with_the_task(api: httpx.Client, emulator: RunningEmulator) -> None:
    emulator.script({"delay_s": 3})
    response = api.post("/api/music_generate", json=BODY, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert int(response.headers["retry-after"]) >= 1
    waiting = {"Prefer": "wait=50"}
    assert api.get(response.headers["location"], headers=waiting).json()["status"] == "succeeded"


def test_a_request_keeps_the_name_it_brings(http: httpx.Client) -> None:
    response = http.get("/nowhere", headers={"X-Request-Id": "checkout-7f3a2b"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "checkout-7f3a2b"
    assert http.get("/livez").headers["x-request-id"] != http.get("/livez").headers["x-request-id"]


# Callers that hang up


def test_a_caller_that_hangs_up_in_the_middle_of_its_wait_loses_nothing(
    gateway: RunningGateway, api: httpx.Client, key: str, emulator: RunningEmulator
) -> None:
    emulator.script({"delay_s": 1})
    body = b'{"prompt": "slow piano", "durationSeconds": 1}'
    head = (
        f"POST /api/music_generate HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nX-Request-Id: hangs-up-now\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: emulator.calls()["paid"])

    def finished() -> list[dict[str, Any]]:
        lines = gateway.log_lines()
        return [line for line in lines if line.get("request_id") == "hangs-up-now" and "task_id" in line]

    until(lambda: [line for line in finished() if line["message"] == "task is succeeded"])
    line = finished()[0]
    task = api.get(f"/api/task-status/{line['task_id']}").json()
    assert (task["status"], emulator.calls()["paid"]) == ("succeeded", 1)


# The document


def test_the_specification_is_served(http: httpx.Client) -> None:
    assert http.get("/openapi.yaml").content == PATH.read_bytes()


def test_real_answers_are_as_documented(api: httpx.Client, http: httpx.Client) -> None:
    specification = Specification.load()
    made = api.post("/api/music_generate", json=BODY)
    link = made.json()["audio_url"]
    for response in (
        made,
        api.post("/api/music_generate_lyria", json=BODY),
        api.get(f"/api/task-status/{made.json()['task_id']}"),
        http.get(link),
        http.head(link),
        http.get(link, headers={"Range": "bytes=0-9"}),
        http.get(link, headers={"Range": "bytes=99999999-"}),
        *(http.get(path) for path in ("/", "/livez", "/readyz", "/metrics", "/openapi.yaml", "/nowhere")),
        http.put("/livez"),
    ):
        specification.check(response)
