"""Workers' eyes and hands: who could be served next, and taking what is."""

from gateway.db import lines, work
from gateway.db.engine import Tx
from gateway.db.lines import Line
from gateway.db.locks import lock_claims
from gateway.db.work import Lease
from gateway.model import TaskState
from gateway.tasks import fairshare
from tests.factories import NOW_MS

LEASE_MS = 60_000


def in_turn(tx: Tx, now_ms: int = NOW_MS) -> list[tuple[Line, str]]:
    """Every line that may be served and the task that would be started, as if every lane had room."""
    lanes = [lines.lines_of(tx, lane) for lane in lines.list_lanes(tx)]
    found = [(line, lines.find_first(tx, line, now_ms=now_ms)) for line in fairshare.in_turn(*lanes)]
    return [(line, task_id) for line, task_id in found if task_id is not None]


def claim_next(tx: Tx, token: str, now_ms: int = NOW_MS, lease_ms: int = LEASE_MS) -> Lease | None:
    """Take the task whose turn it is."""
    lock_claims(tx)
    for _, task_id in in_turn(tx, now_ms):
        return work.claim(tx, task_id, token=token, now_ms=now_ms, expires_at_ms=now_ms + lease_ms)
    return None


def put_into(tx: Tx, task_id: str, state: TaskState, *, at_ms: int = NOW_MS) -> None:
    """Bring a queued task into a state, along the arrows."""
    through = {TaskState.SUCCEEDED, TaskState.FAILED}
    for step in (TaskState.RUNNING, state) if state in through else (state,):
        token = "'mine'" if step is TaskState.RUNNING else "NULL"
        tx.exec_driver_sql(
            f"UPDATE tasks SET state = '{step}', lease_token = {token}, lease_expires_at_ms = {at_ms}"
            f" WHERE id = '{task_id}'"
        )
