"""One paid call from request body to delivered takes, for every family of models.

How a partly filtered answer looks is not documented (vertex facts §1.8), so each of these is understood: a
shorter list, an empty one, none at all, an entry without audio, an entry with an ``error``, an answer that
says of itself that it failed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gateway.errors import UpstreamError
from gateway.families.family import Family, ModelCall
from gateway.model import Deployment
from gateway.ports import ClipSink, ModelReply
from gateway.upstream import faults
from gateway.upstream.audiojson import AudioJson, AudioJsonError, ClipEnded, ClipStarted, Truncated
from gateway.upstream.client import VertexClient
from gateway.upstream.clips import ClipRouter
from gateway.upstream.objects import ObjectReader

METADATA_LIMIT_BYTES = 16_000
TEXT_LIMIT_CHARS = 16_000
_NAMING_FIELDS = ("model", "modelDisplayName", "deployedModelId")
_NAMING_LIMIT = 500
_TOO_FEW_ADVICE = "The model returned fewer clips than asked for. Try again."
#: Of an interaction that is over and gave nothing.
_FAILED = frozenset({"failed", "cancelled", "incomplete", "budget_exceeded", "requires_action"})


class VertexModel:
    """`gateway.ports.MusicModel` for a family. ``objects`` reads what was too long for an answer."""

    def __init__(self, client: VertexClient, family: Family, objects: ObjectReader) -> None:
        self._client = client
        self._family = family
        self._objects = objects

    async def generate(
        self,
        deployment: Deployment,
        call: ModelCall,
        new_sink: Callable[[int], ClipSink],
        *,
        deadline_s: float,
        traceparent: str | None = None,
    ) -> ModelReply:
        """As `gateway.ports.MusicModel`; ``traceparent`` goes out as the header of that name."""
        shape = self._family.shape
        clips = ClipRouter(call, new_sink, untyped=shape.item_type is not None)
        answer = _Answer(clips, AudioJson(shape.fields, shape.item_type))
        problem: UpstreamError | None = None
        try:
            await self._client.post(
                deployment,
                self._family.body(call, deployment),
                answer,
                deadline_s=deadline_s,
                traceparent=traceparent,
            )
            if shape.uri_field is not None:
                await self._fetch(deployment, shape.uri_field, answer.document, clips)
        except UpstreamError as error:
            problem = error
        finally:
            await clips.close()
        if clips.delivered < len(call.takes):
            problem = problem or next(self._reasons(clips, answer.document), None) or _too_few(clips, call)
        else:
            problem = None  # trouble after the last take changes nothing: all that was paid for is here
        if problem is not None and clips.delivered == 0:
            raise problem
        text = (self._family.text(answer.document) or "")[:TEXT_LIMIT_CHARS] or None
        return ModelReply(clips.delivered, problem, metadata_of(answer.document), text)

    async def _fetch(self, deployment: Deployment, field: str, document: Any, clips: ClipRouter) -> None:
        """Read what the answer only names, as if it had been in the answer."""
        items = (item for item in self._family.items(document) if item is not document)
        for place, item in enumerate(items):
            if not isinstance(item, dict) or not isinstance(item.get(field), str):
                continue
            await clips.take([ClipStarted(place, place)])
            async for block in self._objects.read(item[field], within=deployment.output_uri):
                await clips.take([block])
            await clips.take([ClipEnded(place)])
            await self._objects.delete(item[field])

    def _reasons(self, clips: ClipRouter, document: Any) -> Iterator[UpstreamError]:
        """Why takes are missing, the provider's own words first."""
        for item in self._family.items(document):
            if isinstance(item, dict) and isinstance(item.get("error"), dict | str):
                yield faults.classify_entry(item["error"])
        status = document.get("status") if isinstance(document, dict) else None
        if status in _FAILED:
            words = self._family.text(document)
            yield faults.classify_entry(words) if words else faults.bad_answer(f"the answer is {status}")
        yield from clips.problems


class _Answer:
    """Reads a 2xx answer: audio to the clips, the rest kept in ``document``."""

    def __init__(self, clips: ClipRouter, json: AudioJson) -> None:
        self.document: Any = None
        self._json = json
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


def _too_few(clips: ClipRouter, call: ModelCall) -> UpstreamError:
    return faults.bad_answer(f"{clips.delivered} of {len(call.takes)} clips came", _TOO_FEW_ADVICE)


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
