"""Around every handler: request ids, keys, logs, what the server's parser refuses, callers that hang up."""

import asyncio
import contextlib
import json
import logging
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.bootstrap.services import Services
from gateway.web.bodies import BODY_LIMIT_BYTES
from gateway.web.protocol import HEAD_LIMIT_BYTES, PIPELINE_LIMIT, GatewayProtocol
from tests.api import WAIT_S, Caller, RawAnswer, checked_client, make_caller, send_raw, until
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.factories import ACT
from tests.specification import Specification

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


# Request ids


@pytest.mark.parametrize("offered", ["checkout-7f3a2b", "a" * 64, "A.b_c-d0"])
async def test_a_request_may_bring_its_own_name(client: httpx.AsyncClient, offered: str) -> None:
    response = await client.get("/livez", headers={"X-Request-Id": offered})
    assert response.headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", ["short", "a" * 65, "has space in it", "new\tline", "{{template}}", ""])
async def test_a_name_that_will_not_do_is_replaced(client: httpx.AsyncClient, offered: str) -> None:
    response = await client.get("/livez", headers={"X-Request-Id": offered})
    assert response.headers["x-request-id"].startswith("request-")


async def test_a_key_is_no_name_for_a_request(caller: Caller) -> None:
    """It would be kept with the task, and told back in every answer."""
    response = await caller.status("x", **{"X-Request-Id": caller.key})
    assert response.headers["x-request-id"].startswith("request-")


async def test_every_request_has_a_name_of_its_own(client: httpx.AsyncClient) -> None:
    names = {(await client.get("/livez")).headers["x-request-id"] for _ in range(5)}
    assert len(names) == 5


# Keys


async def test_a_key_may_come_as_a_bearer_token(caller: Caller) -> None:
    for scheme in ("Bearer", "bearer", "BEARER "):
        headers = {"Authorization": f"{scheme} {caller.key}"}
        response = await caller.client.get("/api/task-status/x", headers=headers)
        assert response.status_code == 404


async def test_beside_a_key_the_other_header_may_hold_what_lets_one_through(caller: Caller) -> None:
    for other in ("Bearer eyJhbGciOi.eyJzdWIi.c2ln", "Basic dXNlcjpwYXNz", f"Bearer {caller.key}"):
        assert (await caller.status("x", Authorization=other)).status_code == 404


async def test_two_different_keys_are_one_too_many(caller: Caller, stranger: Caller) -> None:
    response = await caller.status("x", Authorization=f"Bearer {stranger.key}")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert "different keys" in response.json()["detail"]


WRONG_KEYS = [
    {},
    {"X-Api-Key": ""},
    {"X-Api-Key": "mg_live_"},
    {"X-Api-Key": "YOUR_API_KEY"},
    {"X-Api-Key": "mg_live_000000000000_" + "0" * 38},
    {"X-Api-Key": "\xff" * 59},
    {"X-Api-Key": "x" * 10_000},
    {"Authorization": "Bearer"},
    {"Authorization": "Basic dXNlcjpwYXNz"},
]


async def test_every_wrong_key_is_refused_alike(client: httpx.AsyncClient) -> None:
    for headers in WRONG_KEYS:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        response = await client.get("/api/task-status/x", headers=raw)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), headers
        assert response.json()["detail"].startswith("Send a valid API key in the X-Api-Key header.")


async def test_a_key_with_one_character_changed_is_refused(caller: Caller) -> None:
    for at in (9, 25, len(caller.key) - 1):
        changed = caller.key[:at] + ("b" if caller.key[at] == "a" else "a") + caller.key[at + 1 :]
        response = await caller.client.get("/api/task-status/x", headers={"X-Api-Key": changed})
        assert response.status_code == 401


async def test_a_key_in_an_address_is_never_read(caller: Caller) -> None:
    for name in ("key", "api_key", "apikey", "X-Api-Key", "x-api-key", "access_token", "token"):
        response = await caller.client.get("/api/task-status/x", params={name: caller.key})
        assert response.status_code == 401, name


async def test_a_key_in_a_cookie_or_a_form_is_never_read(caller: Caller) -> None:
    data = {"prompt": "x", "X-Api-Key": caller.key}
    headers = {"Cookie": f"X-Api-Key={caller.key}"}
    response = await caller.client.post("/api/music_generate", data=data, headers=headers)
    assert response.status_code == 401


# Hosts and addresses


HOSTS = [
    *("evil.example", "gateway/livez?", "gateway@evil", "a\\b", "livez", "[::1", "gateway:99999", ""),
    *("x/../livez#", "gateway/api/task-status/x?"),
]


async def test_a_crafted_host_changes_neither_route_nor_check(caller: Caller) -> None:
    """CVE-2026-48710: the request's URL was rebuilt from Host, and paths were judged by it."""
    for host in HOSTS:
        unknown = await caller.client.get("/api/task-status/x", headers={"Host": host})
        assert unknown.status_code == 401, host
        assert (await caller.status("x", Host=host)).json()["code"] == "task_not_found", host
        task = (await caller.post(json={"prompt": "x"}, headers={"Host": host, "Prefer": "wait=0"})).json()
        assert task["status_url"].startswith("http://127.0.0.1:"), host


NO_ADDRESSES = [
    *("/api", "/api/", "/api/music_generate/", "/API/music_generate", "//api/music_generate"),
    *("/api/task-status", "/api/task-status/", "/livez/", "/files", "/%2e%2e/etc/passwd", "/%ff%00"),
]


async def test_only_the_very_address_is_an_address(url: str, specification: Specification) -> None:
    async with checked_client(specification, base_url=url) as client:
        for path in NO_ADDRESSES:
            response = await client.get(path)
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found"), path


# Bodies on the wire


def head(*lines: str, path: str = "/api/music_generate") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: gateway", *lines, "", ""]).encode("latin-1")


def told(answer: RawAnswer) -> tuple[int, str]:
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["status"] == answer.status
    return answer.status, document["code"]


async def read_all(url: str, sent: bytes) -> bytes:
    """Everything that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(sent)
    answers = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answers


async def test_a_body_too_large_is_refused_before_it_is_sent(url: str, caller: Caller) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Content-Length: 1000000000"]
    assert told(await send_raw(url, head(*lines))) == (413, "body_too_large")


async def test_a_body_without_a_length_is_refused_when_it_gets_too_large(url: str, caller: Caller) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert told(await send_raw(url, head(*lines), *[chunk] * 5)) == (413, "body_too_large")


async def test_a_body_in_the_smallest_chunks_is_read(url: str, caller: Caller) -> None:
    lines = [
        f"X-Api-Key: {caller.key}",
        "Content-Type: application/json",
        "Prefer: wait=0",
        "Transfer-Encoding: chunked",
    ]
    chunks = [b"1\r\n%c\r\n" % byte for byte in b'{"prompt": "x"}']
    answer = await send_raw(url, head(*lines), *chunks, b"0\r\n\r\n")
    assert answer.status == 202


async def test_a_body_of_the_limit_is_read_over_the_wire(url: str, caller: Caller) -> None:
    headers = {"X-Api-Key": caller.key, "Content-Type": "application/json", "Prefer": "wait=0"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for extra, status in ((0, 202), (1, 413)):
            body = b'{"prompt": "x"}'.ljust(BODY_LIMIT_BYTES + extra)
            response = await client.post("/api/music_generate", content=body, headers=headers)
            assert response.status_code == status


# What no handler sees


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"POST /api/music_generate HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    ],
)
async def test_what_is_not_http_is_told_so_in_the_same_shape(url: str, sent: bytes) -> None:
    assert told(await send_raw(url, sent)) == (400, "malformed_request")


@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\nX-Long: ", b"GET /"])
async def test_endless_headers_are_cut_off(url: str, before: bytes) -> None:
    blocks = [b"a" * 65_536] * (HEAD_LIMIT_BYTES // 65_536 + 8)
    assert told(await send_raw(url, before, *blocks)) == (431, "headers_too_large")


@pytest.mark.parametrize("extra", [b"X-Trailer: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
async def test_endless_trailers_are_cut_off(url: str, caller: Caller, extra: bytes) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    blocks = [extra * 60] * (HEAD_LIMIT_BYTES // 60_000 + 8)
    answer = await send_raw(url, head(*lines), b"0\r\n", *blocks)
    assert told(answer) == (431, "headers_too_large")


async def test_trailers_do_not_pass_for_headers(url: str, caller: Caller) -> None:
    lines = ["Content-Type: application/json", "Transfer-Encoding: chunked"]
    body = b'f\r\n{"prompt": "x"}\r\n0\r\n' + f"X-Api-Key: {caller.key}\r\n\r\n".encode()
    assert (await send_raw(url, head(*lines) + body)).status == 401


async def test_a_whole_request_is_answered_though_nonsense_follows(
    url: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Content-Length: 15"]
    request = head(*lines, "Prefer: wait=0") + b'{"prompt": "x"}'
    for nonsense in (b"nonsense\r\n\r\n", head("Transfer-Encoding: chunked") + b"-1\r\n"):
        answers = await read_all(url, request + nonsense)
        assert answers.startswith(b"HTTP/1.1 202 ")
        assert answers.count(b"HTTP/1.1 ") == 1
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_body_that_breaks_off_in_nonsense_is_told_so_once(
    url: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    assert told(await send_raw(url, head(*lines) + b"-1\r\n")) == (400, "malformed_request")
    assert not [record for record in caplog.records if record.exc_info]


async def test_what_breaks_off_after_its_answer_gets_no_second_one(url: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(head("Transfer-Encoding: chunked"))
    answer = await asyncio.wait_for(reader.readuntil(b"}"), WAIT_S)
    writer.write(b"-1\r\n")
    rest = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    assert (answer[:12], rest) == (b"HTTP/1.1 401", b"")


async def test_requests_sent_ahead_without_end_are_not_kept(url: str) -> None:
    answers = await read_all(url, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 4 * PIPELINE_LIMIT)
    assert 1 <= answers.count(b"HTTP/1.1 200 ") <= PIPELINE_LIMIT + 1


async def test_requests_sent_ahead_within_reason_are_answered(url: str) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = await read_all(url, request * (PIPELINE_LIMIT - 1) + last)
    assert answers.count(b"HTTP/1.1 200 ") == PIPELINE_LIMIT


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\r\n"])
async def test_a_connection_that_asks_nothing_is_closed(
    url: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GatewayProtocol, "arrival_s", 0.05)
    answers = await read_all(url, sent)
    assert answers.count(b"HTTP/1.1 ") == sent.count(b"GET")


async def test_a_request_that_takes_for_ever_to_arrive_is_told_so(
    url: str, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GatewayProtocol, "arrival_s", 0.05)
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Content-Length: 10"]
    for begun in (b"GET /livez HTTP/1.1\r\nHost:", head(*lines) + b'{"'):
        assert told(await send_raw(url, begun)) == (400, "malformed_request")


async def test_an_upgrade_to_another_protocol_is_not_taken_up(url: str) -> None:
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    ]
    assert told(await send_raw(url, head(*lines))) == (401, "unauthorized")


async def test_large_headers_within_the_limit_pass(url: str) -> None:
    line = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: "
    answer = await send_raw(url, line, b"a" * 30_000, b"a" * 30_000, b"\r\n\r\n")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})


async def test_one_connection_serves_many_requests_large_bodies_among_them(url: str, caller: Caller) -> None:
    headers = {"X-Api-Key": caller.key, "Content-Type": "application/json", "Prefer": "wait=0"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for _ in range(4):
            body = b'{"prompt": "x"}'.ljust(BODY_LIMIT_BYTES)
            assert (
                await client.post("/api/music_generate", content=body, headers=headers)
            ).status_code == 202
            assert (await client.get("/livez")).status_code == 200


async def test_head_has_no_body_on_the_wire(url: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


# Callers that hang up


async def called(emulator: RunningEmulator, how: str) -> bool:
    return bool(emulator.calls()[how])


async def test_a_caller_that_hangs_up_loses_nothing(
    url: str, caller: Caller, services: Services, emulator: RunningEmulator
) -> None:
    services.runner.start()
    emulator.settings(latency_s=0.4)
    body = json.dumps({"prompt": "x", "durationSeconds": 1}).encode()
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(head(*lines, "X-Request-Id: hangs-up-soon") + body)
    await writer.drain()
    await until(lambda: called(emulator, "received"))
    writer.transport.abort()
    await until(lambda: called(emulator, "answered"))
    found = await services.database.read(
        lambda tx: tx.exec_driver_sql("select id from tasks where request_id = 'hangs-up-soon'").scalar_one()
    )
    assert (await caller.ended(found))["status"] == "succeeded"
    assert emulator.calls()["paid"] == 1


async def test_a_caller_that_hangs_up_before_its_body_is_there_asked_nothing(
    url: str, caller: Caller, client: httpx.AsyncClient
) -> None:
    lines = [f"X-Api-Key: {caller.key}", "Content-Type: application/json", "Content-Length: 100"]
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(head(*lines) + b'{"prompt":')
    await writer.drain()
    writer.transport.abort()

    async def hung_up() -> bool:
        return 'status="499"' in (await client.get("/metrics")).text

    await until(hung_up)


# Logs


def access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "gateway.access"]


async def test_a_request_is_one_line_with_its_ids(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gateway.access"):
        task = await caller.ask()
    (line,) = access_lines(caplog)
    assert (line["message"], line["status"]) == ("POST /api/music_generate", 202)
    assert (line["tenant_id"], line["task_id"]) == (caller.tenant_id, task["task_id"])


async def test_an_address_is_logged_without_its_query_and_without_line_breaks(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gateway.access"):
        await client.get("/files/a%0Ab%1b?expires=1&signature=secret")
    (line,) = access_lines(caplog)
    assert line["message"] == "GET /files/a%0Ab%1b"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_that_succeed_are_quiet(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.INFO, "gateway.access"):
        await client.get(path)
    assert access_lines(caplog) == []


async def test_only_a_well_formed_trace_is_kept(caller: Caller, services: Services) -> None:
    for offered in (f"00-{TRACE}-00f067aa0ba902b7-01", "x" * 50_000):
        await caller.post(json={"prompt": "x"}, headers={"traceparent": offered, "Prefer": "wait=0"})
    kept = await services.database.read(
        lambda tx: tx.exec_driver_sql("select traceparent from tasks order by id").scalars().all()
    )
    assert kept == [f"00-{TRACE}-00f067aa0ba902b7-01", None]


# Keys that stop


async def test_a_revoked_key_stops_within_its_two_seconds(
    app: ASGIApp, services: Services, specification: Specification, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock()
    monkeypatch.setattr(services.authenticator, "_clock", clock)
    transport = httpx.ASGITransport(app)
    async with checked_client(specification, transport=transport, base_url="http://gateway") as client:
        caller = await make_caller(client, services, "acme")
        assert (await caller.status("x")).status_code == 404
        (key,) = await services.keyring.list(caller.tenant_id)
        await services.keyring.revoke(ACT, key.id)
        # Whatever this instance still believes, a revoked key gets no work done.
        assert (await caller.post(json={"prompt": "x"})).status_code == 401
        clock.advance(2.0)
        assert (await caller.status("x")).status_code == 401
