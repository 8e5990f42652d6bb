"""Workers' eyes and hands: who could be served next, and taking what is."""

from gateway.db import lines, work
from gateway.db.engine import Tx
from gateway.db.lines import Candidate
from gateway.db.locks import lock_claims
from gateway.db.work import Lease
from gateway.model import TaskState
from gateway.tasks.fairshare import choose
from tests.factories import NOW_MS

LEASE_MS = 60_000


def list_candidates(tx: Tx, now_ms: int = NOW_MS) -> list[Candidate]:
    """Of all lanes, as if every one of them had room."""
    return [line for lane in lines.list_lanes(tx) for line in lines.list_candidates(tx, lane, now_ms=now_ms)]


def claim_next(tx: Tx, token: str, now_ms: int = NOW_MS, lease_ms: int = LEASE_MS) -> Lease | None:
    """Take the task whose turn it is."""
    lock_claims(tx)
    line = choose(list_candidates(tx, now_ms))
    if line is None:
        return None
    return work.claim(tx, line.task_id, token=token, now_ms=now_ms, expires_at_ms=now_ms + lease_ms)


def put_into(tx: Tx, task_id: str, state: TaskState, *, at_ms: int = NOW_MS) -> None:
    """Bring a queued task into a state, along the arrows."""
    through = {TaskState.SUCCEEDED, TaskState.FAILED}
    for step in (TaskState.RUNNING, state) if state in through else (state,):
        token = "'mine'" if step is TaskState.RUNNING else "NULL"
        tx.exec_driver_sql(
            f"UPDATE tasks SET state = '{step}', lease_token = {token}, lease_expires_at_ms = {at_ms}"
            f" WHERE id = '{task_id}'"
        )
