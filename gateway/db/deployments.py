"""How deployments fare: what each is busy with, and what all workers learned of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.prepared import Prepared
from gateway.db.queue_tables import deployments
from gateway.db.tables import attempts
from gateway.db.upsert import Upsert

#: The window of a deployment's quota.
WINDOW_MS = 60_000

_name = sa.bindparam("deployment", type_=sa.Text)
_since = sa.bindparam("since_ms", type_=sa.BigInteger)
_now = sa.bindparam("now_ms", type_=sa.BigInteger)
_health = sa.select(deployments).where(deployments.c.name == _name)
_HEALTH = Prepared(_health)
_HEALTH_TO_CHANGE = Prepared(_health.with_for_update())
_BROKEN = sa.select(deployments.c.name).where(deployments.c.broken_until_ms > _now)
_KEEP = Upsert(
    deployments,
    key=("name",),
    change=("cooling_until_ms", "busy_count", "fault_count", "broken_until_ms", "broken_count"),
)
# A clock that was set back leaves calls ahead of now, which count; plainly wrong ones must not bar the way.
_in_window = (
    attempts.c.deployment == _name,
    attempts.c.started_at_ms > _since,
    attempts.c.started_at_ms < _now + WINDOW_MS,
)
_LOAD = Prepared(
    sa.select(
        sa.select(sa.func.count())
        .where(attempts.c.deployment == _name, attempts.c.state == sa.literal_column("'started'"))
        .scalar_subquery()
        .label("open_count"),
        sa.select(sa.func.count()).where(*_in_window).scalar_subquery().label("recent_count"),
        sa.select(sa.func.min(attempts.c.started_at_ms))
        .where(*_in_window)
        .scalar_subquery()
        .label("oldest_at_ms"),
    )
)
_LAST_FAULTS = (
    sa.select(attempts.c.fault)
    .where(attempts.c.deployment == _name, attempts.c.state != "started", attempts.c.started_at_ms > _since)
    .order_by(attempts.c.started_at_ms.desc())
    .limit(sa.bindparam("at_most"))
)


@dataclass(frozen=True, slots=True)
class Health:
    """What all workers know of a deployment; as it is here it is well.

    ``cooling_until_ms``: it said that it was busy. ``broken_until_ms`` is set while it is broken: when it may
    be probed. The counts are of what came in a row.
    """

    cooling_until_ms: int = 0
    busy_count: int = 0
    fault_count: int = 0
    broken_until_ms: int | None = None
    broken_count: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Calls under way, calls begun in the last minute, and when the oldest of those began."""

    open_count: int = 0
    recent_count: int = 0
    oldest_at_ms: int | None = None


WELL = Health()


def get_health(tx: Tx, name: str, *, lock: bool = False) -> Health:
    """With ``lock``, nobody else changes it until the transaction ends, if there is anything to change."""
    row = (_HEALTH_TO_CHANGE if lock else _HEALTH).one_or_none(tx, {"deployment": name})
    if row is None:
        return WELL
    return Health(
        row.cooling_until_ms, row.busy_count, row.fault_count, row.broken_until_ms, row.broken_count
    )


def list_broken(tx: Tx, *, now_ms: int) -> frozenset[str]:
    """Those that are broken and not yet due to be probed."""
    return frozenset(tx.execute(_BROKEN, {"now_ms": now_ms}).scalars())


def keep_health(tx: Tx, name: str, health: Health) -> None:
    _KEEP.run(tx, {"name": name, **asdict(health)})


def get_load(tx: Tx, name: str, *, now_ms: int) -> Load:
    """Derived from the rows of calls: a slot comes back when its call ends, or its worker's lease does."""
    values = {"deployment": name, "since_ms": now_ms - WINDOW_MS, "now_ms": now_ms}
    row = _LOAD.one_or_none(tx, values)
    return Load(row.open_count, row.recent_count, row.oldest_at_ms)


def list_faults(tx: Tx, name: str, *, since_ms: int, at_most: int) -> Sequence[str | None]:
    """How the last calls ended, the newest first; None for one that went well."""
    values = {"deployment": name, "since_ms": since_ms, "at_most": at_most}
    return tx.execute(_LAST_FAULTS, values).scalars().all()
