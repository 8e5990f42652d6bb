"""One try: a signed POST, and what came of it. Of an answer's body the beginning is read, and thrown away."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpcore
import httpx

from gateway.messages import TryOutcome
from gateway.ports import Clock
from gateway.webhooks import signing
from gateway.webhooks.backoff import read_retry_after
from gateway.webhooks.guard import AddressRefused, NameNotFound

#: Standard Webhooks: 15 to 30 s. The shorter, since a receiver that needs longer should answer first.
TRY_TIMEOUT_S = 15.0
# Enough for a polite goodbye; what is longer is cut off.
_READ_AT_MOST_BYTES = 4096
_READ_AT_MOST_S = 1.0
_BUSY = frozenset({429, 503})
_GONE = 410


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, where, and the secrets that sign it."""

    id: str
    url: str
    body: str
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a try went. ``retry_after_s`` is what a receiver that is busy asked for."""

    outcome: TryOutcome
    duration_ms: int = 0
    status: int | None = None
    retry_after_s: float | None = None


class Sender:
    """Sends messages. Follows no redirect, keeps no cookie, uses no connection twice."""

    def __init__(
        self,
        pools: Mapping[str, httpcore.AsyncConnectionPool],
        clock: Clock,
        *,
        user_agent: str,
        timeout_s: float = TRY_TIMEOUT_S,
    ) -> None:
        self._pools = pools
        self._clock = clock
        self._user_agent = user_agent
        self._timeout_s = timeout_s

    async def send(self, message: Message) -> Answer:
        """Takes so many seconds at most. Raises nothing but what cancels it."""
        started_s = self._clock.monotonic_s()
        status: int | None = None
        retry_after_s: float | None = None
        try:
            async with asyncio.timeout(self._timeout_s), self._answered(message) as response:
                status = response.status
                if status in _BUSY:
                    retry_after_s = read_retry_after(_header(response, b"retry-after"), self._clock.now_ms())
                await _read_a_little(response)
            outcome = _judged(status)
        except (TimeoutError, httpcore.TimeoutException):
            # Its status is its answer, whatever became of the rest.
            outcome = TryOutcome.TIMED_OUT if status is None else _judged(status)
        except AddressRefused:
            outcome = TryOutcome.ADDRESS_REFUSED
        except NameNotFound:
            outcome = TryOutcome.NAME_NOT_FOUND
        except httpcore.ConnectError as error:
            # The pool raises it again "from None", which leaves only the context.
            in_tls = isinstance(error.__context__, ssl.SSLError)
            outcome = TryOutcome.TLS_FAILED if in_tls else TryOutcome.NOT_CONNECTED
        except (httpcore.NetworkError, httpcore.ProtocolError):
            outcome = TryOutcome.BROKEN_OFF if status is None else _judged(status)
        duration_ms = round((self._clock.monotonic_s() - started_s) * 1000)
        return Answer(outcome, duration_ms, status, retry_after_s)

    @contextlib.asynccontextmanager
    async def _answered(self, message: Message) -> AsyncIterator[httpcore.Response]:
        url = httpx.URL(message.url)
        body = message.body.encode()
        headers: dict[bytes | str, bytes | str] = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": self._user_agent,
            "Connection": "close",
        }
        headers.update(signing.headers(message.id, self._clock.now_ms() // 1000, body, message.secrets))
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with self._pools[url.scheme].stream("POST", target, headers=headers, content=body) as response:
            yield response


def _judged(status: int) -> TryOutcome:
    if 200 <= status < 300:  # noqa: PLR2004 - the range of HTTP's successes
        return TryOutcome.DELIVERED
    if status == _GONE:
        return TryOutcome.GONE
    return TryOutcome.REDIRECTED if 300 <= status < 400 else TryOutcome.REJECTED  # noqa: PLR2004 - of redirections


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


async def _read_a_little(response: httpcore.Response) -> None:
    """So that a receiver that sends a short body sees it taken; the status stands already."""
    taken = 0
    with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(_READ_AT_MOST_S):
            async for block in response.aiter_stream():
                taken += len(block)
                if taken >= _READ_AT_MOST_BYTES:
                    return
