"""The page at /."""

from dataclasses import replace

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.bootstrap.services import Services
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.web.app import Apis, create_app
from gateway.web.front import FrontPage
from tests.api import BASE_URL, make_apis


@pytest.fixture
def apis(settings: Settings, services: Services) -> Apis:
    return make_apis(settings, services)


def page_app(apis: Apis, front: FrontPage) -> ASGIApp:
    changed = replace(apis, front=front)
    return create_app(changed, Metrics("0"), lambda: "request-0001")


async def shown(app: ASGIApp) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
        return await client.get("/")


async def test_the_page_says_how_to_call(client: httpx.AsyncClient, settings: Settings) -> None:
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f'curl -X POST "{settings.effective_public_url}/api/music_generate"' in response.text
    assert "/docs" in response.text


async def test_nothing_can_be_loaded_or_run_from_it(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/")).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("emulated", [True, False])
async def test_an_emulator_is_named_where_there_is_one(apis: Apis, *, emulated: bool) -> None:
    app = page_app(apis, FrontPage(public_url="https://music.example.com", emulated=emulated))
    assert ("not from a Google model" in (await shown(app)).text) is emulated


async def test_the_address_cannot_break_the_page(apis: Apis) -> None:
    app = page_app(apis, FrontPage(public_url='https://x/"><script>', emulated=False))
    assert "<script>" not in (await shown(app)).text
