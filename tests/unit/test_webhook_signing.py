"""Signatures that somebody else's library accepts, by secrets that are kept nowhere."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.messages import SecretState
from gateway.webhooks.signing import Secrets, headers

BODY = b'{"type":"webhook.test","timestamp":"2026-11-22T11:38:47.747Z","data":{"name":"M\xc3\xbcller"}}'
ID = "msg_01k7zq5v9hm3x8c2r6t4w0y1ab"
NOW_MS = 1_800_000_000_000


@pytest.fixture
def secrets() -> Secrets:
    return Secrets(b"a signing secret of thirty-two by")


def signed(*by: str, body: bytes = BODY, at_s: int | None = None) -> dict[str, str]:
    return headers(ID, int(time.time()) if at_s is None else at_s, body, by)


def test_a_receiver_accepts_what_we_sign(secrets: Secrets) -> None:
    secret = secrets.of_endpoint("whep_1", 1)
    assert Webhook(secret).verify(BODY, signed(secret))["data"] == {"name": "Müller"}


def test_the_three_headers_are_those_of_the_specification(secrets: Secrets) -> None:
    secret = secrets.of_endpoint("whep_1", 1)
    made = signed(secret, at_s=1_674_087_231)
    theirs = Webhook(secret).sign(ID, datetime.fromtimestamp(1_674_087_231, UTC), BODY.decode())
    assert made == {"webhook-id": ID, "webhook-timestamp": "1674087231", "webhook-signature": theirs}


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(int(time.time()) + 1)},
        {"webhook-signature": "v1," + base64.b64encode(b"x" * 32).decode()},
    ],
)
def test_whatever_is_altered_is_noticed(secrets: Secrets, change: dict[str, str]) -> None:
    secret = secrets.of_endpoint("whep_1", 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signed(secret) | change)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signed(secret))


def test_an_old_message_cannot_be_sent_again_later(secrets: Secrets) -> None:
    secret = secrets.of_endpoint("whep_1", 1)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, signed(secret, at_s=int(time.time()) - 301))


# Rotation


def test_during_an_overlap_both_secrets_verify_and_afterwards_one(secrets: Secrets) -> None:
    state = SecretState(version=2, previous_until_ms=NOW_MS)
    old, new = Webhook(secrets.of_endpoint("whep_1", 1)), Webhook(secrets.of_endpoint("whep_1", 2))

    both = signed(*secrets.that_sign("ten_1", "whep_1", state, NOW_MS - 1))
    assert old.verify(BODY, both) == new.verify(BODY, both)

    one = signed(*secrets.that_sign("ten_1", "whep_1", state, NOW_MS))
    assert new.verify(BODY, one)
    with pytest.raises(WebhookVerificationError):
        old.verify(BODY, one)


def test_the_new_signature_comes_first(secrets: Secrets) -> None:
    by = secrets.that_sign("ten_1", None, SecretState(3, NOW_MS), NOW_MS - 1)
    assert by == (secrets.of_tenant("ten_1", 3), secrets.of_tenant("ten_1", 2))
    first, second = signed(*by)["webhook-signature"].split(" ")
    assert (first, second) == (signed(by[0])["webhook-signature"], signed(by[1])["webhook-signature"])


# Derivation


def test_secrets_stay_the_same_from_version_to_version_of_the_gateway(secrets: Secrets) -> None:
    """Receivers have them: whoever changes one of these breaks every deployment."""
    assert secrets.of_endpoint("whep_1", 1) == "whsec_TdqlenOLbUZ+7Zgnf18zrI6Ypj5kpZZv/49+sEW2N4U="
    assert secrets.of_tenant("ten_1", 1) == "whsec_QktI/febxsCPzNS5a6+Klq0TuYLt+Q53N9sWZH1HjnU="


def test_no_two_owners_or_versions_share_a_secret(secrets: Secrets) -> None:
    other = Secrets(b"another signing secret, as long..")
    made = [
        owner(name, version)
        for owner in (secrets.of_endpoint, secrets.of_tenant, other.of_endpoint, other.of_tenant)
        for name in ("a", "b")
        for version in (1, 2, 11)
    ]
    assert len(set(made)) == len(made)


def test_a_secret_has_the_form_and_the_strength_that_receivers_expect(secrets: Secrets) -> None:
    secret = secrets.of_endpoint("whep_1", 1)
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
