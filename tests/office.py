"""The administration for tests: services on a database, and what their audit log says."""

import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from gateway.accounts.books import Books
from gateway.accounts.keyring import Keyring
from gateway.accounts.tenants import Tenants
from gateway.db.audit import AuditEntry
from gateway.db.engine import Database
from gateway.errors import InvalidRequest
from gateway.tasks.ids import IdMaker
from tests.clock import SetClock

ROTATION_SECRET = b"r" * 32


@dataclass
class TestOffice:
    """``forgotten`` are the keys that an authenticator was told to read anew."""

    __test__ = False

    database: Database
    clock: SetClock
    forgotten: list[str] = field(default_factory=list)

    @property
    def tenants(self) -> Tenants:
        return Tenants(self.database, self.clock, IdMaker(self.clock, secrets.token_bytes))

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.database, self.clock, secrets.choice, ROTATION_SECRET, self.forgotten.append)

    @property
    def books(self) -> Books:
        return Books(self.database, self.clock)

    async def acts(self) -> list[AuditEntry]:
        """The audit log, oldest first."""
        return list(reversed(await self.books.audit_log(None)))


async def faults(awaitable: Awaitable[object]) -> set[str]:
    """The fields that are named as wrong."""
    with pytest.raises(InvalidRequest) as caught:
        await awaitable
    return {fault.field for fault in caught.value.fields}
