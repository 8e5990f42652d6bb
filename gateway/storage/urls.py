"""Signed URLs are handed out again until half of their life is gone, so that a poll costs no signature."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import StorageError
from gateway.ports import Clock, SignedUrl

#: A URL with less life than this is not worth handing out, even when no new one can be made.
_LEAST_LIFE_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Entry:
    url: SignedUrl
    renew_at_ms: int


class UrlCache:
    """The least recently used entries go first. Concurrent callers of one name share one signature."""

    def __init__(
        self, make: Callable[[str], Awaitable[SignedUrl]], clock: Clock, *, capacity: int = 4096
    ) -> None:
        self._make = make
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._running: dict[str, asyncio.Task[SignedUrl]] = {}

    async def get(self, name: str) -> SignedUrl:
        """A URL with at least half of its life left, or an older one while no new one can be had.

        Raises `StorageError` when there is neither.
        """
        now_ms = self._clock.now_ms()
        entry = self._entries.get(name)
        if entry is not None and now_ms < entry.renew_at_ms:
            self._entries.move_to_end(name)
            return entry.url
        try:
            # Shielded: a caller that hangs up must not take the signature away from the others.
            return await asyncio.shield(self._start(name))
        except StorageError:
            if entry is not None and entry.url.expires_at_ms - now_ms >= _LEAST_LIFE_MS:
                return entry.url
            raise

    def forget(self, name: str) -> None:
        self._entries.pop(name, None)

    async def close(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, name: str) -> asyncio.Task[SignedUrl]:
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._made(name))
            # Read even when nobody awaits it any more, or asyncio complains of an unseen exception.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _made(self, name: str) -> SignedUrl:
        issued_at_ms = self._clock.now_ms()
        try:
            url = await self._make(name)
        finally:
            del self._running[name]
        self._entries[name] = _Entry(url, (issued_at_ms + url.expires_at_ms) // 2)
        self._entries.move_to_end(name)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return url
