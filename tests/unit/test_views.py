"""The task document: what a caller sees of each state."""

from typing import Any

import pytest

from gateway.families.lyria2 import LYRIA2
from gateway.model import Clip, MusicSpec, Route, Task, TaskError, TaskState
from gateway.ports import SignedUrl
from gateway.tasks.forecast import QueuePlace
from gateway.web.views import render_place, render_task
from tests.factories import NOW_MS, a_clip, a_key, a_task, a_tenant
from tests.specification import Specification

URL = "https://music.example.com"


def clip(index: int = 0, **changes: Any) -> Clip:
    return a_clip(task(), index, **changes)


def task(**changes: Any) -> Task:
    changes.setdefault("id", "task_01k7zq5v9hm3x8c2r6t4w0y1ab")
    changes.setdefault("price_micros", 60_000)
    return a_task(a_key(a_tenant()), **changes)


def view(shown: Task) -> dict[str, Any]:
    """The document, held to openapi.yaml."""
    links = [SignedUrl(f"{URL}/files/{c.object_name}?signature=s", NOW_MS + 60_000) for c in shown.clips]
    document = render_task(shown, links, URL)
    errors = list(Specification.load().validator("/components/schemas/Task").iter_errors(document))
    assert errors == []
    return document


def ended(state: TaskState = TaskState.SUCCEEDED, **changes: Any) -> Task:
    return task(state=state, started_at_ms=NOW_MS + 1, finished_at_ms=NOW_MS + 1234, **changes)


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.RUNNING])
def test_an_unfinished_task_has_no_audio_yet(state: TaskState) -> None:
    shown = view(task(state=state, created_at_ms=NOW_MS))
    assert (shown["status"], shown["audio_url"], shown["audio_urls"]) == (state.value, None, [])
    assert shown["price"] == {"currency": "USD", "micros": 60_000, "usd": "0.06", "charged_micros": None}
    assert shown["created_at"] == "2027-01-15T08:00:00.000Z"
    assert shown["status_url"] == f"{URL}/api/task-status/{shown['task_id']}"


def test_a_place_has_whole_tenths_of_seconds() -> None:
    assert render_place(QueuePlace(3, 41.4567)) == {"position": 3, "starts_in_s": 41.5}
    assert render_place(QueuePlace(3, None)) == {"position": 3, "starts_in_s": None}
    assert view(task())["queue"] is None


def test_clips_of_a_running_task_are_outputs_but_not_yet_the_answer() -> None:
    shown = view(task(state=TaskState.RUNNING, spec=MusicSpec("x", sample_count=2), clips=(clip(),)))
    assert len(shown["outputs"]) == 1
    assert (shown["audio_url"], shown["audio_urls"], shown["image_url"]) == (None, [], None)


def test_a_finished_task_has_its_links() -> None:
    shown = view(ended(spec=MusicSpec("x", sample_count=2), clips=(clip(0), clip(1, seed=42))))
    first, second = shown["outputs"]
    assert shown["audio_urls"] == [first["url"], second["url"]]
    assert shown["audio_url"] == shown["image_url"] == first["url"]
    assert (first["seed"], second["seed"]) == (None, 42)
    assert first["url_expires_at"] == "2027-01-15T08:01:00.000Z"
    assert shown["finished_at"] == "2027-01-15T08:00:01.234Z"
    assert shown["warnings"] == []


def test_a_failed_task_says_why_and_costs_nothing() -> None:
    shown = view(ended(TaskState.FAILED, error=TaskError("safety_blocked", "Change the prompt.")))
    assert shown["error"] == {"code": "safety_blocked", "detail": "Change the prompt."}
    assert shown["price"]["charged_micros"] == 0


@pytest.mark.parametrize("state", [TaskState.CANCELED, TaskState.EXPIRED])
def test_other_ends_have_no_audio(state: TaskState) -> None:
    assert view(ended(state))["audio_url"] is None


def test_missing_clips_are_not_charged_and_are_told() -> None:
    shown = view(
        ended(
            spec=MusicSpec("x", sample_count=3),
            price_micros=180_000,
            clips=(clip(),),
            error=TaskError("recitation_blocked", "Too close to existing music."),
        )
    )
    assert shown["price"]["charged_micros"] == 60_000
    assert shown["warnings"] == [
        "1 of 3 clips were delivered and charged; `error` says why the others are missing."
    ]


def test_an_emulator_is_named_wherever_it_made_something() -> None:
    shown = view(task(emulated=True))
    assert shown["emulated"] is True
    assert shown["warnings"] == ["Made by the built-in emulator, not by a Google model."]


def test_a_task_of_a_test_key_says_so_and_costs_nothing() -> None:
    shown = view(ended(test=True, emulated=True, price_micros=0, clips=(clip(),)))
    assert (shown["test"], shown["emulated"]) == (True, True)
    assert shown["price"] == {"currency": "USD", "micros": 0, "usd": "0.00", "charged_micros": 0}
    assert shown["warnings"] == ["Made by the built-in emulator, not by a Google model."]
    assert view(ended(clips=(clip(),)))["test"] is False


@pytest.mark.parametrize(
    ("spec", "route", "asked"),
    [
        (MusicSpec("x"), Route.LYRIA, {"prompt": "x", "sampleCount": 1}),
        (
            MusicSpec("x", sample_count=2, negative_prompt="y", seed=0, duration_s=30),
            Route.STANDARD,
            {"prompt": "x", "sampleCount": 2, "durationSeconds": 30, "negative_prompt": "y", "seed": 0},
        ),
    ],
)
def test_what_was_asked_is_repeated(spec: MusicSpec, route: Route, asked: dict[str, Any]) -> None:
    assert view(task(spec=spec, route=route, model=LYRIA2))["request"] == asked


@pytest.mark.parametrize(
    ("micros", "usd"),
    [(0, "0.00"), (1, "0.000001"), (60_000, "0.06"), (1_500_000, "1.50"), (12_345_678, "12.345678")],
)
def test_money_is_exact(micros: int, usd: str) -> None:
    assert view(task(price_micros=micros))["price"]["usd"] == usd


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1_800_000_000_007, "2027-01-15T08:00:00.007Z"),
    ],
)
def test_moments_are_utc_to_the_millisecond(ms: int, text: str) -> None:
    assert view(task(created_at_ms=ms))["created_at"] == text
