"""``/control``: how a test scripts trouble, reads the log and changes settings. Google has no such thing."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from json import JSONDecodeError
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.emulator.desk import Desk, SettingRefused, changed_settings
from gateway.emulator.faults import FaultRefused, read_faults
from gateway.emulator.pages.registry import NAMES

Handler = Callable[[Request], Awaitable[Response]]


def control_routes(desk: Desk) -> list[Route]:
    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "emulator": True})

    async def add_faults(request: Request) -> Response:
        desk.faults.add(read_faults(await _json(request), NAMES))
        return JSONResponse({"queued": len(desk.faults)})

    async def show_faults(_: Request) -> Response:
        return JSONResponse({"queued": len(desk.faults)})

    async def clear_faults(_: Request) -> Response:
        desk.faults.clear()
        return JSONResponse({"queued": 0})

    async def show_calls(_: Request) -> Response:
        return JSONResponse(desk.calls.report())

    async def clear_calls(_: Request) -> Response:
        desk.forget_calls()
        return JSONResponse(desk.calls.report())

    async def show_settings(_: Request) -> Response:
        return JSONResponse(asdict(desk.settings))

    async def change_settings(request: Request) -> Response:
        desk.settings = changed_settings(desk.settings, await _json(request))
        return JSONResponse(asdict(desk.settings))

    table: list[tuple[str, str, Handler]] = [
        ("GET", "/control/health", health),
        ("POST", "/control/faults", add_faults),
        ("GET", "/control/faults", show_faults),
        ("DELETE", "/control/faults", clear_faults),
        ("GET", "/control/calls", show_calls),
        ("DELETE", "/control/calls", clear_calls),
        ("GET", "/control/settings", show_settings),
        ("POST", "/control/settings", change_settings),
    ]
    return [Route(path, handler, methods=[method]) for method, path, handler in table]


async def refused(_: Request, fault: Exception) -> Response:
    """400 with a sentence: the script itself was wrong."""
    return JSONResponse({"detail": str(fault)}, status_code=400)


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as fault:
        raise SettingRefused(f"The body is not JSON: {fault}") from None


REFUSALS: tuple[type[Exception], ...] = (FaultRefused, SettingRefused)
