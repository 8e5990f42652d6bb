"""The documentation at ``/docs``: guides, and the API as openapi.yaml has it. No sign-in is needed."""

import asyncio
from collections.abc import Mapping
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import ErrorCode, NotFound
from gateway.model import Deployment
from gateway.web.dashboard.desk import Desk
from gateway.web.dashboard.reference import Section, read_reference

#: Every guide: its address under ``/docs``, and its title.
GUIDES = (
    ("", "Quick start"),
    ("authentication", "Authentication"),
    ("waiting", "Waiting and events"),
    ("webhooks", "Webhooks"),
    ("idempotency", "Repeating safely"),
    ("errors", "Errors"),
    ("limits", "Limits and budgets"),
    ("prices", "Prices"),
    ("reference", "API reference"),
)
_TITLES = dict(GUIDES)


class DocPages:
    """``/docs`` and what is under it. ``specification`` is openapi.yaml."""

    def __init__(self, desk: Desk, deployments: tuple[Deployment, ...], specification: bytes) -> None:
        self._desk = desk
        self._deployments = deployments
        self._specification = specification
        self._samples = read_samples()
        self._reference: tuple[Section, ...] | None = None

    async def show(self, request: Request) -> Response:
        name = request.path_params.get("name", "")
        if name not in _TITLES:
            raise NotFound("There is no such guide.", code=ErrorCode.ROUTE_NOT_FOUND)
        if name == "reference" and self._reference is None:
            self._reference = await asyncio.to_thread(read_reference, self._specification)
        return self._desk.page(
            request,
            f"docs/{name or 'quickstart'}.html",
            title=_TITLES[name],
            guides=GUIDES,
            samples=self._samples,
            deployments=self._deployments,
            sections=self._reference or (),
        )


def read_samples() -> Mapping[str, str]:
    """The samples in the guides, by file name. A test runs each of them."""
    directory = files("gateway.web.dashboard") / "samples"
    return {each.name: each.read_text().rstrip() for each in directory.iterdir() if each.is_file()}
