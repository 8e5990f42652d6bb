"""Where the abuse guard counts: made when there is something to count, for it is slow to import."""

import asyncio
import importlib
from dataclasses import dataclass

from gateway.accounts.shares import Shares
from gateway.ports import Clock, Windows


@dataclass(frozen=True, slots=True)
class Counts:
    """Windows for each of the two limits."""

    reads: Windows
    bad_keys: Windows

    async def close(self) -> None:
        await self.reads.close()
        await self.bad_keys.close()


async def open_counts(url: str, clock: Clock) -> Counts:
    """Counts in the Redis at ``url``, or in memory where that is empty. Imports in a thread."""
    if url:
        shared = await asyncio.to_thread(importlib.import_module, "gateway.accounts.shared_windows")
        windows: Windows = shared.in_redis(url, clock)
        return Counts(reads=Shares(windows, clock), bad_keys=windows)
    own = await asyncio.to_thread(importlib.import_module, "gateway.accounts.windows")
    # Two, so that addresses, of which anybody may have plenty, cannot crowd out keys.
    return Counts(reads=own.in_memory(clock), bad_keys=own.in_memory(clock))
