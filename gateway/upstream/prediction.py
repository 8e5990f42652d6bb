"""One paid call from request body to delivered clips: what all ``:predict`` models have in common.

How a partly filtered answer looks is not documented (vertex facts §1.8), so each of these is understood: a
shorter list, an empty one, none at all, an entry without audio, an entry with an ``error``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from gateway.errors import UpstreamError
from gateway.model import Deployment
from gateway.ports import ClipSink, ModelCall, ModelReply
from gateway.upstream import faults
from gateway.upstream.audiojson import AudioJson, AudioJsonError, Truncated
from gateway.upstream.client import VertexClient
from gateway.upstream.clips import ClipRouter

METADATA_LIMIT_BYTES = 16_000
_NAMING_FIELDS = ("model", "modelDisplayName", "deployedModelId")
_NAMING_LIMIT = 500
_TOO_FEW_ADVICE = "The model returned fewer clips than asked for. Try again."


async def predict(
    client: VertexClient,
    deployment: Deployment,
    body: Mapping[str, Any],
    call: ModelCall,
    new_sink: Callable[[int], ClipSink],
    *,
    deadline_s: float,
    traceparent: str | None = None,
) -> ModelReply:
    """Make the call as `gateway.ports.MusicModel.generate` promises."""
    clips = ClipRouter(call, new_sink)
    answer = _Answer(clips)
    problem: UpstreamError | None = None
    try:
        await client.predict(deployment, body, answer, deadline_s=deadline_s, traceparent=traceparent)
    except UpstreamError as error:
        problem = error
    finally:
        await clips.close()
    if clips.delivered < len(call.clip_indexes):
        problem = problem or next(_reasons(clips, answer.document), None) or _too_few(clips, call)
    else:
        problem = None  # trouble after the last clip changes nothing: all that was paid for is here
    if problem is not None and clips.delivered == 0:
        raise problem
    return ModelReply(clips.delivered, problem, metadata_of(answer.document))


class _Answer:
    """Reads a 2xx answer: audio to the clips, the rest kept in ``document``."""

    def __init__(self, clips: ClipRouter) -> None:
        self.document: Any = None
        self._json = AudioJson()
        self._clips = clips

    async def feed(self, chunk: bytes) -> None:
        try:
            events = self._json.feed(chunk)
        except AudioJsonError as error:
            raise faults.bad_answer(str(error)) from error
        if events:
            await self._clips.take(events)

    def finish(self) -> None:
        try:
            self.document = self._json.finish()
        except Truncated as error:
            # HTTP saw a whole body: a front end had lost its own upstream, or never said how long it was.
            raise faults.lost(str(error)) from error
        except AudioJsonError as error:
            raise faults.bad_answer(str(error)) from error


def _reasons(clips: ClipRouter, document: Any) -> Iterator[UpstreamError]:
    """Why clips are missing, the provider's own words first."""
    if isinstance(document, dict):
        predictions = document.get("predictions")
        entries = [document, *(predictions if isinstance(predictions, list) else ())]
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("error"), dict | str):
                yield faults.classify_entry(entry["error"])
    yield from clips.problems


def _too_few(clips: ClipRouter, call: ModelCall) -> UpstreamError:
    return faults.bad_answer(f"{clips.delivered} of {len(call.clip_indexes)} clips came", _TOO_FEW_ADVICE)


def metadata_of(document: Any) -> str:
    """The answer less its audio as JSON of at most 16 kB; of a longer one only the names and the size."""
    if document is None:
        return "{}"
    text = orjson.dumps(document)
    if len(text) > METADATA_LIMIT_BYTES:
        known = document if isinstance(document, dict) else {}
        names = {field: str(known[field])[:_NAMING_LIMIT] for field in _NAMING_FIELDS if field in known}
        text = orjson.dumps({**names, "truncated_from_bytes": len(text)})
    return text.decode()
