"""Moving windows of a minute with the library `limits`, in memory. Satisfies `gateway.ports.Windows`.

Imported when the first request is counted: the library takes 50 ms to import, and no start waits for that.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter

from gateway.ports import Clock, Window

#: Names that are counted at once. One more, and the one that was quiet for longest is forgotten.
CAPACITY = 10_000


class LimitsWindows:
    """The library's strategy on one of its storages, whose time is ``now_s``."""

    def __init__(self, storage: Storage, now_s: Callable[[], float]) -> None:
        self._limiter = MovingWindowRateLimiter(storage)
        self._now_s = now_s
        self._items: dict[int, RateLimitItem] = {}

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        return await self._limiter.hit(self._item(quota), name, cost=hits)

    async def look(self, name: str, quota: int) -> Window:
        reset_at_s, remaining = await self._limiter.get_window_stats(self._item(quota), name)
        return Window(remaining, reset_at_s - self._now_s())

    async def close(self) -> None:
        """There is nothing to close in memory."""

    def _item(self, quota: int) -> RateLimitItem:
        item = self._items.get(quota)
        if item is None:
            item = self._items[quota] = RateLimitItemPerMinute(quota, namespace="gateway")
        return item


class BoundedMemory(MemoryStorage):
    """The library's storage with windows of its own: at most ``capacity`` names, and no dearer for many.

    Those that it comes with are looked through after each hit, every name in a thread's turn.
    """

    def __init__(self, now_s: Callable[[], float], capacity: int = CAPACITY) -> None:
        super().__init__()
        self._now_s = now_s
        self._capacity = capacity
        # When each hit was, oldest first; the names in the order in which they were last heard of.
        self._hits: OrderedDict[str, array[float]] = OrderedDict()

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now_s = self._now_s()
        left_s = now_s - expiry
        hits = self._hits.get(key)
        if hits is None:
            self._make_room(left_s)
            hits = self._hits[key] = array("d")
        else:
            self._hits.move_to_end(key)
        gone = bisect_right(hits, left_s)
        if len(hits) - gone + amount > limit:
            return False
        # Not each time: what is behind would have to move up each time.
        if gone > len(hits) // 2:
            del hits[:gone]
        hits.extend([now_s] * amount)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - the library's signature
        """When the oldest hit of the window was, and how many there are. As the library calls it."""
        now_s = self._now_s()
        hits = self._hits.get(key, ())
        gone = bisect_right(hits, now_s - expiry)
        return (hits[gone], len(hits) - gone) if gone < len(hits) else (now_s, 0)

    def _make_room(self, left_s: float) -> None:
        """Forget whoever has nothing in the window any more, and one more name if there is no room yet."""
        while self._hits:
            key, hits = next(iter(self._hits.items()))
            if hits and hits[-1] > left_s and len(self._hits) < self._capacity:
                return
            del self._hits[key]


def in_memory(clock: Clock) -> LimitsWindows:
    """Windows of this process, which another one knows nothing of. They do not mind a clock that is set."""
    return LimitsWindows(BoundedMemory(clock.monotonic_s), clock.monotonic_s)
