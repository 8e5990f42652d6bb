"""Moving windows in Redis, counted for all instances together. Satisfies `gateway.ports.Windows`.

Imported only where a Redis is configured: its client takes a quarter of a second to import. Redis may be
slow, or dead, and requests cannot wait for it: a question has `PATIENCE_S`, and after one that got no answer
none is asked for `SILENCE_S`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from limits.aio.storage import RedisStorage
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from gateway.accounts.windows import LimitsWindows
from gateway.errors import ErrorCode, Unavailable
from gateway.ports import Clock, Window

PATIENCE_S = 0.05
SILENCE_S = 1.0
_TO_READ_S = 0.005
# Opening a connection over TLS may take longer than a request can wait; the next one finds it open.
_CONNECT_S = 1.0
# Questions under way at once; each has a connection of its own.
_AT_ONCE = 16
# At the very moment at which the library says that a hit leaves its window, the hit is still in it.
_JUST_AFTER_S = 1e-6

T = TypeVar("T")


class RedisWindows(LimitsWindows):
    """Windows in Redis. Raises `Unavailable` whenever there is no answer in time."""

    def __init__(self, pool: ConnectionPool, clock: Clock) -> None:
        # The pool knows where Redis is. The library hands it on, though its types do not say so.
        options: dict[str, Any] = {"connection_pool": pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix="gateway", **options)
        # The library stamps hits with the machine's time: instances have to agree on it.
        super().__init__(storage, time.time)
        self._pool = pool
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._silent_until_s: float | None = None
        self._asked: set[asyncio.Task[Any]] = set()

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        return await self._ask(partial(super().hit, name, quota, hits))

    async def look(self, name: str, quota: int) -> Window:
        window = await self._ask(partial(super().look, name, quota))
        return Window(window.remaining, window.reset_s + _JUST_AFTER_S)

    async def close(self) -> None:
        for asked in self._asked:
            asked.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self._pool.aclose()

    async def _ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._check_silence()
        async with self._turns:
            self._check_silence()  # it may have begun while this question waited for its turn
            if self._silent_until_s is not None:
                # One question finds out whether Redis is back; nobody else waits for that.
                self._be_silent()
            asked = asyncio.create_task(question())
            self._asked.add(asked)
            asked.add_done_callback(self._heard)
            # Not cancelled when its time is over, since that would close the connection it may be opening.
            await asyncio.wait((asked,), timeout=PATIENCE_S)
            if not asked.done():
                # A loop that was held up itself wakes us before it reads the answer that lies there.
                await asyncio.wait((asked,), timeout=_TO_READ_S)
        if not asked.done():
            self._be_silent()
            raise _unavailable(f"no answer within {PATIENCE_S * 1000:.0f} ms")
        try:
            answer = asked.result()
        except (RedisError, OSError) as error:
            self._be_silent()
            raise _unavailable(str(error) or type(error).__name__) from error
        self._silent_until_s = None
        return answer

    def _check_silence(self) -> None:
        if self._silent_until_s is not None and self._clock.monotonic_s() < self._silent_until_s:
            raise _unavailable("not asked, since it did not answer a moment ago")

    def _be_silent(self) -> None:
        self._silent_until_s = self._clock.monotonic_s() + SILENCE_S

    def _heard(self, asked: asyncio.Task[Any]) -> None:
        self._asked.discard(asked)
        if not asked.cancelled():
            asked.exception()  # seen, where nobody waits for the answer any more


def in_redis(url: str, clock: Clock) -> RedisWindows:
    """Windows in the Redis at ``redis://``, ``rediss://`` or ``unix://``. Connects when first asked."""
    timeouts = {"socket_connect_timeout": _CONNECT_S, "socket_timeout": _CONNECT_S}
    return RedisWindows(ConnectionPool.from_url(url, **timeouts), clock)


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        "The gateway cannot count requests just now; come back in a few seconds.",
        code=ErrorCode.LIMITS_UNAVAILABLE,
        internal=f"the store of request limits: {why}",
    )
