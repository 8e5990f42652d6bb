"""Two hundred at once against a limit that lets ten in: exactly ten get in, each time, whatever the timing.

Posts come over as many real connections, all open before the first request is sent (peers.md B1, L1, L6).
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.postgres import Server
from tests.running import RunningGateway, start_gateway
from tests.secrecy import issue

POSTS = 200
FITTING = 10
ROUNDS = 20
CLIP_MICROS = 60_000
UNLIMITED = 1_000_000
LONGEST_PAUSE_S = 0.02
TOKEN = issue("an-admin-token-of-the-burst-tests-0123456789")


@dataclass(frozen=True)
class Limit:
    """A limit that lets ten requests in, and how the others are told."""

    tenant: dict[str, Any]
    key: dict[str, Any]
    refusal: tuple[int, str]


LIMITS = {
    "budget": Limit({"budgets": {"day_micros": FITTING * CLIP_MICROS}}, {}, (402, "budget_spent")),
    "rate of a key": Limit({}, {"rpm": FITTING}, (429, "rate_limited")),
    "rate of a tenant": Limit({"rpm": FITTING}, {}, (429, "rate_limited")),
    "queue": Limit({"max_queued": FITTING}, {}, (429, "queue_full")),
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def gateway(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    _emulator_process: RunningEmulator,
) -> Iterator[RunningGateway]:
    """Nothing is run, so that what waits goes on waiting."""
    directory: Path = tmp_path_factory.mktemp("bursts")
    environment = {"GATEWAY_ADMIN_TOKEN": TOKEN, "GATEWAY_CONCURRENCY": "0"}
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres_server")
        server.execute("CREATE DATABASE bursts")
        environment["GATEWAY_DATABASE_URL"] = server.url("bursts")
    with start_gateway(directory, _emulator_process.url, **environment) as running:
        yield running
        # Whatever was accepted is held, and nothing else.
        assert running.command("reconcile") == "Everything adds up.\n"


def make_key(gateway: RunningGateway, name: str, limit: Limit) -> str:
    with httpx.Client(
        base_url=gateway.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    ) as http:
        tenant = http.post("/admin/api/tenants", json={"name": name, "max_queued": UNLIMITED, **limit.tenant})
        assert tenant.status_code == 201, tenant.text
        body = {"tenant_id": tenant.json()["id"], "name": "burst", "rpm": UNLIMITED, **limit.key}
        key = http.post("/admin/api/keys", json=body | _within(limit))
        assert key.status_code == 201, key.text
        return str(key.json()["key"])


def _within(limit: Limit) -> dict[str, Any]:
    """A key may not be allowed more than its tenant."""
    return {"rpm": limit.tenant["rpm"]} if "rpm" in limit.tenant else {}


async def burst(gateway: RunningGateway, key: str, rng: random.Random) -> Counter[tuple[int, str]]:
    """Status and code of every answer."""
    body = json.dumps({"prompt": "slow piano"}).encode()
    head = (
        "POST /api/music_generate_lyria HTTP/1.1\r\nHost: gateway\r\nPrefer: respond-async\r\n"
        f"Content-Type: application/json\r\nX-Api-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    opened = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(POSTS)]
    pauses_s = [rng.random() * LONGEST_PAUSE_S for _ in opened]

    async def post(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float
    ) -> tuple[int, str]:
        await asyncio.sleep(pause_s)
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(answer.lower().split("content-length: ")[1].split("\r\n")[0])
        document = json.loads(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()
        return int(answer.split()[1]), document.get("code", "")

    answers = await asyncio.gather(
        *(post(*connection, pause_s) for connection, pause_s in zip(opened, pauses_s, strict=True))
    )
    return Counter(answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
async def test_exactly_ten_of_two_hundred_get_in(gateway: RunningGateway, name: str) -> None:
    limit = LIMITS[name]
    for number in range(ROUNDS):
        key = make_key(gateway, f"{name} {number}", limit)
        answers = await burst(gateway, key, random.Random(number))
        assert answers == {(202, ""): FITTING, limit.refusal: POSTS - FITTING}, number
