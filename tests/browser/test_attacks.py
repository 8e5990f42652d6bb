"""What somebody might try on the dashboard from outside, or with somebody else's browser."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.browser.conftest import make_member
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def tenant_id(gateway: RunningGateway) -> str:
    return gateway.create_tenant("castle")


@contextmanager
def signed_in(gateway: RunningGateway, email: str | None = None) -> Iterator[httpx.Client]:
    options = [] if email is None else ["--email", email]
    url = gateway.command("dashboard", "link", *options).strip()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client:
        answer = client.post("/dashboard/sign-in/link", data={"token": url.partition("token=")[2]})
        assert answer.status_code == 303, answer.text
        yield client


def form_token(client: httpx.Client, tenant_id: str) -> str:
    page = client.get(f"/dashboard/t/{tenant_id}/members").text
    return page.partition('name="form_token" value="')[2].partition('"')[0]


@pytest.fixture(scope="module")
def owner(gateway: RunningGateway, tenant_id: str) -> Iterator[httpx.Client]:
    with signed_in(gateway, make_member(gateway, tenant_id, "lord@example.com", "owner")) as client:
        yield client


@pytest.fixture(scope="module")
def viewer(gateway: RunningGateway, tenant_id: str) -> Iterator[httpx.Client]:
    with signed_in(gateway, make_member(gateway, tenant_id, "guest@example.com", "viewer")) as client:
        yield client


def members(gateway: RunningGateway, tenant_id: str) -> str:
    return gateway.command("member", "list", tenant_id)


def test_a_form_that_is_not_ours_is_refused(
    gateway: RunningGateway, owner: httpx.Client, viewer: httpx.Client, tenant_id: str
) -> None:
    url = f"/dashboard/t/{tenant_id}/members"
    wanted = {"email": "thief@example.com", "role": "owner"}
    good = form_token(owner, tenant_id)
    attempts: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
        ({}, {}),
        ({"form_token": "0" * 64}, {}),
        ({"form_token": "é"}, {}),
        ({"form_token": form_token(viewer, tenant_id)}, {}),
        ({"form_token": good}, {"Origin": "https://evil.example"}),
        ({"form_token": good}, {"Origin": "null"}),
        ({"form_token": good}, {"Sec-Fetch-Site": "cross-site"}),
        ({"form_token": good}, {"Sec-Fetch-Site": "same-site"}),
    )
    for fields, headers in attempts:
        assert owner.post(url, data=wanted | fields, headers=headers).status_code == 403, (fields, headers)
    # What is no form, too.
    assert owner.post(url, json=wanted).status_code == 403
    assert "thief" not in members(gateway, tenant_id)
    assert owner.post(url, data=wanted | {"form_token": good}).status_code == 303
    assert "thief" in members(gateway, tenant_id)


def test_the_api_of_the_pages_needs_their_token(owner: httpx.Client, tenant_id: str) -> None:
    url = f"/dashboard/api/{tenant_id}/live/music_generate"
    body = {"prompt": "slow piano", "durationSeconds": 1}
    assert owner.post(url, json=body).status_code == 403
    allowed = owner.post(url, json=body, headers={"X-Form-Token": form_token(owner, tenant_id)})
    assert allowed.status_code == 200


def test_nobody_rises_by_an_id(
    gateway: RunningGateway, owner: httpx.Client, viewer: httpx.Client, tenant_id: str
) -> None:
    foreign = gateway.create_tenant("another castle")
    key = gateway.create_key(foreign).split("_")[2]
    mine, theirs = form_token(owner, tenant_id), form_token(viewer, tenant_id)
    for path in ("members", "keys", f"keys/{key}/revoke", "try", "webhooks"):
        answer = owner.post(f"/dashboard/t/{foreign}/{path}", data={"form_token": mine, "name": "x"})
        assert answer.status_code == 404, path
    # In their own tenant, another's key is nobody's.
    assert (
        owner.post(f"/dashboard/t/{tenant_id}/keys/{key}/revoke", data={"form_token": mine}).status_code
        == 404
    )
    for path in ("members", "keys", "try", "webhooks"):
        data = {"form_token": theirs, "name": "x", "email": "guest@example.com", "role": "owner"}
        assert viewer.post(f"/dashboard/t/{tenant_id}/{path}", data=data).status_code == 403, path
    body = {"prompt": "x"}
    headers = {"X-Form-Token": theirs}
    for tenant, status in ((tenant_id, 403), (foreign, 404)):
        url = f"/dashboard/api/{tenant}/live/music_generate"
        assert viewer.post(url, json=body, headers=headers).status_code == status
    assert owner.post("/dashboard/admin", data={"form_token": mine, "name": "mine"}).status_code == 404


def test_who_is_removed_is_out_at_once(gateway: RunningGateway, tenant_id: str) -> None:
    with signed_in(gateway, make_member(gateway, tenant_id, "leaver@example.com", "owner")) as client:
        assert client.get(f"/dashboard/t/{tenant_id}/keys").status_code == 200
        gateway.command("member", "remove", tenant_id, "leaver@example.com", "--yes")
        assert client.get(f"/dashboard/t/{tenant_id}/keys").status_code == 404


def test_a_planted_session_is_worth_nothing(gateway: RunningGateway, tenant_id: str) -> None:
    with signed_in(gateway, make_member(gateway, tenant_id, "victim@example.com", "viewer")) as client:
        first = client.cookies["gateway_session"]
        url = gateway.command("dashboard", "link", "--email", "victim@example.com").strip()
        client.post(
            "/dashboard/sign-in/link",
            data={"token": url.partition("token=")[2], "form_token": form_token(client, tenant_id)},
        )
        second = client.cookies["gateway_session"]
    assert first.split(".")[0] != second.split(".")[0]


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "." * 10, "0" * 4000])
def test_made_up_cookies_open_nothing(gateway: RunningGateway, cookie: str) -> None:
    answer = httpx.get(
        f"{gateway.url}/dashboard/admin", headers={"Cookie": f"gateway_session={cookie}"}, trust_env=False
    )
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "after",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/dashboard//evil.example",
        "/dashboard\\@evil",
        "/dashboard/../../evil",
        "/%2f%2fevil.example",
        "javascript:alert(1)",
        "/dashboardx",
        "/dashboard\r\nX: y",
        "",
    ],
)
def test_after_signing_in_one_stays_here(owner: httpx.Client, after: str) -> None:
    location = owner.get("/dashboard/sign-in", params={"next": after}).headers["location"]
    assert location.startswith("/dashboard")
    assert "//" not in location
    assert "\\" not in location


def test_every_answer_forbids_frames_scripts_and_guessing(owner: httpx.Client, tenant_id: str) -> None:
    for path in ("/dashboard", f"/dashboard/t/{tenant_id}/keys", "/dashboard/nowhere", "/docs"):
        headers = owner.get(path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "'unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "no-store" in headers["cache-control"]


def test_the_cookie_is_out_of_reach(gateway: RunningGateway) -> None:
    url = gateway.command("dashboard", "link").strip()
    data = {"token": url.partition("token=")[2]}
    answer = httpx.post(f"{gateway.url}/dashboard/sign-in/link", data=data, trust_env=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


def test_a_form_has_its_size(owner: httpx.Client, tenant_id: str) -> None:
    url = f"/dashboard/t/{tenant_id}/members"
    assert owner.post(url, data={"email": "x" * 70_000}).status_code == 413
    assert owner.post(url, content=b"%ff=%zz&\xff", headers={
        "Content-Type": "application/x-www-form-urlencoded"}).status_code == 400  # fmt: skip
