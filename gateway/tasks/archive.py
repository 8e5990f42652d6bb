"""Tasks as whoever runs the gateway sees them: everybody's, each with all that is kept of it."""

from dataclasses import dataclass

from gateway.accounts.keyring import require_key
from gateway.accounts.tenants import require_tenant
from gateway.db import archive, ledger, tasks
from gateway.db.archive import Attempt, Event, QueueLine, TaskFilter
from gateway.db.engine import Database, Tx
from gateway.db.ledger import LedgerRow
from gateway.errors import ErrorCode, NotFound
from gateway.model import Place, Task

__all__ = ["Attempt", "Event", "QueueLine", "Story", "TaskArchive", "TaskFilter"]


@dataclass(frozen=True, slots=True)
class Story:
    """A task and all that is kept of it, of one moment."""

    task: Task
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]
    entries: tuple[LedgerRow, ...]


class TaskArchive:
    """Raises `NotFound` for an id that is nobody's.

    Lists are read apart from everything else: a long search keeps nobody waiting.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, wanted: TaskFilter, *, before: Place | None, limit: int) -> tuple[Task, ...]:
        """The newest first; with ``before`` those made earlier than that place."""

        def read(tx: Tx) -> tuple[Task, ...]:
            if wanted.tenant_id is not None:
                require_tenant(tx, wanted.tenant_id)
            if wanted.key_id is not None:
                require_key(tx, wanted.key_id)
            return archive.list_tasks(tx, wanted, before=before, limit=limit)

        return await self._database.read_long(read)

    async def tell(self, task_id: str) -> Story:
        story = await self.find(task_id)
        if story is None:
            raise no_task(task_id)
        return story

    async def find(self, task_id: str) -> Story | None:
        """As `tell`; None for an id that is nobody's."""

        def read(tx: Tx) -> Story | None:
            task = tasks.get_tasks(tx, [task_id]).get(task_id)
            if task is None:
                return None
            return Story(
                task,
                archive.list_attempts(tx, task_id),
                archive.list_events(tx, task_id),
                ledger.list_of_task(tx, task_id),
            )

        return await self._database.read(read)

    async def queue(self) -> tuple[QueueLine, ...]:
        """Every tenant that has tasks waiting or running."""
        return await self._database.read(archive.list_lines)


def no_task(task_id: str) -> NotFound:
    """What an administrator is told."""
    return NotFound(f"There is no task {task_id!r}.", code=ErrorCode.NOT_FOUND)
