"""The client for programs with an event loop: as `gateway.client.synchronous`, awaited."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self, TypeVar, Unpack
from urllib.parse import urlencode

import httpx

from gateway.client.files import Download
from gateway.client.flows import Answer, Call, EventParser, Flow, Pause, asking, generating, waiting
from gateway.client.model import ApiError, Clip, Document, Event, Patience, Task, task_from
from gateway.client.request import Wishes, body_of

T = TypeVar("T")

_ALL_TOLD = 204
_ENDS = frozenset({"succeeded", "failed", "canceled", "expired"})


class AsyncClient:
    """``url`` is the gateway's, without ``/api``. Everything raises `ApiError`."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        new_name: Callable[[], str] = lambda: uuid.uuid4().hex,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._patience = patience or Patience()
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"), headers={"X-Api-Key": key}, timeout=self._patience.timeout_s
        )
        self._sleep = sleep
        self._new_name = new_name
        self._jitter = jitter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def generate(
        self, prompt: str, *, wait: bool = True, name: str | None = None, **wishes: Unpack[Wishes]
    ) -> Task:
        """Music for a prompt; with ``wait``, at its end, which may be a failure: see `Task.succeeded`.

        ``name`` is what makes it safe to repeat, one of its own by default.
        """
        body, name = body_of(prompt, wishes), name or self._new_name()
        return await self._run(generating(body, name, self._patience, self._jitter, wait=wait))

    async def quote(self, prompt: str, **wishes: Unpack[Wishes]) -> Document:
        """What it would cost, and whether it would be accepted now; nothing is made."""
        call = Call("POST", "/api/music_generate?dry_run=true", body=body_of(prompt, wishes))
        return await self._ask(call)

    async def wait(self, task: Task) -> Task:
        return await self._run(waiting(task, self._patience, self._jitter))

    async def get(self, task_id: str) -> Task:
        return task_from(await self._ask(Call("GET", f"/api/task-status/{task_id}")))

    async def cancel(self, task_id: str) -> Task:
        return task_from(await self._ask(Call("POST", f"/api/tasks/{task_id}/cancel")))

    async def delete(self, task_id: str) -> None:
        """Its prompt and its audio, for good."""
        await self._ask(Call("DELETE", f"/api/tasks/{task_id}"))

    async def account(self) -> Document:
        return await self._ask(Call("GET", "/api/account"))

    async def models(self) -> Document:
        return await self._ask(Call("GET", "/api/models"))

    async def tasks(self, **wanted: str) -> AsyncIterator[Task]:
        """The tenant's tasks, newest first, without clips. ``wanted``: the filters of ``/api/tasks``."""
        while True:
            page = await self._ask(Call("GET", f"/api/tasks?{urlencode(wanted)}"))
            for document in page["data"]:
                yield task_from(document)
            if page["next_cursor"] is None:
                return
            wanted["cursor"] = page["next_cursor"]

    async def events(self, task_id: str) -> AsyncIterator[Event]:
        """All that happens to a task, until its end; a stream that breaks is taken up where it was."""
        parser, paused_s = EventParser(), 0.0
        while True:
            parser = EventParser(parser.last_id)
            headers = {"Last-Event-ID": parser.last_id} if parser.last_id else {}
            path = f"/api/task-status/{task_id}/events"
            try:
                async with self._http.stream("GET", path, headers=headers) as got:
                    if got.status_code == _ALL_TOLD:
                        return
                    if got.is_error:
                        await got.aread()
                        # Told in the same words as any other refusal.
                        await self.get(task_id)
                        if paused_s >= self._patience.pauses_s:
                            raise ApiError(got.status_code, {"detail": "Only its events are refused."})
                    async for line in got.aiter_lines():
                        if (event := parser.feed(line)) is None:
                            continue
                        paused_s = 0.0
                        yield event
                        if event.name in _ENDS:
                            return
            except httpx.TransportError as error:
                if paused_s >= self._patience.pauses_s:
                    raise ApiError(0, {"detail": str(error)}) from error
            paused_s += 1.0
            await self._sleep(1.0)

    async def download(self, clip: Clip, path: str | Path) -> Path:
        """Into a file, which appears once it is whole."""
        path = Path(path)
        try:
            async with (
                httpx.AsyncClient(timeout=self._patience.timeout_s) as http,
                http.stream("GET", clip.url) as got,
            ):
                if got.is_error:
                    raise ApiError(
                        got.status_code, {"code": "link_invalid", "detail": "Ask for a fresh link."}
                    )
                with Download(clip, path) as file:
                    async for block in got.aiter_bytes():
                        file.write(block)
        except httpx.TransportError as error:
            raise ApiError(0, {"detail": str(error)}) from error
        return path

    async def _ask(self, call: Call) -> Document:
        return await self._run(asking(call, self._patience, self._jitter))

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = next(flow)
                else:
                    step = flow.send(await self._send(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, call: Call) -> Answer:
        try:
            got = await self._http.request(call.method, call.path, headers=dict(call.headers), json=call.body)
        except httpx.TransportError as error:
            return Answer(0, {}, b'{"detail": "%s"}' % type(error).__name__.encode())
        return Answer(got.status_code, got.headers, got.content)
