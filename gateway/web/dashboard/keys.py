"""Pages about keys and people of a tenant."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.keyring import Keyring
from gateway.accounts.people import Permission
from gateway.accounts.tenants import Tenants
from gateway.accounts.usage import Query, UsageReports
from gateway.errors import FieldError, InvalidRequest
from gateway.model import ApiKey, Dimension, KeyMode, KeyState, Role, Scope
from gateway.ports import Clock
from gateway.web.admin.schemas import KeyBody, KeyPatch, MemberBody
from gateway.web.dashboard.desk import Desk, Seat, go
from gateway.web.dashboard.fields import body_of, limits_of
from gateway.web.dashboard.forms import Form, form_of
from gateway.web.dashboard.home import tenant_path
from gateway.web.schemas import parse_body

_MOST = 1000
_LIMITS = ("rpm", "max_queued")
#: How long a replaced secret may go on being good: seconds, and words.
OVERLAPS = ((0, "not at all"), (3600, "an hour"), (86_400, "a day"), (604_800, "a week"))


class KeyPages:
    """``/dashboard/t/{tenant_id}/keys``."""

    def __init__(self, desk: Desk, keyring: Keyring, reports: UsageReports, clock: Clock) -> None:
        self._desk = desk
        self._keyring = keyring
        self._reports = reports
        self._clock = clock

    async def list(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        keys = await self._keyring.list(seat.tenant_id, limit=_MOST)
        report = await self._reports.report(Query(seat.tenant_id, group_by=(Dimension.KEY,)))
        return self._desk.page(
            request,
            "keys.html",
            seat=seat,
            keys=tuple(reversed(keys)),
            usage={row.key_id: row.usage for row in report.rows},
            now_ms=self._clock.now_ms(),
        )

    async def show_new(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.KEYS)
        return self._new(request, seat, {})

    async def create(self, request: Request) -> Response:
        """The key is on the page that answers, and nowhere after; sent twice, it is still one key."""
        seat = await self._desk.enter(request, Permission.KEYS)
        form = form_of(request)
        asked = _terms(form)
        try:
            body = parse_body(KeyBody, {"tenant_id": seat.tenant_id, "mode": form.text("mode"), **asked})
            made = await self._keyring.create_named(
                self._desk.act(request),
                seat.tenant_id,
                f"dashboard form {form.text('once')}",
                mode=KeyMode(body.mode),
                **body.terms(),
            )
        except InvalidRequest as error:
            return self._new(request, seat, asked, error)
        return self._desk.page(
            request, "key_made.html", seat=seat, key=made.key, text=made.text, old_until_ms=None
        )

    async def show(self, request: Request) -> Response:
        return await self._show(request, await self._desk.enter(request, Permission.VIEW))

    async def change(self, request: Request) -> Response:
        seat, key_id = await self._desk.enter(request, Permission.KEYS), request.path_params["key_id"]
        form = form_of(request)
        try:
            body = parse_body(KeyPatch, _terms(form) | limits_of(form, _LIMITS))
            await self._keyring.update(
                self._desk.act(request), key_id, tenant_id=seat.tenant_id, **body.terms()
            )
        except InvalidRequest as error:
            return await self._show(request, seat, error)
        return self._back(seat, key_id, "saved")

    async def rotate(self, request: Request) -> Response:
        seat, key_id = await self._desk.enter(request, Permission.KEYS), request.path_params["key_id"]
        form = form_of(request)
        overlap = body_of(form, numbers=("overlap_s",)).get("overlap_s")
        if overlap not in dict(OVERLAPS):
            raise InvalidRequest((FieldError("overlap_s", "unknown_value", "is one of the choices."),))
        rotated = await self._keyring.rotate(
            self._desk.act(request),
            key_id,
            overlap_s=overlap,
            name=f"dashboard form {form.text('once')}",
            tenant_id=seat.tenant_id,
        )
        return self._desk.page(
            request,
            "key_made.html",
            seat=seat,
            key=rotated.key,
            text=rotated.text,
            old_until_ms=rotated.old_until_ms,
        )

    async def disable(self, request: Request) -> Response:
        seat, key_id = await self._desk.enter(request, Permission.KEYS), request.path_params["key_id"]
        await self._keyring.disable(self._desk.act(request), key_id, tenant_id=seat.tenant_id)
        return self._back(seat, key_id, "disabled")

    async def enable(self, request: Request) -> Response:
        seat, key_id = await self._desk.enter(request, Permission.KEYS), request.path_params["key_id"]
        await self._keyring.enable(self._desk.act(request), key_id, tenant_id=seat.tenant_id)
        return self._back(seat, key_id, "enabled")

    async def revoke(self, request: Request) -> Response:
        seat, key_id = await self._desk.enter(request, Permission.KEYS), request.path_params["key_id"]
        await self._keyring.revoke(self._desk.act(request), key_id, tenant_id=seat.tenant_id)
        return self._back(seat, key_id, "revoked")

    def _made(
        self, request: Request, seat: Seat, key: ApiKey, text: str, old_until_ms: int | None = None
    ) -> Response:
        template = "key_made.html"
        return self._desk.page(request, template, seat=seat, key=key, text=text, old_until_ms=old_until_ms)

    def _back(self, seat: Seat, key_id: str, said: str) -> Response:
        return go(tenant_path(seat.tenant_id, f"keys/{key_id}"), said)

    def _new(
        self, request: Request, seat: Seat, asked: dict[str, Any], error: InvalidRequest | None = None
    ) -> Response:
        return self._desk.page(
            request,
            "key_new.html",
            seat=seat,
            status=400 if error else 200,
            asked=asked,
            faults=error.fields if error else (),
            once=request.scope["request_id"],
        )

    async def _show(self, request: Request, seat: Seat, error: InvalidRequest | None = None) -> Response:
        key = await self._keyring.get(request.path_params["key_id"], tenant_id=seat.tenant_id)
        state = key.state_at(self._clock.now_ms())
        return self._desk.page(
            request,
            "key.html",
            seat=seat,
            status=400 if error else 200,
            key=key,
            state=state,
            faults=error.fields if error else (),
            overlaps=OVERLAPS,
            usable=state in {KeyState.ACTIVE, KeyState.DISABLED} and seat.may("keys"),
            once=request.scope["request_id"],
        )


class MemberPages:
    """``/dashboard/t/{tenant_id}/members``."""

    def __init__(self, desk: Desk, tenants: Tenants) -> None:
        self._desk = desk
        self._tenants = tenants

    async def list(self, request: Request) -> Response:
        return await self._list(request, await self._desk.enter(request, Permission.VIEW))

    async def put(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.MEMBERS)
        form = form_of(request)
        try:
            role = Role(parse_body(MemberBody, {"role": form.text("role")}).role)
            await self._tenants.put_member(self._desk.act(request), seat.tenant_id, form.text("email"), role)
        except InvalidRequest as error:
            return await self._list(request, seat, error)
        return go(tenant_path(seat.tenant_id, "members"), "saved")

    async def remove(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.MEMBERS)
        await self._tenants.remove_member(
            self._desk.act(request), seat.tenant_id, form_of(request).text("email")
        )
        return go(tenant_path(seat.tenant_id, "members"), "removed")

    async def _list(self, request: Request, seat: Seat, error: InvalidRequest | None = None) -> Response:
        return self._desk.page(
            request,
            "members.html",
            seat=seat,
            status=400 if error else 200,
            members=await self._tenants.list_members(seat.tenant_id),
            roles=tuple(Role),
            faults=error.fields if error else (),
        )


def _terms(form: Form) -> dict[str, Any]:
    asked = body_of(form, ("name", "owner"), _LIMITS)
    if form.text("expires_on"):
        asked["expires_at"] = f"{form.text('expires_on')}T00:00:00Z"
    if scopes := [scope.value for scope in Scope if form.ticked(f"scope_{scope.value}")]:
        asked["scopes"] = scopes
    return asked
