"""What a task looks like to its caller."""

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.audio.formats import DEFAULT_BITRATE_KBPS
from gateway.model import Clip, Route, Task, TaskState
from gateway.ports import SignedUrl
from gateway.tasks.budget import charge_for, describe
from gateway.tasks.forecast import QueuePlace
from gateway.tasks.planning import Plan
from gateway.tasks.service import Quote
from gateway.units import format_time, format_usd


def render_task(
    task: Task,
    links: Sequence[SignedUrl],
    public_url: str,
    warnings: Sequence[str] = (),
    place: QueuePlace | None = None,
) -> dict[str, Any]:
    """The task document of openapi.yaml; ``warnings`` are said once, in the answer to the request itself."""
    # Only a finished task has `audio_url`: a caller that polls until it appears must not stop at the
    # first of four clips.
    urls = [link.url for link in links] if task.state is TaskState.SUCCEEDED else []
    audio_url = urls[0] if urls else None
    return {
        "task_id": task.id,
        "status": task.state.value,
        "queue": render_place(place),
        "model": task.model,
        "audio_url": audio_url,
        "audio_urls": urls,
        "image_url": audio_url,
        "outputs": [render_output(clip, link) for clip, link in zip(task.clips, links, strict=True)],
        "price": render_price(task),
        "error": {"code": task.error.code, "detail": task.error.detail} if task.error else None,
        "warnings": [*_warnings(task), *warnings],
        "request": render_request(task),
        "metadata": task.metadata,
        "created_at": timestamp(task.created_at_ms),
        "started_at": timestamp(task.started_at_ms),
        "finished_at": timestamp(task.finished_at_ms),
        "start_by": timestamp(task.start_by_at_ms),
        "status_url": f"{public_url}/api/task-status/{task.id}",
        "emulated": task.emulated,
        "test": task.test,
    }


def render_place(place: QueuePlace | None) -> dict[str, Any] | None:
    """A queued task's place, its seconds to one decimal: what is behind them is no more exact than that."""
    if place is None:
        return None
    starts_in_s = None if place.starts_in_s is None else round(place.starts_in_s, 1)
    return {"position": place.position, "starts_in_s": starts_in_s}


def render_quote(quote: Quote) -> dict[str, Any]:
    """What a request would do and cost: the answer to ``dry_run=true``."""
    task, refusal = quote.verdict.task, quote.verdict.refusal
    return {
        "dry_run": True,
        "admitted": refusal is None,
        "refusal": None
        if refusal is None
        else {"code": refusal.code.value, "detail": refusal.detail, "retry_after_s": refusal.retry_after_s},
        "model": task.model,
        "plan": render_plan(quote.plan),
        "price": render_price(task),
        "warnings": list(map(describe, quote.verdict.alerts)),
        "request": render_request(task),
    }


def render_plan(plan: Plan) -> dict[str, Any]:
    """How a request would be served: a clip of several takes is joined from them."""
    spec = plan.spec
    return {
        "calls": plan.calls,
        "clips": spec.sample_count,
        "takes_per_clip": spec.takes,
        "seconds": spec.duration_s,
        "format": plan.audio_format.value,
        "bitrate_kbps": spec.bitrate_kbps or DEFAULT_BITRATE_KBPS.get(plan.audio_format),
    }


def _hundredths(decibels: float | None) -> float | None:
    """Finer than anybody hears; what is kept has all its digits."""
    return None if decibels is None else round(decibels, 2)


def render_output(clip: Clip, link: SignedUrl) -> dict[str, Any]:
    return {
        "index": clip.index,
        "url": link.url,
        "url_expires_at": timestamp(link.expires_at_ms),
        "mime_type": clip.mime_type,
        "seconds": clip.duration_s,
        "bytes": clip.size_bytes,
        "sample_rate": clip.sample_rate_hz,
        "channels": clip.channels,
        "seed": clip.seed,
        "sha256": clip.sha256,
        "peak_dbfs": _hundredths(clip.peak_dbfs),
        "loudness_lufs": _hundredths(clip.loudness_lufs),
        "waveform": list(clip.waveform),
        "text": clip.text,
        "plan": orjson.loads(clip.steps),
    }


def render_price(task: Task) -> dict[str, Any]:
    """The price quoted, and what is charged of it once the task has ended."""
    charged_micros = task.charged_micros
    if charged_micros is None and task.state.terminal:
        # Ended by an older version, which charged for what it delivered.
        charged_micros = charge_for(task, task.state, len(task.clips))
    return {
        "currency": "USD",
        "micros": task.price_micros,
        "usd": format_usd(task.price_micros),
        "charged_micros": charged_micros,
    }


def render_request(task: Task) -> dict[str, Any]:
    spec = task.spec
    asked: dict[str, Any] = {"prompt": spec.prompt, "sampleCount": spec.sample_count}
    if task.route is Route.STANDARD:
        asked["durationSeconds"] = spec.duration_s
    if spec.negative_prompt is not None:
        asked["negative_prompt"] = spec.negative_prompt
    if spec.seed is not None:
        asked["seed"] = spec.seed
    if spec.audio_format is not None:
        asked["outputFormat"] = spec.audio_format.value
    if spec.bitrate_kbps is not None:
        asked["bitrateKbps"] = spec.bitrate_kbps
    if spec.loudness_lufs is not None:
        asked["loudnessLufs"] = spec.loudness_lufs
    if task.webhook_url is not None:
        asked["webhook_url"] = task.webhook_url
    return asked


def _warnings(task: Task) -> list[str]:
    found = []
    if task.emulated:
        found.append("Made by the built-in emulator, not by a Google model.")
    if task.state is TaskState.SUCCEEDED and len(task.clips) < task.spec.sample_count:
        found.append(
            f"{len(task.clips)} of {task.spec.sample_count} clips were delivered and charged; "
            "`error` says why the others are missing."
        )
    if task.state is TaskState.CANCELED and task.clips:
        found.append(
            f"{len(task.clips)} of {task.spec.sample_count} clips were there before it was canceled; "
            "they are in `outputs`."
        )
    return found


def timestamp(ms: int | None) -> str | None:
    return format_time(ms)
