"""The audit log: what was done, by whom, and what it changed. It only grows; the database sees to that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import audit_log
from gateway.model import Act

#: What a thing looked like: small values by name, never a secret.
Picture = Mapping[str, Any]

_INSERT = sa.insert(audit_log)
_NAMED = sa.select(audit_log).where(
    audit_log.c.tenant_id == sa.bindparam("of_tenant"),
    audit_log.c.action == sa.bindparam("of_kind"),
    audit_log.c.after.contains(sa.bindparam("of_name"), autoescape=False),
)
_NEWEST = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(sa.bindparam("at_most"))


class Owned(Protocol):
    """A thing with an id that belongs to a tenant."""

    @property
    def id(self) -> str: ...

    @property
    def tenant_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One administrative act. ``before`` and ``after`` hold what it changed, None where there was nothing."""

    id: int
    at_ms: int
    act: Act
    action: str
    tenant_id: str | None
    target: str
    before: Picture | None
    after: Picture | None


def record(
    tx: Tx,
    act: Act,
    action: str,
    *,
    tenant_id: str | None,
    target: str,
    before: Picture | None,
    after: Picture | None,
    at_ms: int,
) -> None:
    """Append an act in the transaction that does it.

    Of two pictures only what differs is kept; where nothing does, nothing was done and nothing is written.
    """
    if before is not None and after is not None:
        changed = [name for name in after if before.get(name) != after[name]]
        if not changed:
            return
        before, after = ({name: picture.get(name) for name in changed} for picture in (before, after))
    tx.execute(
        _INSERT,
        {
            "at_ms": at_ms,
            "actor": act.actor,
            "source": act.source,
            "request_id": act.request_id,
            "action": action,
            "tenant_id": tenant_id,
            "target": target,
            "before": _dumped(before),
            "after": _dumped(after),
        },
    )


def record_of(
    tx: Tx,
    act: Act,
    action: str,
    thing: Owned,
    before: Picture | None,
    after: Picture | None,
    *,
    at_ms: int,
) -> None:
    """As `record`, of what was done to a thing that belongs to a tenant."""
    record(
        tx,
        act,
        action,
        tenant_id=thing.tenant_id,
        target=thing.id,
        before=before,
        after=after,
        at_ms=at_ms,
    )


def list_entries(
    tx: Tx, *, tenant_id: str | None = None, before_id: int | None = None, limit: int
) -> tuple[AuditEntry, ...]:
    """The newest acts first, those before ``before_id`` only if it is given."""
    statement = _NEWEST
    if tenant_id is not None:
        statement = statement.where(audit_log.c.tenant_id == tenant_id)
    if before_id is not None:
        statement = statement.where(audit_log.c.id < before_id)
    return tuple(_entry(row) for row in tx.execute(statement, {"at_most": limit}))


def find_named(tx: Tx, tenant_id: str, action: str, name_sha256: str) -> AuditEntry | None:
    """The act of a tenant's whose ``after`` has this ``name_sha256``: the request that was named so.

    An index leads to the tenant's acts, which are few.
    """
    values = {"of_tenant": tenant_id, "of_kind": action, "of_name": name_sha256}
    found = (_entry(row) for row in tx.execute(_NAMED, values))
    return next((act for act in found if act.after and act.after.get("name_sha256") == name_sha256), None)


def _entry(row: sa.Row[tuple[object, ...]]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at_ms=row.at_ms,
        act=Act(row.actor, row.source, row.request_id),
        action=row.action,
        tenant_id=row.tenant_id,
        target=row.target,
        before=_loaded(row.before),
        after=_loaded(row.after),
    )


def _dumped(picture: Picture | None) -> str | None:
    return None if picture is None else orjson.dumps(picture).decode()


def _loaded(text: str | None) -> Picture | None:
    return None if text is None else orjson.loads(text)
