"""The documentation: every page for everybody, every sample run, every error told of."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from standardwebhooks import Webhook

from gateway.errors import ErrorCode
from gateway.web.dashboard.docs import GUIDES, read_samples
from tests.browser.conftest import Trouble
from tests.browser.looks import assert_usable, take_pictures
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")

# It is a function to be copied, and has a test of its own.
_RUN = sorted(name for name in read_samples() if name != "webhook.py")


@pytest.mark.parametrize(("name", "title"), GUIDES)
def test_a_page_can_be_read_by_everybody(page: Page, name: str, title: str) -> None:
    page.goto(f"/docs/{name}".rstrip("/"))
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    assert_usable(page)
    take_pictures(page, f"docs {name}")


def test_what_is_no_guide_is_not_there(page: Page, trouble: Trouble) -> None:
    trouble.expected = ("404",)
    response = page.goto("/docs/nothing")
    assert response is not None
    assert response.status == 404


def test_every_error_is_told_of(page: Page) -> None:
    page.goto("/docs/errors")
    told = set(page.locator("main code").all_text_contents())
    assert {code.value for code in ErrorCode} <= told


def test_every_sample_is_shown_somewhere(page: Page) -> None:
    shown = ""
    for name, _ in GUIDES:
        page.goto(f"/docs/{name}".rstrip("/"))
        shown += "".join(page.locator("pre code").all_text_contents())
    assert all(text in shown for text in read_samples().values())


@pytest.fixture(scope="module")
def key(gateway: RunningGateway) -> str:
    return gateway.create_key(gateway.create_tenant("reader of guides"))


@pytest.mark.parametrize("name", _RUN)
def test_a_sample_does_what_it_says(gateway: RunningGateway, key: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(read_samples()[name])
    program = [sys.executable] if file.suffix == ".py" else ["bash", "-e", "-o", "pipefail"]
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - curl is found there
        "GATEWAY_URL": gateway.url,
        "API_KEY": key,
        "no_proxy": "*",
    }
    done = subprocess.run(
        [*program, str(file)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_sample_for_webhooks_tells_true_from_false() -> None:
    found: dict[str, object] = {}
    exec(read_samples()["webhook.py"], found)  # noqa: S102 - ours, and the point
    verify, secret = found["verify"], "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
    assert callable(verify)
    now = datetime.now(UTC)
    body = '{"type": "task.succeeded"}'
    signature = Webhook(secret).sign("msg_1", now, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1,bm90aGluZw== {signature}",
    }
    assert verify(secret, headers, body.encode()) == {"type": "task.succeeded"}
    with pytest.raises(ValueError, match="signed"):
        verify(secret, headers, body.encode() + b" ")
    with pytest.raises(ValueError, match="old"):
        verify(secret, headers | {"webhook-timestamp": "1"}, body.encode())
