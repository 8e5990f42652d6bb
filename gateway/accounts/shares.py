"""Fewer questions to a store that is shared: each instance lets a small share of a limit through by itself.

A question costs as much as a poll does. So while a name is far from its quota the store hears of its hits
twice a second rather than each time. Whoever has been refused is counted one by one from then on.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.errors import Unavailable
from gateway.ports import Clock, Window, Windows

#: Of a quota, what an instance may let through before the store has heard of it: one part of so many.
PARTS = 16
_TELL_EVERY_S = 0.5
_WINDOW_S = 60.0
_CAPACITY = 10_000


@dataclass(slots=True)
class _Share:
    """``left`` hits may pass until ``until_s`` without a question; the store has not heard of ``untold``."""

    left: int = 0
    untold: int = 0
    until_s: float = 0.0
    strict_until_s: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shares:
    """Satisfies `gateway.ports.Windows` on top of another that is slow to ask.

    Each instance may exceed a quota by a sixteenth; not once it has refused the name, for a minute.
    """

    def __init__(self, store: Windows, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._void_until_s = 0.0  # shares that end by then are void: the store has failed since they were had

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share()
            if len(self._shares) > _CAPACITY:
                self._shares.popitem(last=False)
        if self._takes(share, hits):
            return True
        self._shares.move_to_end(name)
        async with share.asking:
            # Whoever asked before may have brought a new share.
            return self._takes(share, hits) or await self._ask(share, name, quota, hits)

    async def look(self, name: str, quota: int) -> Window:
        return await self._store.look(name, quota)

    async def close(self) -> None:
        await self._store.close()

    def _takes(self, share: _Share, hits: int) -> bool:
        if share.left < hits or share.until_s <= self._void_until_s:
            return False
        if self._clock.monotonic_s() >= share.until_s:
            return False
        share.left -= hits
        share.untold += hits
        return True

    async def _ask(self, share: _Share, name: str, quota: int, hits: int) -> bool:
        """Tell the store of all that it has not heard of, and of these hits."""
        now_s = self._clock.monotonic_s()
        if now_s >= share.until_s + _WINDOW_S:
            share.untold = 0  # they have left the window
        share.left = 0
        try:
            fits = await self._store.hit(name, quota, share.untold + hits)
        except Unavailable:
            self._void_until_s = self._clock.monotonic_s() + _TELL_EVERY_S
            raise
        share.untold = 0
        if not fits:
            share.strict_until_s = now_s + _WINDOW_S
        elif now_s >= share.strict_until_s:
            share.left = quota // PARTS
            share.until_s = now_s + _TELL_EVERY_S
        return fits
