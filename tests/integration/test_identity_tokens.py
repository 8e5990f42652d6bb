"""Statements of identity: whose signature counts, and which claims; what Identity-Aware Proxy sends."""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from gateway.accounts.people import People
from gateway.accounts.sessions import Sessions, SignInMethod
from gateway.db.engine import Database
from gateway.errors import ErrorCode, Forbidden, Unavailable
from gateway.web.dashboard.iap import HEADER, ISSUER, IapVisitors
from gateway.web.dashboard.oidc import require_party
from gateway.web.dashboard.tokens import KeySets, fetch_json
from tests.clock import SetClock

AUDIENCE = "/projects/1/global/backendServices/2"
KEYS_URL = "https://keys.example.com/jwk"


class Publisher:
    """Publishes keys, as many as it is asked to; counts how often it was asked."""

    def __init__(self) -> None:
        self.keys = [self.make("one")]
        self.asked = 0

    @staticmethod
    def make(name: str) -> ECKey:
        return ECKey.generate_key("P-256", {"kid": name}, private=True)

    async def fetch(self, url: str) -> Mapping[str, Any]:
        assert url == KEYS_URL
        self.asked += 1
        return {"keys": [key.as_dict(private=False) for key in self.keys]}


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def visitors(database: Database, clock: SetClock, publisher: Publisher) -> IapVisitors:
    sessions = Sessions(database, clock, bytes, b"s" * 32, life_s=600)
    keys = KeySets(publisher.fetch, clock)
    return IapVisitors(keys, People(database, ()), sessions, audience=AUDIENCE, keys_url=KEYS_URL)


def claims(clock: SetClock, **changed: Any) -> dict[str, Any]:
    now_s = clock.now_ms() // 1000
    usual = {"iss": ISSUER, "aud": AUDIENCE, "email": "Ada@example.com", "iat": now_s, "exp": now_s + 600}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def signed(key: ECKey, said: Mapping[str, Any]) -> str:
    return jwt.encode({"alg": "ES256", "kid": key.kid}, dict(said), key)


def with_shared_secret(secret: bytes, said: Mapping[str, Any]) -> str:
    """HS256 with the public key as its secret: what careless verifiers take."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "one"}, said)]
    head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, head, "sha256")).rstrip(b"=")
    return (head + b"." + signature).decode()


def unsigned(head: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, said)
    ]
    return ".".join((*parts, ""))


def request(assertion: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(HEADER.encode(), assertion.encode())]}


async def test_who_the_proxy_names_is_signed_in(
    visitors: IapVisitors, publisher: Publisher, clock: SetClock
) -> None:
    visit = await visitors(request(signed(publisher.keys[0], claims(clock))))
    assert visit is not None
    assert (visit.person.email, visit.method, visit.session_id) == ("ada@example.com", SignInMethod.IAP, None)
    assert len(visit.form_token) == 64


async def test_without_its_word_nobody_is(visitors: IapVisitors) -> None:
    assert await visitors({"type": "http", "headers": []}) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "/projects/1/global/backendServices/3"},
        {"aud": None},
        {"iss": "https://accounts.google.com"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"email": None},
        {"email": 7},
        {"email": "nobody"},
        {"email_verified": False},
    ],
    ids=str,
)
async def test_claims_that_will_not_do_are_refused(
    visitors: IapVisitors, publisher: Publisher, clock: SetClock, changed: dict[str, Any]
) -> None:
    with pytest.raises(Forbidden) as caught:
        await visitors(request(signed(publisher.keys[0], claims(clock, **changed))))
    assert caught.value.code is ErrorCode.SIGN_IN_REFUSED
    assert "email" not in caught.value.detail


async def test_a_token_of_tomorrow_is_refused(
    visitors: IapVisitors, publisher: Publisher, clock: SetClock
) -> None:
    later = clock.now_ms() // 1000 + 86_400
    with pytest.raises(Forbidden):
        await visitors(request(signed(publisher.keys[0], claims(clock, iat=later, exp=later + 600))))


async def test_only_published_keys_count(
    visitors: IapVisitors, publisher: Publisher, clock: SetClock
) -> None:
    stranger = publisher.make("one")
    public = publisher.keys[0].as_pem(private=False)
    said = claims(clock)
    for forged in (
        signed(stranger, said),
        with_shared_secret(public, said),
        unsigned({"alg": "none", "kid": "one"}, said),
        unsigned({"alg": "none"}, said),
        unsigned({"alg": "ES256", "kid": "one", "crit": 3}, said),
        unsigned({"alg": "ES256", "kid": []}, said),
        "e30.e30.",
        "not a token",
        "",
    ):
        with pytest.raises(Forbidden):
            await visitors(request(forged))


async def test_keys_are_kept_and_asked_for_again_when_there_is_a_new_one(
    visitors: IapVisitors, publisher: Publisher, clock: SetClock
) -> None:
    for _ in range(3):
        await visitors(request(signed(publisher.keys[0], claims(clock))))
    assert publisher.asked == 1
    publisher.keys = [publisher.make("two")]
    clock.advance(61)
    assert await visitors(request(signed(publisher.keys[0], claims(clock)))) is not None
    assert publisher.asked == 2


async def test_rubbish_does_not_ask_for_keys_each_time(visitors: IapVisitors, publisher: Publisher) -> None:
    for _ in range(5):
        with pytest.raises(Forbidden):
            await visitors(request("rubbish"))
    assert publisher.asked == 1


@pytest.mark.parametrize("document", [{}, {"keys": 3}, {"keys": ["x"]}, {"keys": [{"kty": "EC"}]}], ids=str)
async def test_keys_that_cannot_be_read_are_the_providers_trouble(
    clock: SetClock, publisher: Publisher, document: dict[str, Any]
) -> None:
    async def fetch(_: str) -> Mapping[str, Any]:
        return document

    with pytest.raises(Unavailable) as caught:
        await KeySets(fetch, clock).claims(signed(publisher.keys[0], claims(clock)), KEYS_URL, ("ES256",), {})
    assert caught.value.code is ErrorCode.SIGN_IN_UNAVAILABLE


def test_a_token_is_for_its_party() -> None:
    for good in ({"aud": "us"}, {"aud": ["us"]}, {"aud": ["us", "them"], "azp": "us"}):
        require_party(good, "us")
    for bad in ({"aud": "us", "azp": "them"}, {"aud": ["us", "them"]}, {"aud": ["us"], "azp": 7}):
        with pytest.raises(Forbidden):
            require_party(bad, "us")


async def test_a_provider_that_is_away_is_said_to_be() -> None:
    with pytest.raises(Unavailable) as caught:
        await fetch_json("http://127.0.0.1:9/keys")
    assert caught.value.code is ErrorCode.SIGN_IN_UNAVAILABLE


def test_the_keys_of_these_tests_are_keys(publisher: Publisher) -> None:
    assert len(KeySet(publisher.keys).keys) == 1
