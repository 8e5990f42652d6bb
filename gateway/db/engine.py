"""What a database is to the rest of the gateway: whole functions run in transactions, and word of changes.

Two kinds satisfy it, `gateway.db.sqlite` and `gateway.db.postgres`; `gateway.db.opening` chooses by URL. The
functions that they run are the same, and so are the statements in them.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from gateway.errors import ErrorCode, Unavailable

T = TypeVar("T")

#: An open transaction. Statements only; nothing below `gateway.tasks` begins or ends one.
Tx = sa.Connection

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 5.0
_TOUCHED = "touched"

#: Hears, after a commit and before its writer does, which things changed; None means that another process
#: wrote, so anything may have.
Listener = Callable[[frozenset[str] | None], None]


def touch(tx: Tx, thing: str) -> None:
    """Say that this transaction changes ``thing`` (a task's id): whoever remembers it must read it anew."""
    tx.info.setdefault(_TOUCHED, set()).add(thing)


def take_touched(tx: Tx) -> frozenset[str]:
    """What was touched since the last time. A connection outlives its transactions: ask at both ends."""
    return frozenset(tx.info.pop(_TOUCHED, ()))


def has_one_writer(tx: Tx) -> bool:
    """Whether nobody else can be writing, so that there is nothing to lock: so it is in SQLite."""
    return tx.dialect.name == "sqlite"


class Database(ABC):
    """Runs transactions. Raises `Unavailable` when the database cannot take or give."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    @abstractmethod
    async def read(self, function: Callable[[Tx], T]) -> T:
        """Run a function in a read transaction: one consistent snapshot. A write in it is refused."""

    @abstractmethod
    async def read_long(self, function: Callable[[Tx], T]) -> T:
        """As `read`, for what may take a second or more: beside the others, so that none waits behind it."""

    @abstractmethod
    async def write(self, function: Callable[[Tx], T]) -> T:
        """Run a function in a write transaction; when this returns, its effect is on disk.

        If it raises, nothing of it remains, unless the error says that this is not known. A caller cancelled
        while waiting does not undo it. The function may be run again from its beginning, once the database
        has said that nothing remains of the time before; what else it changes must bear that.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun, then close. Later reads and writes raise `Unavailable`."""

    def listen(self, listener: Listener) -> None:
        """Be told of every change, those of other processes within a quarter of a second."""
        self._listeners.append(listener)

    def _tell(self, touched: frozenset[str] | None) -> None:
        for listener in self._listeners:
            listener(touched)


def unavailable(cause: str, *, unknown: bool = False) -> Unavailable:
    """The error for callers; ``cause`` goes to the log, so it must hold no values of the statement's.

    With ``unknown`` the connection was lost while the database was taking the transaction.
    """
    logger.error("database: %s", cause)
    if unknown:
        detail = (
            "The gateway's database went away while it took the request, which may or may not have been "
            "done. See what is there before you try again."
        )
    else:
        detail = "The gateway's database did not take the request; nothing was done. Try again shortly."
    return Unavailable(
        detail, code=ErrorCode.DATABASE_UNAVAILABLE, internal=cause, retry_after_s=_RETRY_AFTER_S
    )
