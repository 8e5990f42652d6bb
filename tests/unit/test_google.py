"""Access tokens: refreshed early, once, and without hurting anybody when Google is away."""

import asyncio
import threading
from datetime import UTC, datetime

import google.auth.credentials
import google.auth.exceptions
import httpx
import pytest

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.google import LEAST_LIFE_S, REFRESH_EARLY_S, AnonymousTokens, GoogleTokens, HttpTransport
from tests.clock import SetClock


class Credentials(google.auth.credentials.Credentials):
    """Tokens t1, t2, … that live an hour by the test's clock; can be held up and broken."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__()
        self.clock = clock
        self.life_s: float | None = 3600
        self.refreshed = 0
        self.broken: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()

    def refresh(self, request: google.auth.transport.Request) -> None:
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        self.refreshed += 1
        if self.broken is not None:
            raise self.broken
        self.token = f"t{self.refreshed}"
        self.expiry = None
        if self.life_s is not None:
            expires_s = self.clock.now_ms() / 1000 + self.life_s
            self.expiry = datetime.fromtimestamp(expires_s, UTC).replace(tzinfo=None)


@pytest.fixture
def credentials(clock: SetClock) -> Credentials:
    return Credentials(clock)


@pytest.fixture
async def tokens(credentials: Credentials, clock: SetClock):
    made = GoogleTokens(credentials, clock, transport=HttpTransport(httpx.Client(verify=False)))
    yield made
    credentials.gate.set()
    await made.close()


async def settled(tokens: GoogleTokens) -> None:
    """Let a background refresh come to its end."""
    if tokens._refresh is not None:
        await asyncio.wait({tokens._refresh})


async def test_a_token_is_fetched_once_and_kept(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    assert await tokens.token() == "t1"
    clock.advance(3600 - REFRESH_EARLY_S)
    assert await tokens.token() == "t1"
    assert credentials.refreshed == 1


async def test_the_refresh_runs_in_another_thread(tokens: GoogleTokens, credentials: Credentials):
    await tokens.token()
    assert threading.get_ident() not in credentials.threads


async def test_many_callers_cause_one_refresh(tokens: GoogleTokens, credentials: Credentials):
    credentials.gate.clear()
    callers = [asyncio.create_task(tokens.token()) for _ in range(50)]
    await asyncio.sleep(0.01)
    credentials.gate.set()
    assert set(await asyncio.gather(*callers)) == {"t1"}
    assert credentials.refreshed == 1


async def test_near_its_end_a_token_is_renewed_behind_the_callers_back(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    await tokens.token()
    credentials.gate.clear()
    clock.advance(3600 - REFRESH_EARLY_S + 1)
    assert [await tokens.token() for _ in range(5)] == ["t1"] * 5
    credentials.gate.set()
    await settled(tokens)
    assert await tokens.token() == "t2"
    assert credentials.refreshed == 2


async def test_with_less_than_a_minute_left_callers_wait_for_the_new_one(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    await tokens.token()
    clock.advance(3600 - LEAST_LIFE_S + 1)
    assert await tokens.token() == "t2"


async def test_a_token_without_expiry_is_kept_for_ever(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    credentials.life_s = None
    await tokens.token()
    clock.advance(10**8)
    assert await tokens.token() == "t1"


async def test_a_caller_that_hangs_up_does_not_take_the_refresh_along(
    tokens: GoogleTokens, credentials: Credentials
):
    credentials.gate.clear()
    first, second = (asyncio.create_task(tokens.token()) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    credentials.gate.set()
    assert await second == "t1"


async def test_a_failed_renewal_hurts_nobody_and_is_not_repeated_at_once(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    await tokens.token()
    clock.advance(3600 - REFRESH_EARLY_S + 1)
    credentials.broken = google.auth.exceptions.TransportError("away")
    assert await tokens.token() == "t1"
    await settled(tokens)
    for _ in range(20):
        assert await tokens.token() == "t1"
    await settled(tokens)
    assert credentials.refreshed == 2
    credentials.broken = None
    clock.advance(6)
    assert await tokens.token() == "t1"
    await settled(tokens)
    assert await tokens.token() == "t3"


async def test_in_its_last_minute_the_old_token_serves_when_no_new_one_can_be_had(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    await tokens.token()
    clock.advance(3600 - LEAST_LIFE_S / 2)
    credentials.broken = google.auth.exceptions.TransportError("away")
    assert await tokens.token() == "t1"
    clock.advance(LEAST_LIFE_S)
    with pytest.raises(UpstreamError):
        await tokens.token()


async def test_callers_without_any_token_get_one_attempt_per_pause(
    tokens: GoogleTokens, credentials: Credentials, clock: SetClock
):
    credentials.broken = google.auth.exceptions.TransportError("away")
    for _ in range(10):
        with pytest.raises(UpstreamError):
            await tokens.token()
    assert credentials.refreshed == 1
    clock.advance(6)
    credentials.broken = None
    assert await tokens.token() == "t2"


async def test_a_token_as_short_lived_as_the_last_is_not_asked_for_in_a_loop(
    tokens: GoogleTokens, credentials: Credentials
):
    """The metadata server repeats its token until four minutes before the end."""
    credentials.life_s = REFRESH_EARLY_S - 1
    for _ in range(10):
        await tokens.token()
        await settled(tokens)
    assert credentials.refreshed == 1


@pytest.mark.parametrize(
    ("error", "fault", "code"),
    [
        (
            google.auth.exceptions.TransportError("refused"),
            AttemptFault.NOT_SENT,
            ErrorCode.MODEL_UNAVAILABLE,
        ),
        (google.auth.exceptions.TimeoutError("late"), AttemptFault.NOT_SENT, ErrorCode.MODEL_UNAVAILABLE),
        (
            google.auth.exceptions.RefreshError("503", retryable=True),
            AttemptFault.NOT_SENT,
            ErrorCode.MODEL_UNAVAILABLE,
        ),
        (
            google.auth.exceptions.RefreshError("invalid_grant"),
            AttemptFault.MISCONFIGURED,
            ErrorCode.MODEL_MISCONFIGURED,
        ),
        (
            google.auth.exceptions.DefaultCredentialsError("none"),
            AttemptFault.MISCONFIGURED,
            ErrorCode.MODEL_MISCONFIGURED,
        ),
    ],
)
async def test_whose_fault_it_is_decides_what_may_follow(
    tokens: GoogleTokens, credentials: Credentials, error: Exception, fault: AttemptFault, code: ErrorCode
):
    credentials.broken = error
    with pytest.raises(UpstreamError) as raised:
        await tokens.token()
    assert (raised.value.fault, raised.value.code) == (fault, code)
    assert str(error) in raised.value.internal
    assert str(error) not in raised.value.detail


async def test_a_lost_connection_wrapped_in_a_refresh_error_is_still_a_lost_connection(
    tokens: GoogleTokens, credentials: Credentials
):
    credentials.broken = google.auth.exceptions.RefreshError("no metadata")
    credentials.broken.__cause__ = google.auth.exceptions.TransportError("refused")
    with pytest.raises(UpstreamError) as raised:
        await tokens.token()
    assert raised.value.fault is AttemptFault.NOT_SENT


async def test_a_person_has_no_service_account(tokens: GoogleTokens):
    with pytest.raises(UpstreamError, match="belong to no service account") as raised:
        await tokens.service_account_email()
    assert raised.value.fault is AttemptFault.MISCONFIGURED


async def test_closing_waits_for_the_refresh_under_way(tokens: GoogleTokens, credentials: Credentials):
    credentials.gate.clear()
    caller = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(tokens.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    credentials.gate.set()
    await closing
    assert await caller == "t1"


async def test_anonymous_calls_have_no_token():
    tokens = AnonymousTokens()
    assert await tokens.token() is None
    await tokens.close()
