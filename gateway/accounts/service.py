"""What an operator does with tenants and keys."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.accounts import keys
from gateway.db import accounts
from gateway.db.engine import Database, Tx
from gateway.errors import ErrorCode, GatewayError
from gateway.model import ApiKey, Tenant, TenantStatus
from gateway.ports import Clock

_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may do at once. None means the documented default."""

    rpm: int | None = None
    max_concurrent: int | None = None
    max_queued: int | None = None
    weight: int = 1


class Accounts:
    """Tenants and keys. Raises `GatewayError` (invalid_request) when a name or id will not do."""

    def __init__(
        self, database: Database, clock: Clock, new_id: Callable[[str], str], choose: Callable[[str], str]
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._choose = choose

    async def create_tenant(self, name: str, limits: Limits) -> Tenant:
        tenant = Tenant(
            id=self._new_id("ten"),
            name=_checked_name(name),
            status=TenantStatus.ACTIVE,
            created_at_ms=self._clock.now_ms(),
            rpm=limits.rpm,
            max_concurrent=limits.max_concurrent,
            max_queued=limits.max_queued,
            weight=limits.weight,
        )

        def write(tx: Tx) -> None:
            if accounts.find_tenant(tx, tenant.name) is not None:
                raise _invalid(f"There is a tenant named {tenant.name!r} already; choose another name.")
            accounts.insert_tenant(tx, tenant)

        await self._database.write(write)
        return tenant

    async def list_tenants(self) -> tuple[Tenant, ...]:
        return await self._database.read(accounts.list_tenants)

    async def create_key(self, tenant_id: str, name: str, *, rpm: int | None) -> tuple[ApiKey, str]:
        """The key as kept, and its text, which cannot be had again."""
        minted = keys.mint(self._choose)
        key = ApiKey(
            id=minted.public_id,
            tenant_id=tenant_id,
            name=_checked_name(name),
            sha256=minted.sha256,
            created_at_ms=self._clock.now_ms(),
            rpm=rpm,
        )

        def write(tx: Tx) -> None:
            if accounts.get_tenant(tx, tenant_id) is None:
                raise _invalid(f"There is no tenant {tenant_id!r}; `gateway tenant list` shows them.")
            accounts.insert_key(tx, key)

        await self._database.write(write)
        return key, minted.text

    async def list_keys(self, tenant_id: str | None) -> tuple[ApiKey, ...]:
        return await self._database.read(lambda tx: accounts.list_keys(tx, tenant_id))

    async def revoke_key(self, key_id: str) -> bool:
        """True when this call revoked it, False when it was revoked before. Raises when there is none."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> bool:
            if not accounts.get_keys(tx, [key_id]):
                raise _invalid(f"There is no key {key_id!r}; `gateway key list` shows them.")
            return accounts.revoke_key(tx, key_id, now_ms=now_ms)

        return await self._database.write(write)


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _NAME_LENGTH or not stripped.isprintable():
        raise _invalid(f"A name has 1 to {_NAME_LENGTH} printable characters.")
    return stripped


def _invalid(detail: str) -> GatewayError:
    return GatewayError(detail, code=ErrorCode.INVALID_REQUEST)
