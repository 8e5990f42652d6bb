"""A gateway that is killed at a named point of a task's life: ``python -m tests.doomed POINT serve``.

The process ends by SIGKILL, as if the machine had gone: before a step, when nothing of it was done, or after
it, when nobody was told. What lies within a transaction is undone with it.
"""

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """Before or after a function of the gateway is done, counted from its first call."""

    owner: str
    function: str
    after: bool = False
    call: int = 1


POINTS = {
    "before the task is written": Point("gateway.db.tasks", "insert_task"),
    "after the task is written, before the commit": Point("gateway.db.tasks", "add_event", after=True),
    "before the task is claimed": Point("gateway.db.work", "claim"),
    "after the claim, before the commit": Point("gateway.db.work", "claim", after=True),
    "after the call is recorded, before the commit": Point("gateway.db.work", "begin_attempt", after=True),
    "after the commit, before the call": Point("gateway.tasks.pipeline.Pipeline", "_call"),
    "before the request is sent": Point("gateway.upstream.client.VertexClient", "post"),
    "within the answer": Point("gateway.tasks.scratch.ScratchFile", "append", after=True),
    "before audio is worked on": Point("gateway.tasks.studio.Studio", "produce"),
    "before audio is written": Point("gateway.storage.local.LocalStorage", "create"),
    "within the audio": Point("gateway.storage.local.LocalWriter", "write", after=True),
    "before the clip is visible": Point("gateway.storage.disk.IncomingObject", "publish"),
    "after the clip is visible": Point("gateway.storage.disk.IncomingObject", "publish", after=True),
    "after the whole answer, before it is recorded": Point("gateway.tasks.closing.Closing", "settle"),
    "after the clip is recorded, before the commit": Point("gateway.db.work", "end_attempt", after=True),
    "after the end is written, before the commit": Point("gateway.db.work", "finish", after=True),
    "after the settlement, before the commit": Point("gateway.tasks.charging", "conclude", after=True),
    "after the end is announced, before the commit": Point(
        "gateway.webhooks.outbox.Announcer", "announce_task", after=True
    ),
    "after the end, before anybody is told": Point("gateway.tasks.closing.Closing", "settle", after=True),
}

#: Of a task that takes two calls, the takes of which are joined.
JOINING_POINTS = {
    "after a take is stored, before it is recorded": Point(
        "gateway.storage.local.LocalWriter", "commit", after=True
    ),
    "after a take is recorded, before the commit": Point("gateway.db.work", "end_attempt", after=True),
    "after a take is recorded, before the next call": Point(
        "gateway.tasks.pipeline.Pipeline", "_call", call=2
    ),
    "before the last take is recorded": Point("gateway.db.work", "end_attempt", call=2),
    "before takes are joined": Point("gateway.tasks.batch.Batch", "join"),
    "after takes are joined, before it is recorded": Point("gateway.tasks.batch.Batch", "join", after=True),
    "after the joined clip is recorded, before the commit": Point("gateway.db.work", "add_clips", after=True),
    "after the joined clip is recorded, before the end": Point(
        "gateway.tasks.closing.Closing", "add", after=True
    ),
}


def arm(point: Point) -> None:
    owner = _resolve(point.owner)
    original = getattr(owner, point.function)
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == point.call

    setattr(owner, point.function, _wrapped(original, point, due))


def _wrapped(original: Callable[..., Any], point: Point, due: Callable[[], bool]) -> Callable[..., Any]:
    if _is_coroutine(original):

        @functools.wraps(original)
        async def doomed(*args: Any, **kwargs: Any) -> Any:
            dies = due()
            if dies and not point.after:
                die()
            result = await original(*args, **kwargs)
            if dies:
                die()
            return result

        return doomed

    @functools.wraps(original)
    def doomed_at_once(*args: Any, **kwargs: Any) -> Any:
        dies = due()
        if dies and not point.after:
            die()
        result = original(*args, **kwargs)
        if dies:
            die()
        return result

    return doomed_at_once


def _is_coroutine(function: Callable[..., Any]) -> bool:
    return bool(function.__code__.co_flags & 0x80)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _resolve(path: str) -> Any:
    """A module, or a class in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def main() -> None:
    arm({**POINTS, **JOINING_POINTS}[sys.argv.pop(1)])
    from gateway.cli.main import main as gateway  # noqa: PLC0415 - after it was armed

    gateway()


if __name__ == "__main__":
    main()
