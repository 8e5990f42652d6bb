"""The least a Starlette route can cost: the same server settings as the gateway's, and a constant answer.

python -m tests.bench.bare PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route


async def answer(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def stream(_request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        yield b"event: queued\ndata: {}\n\n"
        await asyncio.Future()

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/readyz", answer),
        Route("/api/task-status/{task_id}", answer),
        Route("/stream", stream),
    ]
)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
