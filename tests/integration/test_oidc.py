"""What goes to an OpenID Connect provider, and which of its answers count.

The provider here says what each test wants said; a real one is in `tests/browser/test_providers.py`. That
does not look at PKCE, so that is compared with authlib's reading of RFC 7636.
"""

import base64
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.accounts.sessions import Sessions
from gateway.db.engine import Database
from gateway.errors import GatewayError
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.desk import Desk
from gateway.web.dashboard.oidc import COOKIE, OIDC_CALLBACK, OIDC_START, OidcPages, Provider
from gateway.web.dashboard.signin import SignInPages
from gateway.web.dashboard.tokens import KeySets, fetch_json
from tests.clock import SetClock
from tests.httpstub import Answer, Call, start_stub

CLIENT = ("gateway", "a secret of ours")


@dataclass
class Issuer:
    """Answers as a provider would, with ``changed`` claims, or ``answer`` at the token endpoint."""

    key: RSAKey
    now_s: int
    url: str = ""
    named: str = ""
    nonce: str = ""
    changed: dict[str, Any] = field(default_factory=dict)
    answer: Answer | None = None
    calls: list[Call] = field(default_factory=list)

    def __call__(self, call: Call) -> Answer:
        if call.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            issuer = self.named or self.url
            return said({"issuer": issuer, **{name: self.url + path for name, path in ends.items()}})
        if call.path == "/keys":
            return said({"keys": [self.key.as_dict(private=False)]})
        self.calls.append(call)
        usual = {"iss": self.url, "aud": CLIENT[0], "nonce": self.nonce, "email": "Ada@example.com"}
        times = {"iat": self.now_s, "exp": self.now_s + 600, "email_verified": True}
        claims = {k: v for k, v in {**usual, **times, **self.changed}.items() if v is not None}
        return self.answer or said({"id_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)})


def said(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one"}, private=True)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def issuer(key: RSAKey, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    monkeypatch.setenv("no_proxy", "*")
    issuer = Issuer(key, clock.now_ms() // 1000)
    with start_stub(issuer) as issuer.url:
        yield issuer


async def told(_: Request, error: Exception) -> Response:
    return PlainTextResponse(cast("GatewayError", error).code.value, 400)


@pytest.fixture
async def browser(database: Database, clock: SetClock, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    sessions = Sessions(database, clock, secrets.token_bytes, b"s" * 32, life_s=600)
    cookies = Cookies(secure=True)
    # Nothing here shows a page, which is all that a desk is for.
    sign_in = SignInPages(cast("Desk", None), sessions, cookies, (), 600, behind_proxy=False)
    provider = Provider(issuer.url, *CLIENT, "https://gateway.example" + OIDC_CALLBACK)
    keys = KeySets(fetch_json, clock)
    pages = OidcPages(provider, keys, fetch_json, sessions, sign_in, cookies, secrets.token_bytes)
    routes = [Route(OIDC_START, pages.start), Route(OIDC_CALLBACK, pages.finish)]
    app = Starlette(routes=routes, exception_handlers={GatewayError: told})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://gateway.example") as client:
        yield client


async def begin(browser: httpx.AsyncClient, issuer: Issuer, after: str = "") -> dict[str, str]:
    """What the browser takes to the provider."""
    location = (await browser.get(OIDC_START, params={"next": after})).headers["location"]
    assert location.startswith(f"{issuer.url}/authorize?")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    issuer.nonce = asked["nonce"]
    return asked


async def end(browser: httpx.AsyncClient, asked: dict[str, str], **query: str) -> httpx.Response:
    return await browser.get(OIDC_CALLBACK, params={"code": "c", "state": asked["state"], **query})


async def test_the_code_is_bound_to_whoever_asked_for_it(browser: httpx.AsyncClient, issuer: Issuer) -> None:
    asked = await begin(browser, issuer)
    assert (await end(browser, asked)).status_code == 303
    (call,) = issuer.calls
    form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    assert asked["code_challenge_method"] == "S256"
    assert create_s256_code_challenge(form["code_verifier"]) == asked["code_challenge"]
    # RFC 7636 §4.1: what is shorter or longer is refused by whoever looks at it.
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", form["code_verifier"])
    assert form["redirect_uri"] == asked["redirect_uri"] == "https://gateway.example" + OIDC_CALLBACK
    assert base64.b64decode(call.headers["authorization"].split()[1]).decode() == ":".join(CLIENT)


async def test_the_cookies_are_for_this_host_alone(browser: httpx.AsyncClient, issuer: Issuer) -> None:
    asked = await begin(browser, issuer)
    cookies = (await end(browser, asked, after="x")).headers.get_list("set-cookie")
    assert {each.partition("=")[0] for each in cookies} == {"__Host-gateway_session", f"__Host-{COOKIE}"}
    for each in cookies:
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(each.split("; "))
    assert f"__Host-{COOKIE}" not in browser.cookies


@pytest.mark.parametrize(
    ("after", "place"),
    [
        ("/dashboard/t/ten_1/usage?days=7", "/dashboard/t/ten_1/usage?days=7"),
        ("//evil.example", "/dashboard"),
        ("/dashboard/\t/evil.example", "/dashboard"),
        ("https:evil.example", "/dashboard"),
        ("\\\\evil.example", "/dashboard"),
    ],
)
async def test_one_comes_back_to_a_page_of_ours(
    browser: httpx.AsyncClient, issuer: Issuer, after: str, place: str
) -> None:
    asked = await begin(browser, issuer, after)
    assert (await end(browser, asked)).headers["location"] == place


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "somebody"},
        {"aud": ["gateway", "somebody"]},
        {"azp": "somebody"},
        {"iss": "https://accounts.example"},
        {"exp": 1},
        {"iat": None},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
    ],
    ids=str,
)
async def test_claims_that_will_not_do_sign_nobody_in(
    browser: httpx.AsyncClient, issuer: Issuer, changed: dict[str, Any]
) -> None:
    issuer.changed = changed
    answer = await end(browser, await begin(browser, issuer))
    assert answer.text == "sign_in_refused"
    assert "set-cookie" not in answer.headers


async def test_an_attempt_has_its_time(browser: httpx.AsyncClient, issuer: Issuer, clock: SetClock) -> None:
    asked = await begin(browser, issuer)
    clock.advance(600)
    assert (await end(browser, asked)).text == "sign_in_refused"
    assert not issuer.calls


async def test_a_cookie_that_was_changed_is_none(browser: httpx.AsyncClient, issuer: Issuer) -> None:
    asked = await begin(browser, issuer)
    kept = browser.cookies[f"__Host-{COOKIE}"]
    browser.cookies.clear()
    forged = kept.replace(asked["state"], "mine")
    answer = await browser.get(
        OIDC_CALLBACK, params={"code": "c", "state": "mine"}, headers={"Cookie": f"__Host-{COOKIE}={forged}"}
    )
    assert answer.text == "sign_in_refused"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(400, b'{"error": "invalid_grant"}'), "sign_in_refused"),
        (Answer(200, b"{}"), "sign_in_refused"),
        (Answer(200, b"<html>"), "sign_in_unavailable"),
        (Answer(200, cut=True), "sign_in_unavailable"),
    ],
    ids=["refused", "no token", "no json", "cut"],
)
async def test_an_exchange_that_fails_signs_nobody_in(
    browser: httpx.AsyncClient, issuer: Issuer, answer: Answer, code: str
) -> None:
    issuer.answer = answer
    assert (await end(browser, await begin(browser, issuer))).text == code


async def test_a_configuration_of_another_issuer_is_not_believed(
    browser: httpx.AsyncClient, issuer: Issuer
) -> None:
    issuer.named = "https://accounts.example"
    assert (await browser.get(OIDC_START)).text == "sign_in_unavailable"
