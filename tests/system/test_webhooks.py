"""Webhooks as receivers meet them: signed, sent again after whatever happens, never in the way of an end."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from tests.emulator import RunningEmulator
from tests.httpstub import Answer, Call, start_stub
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until

README = Path(__file__).resolve().parents[2] / "README.md"
LOOPBACK = {"GATEWAY_WEBHOOK_ALLOW": "127.0.0.0/8"}


class Receiver:
    """Remembers what came, and answers as the test says: with ``status``, once ``open`` is set."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 200
        self.open = threading.Event()
        self.open.set()

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        self.open.wait(PATIENCE_S)
        return Answer(self.status)

    def ids(self) -> list[str]:
        return [call.headers["webhook-id"] for call in self.calls]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.open.set()


@pytest.fixture
def hook(receiver: Receiver) -> Iterator[str]:
    """The receiver's address."""
    with start_stub(receiver.answer) as url:
        yield f"{url}/hook"


@pytest.fixture
def telling(tmp_path: Path, emulator: RunningEmulator) -> Iterator[RunningGateway]:
    """A gateway that may send to loopback, for one test, which may end it."""
    with start_gateway(tmp_path, emulator.url, GATEWAY_GRACE_S="1", **LOOPBACK) as running:
        yield running


@pytest.fixture
def caller(telling: RunningGateway) -> Iterator[httpx.Client]:
    headers = {"X-Api-Key": telling.create_key()}
    with httpx.Client(base_url=telling.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def ask(caller: httpx.Client, **fields: Any) -> str:
    response = caller.post("/api/music_generate_lyria", json={"prompt": "slow piano", **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["task_id"])


def documented_code() -> str:
    """The example of README.md's section about webhooks."""
    section = README.read_text().split("\n## Webhooks\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]


def test_a_receiver_written_as_the_readme_says_gets_the_event(
    caller: httpx.Client, receiver: Receiver, hook: str
) -> None:
    made = caller.post("/api/webhooks", json={"url": hook, "events": ["task.succeeded"]}).json()
    task_id = ask(caller)
    until(lambda: len(receiver.calls) == 1)
    names: dict[str, Any] = {}
    exec(documented_code().replace("whsec_…", made["secret"]), names)
    (call,) = receiver.calls
    event = names["receive"](call.headers, call.body)
    assert (event["type"], event["data"]["task_id"]) == ("task.succeeded", task_id)
    audio = caller.get(event["data"]["status_url"]).json()["audio_url"]
    assert httpx.get(audio, trust_env=False).status_code == 200
    with pytest.raises(WebhookVerificationError):
        names["receive"](call.headers, call.body.replace(b"succeeded", b"failed"))


def test_what_a_killed_process_had_to_tell_is_told_by_the_next(
    telling: RunningGateway, caller: httpx.Client, receiver: Receiver, hook: str
) -> None:
    receiver.status = 503
    ask(caller, webhook_url=hook)
    deliveries = lambda: caller.get("/api/webhooks/deliveries").json()["deliveries"]  # noqa: E731
    until(lambda: deliveries()[0]["last_try"] is not None)
    telling.kill()
    receiver.status = 200
    telling.start()
    until(lambda: deliveries()[0]["status"] == "delivered")
    assert len(receiver.calls) >= 2
    assert set(receiver.ids()) == {deliveries()[0]["id"]}


def test_a_receiver_that_hangs_does_not_keep_the_process_from_ending(
    telling: RunningGateway, caller: httpx.Client, receiver: Receiver, hook: str
) -> None:
    receiver.open.clear()
    ask(caller, webhook_url=hook)
    until(lambda: len(receiver.calls) == 1)
    assert telling.stop() == 0
    receiver.open.set()
    telling.start()
    # Given back, not left under a lease: it comes at once.
    until(lambda: len(receiver.calls) == 2)
    assert len(set(receiver.ids())) == 1


def test_an_address_inside_is_refused_unless_it_is_allowed(
    api: httpx.Client, receiver: Receiver, hook: str
) -> None:
    for body in ({"url": hook}, {"url": hook.replace("http:", "https:")}):
        response = api.post("/api/webhooks", json=body)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    made = api.post(
        "/api/webhooks", json={"url": hook.replace("http://127.0.0.1", "https://localtest.invalid")}
    )
    assert made.status_code == 201
    api.delete(f"/api/webhooks/{made.json()['id']}")
    assert receiver.calls == []
