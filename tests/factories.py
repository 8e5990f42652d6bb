"""Tenants, keys and tasks that are valid as they are: a test names only what it is about."""

import itertools
import secrets
from typing import Any

from gateway.accounts import keys
from gateway.db import accounts, tasks, tenants
from gateway.db.engine import Database, Tx
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import (
    Act,
    ApiKey,
    Clip,
    Deployment,
    KeyMode,
    ModelKind,
    MusicSpec,
    Principal,
    Route,
    Task,
    TaskState,
    Tenant,
    TenantStatus,
)

NOW_MS = 1_800_000_000_000
#: Who administers in tests.
ACT = Act(actor="cli:test", source="cli")
_numbers = itertools.count(1)


def a_tenant(**changes: Any) -> Tenant:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"ten_{number:04}",
        "name": f"team {number}",
        "status": TenantStatus.ACTIVE,
        "created_at_ms": NOW_MS,
    }
    return Tenant(**(values | changes))


def a_key(tenant: Tenant, **changes: Any) -> ApiKey:
    """A key's row; its text is known to nobody. `a_caller` makes one that can be presented."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"{number:012}",
        "tenant_id": tenant.id,
        "name": f"key {number}",
        "sha256": keys.hash_key(f"key {number}"),
        "created_at_ms": NOW_MS,
    }
    return ApiKey(**(values | changes))


def a_task(key: ApiKey, **changes: Any) -> Task:
    values: dict[str, Any] = {
        "id": f"task_{next(_numbers):08}",
        "tenant_id": key.tenant_id,
        "key_id": key.id,
        "route": Route.LYRIA,
        "model": LYRIA2,
        "state": TaskState.QUEUED,
        "spec": MusicSpec("slow piano"),
        "metadata": {},
        "price_micros": 60_000,
        "created_at_ms": NOW_MS,
    }
    return Task(**(values | changes))


def a_clip(task: Task, index: int = 0, **changes: Any) -> Clip:
    values: dict[str, Any] = {
        "index": index,
        "object_name": f"{task.tenant_id}/{task.id}/{index}-{next(_numbers)}.wav",
        "mime_type": "audio/wav",
        "size_bytes": 1044,
        "sha256": "0" * 64,
        "duration_s": 1.0,
        "sample_rate_hz": 48_000,
        "channels": 2,
        "seed": None,
    }
    return Clip(**(values | changes))


def a_deployment(kind: ModelKind = LYRIA2, **changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "name": kind,
        "kind": kind,
        "project": "test-project",
        "location": "us-central1",
        "endpoint": None,
        "price_micros": 60_000,
        "cost_micros": 60_000,
    }
    if kind == MUSICGEN:
        values["endpoint"] = "projects/test-project/locations/us-central1/endpoints/7"
    return Deployment(**(values | changes))


async def keep_tenant(database: Database, **changes: Any) -> Tenant:
    tenant = a_tenant(**changes)
    await database.write(lambda tx: tenants.insert_tenant(tx, tenant))
    return tenant


async def keep_key(database: Database, tenant: Tenant | None = None, **changes: Any) -> ApiKey:
    key = a_key(tenant or await keep_tenant(database), **changes)
    await database.write(lambda tx: accounts.insert_key(tx, key))
    return key


async def keep_task(database: Database, key: ApiKey | None = None, **changes: Any) -> Task:
    """A queued task, past all limits. Its deadline is far off unless ``deadline_at_ms`` is given."""
    deadline_at_ms = changes.pop("deadline_at_ms", NOW_MS + 10**10)
    task = a_task(key or await keep_key(database), **changes)
    await database.write(lambda tx: _insert_next(tx, task, deadline_at_ms))
    return task


async def a_caller(database: Database, tenant: Tenant | None = None, **changes: Any) -> tuple[Principal, str]:
    """A principal, and the text of its key."""
    minted = keys.mint(secrets.choice, changes.get("mode", KeyMode.LIVE))
    key = await keep_key(database, tenant, id=minted.public_id, sha256=minted.sha256, **changes)
    return Principal(key.tenant_id, key.id, mode=key.mode), minted.text


def _insert_next(tx: Tx, task: Task, deadline_at_ms: int) -> None:
    counts = tasks.read_windows(
        tx,
        key_id=task.key_id,
        key_rpm=1,
        tenant_id=task.tenant_id,
        tenant_rpm=None,
        since_ms=0,
    )
    tasks.insert_task(
        tx,
        task,
        key_seq=counts.key_newest + 1,
        tenant_seq=counts.tenant_newest + 1,
        deadline_at_ms=deadline_at_ms,
    )
