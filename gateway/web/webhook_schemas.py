"""Request bodies of the webhook API. openapi.yaml describes the same; see `gateway.web.schemas`."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gateway.messages import EventType
from gateway.web.schemas import LABEL_PATTERN, Body, WebhookUrl, check_label, whole_number
from gateway.webhooks.service import (
    DEFAULT_OVERLAP_S,
    DESCRIPTION_CHARS,
    LEAST_OVERLAP_S,
    MOST_OVERLAP_S,
    Changes,
)

#: Every event, those included that are yet to come.
EVERYTHING = "*"
EVENT_NAMES = (EVERYTHING, *(event.value for event in EventType))


def _event(value: str) -> str:
    if value not in EVENT_NAMES:
        raise PydanticCustomError("unknown_event", f"is not an event; there are: {', '.join(EVENT_NAMES)}")
    return value


def _different(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("duplicate", "names an event twice")
    return values


EventName = Annotated[str, AfterValidator(_event), Field(json_schema_extra={"enum": list(EVENT_NAMES)})]
Events = Annotated[
    list[EventName],
    AfterValidator(_different),
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
]
Description = Annotated[
    str,
    AfterValidator(check_label),
    Field(max_length=DESCRIPTION_CHARS, json_schema_extra={"pattern": LABEL_PATTERN}),
]

Overlap = Annotated[int, Field(ge=LEAST_OVERLAP_S, le=MOST_OVERLAP_S), BeforeValidator(whole_number)]


def wanted_events(names: list[str]) -> tuple[EventType, ...]:
    """The events named; none of them for everything, which is what `Changes` takes."""
    return () if EVERYTHING in names else tuple(map(EventType, names))


class WebhookBody(Body):
    """The body of ``POST /api/webhooks``."""

    url: WebhookUrl
    description: Description = ""
    events: Events = Field([EVERYTHING])


class WebhookChangesBody(Body):
    """The body of ``PATCH /api/webhooks/{endpoint_id}``."""

    url: WebhookUrl | None = None
    description: Description | None = None
    events: Events | None = None
    enabled: bool | None = None

    def changes(self) -> Changes:
        return Changes(
            url=self.url,
            description=self.description,
            events=None if self.events is None else wanted_events(self.events),
            enabled=self.enabled,
        )


class RotationBody(Body):
    """The body of both rotations."""

    overlap_s: Overlap = DEFAULT_OVERLAP_S
