"""Calls to Google's JSON APIs: bearer token, retries with full jitter, and what trouble becomes.

Documents: cloud.google.com/storage/docs/retry-strategy (which statuses to retry) and
cloud.google.com/storage/docs/json_api/v1/status-codes (error bodies).
"""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from gateway.errors import StorageError, UpstreamError
from gateway.ports import Clock, TokenSource

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_RETRY_AFTER_S = 60.0
# The client is shared with calls to models, which may take minutes; nothing here does.
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of one operation: tries without progress, seconds in all, and the jitter's ceiling."""

    tries: int = 7
    deadline_s: float = 90.0
    base_s: float = 0.5
    cap_s: float = 20.0


class Retries:
    """The patience that is left for one operation; progress restores it."""

    def __init__(self, policy: RetryPolicy, clock: Clock, rng: random.Random) -> None:
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._failed = 0
        self._give_up_at_s = clock.monotonic_s() + policy.deadline_s

    def progressed(self) -> None:
        self._failed = 0
        self._give_up_at_s = self._clock.monotonic_s() + self._policy.deadline_s

    async def wait(self, response: httpx.Response | None) -> bool:
        """Sleep before the next try, or return False when patience is at its end.

        ``response`` is the failure, if it was an answer: its Retry-After lengthens the pause.
        """
        self._failed += 1
        if self._failed >= self._policy.tries:
            return False
        ceiling_s = min(self._policy.cap_s, self._policy.base_s * 2 ** (self._failed - 1))
        pause_s = self._rng.uniform(0, ceiling_s) + _retry_after_s(response)
        if self._clock.monotonic_s() + pause_s > self._give_up_at_s:
            return False
        await self._clock.sleep(pause_s)
        return True


def _retry_after_s(response: httpx.Response | None) -> float:
    text = "" if response is None else response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0.0


class GoogleApi:
    """One way out to Google for everything in storage: the caller's httpx client, tokens and patience."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        tokens: TokenSource,
        clock: Clock,
        rng: random.Random,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._clock = clock
        self._rng = rng
        self._policy = policy or RetryPolicy()

    def retries(self, policy: RetryPolicy | None = None) -> Retries:
        return Retries(policy or self._policy, self._clock, self._rng)

    async def once(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> httpx.Response:
        """One attempt. Raises httpx.RequestError without an answer, `StorageError` without a token."""
        sent = await self._authorized(headers)
        return await self._http.request(
            method, url, headers=sent, content=content, follow_redirects=False, timeout=_TIMEOUT
        )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """One attempt whose answer is read as it comes. Raises as `once` does."""
        sent = await self._authorized(headers)
        async with self._http.stream(
            method, url, headers=sent, follow_redirects=False, timeout=_TIMEOUT
        ) as response:
            yield response

    async def _authorized(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        try:
            token = await self._tokens.token()
        except UpstreamError as error:
            raise StorageError(
                "Storage could not be reached for want of Google credentials.", internal=error.internal
            ) from error
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return sent

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        policy: RetryPolicy | None = None,
    ) -> httpx.Response:
        """Attempts until an answer that another try would not change. For repeatable requests only.

        Raises `StorageError` when no answer came, or still a retriable one, within the policy.
        """
        retries = self.retries(policy)
        while True:
            response, lost = None, None
            try:
                response = await self.once(method, url, headers=headers, content=content)
            except httpx.RequestError as error:
                lost = error
            if response is not None and response.status_code not in RETRIED_STATUSES:
                return response
            if not await retries.wait(response):
                raise failure("Storage did not answer.", response, lost) from lost


def failure(
    detail: str, response: httpx.Response | None = None, lost: httpx.RequestError | None = None
) -> StorageError:
    """A `StorageError` that keeps what Google said, for the log."""
    said = [] if lost is None else [f"{type(lost).__name__}: {lost}"]
    if response is not None:
        # A few hundred characters hold any error body's message, and never audio.
        said.append(f"{response.request.method} {response.status_code}: {response.text[:400]}")
    return StorageError(detail, internal="; ".join(said) or None)
