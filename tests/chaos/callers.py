"""Callers who send again what was not answered, under the same name, and note all that they are told."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.scale import Scale

LYRIA = "/api/music_generate_lyria"
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
_PAUSE_S = 0.1
_UNAVAILABLE = frozenset({"database_unavailable", "storage_unavailable", "model_unavailable"})
_DRAINING_S = 30.0


@dataclass
class Tenant:
    """A team with one key, which changes. ``rotating`` is true while nobody knows which text is good."""

    id: str
    key_id: str
    key: str
    clips_in_budget: int | None
    rotating: bool = False


@dataclass
class Notes:
    """What callers were told. ``accepted`` has the task of each name, ``complaints`` what must not happen."""

    accepted: dict[str, str] = field(default_factory=dict)
    tenant_of: dict[str, Tenant] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def accept(self, name: str, tenant: Tenant, task_id: str) -> None:
        if self.accepted.setdefault(name, task_id) != task_id:
            self.complaints.append(f"{name} became two tasks: {self.accepted[name]} and {task_id}")
        if name in self.refused:
            self.complaints.append(f"{name} was refused, and accepted")
        self.tenant_of[task_id] = tenant

    def end(self, task_id: str, state: str) -> None:
        if self.ends.setdefault(task_id, state) != state:
            self.complaints.append(f"{task_id} ended as {self.ends[task_id]}, and then as {state}")


class Caller:
    """Asks for one piece of music, its way of doing so drawn from dice of its own."""

    def __init__(
        self, http: httpx.AsyncClient, tenant: Tenant, notes: Notes, name: str, scale: Scale
    ) -> None:
        self._http = http
        self._tenant = tenant
        self._notes = notes
        self._name = name
        self._prompt = scale.prompt_of(name)
        self._rng = random.Random(f"{scale.seed} {name}")

    async def run(self) -> None:
        """From the request to an end, or until it loses interest."""
        sent = [self._ask() for _ in range(2 if self._rng.random() < 0.15 else 1)]
        ids = set(await asyncio.gather(*sent)) - {None}
        for task_id in ids:
            if self._rng.random() < 0.1:
                await asyncio.sleep(self._rng.random())
                await self._cancel(task_id)
            follow = self._rng.choice([self._poll, self._wait, self._hear, self._leave])
            await follow(task_id)

    async def look(self, task_id: str) -> str:
        """How the task stands."""
        answer = await self._send("GET", f"/api/task-status/{task_id}")
        return self._state(answer)

    async def _ask(self) -> str | None:
        prefer = self._rng.choice(["respond-async", "wait=2", "wait=10"])
        headers = {"Prefer": prefer, "Idempotency-Key": self._name}
        answer = await self._send("POST", LYRIA, headers, {"prompt": self._prompt})
        if answer.status_code == 402:
            self._notes.refused.add(self._name)
            if self._name in self._notes.accepted or self._tenant.clips_in_budget is None:
                self._notes.complaints.append(f"{self._name} was refused: {answer.text}")
            return None
        if answer.status_code not in {200, 202}:
            self._notes.complaints.append(f"POST: {answer.status_code} {answer.text}")
            return None
        task_id = str(answer.json()["task_id"])
        self._notes.accept(self._name, self._tenant, task_id)
        self._state(answer)
        return task_id

    async def _cancel(self, task_id: str) -> None:
        answer = await self._send("POST", f"/api/tasks/{task_id}/cancel")
        if answer.status_code not in {200, 409}:
            self._notes.complaints.append(f"cancel: {answer.status_code} {answer.text}")

    async def _leave(self, task_id: str) -> None:
        """It has its id; the end is looked up when all is over."""

    async def _poll(self, task_id: str) -> None:
        while await self.look(task_id) not in ENDED:  # noqa: ASYNC110 - to poll is what is tried here
            await asyncio.sleep(_PAUSE_S)

    async def _wait(self, task_id: str) -> None:
        address = f"/api/task-status/{task_id}"
        answer = await self._send("GET", address, {"Prefer": "wait=5"})
        while self._state(answer) not in ENDED:
            answer = await self._send("GET", address, {"Prefer": "wait=5"})

    async def _hear(self, task_id: str) -> None:
        """Listen until the end is told, going on after what was heard wherever the stream breaks."""
        seen = 0
        while True:
            try:
                seen, ended = await self._listen(task_id, seen)
            except httpx.TransportError:
                ended = False
            if ended:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self, task_id: str, seen: int) -> tuple[int, bool]:
        headers = {"X-Api-Key": self._tenant.key} | ({"Last-Event-ID": str(seen)} if seen else {})
        address = f"/api/task-status/{task_id}/events"
        name = ""
        async with self._http.stream("GET", address, headers=headers) as answer:
            if answer.status_code != 200:
                await answer.aread()
                self._check(answer, headers["X-Api-Key"])
                # 204: the end was heard before, so nobody should have asked.
                return seen, answer.status_code == 204
            async for line in answer.aiter_lines():
                word, _, rest = line.partition(": ")
                if word == "event":
                    name = rest
                elif word == "id":
                    if int(rest) <= seen:
                        self._notes.complaints.append(f"{task_id}: event {rest} after {seen}")
                    seen = int(rest)
                elif word == "data" and name in ENDED:
                    self._notes.end(task_id, json.loads(rest)["status"])
                    return seen, True
        return seen, False

    async def _send(
        self, method: str, address: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> httpx.Response:
        """Again and again until something was answered that is an answer."""
        while True:
            key = self._tenant.key
            try:
                answer = await self._http.request(
                    method, address, headers={"X-Api-Key": key, **(headers or {})}, json=body
                )
            except httpx.TransportError:
                self._notes.answers["none"] += 1
                await asyncio.sleep(_PAUSE_S)
                continue
            if self._check(answer, key):
                return answer
            await asyncio.sleep(_PAUSE_S)

    def _check(self, answer: httpx.Response, key: str) -> bool:
        """Whether it is an answer; a failure that is none of those documented is noted."""
        status = answer.status_code
        code = answer.json().get("code", "") if status >= 400 else ""
        self._notes.answers[f"{status} {code}".strip()] += 1
        if status == 401 and (self._tenant.rotating or key != self._tenant.key):
            return False
        if status == 503 and code in _UNAVAILABLE and 0 < int(answer.headers["Retry-After"]) <= _DRAINING_S:
            return False
        if status >= 500 or status in {401, 429}:
            self._notes.complaints.append(f"{answer.request.method} {answer.request.url.path}: {answer.text}")
        return True

    def _state(self, answer: httpx.Response) -> str:
        document = answer.json()
        if answer.status_code not in {200, 202}:
            self._notes.complaints.append(f"status: {answer.status_code} {answer.text}")
            return "failed"
        state = str(document["status"])
        if state in ENDED:
            self._notes.end(document["task_id"], state)
        return state
