"""Retention on a database and a directory: the clock stands still, and storage fails on request."""

from pathlib import Path

from gateway.db.engine import Database
from gateway.metrics import Metrics
from gateway.model import Principal, Task
from gateway.ports import Storage
from gateway.storage.local import LocalStorage
from gateway.tasks.discards import Discards
from gateway.tasks.orphans import OrphanSearch
from gateway.tasks.retention import Retention
from tests.clock import SetClock
from tests.factories import NOW_MS
from tests.fakes import FailingStorage


class Keeper:
    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.clock = SetClock(NOW_MS)
        self.local = LocalStorage(directory, b"s" * 32, "http://gateway", self.clock)
        self.storage = FailingStorage(self.local)
        self.metrics = Metrics("1")
        self.discards = self.more_discards()
        self.retention = self.another()

    def more_discards(self, storage: Storage | None = None) -> Discards:
        """As another process has them."""
        return Discards(self.database, storage or self.storage, self.metrics.retention)

    def another(self) -> Retention:
        return Retention(self.database, self.more_discards(), self.metrics.retention, self.clock)

    def search(self, storage: Storage | None = None) -> OrphanSearch:
        """That of a process which has just begun."""
        return OrphanSearch(self.database, storage or self.storage, self.metrics.retention, self.clock)

    async def store(self, task: Task) -> Task:
        for clip in task.clips:
            await self.put(clip.object_name)
        return task

    async def put(self, name: str) -> None:
        writer = await self.local.create(name, content_type="audio/wav", metadata={})
        await writer.write(b"audio")
        await writer.commit()

    def stored(self) -> int:
        return len(list(self.directory.rglob("content")))

    def principal(self, task: Task) -> Principal:
        return Principal(task.tenant_id, task.key_id)

    async def delete(self, task: Task) -> None:
        await self.retention.delete(self.principal(task), task.id)

    async def whole(self) -> int:
        """How many tasks there are that are not deleted."""
        return await self.database.read(
            lambda tx: tx.exec_driver_sql(
                "SELECT count(*) FROM tasks WHERE deleted_at_ms IS NULL"
            ).scalar_one()
        )

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)
