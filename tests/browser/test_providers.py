"""Signing in with a real OpenID Connect provider, and behind Identity-Aware Proxy."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS, make_member
from tests.emulator import RunningEmulator
from tests.running import RunningGateway, free_port, start_gateway

pytestmark = pytest.mark.xdist_group("browser")

PATIENCE_S = 20


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = [sys.executable, "-m", "oidc_provider_mock", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            give_up_at_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < give_up_at_s:
                try:
                    httpx.get(f"{url}/.well-known/openid-configuration", trust_env=False).raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield url
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator, provider: str
) -> Iterator[RunningGateway]:
    options = {
        "GATEWAY_OIDC_ISSUER": provider,
        "GATEWAY_OIDC_CLIENT_ID": "gateway",
        "GATEWAY_OIDC_CLIENT_SECRET": "a secret of ours",
        "GATEWAY_OIDC_LABEL": "Example",
        "no_proxy": "*",
    }
    with start_gateway(tmp_path_factory.mktemp("oidc"), _emulator_process.url, **options) as running:
        yield running


def test_a_person_signs_in_and_comes_back_to_the_page(
    browser: Browser, gateway: RunningGateway, provider: str
) -> None:
    tenant = gateway.create_tenant("oidc")
    make_member(gateway, tenant, "ada@example.com", "viewer")
    httpx.put(
        f"{provider}/users/ada",
        json={"email": "Ada@example.com", "email_verified": True},
        trust_env=False,
    ).raise_for_status()
    context = browser.new_context(base_url=gateway.url)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"/dashboard/t/{tenant}/usage")
    page.get_by_role("link", name="Continue with Example").click()
    page.wait_for_url(f"{provider}/**")
    page.locator("input[name=sub]").fill("ada")
    page.get_by_role("button").first.click()
    page.wait_for_url(f"**/dashboard/t/{tenant}/usage")
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()
    expect(page.get_by_text("ada@example.com")).to_be_visible()
    context.close()


def test_an_end_that_began_elsewhere_is_refused(gateway: RunningGateway) -> None:
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        callback = "/dashboard/sign-in/oidc/callback"
        assert client.get(callback, params={"code": "x", "state": "y"}).status_code == 403
        assert client.get("/dashboard/sign-in/oidc").status_code == 303
        for query in ({"code": "x", "state": "another"}, {"error": "access_denied"}, {}):
            answer = client.get(callback, params=query)
            assert answer.status_code == 403
            assert "sign_in_refused" in answer.text
            assert "gateway_session" not in client.cookies


def make_person(provider: str, name: str, **claims: object) -> None:
    httpx.put(f"{provider}/users/{name}", json=claims, trust_env=False).raise_for_status()


def ask(provider_url: str, name: str) -> str:
    """Say to the provider who one is; where it sends one then."""
    answer = httpx.post(provider_url, data={"sub": name}, trust_env=False)
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "ada@example.com"},
        {"email": "ada@example.com", "email_verified": False},
        {"email": "ada@example.com", "email_verified": "true"},
        {"email_verified": True},
    ],
    ids=str,
)
def test_an_address_that_the_provider_does_not_vouch_for_is_nobodys(
    gateway: RunningGateway, provider: str, claims: dict[str, object]
) -> None:
    make_person(provider, "mallory", **claims)
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        back = ask(client.get("/dashboard/sign-in/oidc").headers["location"], "mallory")
        answer = client.get(back)
        assert answer.status_code == 403
        assert "sign_in_refused" in answer.text
        assert "gateway_session" not in client.cookies


def test_who_belongs_to_no_tenant_gets_in_and_is_told(gateway: RunningGateway, provider: str) -> None:
    make_person(provider, "new", email="new@example.com", email_verified=True)
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        back = ask(client.get("/dashboard/sign-in/oidc").headers["location"], "new")
        assert client.get(back).headers["location"] == "/dashboard"
        assert "not a member of any tenant yet" in client.get("/dashboard").text


def test_a_token_of_another_attempt_is_refused(gateway: RunningGateway, provider: str) -> None:
    make_person(provider, "thief", email="thief@example.com", email_verified=True)
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        url = client.get("/dashboard/sign-in/oidc").headers["location"]
        answer = client.get(ask(re.sub(r"\bnonce=", "nonce=another", url), "thief"))
        assert answer.status_code == 403
        assert "gateway_session" not in client.cookies


def test_a_provider_that_is_away_is_said_to_be(tmp_path: Path, emulator: RunningEmulator) -> None:
    options = {
        "GATEWAY_OIDC_ISSUER": "http://127.0.0.1:9",
        "GATEWAY_OIDC_CLIENT_ID": "gateway",
        "GATEWAY_OIDC_CLIENT_SECRET": "a secret of ours",
        "GATEWAY_IAP_AUDIENCE": "",
    }
    with start_gateway(tmp_path, emulator.url, **options) as running:
        answer = httpx.get(f"{running.url}/dashboard/sign-in/oidc", trust_env=False)
        assert answer.status_code == 503
        assert "sign_in_unavailable" in answer.text


def test_behind_the_proxy_no_cookie_counts(tmp_path: Path, emulator: RunningEmulator) -> None:
    with start_gateway(tmp_path, emulator.url, GATEWAY_IAP_AUDIENCE="/projects/1/x") as running:
        url = running.command("dashboard", "link").strip()
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            token = url.partition("token=")[2]
            client.post("/dashboard/sign-in/link", data={"token": token})
            assert client.get("/dashboard").headers["location"] == "/dashboard/sign-in"
            assert "Identity-Aware Proxy" in client.get("/dashboard/sign-in").text
            assert client.get("/docs").status_code == 200
