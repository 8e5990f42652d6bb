"""Waiting for what another thread or process does."""

import asyncio
from collections.abc import Callable

_PATIENCE_S = 30.0
_PAUSE_S = 0.01


async def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; it is asked in a thread."""
    async with asyncio.timeout(_PATIENCE_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - nobody there could set an event
            await asyncio.sleep(_PAUSE_S)
