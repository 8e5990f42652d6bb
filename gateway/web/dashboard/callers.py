"""The gateway's own API for people who have signed in: the same handlers, with a key that nobody holds.

Everybody who works in the dashboard has keys of their own in each tenant, made when they are first needed.
Their texts are thrown away at once, so they open nothing elsewhere; limits, usage and money are theirs as
with any other key, and a tenant's owner sees, bounds, disables or revokes them like any other.
"""

from starlette.requests import Request

from gateway.accounts.authentication import Authenticator
from gateway.accounts.keyring import Keyring
from gateway.accounts.people import Membership, People, Permission
from gateway.accounts.sessions import Sessions
from gateway.errors import GatewayError, NotFound, Unauthorized, Unavailable
from gateway.model import ALL_SCOPES, Act, KeyMode, Principal, Scope
from gateway.web.dashboard.visits import Visit, require_visit

_NEEDED = {Scope.READ: Permission.VIEW, Scope.GENERATE: Permission.GENERATE}
_READS = frozenset({Scope.READ})


class SessionCallers:
    """`gateway.web.callers.CallerSource` for ``/dashboard/api/{tenant_id}/{mode}/…``."""

    def __init__(
        self, sessions: Sessions, people: People, keyring: Keyring, authenticator: Authenticator
    ) -> None:
        self._sessions = sessions
        self._people = people
        self._keyring = keyring
        self._authenticator = authenticator

    async def identify(self, request: Request, scope: Scope) -> Principal:
        """Raises `Unauthorized`, `Forbidden`, or `NotFound` for a tenant that is not theirs."""
        visit = require_visit(request.scope)
        tenant_id = request.path_params["tenant_id"]
        mode = _mode(request.path_params.get("mode", KeyMode.LIVE.value))
        membership = await self._people.enter(visit.person, tenant_id, _NEEDED[scope])
        principal = await self.principal(visit, membership, mode, request.scope["act"])
        request.scope["ids"] |= {"tenant_id": principal.tenant_id, "key_id": principal.key_id}
        return principal

    async def is_still_good(self, request: Request, scope: Scope) -> bool:
        visit = require_visit(request.scope)
        try:
            if visit.session_id is not None and not await self._sessions.is_open(visit.session_id):
                return False
            person = await self._people.find(visit.person.email, admin=visit.person.admin)
            await self._people.enter(person, request.path_params["tenant_id"], _NEEDED[scope])
        except Unavailable:
            return True
        except GatewayError:
            return False
        return True

    async def principal(self, visit: Visit, membership: Membership, mode: KeyMode, act: Act) -> Principal:
        """The person's own key in this tenant, made if there is none yet. Raises `Unauthorized`."""
        scopes = ALL_SCOPES if membership.may(Permission.GENERATE) else _READS
        name = f"dashboard {mode.value} {'+'.join(sorted(scopes))} {visit.person.email}"
        key_id = self._keyring.named_key_id(membership.tenant.id, name, mode)
        try:
            return await self._authenticator.vouch_for(key_id)
        except NotFound:
            pass
        await self._keyring.create_named(
            act,
            membership.tenant.id,
            name,
            mode=mode,
            name=f"Dashboard: {visit.person.email}"[:100],
            owner=visit.person.email,
            scopes=scopes,
        )
        self._authenticator.forget(key_id)
        return await self._authenticator.vouch_for(key_id)


def _mode(text: str) -> KeyMode:
    try:
        return KeyMode(text)
    except ValueError:
        raise Unauthorized("There is no such kind of key.") from None
