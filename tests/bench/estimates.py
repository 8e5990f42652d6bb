"""What a queued task is told of its place and its start, beside what then happened to it.

The other side is what callers would reckon by themselves: first come, first served, at the mean duration.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median, quantiles
from typing import Any

import httpx

from tests.bench.gateways import MUSIC_PATH
from tests.bench.report import Aim, Section, Series
from tests.bench.rounds import Bench
from tests.emulator import RunningEmulator, start_emulator
from tests.running import RunningGateway, start_gateway

SLOTS = 8
# Weights, and what a tenant may run at once.
_TENANTS = (("1", None), ("1", None), ("2", None), ("4", None), ("2", "2"))
_TASKS, _TASKS_QUICK, _KNOWN = 140, 80, 24
_LONGEST_BURST = 12
# Of durations: their median, and the spread of their logarithm. One in twenty takes three times the median.
_MEDIAN_S, _SPREAD = 1.2, 0.7
_CLIP_S = 0.1
_WITHIN_S = 120.0
_MOST_ROUNDS = 2
# Shorter waits are measured in moments: their error is told in seconds only.
_LEAST_WAIT_S = 2.0
_MOST_RELATIVE = 0.25


@dataclass(frozen=True, slots=True)
class _Told:
    """What a task was told, and when (seconds since the epoch)."""

    at_s: float
    position: int
    starts_in_s: float


@dataclass(frozen=True, slots=True)
class _Life:
    """What then happened to it."""

    created_s: float
    started_s: float
    finished_s: float


@dataclass(slots=True)
class _Errors:
    """Of one way to tell: one figure for each task."""

    position: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)

    def add(self, position: int, starts_in_s: float, *, real_position: int, real_s: float) -> None:
        self.position.append(abs(position - real_position))
        self.start_s.append(abs(starts_in_s - real_s))
        if real_s >= _LEAST_WAIT_S:
            self.relative.append(abs(starts_in_s - real_s) / real_s)


def measure(bench: Bench) -> list[Section]:
    """Two sections: told at once, while others still come, and told when all have come."""
    count = _TASKS_QUICK if bench.quick else _TASKS
    directory = bench.directory / "estimates"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    settings = {"GATEWAY_CONCURRENCY": str(SLOTS), "GATEWAY_DEFAULT_MAX_QUEUED": "100000"}
    with (
        start_emulator(lyria_seconds=_CLIP_S) as emulator,
        start_gateway(directory, emulator.url, **settings) as gateway,
    ):
        keys = [_make_key(gateway, number, *limits) for number, limits in enumerate(_TENANTS)]
        rounds = [
            _round(emulator, gateway.url, keys, random.Random(number), count)
            for number in range(min(bench.rounds, _MOST_ROUNDS))
        ]
    setup = f"{len(rounds)} x {count} tasks of {len(_TENANTS)} tenants, {SLOTS} at once"
    sections = []
    for title, index in (("Told at submission, while others still come", 0), ("Told when all have come", 1)):
        section = Section(f"Places and starts. {title}", setup)
        _add(section, "gateway", [pair[index][0] for pair in rounds], Aim(most=_MOST_RELATIVE))
        _add(section, "first come, first served", [pair[index][1] for pair in rounds], None)
        sections.append(section)
    return sections


def _add(section: Section, who: str, found: Sequence[_Errors], aim: Aim | None) -> None:
    for name, how in (("median", median), ("p90", lambda values: quantiles(values, n=10)[-1])):
        section.add(Series(f"{who}: error of position, {name}", "places", _each(how, found, "position"), 1))
        section.add(Series(f"{who}: error of start, {name}", "s", _each(how, found, "start_s"), 2))
        series = Series(f"{who}: error of start / wait, {name}", "x", _each(how, found, "relative"), 2)
        section.add(series, aim if name == "median" else None)


def _each(how: Any, found: Sequence[_Errors], name: str) -> tuple[float, ...]:
    return tuple(float(how(getattr(errors, name))) for errors in found)


def _round(
    emulator: RunningEmulator, url: str, keys: Sequence[str], chance: random.Random, count: int
) -> list[tuple[_Errors, _Errors]]:
    """Of each telling: our errors, and the other side's."""
    _script(emulator, chance, _KNOWN + count)
    lives, tellings = asyncio.run(_watch(url, keys, chance, count))
    usual_s = fmean(life.finished_s - life.started_s for life in list(lives.values())[:_KNOWN])
    return [_compare(lives, told, usual_s) for told in tellings]


def _script(emulator: RunningEmulator, chance: random.Random, count: int) -> None:
    """How long each call takes."""
    emulator.script(
        *({"delay_s": round(_MEDIAN_S * chance.lognormvariate(0, _SPREAD), 3)} for _ in range(count))
    )


def _make_key(gateway: RunningGateway, number: int, weight: str, at_once: str | None) -> str:
    limit = () if at_once is None else ("--max-concurrent", at_once)
    return gateway.create_key(gateway.create_tenant(f"team {number}", "--weight", weight, *limit))


async def _watch(
    url: str, keys: Sequence[str], chance: random.Random, count: int
) -> tuple[dict[str, _Life], list[dict[str, _Told]]]:
    """All tasks' lives, those that made durations known first, and what the others were told each time."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=_WITHIN_S) as client:
        owners: dict[str, str] = {}
        for _ in range(_KNOWN):
            await _submit(client, keys[0], owners)
        await _ended(client, owners)
        at_once: dict[str, _Told] = {}
        while len(owners) < _KNOWN + count:
            key = chance.choice(keys)
            for _ in range(min(chance.randint(1, _LONGEST_BURST), _KNOWN + count - len(owners))):
                _note(at_once, await _submit(client, key, owners))
        later: dict[str, _Told] = {}
        for task_id in at_once:
            _note(later, await _status(client, owners[task_id], task_id))
        return await _ended(client, owners), [at_once, later]


async def _submit(client: httpx.AsyncClient, key: str, owners: dict[str, str]) -> dict[str, Any]:
    headers = {"X-Api-Key": key, "Prefer": "respond-async"}
    response = await client.post(MUSIC_PATH, json={"prompt": "slow piano"}, headers=headers)
    document: dict[str, Any] = response.raise_for_status().json()
    owners[document["task_id"]] = key
    return document


async def _status(client: httpx.AsyncClient, key: str, task_id: str, **headers: str) -> dict[str, Any]:
    response = await client.get(f"/api/task-status/{task_id}", headers={"X-Api-Key": key, **headers})
    document: dict[str, Any] = response.raise_for_status().json()
    return document


def _note(told: dict[str, _Told], document: dict[str, Any]) -> None:
    place = document["queue"]
    if place is not None and place["starts_in_s"] is not None:
        told[document["task_id"]] = _Told(time.time(), place["position"], place["starts_in_s"])


async def _ended(client: httpx.AsyncClient, owners: dict[str, str]) -> dict[str, _Life]:
    lives = {}
    for task_id, key in owners.items():
        while (document := await _status(client, key, task_id, Prefer="wait=10"))["finished_at"] is None:
            pass
        moments = (document[name] for name in ("created_at", "started_at", "finished_at"))
        lives[task_id] = _Life(*(datetime.fromisoformat(moment).timestamp() for moment in moments))
    return lives


def _compare(lives: dict[str, _Life], told: dict[str, _Told], usual_s: float) -> tuple[_Errors, _Errors]:
    ours, theirs = _Errors(), _Errors()
    for task_id, what in told.items():
        mine = lives[task_id]
        waiting = [life for life in lives.values() if life.started_s >= what.at_s]
        real_s = mine.started_s - what.at_s
        if real_s < 0:
            # It was started while the answer was on its way.
            continue
        real_position = sum(life.started_s <= mine.started_s for life in waiting)
        ours.add(what.position, what.starts_in_s, real_position=real_position, real_s=real_s)
        before = sum(life.created_s <= mine.created_s for life in waiting)
        theirs.add(before, before * usual_s / SLOTS, real_position=real_position, real_s=real_s)
    return ours, theirs
