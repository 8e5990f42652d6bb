"""What an administrator is shown of tenants, keys, money and tasks, by the API and by ``--json``."""

from collections.abc import Iterable
from typing import Any

from gateway.accounts.books import AuditEntry, Difference, LedgerRow
from gateway.accounts.keyring import Rotated
from gateway.accounts.tenants import Budget, Portrait
from gateway.model import ApiKey, Clip, Deployment, Member, Task, Tenant
from gateway.tasks.archive import Attempt, Event, QueueLine, Story
from gateway.web.account_views import render_budget
from gateway.web.views import render_price, render_request, timestamp

Document = dict[str, Any]


def render_tenant(tenant: Tenant) -> Document:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status.value,
        "zone": tenant.zone,
        "price_ppm": tenant.price_ppm,
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "allowed_models": tenant.allowed_models,
        "allowed_formats": tenant.allowed_formats,
        "retention_days": tenant.retention_days,
        "start_within_s": tenant.start_within_s,
        "warn_percents": tenant.warn_percents,
        "created_at": timestamp(tenant.created_at_ms),
    }


def render_portrait(portrait: Portrait) -> Document:
    return {
        **render_tenant(portrait.tenant),
        "budgets": render_budgets(portrait.budgets),
        "members": list(map(render_member, portrait.members)),
    }


def render_budgets(budgets: Iterable[Budget]) -> list[Document]:
    return list(map(render_budget, budgets))


def render_member(member: Member) -> Document:
    return {
        "email": member.email,
        "role": member.role.value,
        "created_at": timestamp(member.created_at_ms),
    }


def render_key(key: ApiKey, now_ms: int) -> Document:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "mode": key.mode.value,
        "state": key.state_at(now_ms).value,
        "owner": key.owner,
        "tags": key.tags,
        "scopes": sorted(key.scopes),
        "allowed_models": key.allowed_models,
        "rpm": key.rpm,
        "max_queued": key.max_queued,
        "created_at": timestamp(key.created_at_ms),
        "created_by": key.created_by,
        "expires_at": timestamp(key.expires_at_ms),
        "disabled_at": timestamp(key.disabled_at_ms),
        "revoked_at": timestamp(key.revoked_at_ms),
        "rotated_at": timestamp(key.rotated_at_ms),
        "last_used_at": timestamp(key.last_used_at_ms),
    }


def render_new_key(key: ApiKey, text: str, now_ms: int) -> Document:
    return {**render_key(key, now_ms), "key": text}


def render_rotated(rotated: Rotated, now_ms: int) -> Document:
    return {
        **render_new_key(rotated.key, rotated.text, now_ms),
        "old_until": timestamp(rotated.old_until_ms),
    }


def render_entry(row: LedgerRow) -> Document:
    entry = row.entry
    return {
        "id": row.id,
        "at": timestamp(entry.at_ms),
        "tenant_id": entry.tenant_id,
        "key_id": entry.key_id,
        "task_id": entry.task_id,
        "kind": entry.kind.value,
        "held_micros": entry.held_micros,
        "spent_micros": entry.spent_micros,
        "day": entry.periods.day,
        "month": entry.periods.month,
        "actor": entry.actor,
        "reason": entry.reason,
    }


def render_difference(difference: Difference) -> Document:
    return {
        "what": difference.what,
        "which": difference.which,
        "kept": difference.kept,
        "counted": difference.counted,
    }


def render_act(entry: AuditEntry) -> Document:
    return {
        "id": entry.id,
        "at": timestamp(entry.at_ms),
        "actor": entry.act.actor,
        "source": entry.act.source,
        "request_id": entry.act.request_id,
        "action": entry.action,
        "tenant_id": entry.tenant_id,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }


def render_summary(task: Task) -> Document:
    """A task in a list: not what was asked for, which is the tenant's business."""
    return {
        "task_id": task.id,
        "tenant_id": task.tenant_id,
        "key_id": task.key_id,
        "route": task.route.value,
        "model": task.model,
        "status": task.state.value,
        "price": render_price(task),
        "error": {"code": task.error.code, "detail": task.error.detail} if task.error else None,
        "attempt_count": task.attempt_count,
        "emulated": task.emulated,
        "test": task.test,
        "created_at": timestamp(task.created_at_ms),
        "start_by": timestamp(task.start_by_at_ms),
        "started_at": timestamp(task.started_at_ms),
        "finished_at": timestamp(task.finished_at_ms),
    }


def render_story(story: Story) -> Document:
    task = story.task
    return {
        **render_summary(task),
        "request": render_request(task),
        "metadata": task.metadata,
        "webhook_url": task.webhook_url,
        "request_id": task.request_id,
        "traceparent": task.traceparent,
        "outputs": list(map(_output, task.clips)),
        "attempts": list(map(_attempt, story.attempts)),
        "events": list(map(_event, story.events)),
        "entries": list(map(render_entry, story.entries)),
    }


def _output(clip: Clip) -> Document:
    """Where the audio is kept. A link that opens it is its tenant's to ask for."""
    return {
        "index": clip.index,
        "object_name": clip.object_name,
        "mime_type": clip.mime_type,
        "seconds": clip.duration_s,
        "bytes": clip.size_bytes,
        "sample_rate": clip.sample_rate_hz,
        "channels": clip.channels,
        "seed": clip.seed,
        "sha256": clip.sha256,
    }


def _attempt(attempt: Attempt) -> Document:
    return {
        "number": attempt.number,
        "deployment": attempt.deployment,
        "state": attempt.state,
        "started_at": timestamp(attempt.started_at_ms),
        "finished_at": timestamp(attempt.finished_at_ms),
        "clips_asked": attempt.clips_asked,
        "clips_delivered": attempt.clips_delivered,
        "fault": attempt.fault,
        "error_code": attempt.error_code,
        "upstream_status": attempt.upstream_status,
        "provider_metadata": attempt.provider_metadata,
        "cost_micros": attempt.cost_micros,
    }


def _event(event: Event) -> Document:
    return {"kind": event.kind, "at": timestamp(event.at_ms), "data": event.data}


def render_line(line: QueueLine) -> Document:
    return {
        "tenant_id": line.tenant_id,
        "tenant_name": line.tenant_name,
        "weight": line.weight,
        "max_concurrent": line.max_concurrent,
        "waiting": line.waiting,
        "running": line.running,
        "oldest_waiting_at": timestamp(line.since_ms),
    }


def render_deployment(deployment: Deployment) -> Document:
    return {
        "name": deployment.name,
        "model": deployment.kind,
        "project": deployment.project,
        "location": deployment.location,
        "endpoint": deployment.endpoint,
        "price_micros": deployment.price_micros,
    }
