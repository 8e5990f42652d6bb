"""Pages about webhooks: endpoints, their secrets, and what was delivered."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.people import Permission
from gateway.errors import GatewayError
from gateway.messages import DeliveryState, EventType
from gateway.web.dashboard.desk import Desk, Seat, go
from gateway.web.dashboard.forms import form_of
from gateway.web.dashboard.home import tenant_path
from gateway.web.queries import read_query
from gateway.webhooks.service import Changes, Webhooks

_PAGE = 30
_OVERLAP_S = 86_400


class WebhookPages:
    """``/dashboard/t/{tenant_id}/webhooks``."""

    def __init__(self, desk: Desk, webhooks: Webhooks) -> None:
        self._desk = desk
        self._webhooks = webhooks

    async def list(self, request: Request) -> Response:
        return await self._list(request, await self._desk.enter(request, Permission.VIEW))

    async def create(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        form = form_of(request)
        events = [EventType(name) for name in form.texts("events") if name in list(EventType)]
        try:
            made = await self._webhooks.create(
                self._desk.act(request),
                seat.tenant_id,
                form.text("url"),
                description=form.text("description")[:200],
                events=events or None,
            )
        except GatewayError as error:
            return await self._list(request, seat, error)
        return self._back(seat, made.id, "created")

    async def show(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        endpoint = await self._webhooks.get(seat.tenant_id, request.path_params["endpoint_id"])
        return self._desk.page(request, "webhook.html", seat=seat, endpoint=endpoint, secret=None)

    async def reveal(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        endpoint = await self._webhooks.get(seat.tenant_id, request.path_params["endpoint_id"])
        secret = await self._webhooks.secret(seat.tenant_id, endpoint.id)
        return self._desk.page(request, "webhook.html", seat=seat, endpoint=endpoint, secret=secret.text)

    async def rotate(self, request: Request) -> Response:
        """The secret before goes on signing too, for a day."""
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        endpoint_id = request.path_params["endpoint_id"]
        secret = await self._webhooks.rotate(
            self._desk.act(request), seat.tenant_id, endpoint_id, overlap_s=_OVERLAP_S
        )
        endpoint = await self._webhooks.get(seat.tenant_id, endpoint_id)
        return self._desk.page(request, "webhook.html", seat=seat, endpoint=endpoint, secret=secret.text)

    async def switch(self, request: Request) -> Response:
        """Disable it, or enable it again."""
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        endpoint_id, enabled = request.path_params["endpoint_id"], form_of(request).ticked("enabled")
        changes = Changes(enabled=enabled)
        await self._webhooks.change(self._desk.act(request), seat.tenant_id, endpoint_id, changes)
        return self._back(seat, endpoint_id, "saved")

    async def test(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        await self._webhooks.test(seat.tenant_id, request.path_params["endpoint_id"])
        return go(tenant_path(seat.tenant_id, "webhooks"), "sent")

    async def delete(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        endpoint_id = request.path_params["endpoint_id"]
        await self._webhooks.delete(self._desk.act(request), seat.tenant_id, endpoint_id)
        return go(tenant_path(seat.tenant_id, "webhooks"), "deleted")

    async def delivery(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        delivery, tries = await self._webhooks.delivery(seat.tenant_id, request.path_params["delivery_id"])
        return self._desk.page(request, "delivery.html", seat=seat, delivery=delivery, tries=tries)

    async def replay(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.WEBHOOKS)
        delivery = await self._webhooks.replay(seat.tenant_id, request.path_params["delivery_id"])
        return go(tenant_path(seat.tenant_id, f"webhooks/deliveries/{delivery.id}"), "sent")

    def _back(self, seat: Seat, endpoint_id: str, said: str) -> Response:
        return go(tenant_path(seat.tenant_id, f"webhooks/{endpoint_id}"), said)

    async def _list(self, request: Request, seat: Seat, error: GatewayError | None = None) -> Response:
        values = read_query(request, ("state", "cursor", "said"))
        state = next((each for each in DeliveryState if each.value == values.get("state")), None)
        page = await self._webhooks.deliveries(
            seat.tenant_id, state=state, cursor=values.get("cursor") or None, limit=_PAGE
        )
        return self._desk.page(
            request,
            "webhooks.html",
            seat=seat,
            status=400 if error else 200,
            trouble=error.detail if error else "",
            endpoints=await self._webhooks.list(seat.tenant_id),
            events=tuple(EventType),
            page=page,
            states=tuple(DeliveryState),
            state=state.value if state else "",
        )
