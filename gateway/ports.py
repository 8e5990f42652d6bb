"""The five places where the world is slow, costly or random, as the core sees them.

Adapters satisfy these structurally; ``gateway.bootstrap`` is the only module that names adapters.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.errors import UpstreamError
from gateway.families.family import ModelCall
from gateway.model import Deployment


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since the Unix epoch. May jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Window:
    """How many more hits fit into a window, and in how many seconds another one does if none fits now."""

    remaining: int
    reset_s: float


class Windows(Protocol):
    """Hits of the last minute, by name: a guard against abuse, not a limit of tasks or of money."""

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        """Count the hits if all of them still fit into the minute; False, and nothing counted, if not.

        Raises `Unavailable` when the count cannot be had in time.
        """
        ...

    async def look(self, name: str, quota: int) -> Window:
        """Count nothing. Raises `Unavailable` like `hit`."""
        ...

    async def close(self) -> None: ...


class TokenSource(Protocol):
    """Google access tokens: cached, refreshed early, one refresh at a time."""

    async def token(self) -> str | None:
        """A token good for at least a minute, or None where calls go out unauthenticated (emulators).

        Raises `UpstreamError` (fault MISCONFIGURED or NOT_SENT) when none can be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that needs no other credential, and the moment (ms since epoch) it stops working."""

    url: str
    expires_at_ms: int


class ObjectWriter(Protocol):
    """One object on its way into storage. Invisible to readers until `commit` returns."""

    async def write(self, block: bytes) -> None:
        """Append. Blocks may be of any size; memory held per writer is bounded (about 1 MiB)."""
        ...

    async def commit(self) -> None:
        """Make the object visible, durably, never replacing another. Raises `StorageError`."""
        ...

    async def abort(self) -> None:
        """Forget it; nothing stays visible. Safe to call twice, and after a failed `commit`."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A finished object, and when it was made (ms since the epoch, by the clock of the storage)."""

    name: str
    made_at_ms: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of what is stored. Without a ``next_cursor`` it is the last one."""

    objects: tuple[StoredObject, ...]
    next_cursor: str | None


class Storage(Protocol):
    """Where audio is kept. Names are relative, '/'-separated, and never reused."""

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> ObjectWriter: ...

    async def signed_url(self, name: str) -> SignedUrl:
        """A URL for GET and HEAD with Range; the same one until half of its life is gone."""
        ...

    async def delete(self, name: str) -> None:
        """Remove; removing what is not there is not an error."""
        ...

    def read(self, name: str) -> AsyncGenerator[bytes]:
        """The bytes of an object in blocks. Raises `StorageError` while it is read, also when it is gone."""
        ...

    async def list(self, cursor: str, *, limit: int) -> Listing:
        """At most ``limit`` of the objects that readers can see; the first page has the cursor ``""``.

        What is there all along is on exactly one page. There may be objects among them that are not ours.
        """
        ...

    async def tidy(self) -> None:
        """Remove what writers left behind that died long ago, and that no reader ever saw."""
        ...

    async def check(self) -> None:
        """Cheap readiness probe; raises `StorageError` with what is wrong."""
        ...

    async def close(self) -> None: ...


class ObjectSource(Protocol):
    """Objects by their ``gs://`` address, whosever they are. Both raise `StorageError`."""

    def read(self, uri: str) -> AsyncGenerator[bytes]: ...

    async def delete(self, uri: str) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A finished object on the local disk. ``etag`` is quoted and strong; the file never changes."""

    path: Path
    size_bytes: int
    content_type: str
    etag: str
    modified_ms: int


class FileSource(Protocol):
    """Resolves links that the local storage signed, for whoever serves the files."""

    async def resolve(self, name: str, expires: str, signature: str) -> StoredFile:
        """The file behind ``/files/{name}?expires=…&signature=…``, given the decoded parts of that URL.

        Raises `GatewayError` (LINK_INVALID) for a link that was altered or has expired, and `NotFound`
        (FILE_NOT_FOUND) for an object that is gone.
        """
        ...


class ClipSink(Protocol):
    """Takes the decoded bytes of one take as they arrive."""

    async def write(self, block: bytes) -> None:
        """Raises `UpstreamError` (BROKEN) if the bytes cannot be audio.

        Trouble with storage is the sink's own: an answer that was paid for is read to its end.
        """
        ...

    async def finish(self) -> None:
        """The clip's string ended. Raises like `write`, also when the audio is shorter than it claims."""
        ...

    async def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What came back. ``delivered`` counts takes whose sinks were finished, in order.

    ``error`` says why takes are missing; with some delivered it explains the shortfall only.
    ``provider_metadata`` is the answer less its audio, for the attempt row (bounded to 16 kB of JSON);
    ``text`` the words that came with the audio.
    """

    delivered: int
    error: UpstreamError | None
    provider_metadata: str
    text: str | None = None


class MusicModel(Protocol):
    """A family of models that can be called."""

    async def generate(
        self,
        deployment: Deployment,
        call: ModelCall,
        new_sink: Callable[[int], ClipSink],
        *,
        deadline_s: float,
        traceparent: str | None = None,
    ) -> ModelReply:
        """Make the call. ``new_sink(take)`` is asked once per take as its audio begins.

        Never holds a take in memory. Every sink it was given has been finished or aborted when it returns
        or raises, also when it is cancelled. Raises `UpstreamError` when nothing was delivered;
        what else a sink raises passes through.
        """
        ...
