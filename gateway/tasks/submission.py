"""A request for music as the web hands it over, and what its name stands for."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from gateway.db.idempotency import RequestName
from gateway.model import KeyMode, MusicSpec, Route

# In front of a test key's name for a request; no name that a caller may give has such a character.
_TEST = "test\0"


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated request. ``model`` is None to take the route's own choice.

    ``idempotency_key`` is the caller's name for this piece of work: a repeat joins what came of it.
    ``webhook_url`` is to be told of its end. It is given up if it has not started after ``start_within_s``
    seconds; None: after its tenant's time.
    """

    route: Route
    spec: MusicSpec
    model: str | None
    metadata: Mapping[str, str]
    request_id: str
    traceparent: str | None
    idempotency_key: str | None = None
    webhook_url: str | None = None
    start_within_s: int | None = None

    def name(self, mode: KeyMode) -> RequestName | None:
        """The hashes of the request's name and of all that it asks for; None when it has no name.

        A name given with a test key is another one with a live key: who goes live must not be handed what the
        emulator made. The time to start is no part of what is asked for: who repeats a request has less of it
        left.
        """
        if self.idempotency_key is None:
            return None
        asked = {
            "route": self.route.value,
            "model": self.model,
            "spec": asdict(self.spec),
            "metadata": dict(self.metadata),
            "webhook_url": self.webhook_url,
        }
        fingerprint = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
        name = f"{_TEST}{self.idempotency_key}" if mode is KeyMode.TEST else self.idempotency_key
        return RequestName(hashlib.sha256(name.encode()).hexdigest(), fingerprint)
