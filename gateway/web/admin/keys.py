"""API keys. A key's text is told when it is made or rotated, and again only to a repeat of that request."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.keyring import Keyring, Made
from gateway.model import ApiKey, KeyMode, KeyState
from gateway.ports import Clock
from gateway.web.admin.requests import Page, Parameters, act_of, cursor_at, read_body, request_name
from gateway.web.admin.schemas import KeyBody, KeyPatch, RotationBody
from gateway.web.admin.views import Document, render_key, render_new_key, render_rotated
from gateway.web.answers import answer
from gateway.web.queries import read_query


class KeysApi:
    """``/admin/api/keys``."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock

    async def list(self, request: Request) -> Response:
        asked = Parameters(request, "tenant_id", "state")
        found = await self._keyring.list(
            asked.text("tenant_id"),
            state=asked.choice("state", KeyState),
            after=asked.place(),
            limit=asked.limit + 1,
        )
        now_ms = self._clock.now_ms()
        page = Page.of(found, asked.limit, lambda key: cursor_at(key.created_at_ms, key.id))
        return page.answer(lambda key: render_key(key, now_ms))

    async def create(self, request: Request) -> Response:
        body = await read_body(request, KeyBody)
        act, mode, name = act_of(request), KeyMode(body.mode), request_name(request)
        if name is None:
            made = Made(*await self._keyring.create(act, body.tenant_id, mode=mode, **body.terms()))
        else:
            made = await self._keyring.create_named(act, body.tenant_id, name, mode=mode, **body.terms())
        document = render_new_key(made.key, made.text, self._clock.now_ms())
        return answer(document, 201, repeated=made.repeated)

    async def get(self, request: Request) -> Response:
        read_query(request)
        return answer(self._document(await self._keyring.get(_key_id(request))))

    async def update(self, request: Request) -> Response:
        body = await read_body(request, KeyPatch)
        return answer(
            self._document(await self._keyring.update(act_of(request), _key_id(request), **body.terms()))
        )

    async def disable(self, request: Request) -> Response:
        read_query(request)
        return answer(self._document(await self._keyring.disable(act_of(request), _key_id(request))))

    async def enable(self, request: Request) -> Response:
        read_query(request)
        return answer(self._document(await self._keyring.enable(act_of(request), _key_id(request))))

    async def revoke(self, request: Request) -> Response:
        read_query(request)
        await self._keyring.revoke(act_of(request), _key_id(request))
        return answer(self._document(await self._keyring.get(_key_id(request))))

    async def rotate(self, request: Request) -> Response:
        body = await read_body(request, RotationBody, optional=True)
        rotated = await self._keyring.rotate(
            act_of(request), _key_id(request), overlap_s=body.overlap_s, name=request_name(request)
        )
        return answer(render_rotated(rotated, self._clock.now_ms()), repeated=rotated.repeated)

    def _document(self, key: ApiKey) -> Document:
        return render_key(key, self._clock.now_ms())


def _key_id(request: Request) -> str:
    return str(request.path_params["key_id"])
