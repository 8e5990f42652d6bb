"""Word of other processes' commits on PostgreSQL: NOTIFY in the transaction, LISTEN on its own connection.

While that connection is away, nobody can say what has changed, and so listeners are told that anything may
have, four times a second: what is remembered is never older than that.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from gateway.db.connecting import ERRORS
from gateway.db.engine import Listener

T = TypeVar("T")

logger = logging.getLogger(__name__)

_CHANNEL = "gateway_changes"
# PostgreSQL refuses 8,000 bytes.
_PAYLOAD_LIMIT = 7_900
_LOOK_EVERY_S = 0.25
# A connection that has not answered for so long is given up.
_GIVE_UP_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class ChangeFeed:
    """Hears what others touched, and says what was touched here."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], jitter: Callable[[], float]
    ) -> None:
        self._connect = connect
        self._jitter = jitter
        self._tell: Listener = _ignore
        self._name = ""
        self._connection: asyncpg.Connection | None = None
        self._watching: asyncio.Task[None] | None = None
        self.rename()

    async def open(self, tell: Listener) -> None:
        """Listen from now on. Raises what connecting raises."""
        self._tell = tell
        connection = await self._listen()
        self._watching = asyncio.create_task(self._watch_for_ever(connection))

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._connection is not None:
            self._connection.terminate()

    def telling(self, touched: frozenset[str]) -> str:
        """The statement to say before COMMIT; empty when there is nothing to tell."""
        if not touched:
            return ""
        payload = "\n".join([self._name, *touched])
        if len(payload.encode()) > _PAYLOAD_LIMIT:
            # Anything may have changed.
            payload = self._name
        quoted = payload.replace("'", "''")
        return f"SELECT pg_notify('{_CHANNEL}', '{quoted}'); "

    def rename(self) -> None:
        """Be a stranger to what was sent so far.

        One's own word is not heard: listeners were told when the commit was done. Where that could not be
        known, word of it may yet come.
        """
        self._name = secrets.token_hex(8)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        name, *touched = payload.split("\n")
        if name != self._name:
            self._tell(frozenset(touched) or None)

    async def _listen(self) -> asyncpg.Connection:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = connection = await self._connect()
        await connection.add_listener(_CHANNEL, self._heard)
        return connection

    async def _watch_for_ever(self, connection: asyncpg.Connection) -> None:
        while True:
            try:
                await self._watch(connection)
            except ERRORS as error:
                logger.warning("database: changes of other processes are not heard: %s", error)
            connection = await self._listen_again()
            # Whatever was missed meanwhile.
            self._tell(None)
            logger.warning("database: changes of other processes are heard again")

    async def _watch(self, connection: asyncpg.Connection) -> None:
        """Raises when the connection is lost, which it asks: a silent network does not tell by itself."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            answer = asyncio.create_task(connection.execute("SELECT 1", timeout=_GIVE_UP_S))
            await self._tell_until(answer)

    async def _listen_again(self) -> asyncpg.Connection:
        connecting = asyncio.create_task(self._connect_at_last())
        self._tell(None)
        return await self._tell_until(connecting)

    async def _tell_until(self, awaited: "asyncio.Task[T]") -> T:
        """What it gives; while it takes its time, anything may have changed."""
        try:
            while not (await asyncio.wait([awaited], timeout=_LOOK_EVERY_S))[0]:
                self._tell(None)
            return awaited.result()
        finally:
            awaited.cancel()

    async def _connect_at_last(self) -> asyncpg.Connection:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._listen()
            except ERRORS as error:
                logger.debug("database: %s", error)
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _ignore(_touched: frozenset[str] | None) -> None:
    """Until somebody listens."""
