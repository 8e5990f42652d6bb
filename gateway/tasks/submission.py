"""A request for music as the web hands it over, and what its name stands for."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from gateway.db.idempotency import RequestName
from gateway.model import MusicSpec, Route


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated request. ``model`` is None to take the route's own choice.

    ``idempotency_key`` is the caller's name for this piece of work: a repeat joins what came of it.
    """

    route: Route
    spec: MusicSpec
    model: str | None
    metadata: Mapping[str, str]
    request_id: str
    traceparent: str | None
    idempotency_key: str | None = None

    def name(self) -> RequestName | None:
        """The hashes of the request's name and of all that it asks for; None when it has no name."""
        if self.idempotency_key is None:
            return None
        asked = {
            "route": self.route.value,
            "model": self.model,
            "spec": asdict(self.spec),
            "metadata": dict(self.metadata),
        }
        fingerprint = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return RequestName(hashlib.sha256(self.idempotency_key.encode()).hexdigest(), fingerprint)
