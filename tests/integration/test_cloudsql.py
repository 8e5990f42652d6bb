"""Cloud SQL by IAM: Google's own connector, with a stand-in for Google and a real PostgreSQL behind it."""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from google.cloud.sql.connector import Connector
from pydantic import SecretStr

from gateway.bootstrap.checkup import check_up
from gateway.db import cloudsql
from gateway.db.engine import Database, touch
from gateway.db.moving import move
from gateway.db.opening import migrate, open_database, read_revision
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError, Unavailable
from gateway.findings import Outcome
from gateway.settings import Settings
from tests.cloudsql import INSTANCE, USER, CloudSql, start_cloud_sql
from tests.databases import PostgresStore, SqliteStore, keep, names, open_store
from tests.gcs import TOKEN, key_file
from tests.httpstub import Answer, Call, start_stub


@pytest.fixture
def cloud(postgres_store: PostgresStore) -> Iterator[CloudSql]:
    """With the user whom IAM knows, as whom everybody comes here."""
    server = postgres_store.server
    server.execute(f'CREATE ROLE "{USER}" LOGIN SUPERUSER')
    try:
        with start_cloud_sql(server.port) as started:
            yield started
    finally:
        server.execute(f'REASSIGN OWNED BY "{USER}" TO gateway', database=postgres_store.name)
        server.execute(f'DROP OWNED BY "{USER}"', f'DROP ROLE "{USER}"', database=postgres_store.name)


@pytest.fixture
def url(
    cloud: CloudSql, postgres_store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """As GATEWAY_DATABASE_URL has it, with a key file, and Google's API at the stand-in."""
    answer = Answer(200, json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode())
    with start_stub(lambda _: answer) as tokens_url, monkeypatch.context() as patch:
        (tmp_path / "key.json").write_text(json.dumps(key_file(f"{tokens_url}/token")))
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        at_stand_in: Any = partialmethod(Connector.__init__, sqladmin_api_endpoint=cloud.url)
        patch.setattr(Connector, "__init__", at_stand_in)
        yield f"postgresql+asyncpg://{USER}@/{postgres_store.name}?cloud_sql={INSTANCE}"


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Database]:
    database = await open_database(url, pool_size=2, jitter=lambda: 0.5)
    yield database
    await database.close()


async def test_the_gateway_works_as_the_user_whom_iam_knows(
    opened: Database, cloud: CloudSql, postgres_store: PostgresStore
) -> None:
    assert await opened.write(keep("by IAM")) == "by IAM"
    assert await opened.read(names) == await opened.read_long(names) == {"by IAM"}
    users = await postgres_store.fetch(
        f"SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = '{postgres_store.name}' "
        "AND application_name = 'gateway'"
    )
    assert users == [(USER,)]
    # One certificate for all of its connections, with a token in it.
    assert cloud.tokens == [TOKEN]


async def test_what_others_change_is_heard(opened: Database, postgres_store: PostgresStore) -> None:
    heard: asyncio.Event = asyncio.Event()
    opened.listen(lambda _: heard.set())
    other = await open_store(postgres_store)
    await other.write(lambda tx: touch(tx, "tsk_1"))
    async with asyncio.timeout(10):
        await heard.wait()
    await other.close()


async def test_an_empty_database_is_migrated_and_checked(
    url: str, postgres_store: PostgresStore, settings: Settings
) -> None:
    await postgres_store.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert await read_revision(url) is None
    assert await migrate(url)
    assert await read_revision(url) == SCHEMA_REVISION
    findings = await check_up(settings.model_copy(update={"database_url": SecretStr(url)}))
    (found,) = [each for each in findings if each.check == "database"]
    assert (found.outcome, INSTANCE in found.tried) == (Outcome.OK, True)


async def test_an_installation_is_copied_into_it(
    url: str, sqlite_store: SqliteStore, postgres_store: PostgresStore
) -> None:
    source = await open_store(sqlite_store)
    await source.write(keep("from a file"))
    await source.close()
    await move(sqlite_store.url, url, lambda *_: None)
    assert await postgres_store.fetch("SELECT name FROM tenants") == [("from a file",)]


async def test_a_certificate_that_has_run_out_is_renewed_for_the_next_connection(
    opened: Database, cloud: CloudSql, postgres_store: PostgresStore
) -> None:
    # What the connector takes for too old: it leaves itself four minutes.
    server: Any = opened
    (cache,) = server._server._connector._cache.values()
    cache.cache._cached.expiration -= cloud.lives
    await postgres_store.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE application_name = 'gateway' AND datname = '{postgres_store.name}'"
    )
    await opened.write(keep("later"))
    assert cloud.tokens == [TOKEN, TOKEN]


# What goes wrong


async def test_what_google_refuses_is_told_in_its_words(url: str, cloud: CloudSql) -> None:
    said = json.dumps({"error": {"message": "boss::NOT_AUTHORIZED for cloudsql.instances.connect"}}).encode()
    cloud.refusal = Answer(403, said, {"Content-Type": "application/json"})
    with pytest.raises(ConfigurationError, match=r"cloudsql\.instances\.connect"):
        await migrate(url)
    with pytest.raises(Unavailable) as caught:
        await open_database(url, pool_size=1, jitter=lambda: 0.5)
    assert "NOT_AUTHORIZED" in str(caught.value.internal)


async def test_an_address_that_the_instance_has_not_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PRIVATE"):
        await read_revision(f"{url}&ip=private")


async def test_a_user_who_is_none_there_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"nobody@my-project\.iam"):
        await read_revision(url.replace(USER, "nobody@my-project.iam"))


async def test_google_is_not_waited_for_for_ever(
    url: str, cloud: CloudSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def silent(_call: Call) -> Answer:
        over.wait(10)
        return Answer(503)

    monkeypatch.setattr(cloudsql, "_OPEN_TIMEOUT_S", 0.2)
    with start_stub(silent) as silent_url:
        at_silent: Any = partialmethod(Connector.__init__, sqladmin_api_endpoint=silent_url)
        monkeypatch.setattr(Connector, "__init__", at_silent)
        with pytest.raises(ConfigurationError, match="does not answer"):
            await read_revision(url)
        over.set()
    assert cloud.calls == []


async def test_credentials_that_are_not_there_are_told(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.json"):
        await read_revision(url)


async def test_a_connector_that_is_not_installed_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.db.cloudsql")
    monkeypatch.setitem(sys.modules, "google.cloud.sql.connector", None)
    with pytest.raises(ConfigurationError, match=r"gateway\[cloudsql\]"):
        await migrate(url)


async def test_nobody_else_loads_it(postgres_store: PostgresStore) -> None:
    code = (
        "import asyncio, sys; from gateway.db.opening import read_revision\n"
        f"asyncio.run(read_revision({postgres_store.url!r}))\n"
        "print(sorted({'aiohttp', 'grpc', 'gateway.db.cloudsql'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert said == b"[]\n"
