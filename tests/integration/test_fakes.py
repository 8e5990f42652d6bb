"""The stand-ins of `tests.fakes` do as the real ones until they are told to fail, and fail as those do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.db import tenants
from gateway.db.engine import Database
from gateway.errors import StorageError, Unavailable
from gateway.ports import Storage
from gateway.storage.local import LocalStorage
from tests.clock import SetClock
from tests.factories import a_tenant
from tests.fakes import FailingDatabase, FailingStorage


@pytest.fixture(params=["real", "fake"])
async def storage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    real = LocalStorage(tmp_path, b"s" * 32, "http://localhost", SetClock())
    await real.open()
    fake = FailingStorage(real)
    used: Storage = fake if request.param == "fake" else real
    yield used
    await used.close()


@pytest.fixture(params=["real", "fake"])
def kept(database: Database, request: pytest.FixtureRequest) -> Database | FailingDatabase:
    return FailingDatabase(database, after=0, failures=0) if request.param == "fake" else database


def content_of(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("content") if ".incoming" not in path.parts]


async def put(storage: Storage, name: str) -> None:
    writer = await storage.create(name, content_type="audio/wav", metadata={})
    try:
        await writer.write(name.encode())
        await writer.commit()
    except StorageError:
        await writer.abort()
        raise


async def test_an_object_appears_when_it_is_committed(storage: Storage, tmp_path: Path) -> None:
    writer = await storage.create("a/b.wav", content_type="audio/wav", metadata={})
    await writer.write(b"one")
    await writer.write(b"two")
    assert content_of(tmp_path) == []
    await writer.commit()
    assert content_of(tmp_path) == [b"onetwo"]
    assert "/files/a/b.wav?" in (await storage.signed_url("a/b.wav")).url
    await storage.check()
    await storage.delete("a/b.wav")
    assert content_of(tmp_path) == []


async def test_an_object_that_is_given_up_never_appears(storage: Storage, tmp_path: Path) -> None:
    writer = await storage.create("a/b.wav", content_type="audio/wav", metadata={})
    await writer.write(b"one")
    await writer.abort()
    await writer.abort()
    assert content_of(tmp_path) == []


@pytest.mark.parametrize("at", ["create", "write", "commit"])
async def test_storage_fails_as_a_full_disk_does(tmp_path: Path, at: str) -> None:
    real = LocalStorage(tmp_path, b"s" * 32, "http://localhost", SetClock())
    fake = FailingStorage(real, failures=1, at=at, after=1, only="b")
    for name, fails in (("a", False), ("b1", False), ("b2", True), ("b3", False)):
        if fails:
            with pytest.raises(StorageError):
                await put(fake, name)
        else:
            await put(fake, name)
    assert sorted(content_of(tmp_path)) == [b"a", b"b1", b"b3"]
    await fake.close()


async def test_an_answer_is_lost_after_the_object_appeared(tmp_path: Path) -> None:
    real = LocalStorage(tmp_path, b"s" * 32, "http://localhost", SetClock())
    fake = FailingStorage(real, failures=1, at="answer")
    writer = await fake.create("a", content_type="audio/wav", metadata={})
    await writer.write(b"one")
    with pytest.raises(StorageError):
        await writer.commit()
    assert content_of(tmp_path) == [b"one"]
    await writer.abort()
    assert content_of(tmp_path) == []
    await fake.close()


async def test_what_is_written_can_be_read(kept: Database | FailingDatabase) -> None:
    tenant = a_tenant()
    await kept.write(lambda tx: tenants.insert_tenant(tx, tenant))
    assert await kept.read(tenants.list_tenants) == (tenant,)


async def test_writes_fail_as_a_full_disk_makes_them(database: Database) -> None:
    fake = FailingDatabase(database, after=1, failures=1)
    outcomes = []
    for _ in range(3):
        try:
            await fake.write(lambda tx: tenants.insert_tenant(tx, a_tenant()))
            outcomes.append("kept")
        except Unavailable:
            outcomes.append("refused")
    assert outcomes == ["kept", "refused", "kept"]
    assert len(await database.read(tenants.list_tenants)) == 2
