"""Objects that nothing refers to any more, by name, until storage has let go of them.

A name is written here before storage is asked, so whoever is killed in between leaves word of what is to do.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import discarded_objects, in_state, outputs, tasks
from gateway.db.upsert import Upsert
from gateway.model import TaskState

_names: sa.BindParameter[str] = sa.bindparam("names", expanding=True)
_its = discarded_objects.c

_DISCARD = Upsert(discarded_objects, key=("object_name",))
_LIST = (
    sa.select(_its.object_name)
    .where(_its.object_name > sa.bindparam("after"))
    .order_by(_its.object_name)
    .limit(sa.bindparam("at_most"))
)
# What another process forgets this moment is not waited for.
_MINE = (
    sa.select(_its.object_name)
    .where(_its.object_name.in_(_names))
    .order_by(_its.object_name)
    .with_for_update(skip_locked=True)
)
_FORGET = sa.delete(discarded_objects).where(_its.object_name.in_(_MINE))
_ENDED = sa.select(tasks.c.id, tasks.c.tenant_id, tasks.c.deleted_at_ms).where(
    tasks.c.id.in_(sa.bindparam("ids", expanding=True)),
    sa.not_(in_state(TaskState.QUEUED)),
    sa.not_(in_state(TaskState.RUNNING)),
)
_RECORDED = sa.select(outputs.c.object_name).where(outputs.c.object_name.in_(_names))


def discard(tx: Tx, names: Sequence[str], *, now_ms: int) -> int:
    """Have storage let go of these; how many of them were not discarded before."""
    return sum(_DISCARD.run(tx, {"object_name": name, "at_ms": now_ms}) for name in names)


def list_discarded(tx: Tx, *, after: str, at_most: int) -> tuple[str, ...]:
    """The names that follow ``after``, in order."""
    return tuple(tx.execute(_LIST, {"after": after, "at_most": at_most}).scalars())


def forget(tx: Tx, names: Sequence[str]) -> None:
    """Storage has let go of them."""
    tx.execute(_FORGET, {"names": list(names)})


def find_orphans(tx: Tx, owners: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Which of these objects nobody will ever refer to; ``owners`` are their (tenant, task), by name.

    Clips are recorded under their task's lease, so what an ended task does not have it will never have. An
    object of a task that is not in this database may be another gateway's: it is none.
    """
    ids = sorted({task_id for _, task_id in owners.values()})
    ended = {(row.tenant_id, row.id): row.deleted_at_ms for row in tx.execute(_ENDED, {"ids": ids})}
    recorded = set(tx.execute(_RECORDED, {"names": list(owners)}).scalars())
    return tuple(
        name
        for name, owner in owners.items()
        if owner in ended and (name not in recorded or ended[owner] is not None)
    )
