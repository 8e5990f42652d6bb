"""People: who has signed in, and what they may do where."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.accounts.tenants import require_tenant
from gateway.db import sessions
from gateway.db.engine import Database
from gateway.errors import ErrorCode, Forbidden, NotFound
from gateway.model import Role, Tenant


class Permission(StrEnum):
    """What can be allowed to somebody within a tenant."""

    VIEW = "view"  # tasks, keys without their secrets, usage, webhooks
    GENERATE = "generate"  # make, cancel and delete music
    KEYS = "keys"  # create, rotate, disable, revoke
    WEBHOOKS = "webhooks"  # endpoints, their secrets, deliveries
    MEMBERS = "members"  # say who belongs to the tenant, and as what


_DEVELOPER = frozenset({Permission.VIEW, Permission.GENERATE, Permission.KEYS, Permission.WEBHOOKS})
#: What each role may do. A platform administrator may do in every tenant what its owner may.
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.DEVELOPER: _DEVELOPER,
    Role.OWNER: _DEVELOPER | {Permission.MEMBERS},
}


@dataclass(frozen=True, slots=True)
class Membership:
    """A tenant, and what somebody is in it."""

    tenant: Tenant
    role: Role

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.role]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has signed in. ``admin`` is a platform administrator."""

    email: str
    admin: bool
    memberships: tuple[Membership, ...]


class People:
    """Looks up who somebody is, each time anew: a role that is taken away is gone with the next request."""

    def __init__(self, database: Database, admins: Iterable[str]) -> None:
        self._database = database
        self._admins = frozenset(email.strip().lower() for email in admins)

    async def find(self, email: str, *, admin: bool = False) -> Person:
        """Whoever signed in with this address; ``admin`` when the sign-in itself makes them one."""
        email = email.strip().lower()
        found = await self._database.read(lambda tx: sessions.list_memberships(tx, email))
        memberships = tuple(Membership(tenant, role) for tenant, role in found)
        return Person(email, admin or email in self._admins, memberships)

    async def enter(self, person: Person, tenant_id: str, permission: Permission) -> Membership:
        """What this person is in a tenant, if they may do this there.

        Raises `NotFound` where they are nobody, whether or not there is such a tenant, and `Forbidden`.
        """
        membership = next((each for each in person.memberships if each.tenant.id == tenant_id), None)
        if person.admin:
            tenant = await self._database.read(lambda tx: require_tenant(tx, tenant_id))
            membership = Membership(tenant, Role.OWNER)
        if membership is None:
            raise NotFound("You are not a member of such a tenant.", code=ErrorCode.NOT_FOUND)
        if not membership.may(permission):
            raise Forbidden(
                f"As a {membership.role.value} of {membership.tenant.name} you may not do this; "
                "ask one of its owners."
            )
        return membership
