"""A pipeline on a clock that stands still, and a hand that feeds it task by task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.db.work import Lease
from gateway.model import MusicSpec, Principal, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.pipeline import Pipeline
from gateway.tasks.submission import Submission
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_caller

LEASE_MS = 60_000
MAX_ATTEMPTS = 4


@dataclass
class Workshop:
    """A pipeline on a clock that stands still, and a hand that feeds it task by task."""

    services: Services
    pipeline: Pipeline
    clock: SetClock
    emulator: RunningEmulator
    principal: Principal
    audio: Path

    async def submit(self, *, route: Route = Route.LYRIA, model: str | None = None, **spec: Any) -> Task:
        submission = Submission(route, MusicSpec(**{"prompt": "slow piano"} | spec), model, {}, "r1", None)
        return (await self.services.tasks.submit(self.principal, submission)).task

    async def claim(self, task: Task, token: str = "mine") -> Lease:
        now_ms = self.clock.now_ms()
        lease = await self.services.database.write(
            lambda tx: work.claim(tx, task.id, token=token, now_ms=now_ms, expires_at_ms=now_ms + LEASE_MS)
        )
        assert lease is not None
        return lease

    async def step(self, task: Task) -> TaskState:
        """Run the task once. What the pipeline says of it afterwards is what its row says."""
        left = await self.pipeline.run(await self.claim(task))
        assert left == await self.look(task)
        return left.state

    async def finish(self, task: Task) -> Task:
        """Run the task, and again whenever it was put back, as a worker would."""
        for _ in range(50):
            if (await self.step(task)).terminal:
                return await self.look(task)
            self.clock.advance(max(0.0, await self.pause_s(task)))
        raise AssertionError("it does not end")

    async def finish_now(self, task: Task) -> Task:
        """As `finish`, once the pause is over that it is in."""
        self.clock.advance(max(0.0, await self.pause_s(task)))
        return await self.finish(task)

    def use(self, **tools: Any) -> None:
        """Work with another storage, or another scratch directory."""
        self.pipeline._tools = replace(self.pipeline._tools, **tools)

    async def look(self, task: Task) -> Task:
        return await self.services.tasks.get(self.principal, task.id)

    async def pause_s(self, task: Task) -> float:
        ((not_before_ms,),) = await self.rows(f"SELECT not_before_ms FROM tasks WHERE id = '{task.id}'")
        return (not_before_ms - self.clock.now_ms()) / 1000

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self.services.database.read(lambda tx: [tuple(row) for row in tx.exec_driver_sql(query)])

    async def attempts(self) -> list[tuple[Any, ...]]:
        return await self.rows(
            "SELECT state, fault, error_code, clips_delivered FROM attempts ORDER BY number"
        )

    def stored(self) -> list[str]:
        """Objects that a reader could find."""
        return sorted(path.parent.name for path in self.audio.rglob("content"))

    def unfinished(self) -> list[Path]:
        return list((self.audio / ".incoming").iterdir())

    def file(self, object_name: str) -> Path:
        return self.audio / f"{object_name}.object" / "content"

    def calls(self, *names: str) -> list[Any]:
        calls = self.emulator.calls()["calls"]
        return [tuple(call[name] for name in names) if len(names) > 1 else call[names[0]] for call in calls]

    def paid(self) -> int:
        return int(self.emulator.calls()["paid"])

    async def until_received(self, count: int) -> None:
        await eventually(lambda: self.emulator.calls()["received"] >= count)

    async def lose_lease(self) -> None:
        """So much time goes by that every lease runs out."""
        self.clock.advance(LEASE_MS / 1000 + 1)
        await self.services.database.write(lambda tx: work.expire_leases(tx, now_ms=self.clock.now_ms()))

    async def abandon(self, running: "asyncio.Task[Any]") -> None:
        """The worker is gone without a word; its lease runs out."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self.lose_lease()


@asynccontextmanager
async def open_workshop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    clock = SetClock()
    async with open_services(settings, clock) as services:
        pipeline = services.runner._pipeline
        pipeline._tools = replace(pipeline._tools, jitter=lambda: 0.5)
        principal, _ = await a_caller(services.database)
        yield Workshop(services, pipeline, clock, emulator, principal, settings.data_dir / "audio")
