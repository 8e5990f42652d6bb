"""Messages, written to the outbox in the very transaction that they tell of.

Links to audio are never in one: whoever has a signed link has the audio, messages are kept for weeks in logs
and queues that are not ours, and a link would have expired when somebody uses it. ``status_url`` gives fresh
ones, to who has a key.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from gateway.db import deliveries, webhooks
from gateway.db.engine import Tx
from gateway.messages import Delivery, DeliveryState, Endpoint, EventType
from gateway.model import Task, TaskState
from gateway.units import format_time, format_usd

#: Standard Webhooks asks for less, so that any receiver takes it.
BODY_LIMIT_BYTES = 20_000
# Of what a tenant's requests name; see `lane_of`.
_LANES = 64
# Tests are for people; this is no way to make the gateway send much to one address.
_TEST_AGAIN_MS = 60_000
_EVENT_OF = {
    TaskState.SUCCEEDED: EventType.TASK_SUCCEEDED,
    TaskState.FAILED: EventType.TASK_FAILED,
    TaskState.CANCELED: EventType.TASK_CANCELED,
    TaskState.EXPIRED: EventType.TASK_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A budget that reached ``percent`` of its limit. ``period`` names the day or month, or is ``total``."""

    window: str
    period: str
    percent: int
    limit_micros: int
    spent_micros: int
    held_micros: int


@dataclass(frozen=True, slots=True)
class _Event:
    """What is to be told, in the words in which everybody gets it."""

    tenant_id: str
    kind: EventType
    body: str
    at_ms: int
    task_id: str | None = None


class Announcer:
    """Tells a tenant's endpoints what happened. Each function wants the transaction in which it happens."""

    def __init__(self, new_id: Callable[[str], str], public_url: str) -> None:
        self._new_id = new_id
        self._public_url = public_url

    def announce_task(self, tx: Tx, task: Task, *, clips: int, charged_micros: int, now_ms: int) -> None:
        """A task has ended, with so many clips. Costs one probe when nobody listens."""
        listeners = webhooks.list_listening(tx, task.tenant_id)
        if not listeners and task.webhook_url is None:
            return
        kind = _EVENT_OF[task.state]
        body = _body(kind, self._task_data(task, clips, charged_micros), now_ms)
        event = _Event(task.tenant_id, kind, body, now_ms, task.id)
        if task.webhook_url is not None:
            self._add(tx, event, None, task.webhook_url)
        self._tell(tx, event, listeners)

    def announce_budget(self, tx: Tx, tenant_id: str, alert: BudgetAlert, *, now_ms: int) -> None:
        """A budget has reached a share of its limit. Whether that was told before is the caller's to know."""
        self._announce(tx, tenant_id, EventType.BUDGET_WARNING, asdict(alert), now_ms)

    def announce_disabled(self, tx: Tx, endpoint: Endpoint, *, now_ms: int) -> None:
        """The gateway has disabled an endpoint, which hears of nothing any more: the tenant's others do."""
        data = {
            "endpoint_id": endpoint.id,
            "description": endpoint.description,
            "reason": endpoint.disabled_reason,
            "failing_since": format_time(endpoint.failing_since_ms),
        }
        self._announce(tx, endpoint.tenant_id, EventType.WEBHOOK_DISABLED, data, now_ms)

    def announce_test(self, tx: Tx, endpoint: Endpoint, *, now_ms: int) -> Delivery:
        """A message to one endpoint, whatever it asks for; or the one of this minute, if it is under way."""
        pending = deliveries.find_pending_test(
            tx, endpoint.tenant_id, endpoint.id, since_ms=now_ms - _TEST_AGAIN_MS
        )
        if pending is not None:
            return pending
        kind = EventType.WEBHOOK_TEST
        body = _body(kind, {"endpoint_id": endpoint.id, "description": endpoint.description}, now_ms)
        return self._add(tx, _Event(endpoint.tenant_id, kind, body, now_ms), endpoint.id, endpoint.url)

    def _announce(self, tx: Tx, tenant_id: str, kind: EventType, data: dict[str, Any], now_ms: int) -> None:
        listeners = webhooks.list_listening(tx, tenant_id)
        if listeners:
            self._tell(tx, _Event(tenant_id, kind, _body(kind, data, now_ms), now_ms), listeners)

    def _tell(self, tx: Tx, event: _Event, listeners: Iterable[webhooks.Listener]) -> None:
        for listener in listeners:
            if listener.wants(event.kind):
                self._add(tx, event, listener.endpoint_id, listener.url)

    def _add(self, tx: Tx, event: _Event, endpoint_id: str | None, url: str) -> Delivery:
        delivery = Delivery(
            id=self._new_id("msg"),
            tenant_id=event.tenant_id,
            endpoint_id=endpoint_id,
            url=url,
            kind=event.kind,
            task_id=event.task_id,
            body=event.body,
            state=DeliveryState.PENDING,
            tries=0,
            next_attempt_at_ms=event.at_ms,
            created_at_ms=event.at_ms,
        )
        webhooks.add_delivery(tx, delivery, lane=lane_of(event.tenant_id, endpoint_id, url))
        return delivery

    def _task_data(self, task: Task, clips: int, charged_micros: int) -> dict[str, Any]:
        return {
            "task_id": task.id,
            "status": task.state,
            "status_url": f"{self._public_url}/api/task-status/{task.id}",
            "model": task.model,
            "clips": clips,
            "error": {"code": task.error.code, "detail": task.error.detail} if task.error else None,
            "price": {
                "currency": "USD",
                "micros": task.price_micros,
                "usd": format_usd(task.price_micros),
                "charged_micros": charged_micros,
            },
            "metadata": task.metadata,
            "created_at": format_time(task.created_at_ms),
            "finished_at": format_time(task.finished_at_ms),
            "emulated": task.emulated,
            "test": task.test,
        }


def lane_of(tenant_id: str, endpoint_id: str | None, url: str) -> str:
    """What waits its turn together: begins with the tenant, and there are few of them for each.

    An endpoint is one. Addresses that requests name share 64 by host, so that one that is slow seldom
    holds up another, and no number of hosts makes claiming slow.
    """
    if endpoint_id is not None:
        return f"{tenant_id}:{endpoint_id}"
    # Not parsed: whatever it is, a task must not fail to end because of it.
    host = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return f"{tenant_id}:{zlib.crc32(host.encode()) % _LANES}"


def without_content(body: str) -> str:
    """A task's message as it is told once the task is deleted: that it ended and what it cost, no more."""
    document = orjson.loads(body)
    data = document["data"]
    data["metadata"] = None
    if data["error"] is not None:
        data["error"]["detail"] = "The task was deleted."
    return orjson.dumps(document).decode()


def _body(kind: EventType, data: dict[str, Any], now_ms: int) -> str:
    document = {"type": kind, "timestamp": format_time(now_ms), "data": data}
    body = orjson.dumps(document)
    if len(body) > BODY_LIMIT_BYTES and "metadata" in data:
        # Only this can be so long, and the caller has it: it is theirs.
        body = orjson.dumps({**document, "data": {**data, "metadata": None}})
    return body.decode()
