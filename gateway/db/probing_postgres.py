"""`gateway.db.probing` on PostgreSQL, apart so that nobody else loads its driver. Raises `OSError`."""

from gateway.db.connecting import ERRORS, Patience, cause_of, connect, said, server_of
from gateway.db.probing import DatabaseState, probe_statement

_PATIENCE = Patience(statement_s=3.0, lock_s=2.0, idle_s=5.0, network_s=1.0)
_LEAST_VERSION = 13


async def probe(url: str) -> DatabaseState:
    try:
        async with server_of(url) as server:
            connection = await connect(server, _PATIENCE)
        try:
            settings = connection.get_settings()
            if settings.server_encoding != "UTF8":
                raise OSError(f"it has the encoding {settings.server_encoding}; make one with UTF8")
            version = connection.get_server_version()
            if version.major < _LEAST_VERSION:
                raise OSError(
                    f"it is PostgreSQL {version.major}, and {_LEAST_VERSION} is the oldest that will do"
                )
            revision = None
            if await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            await connection.execute("BEGIN")
            # What is not committed goes with the connection, whatever happens.
            await connection.execute(probe_statement(revision))
            await connection.execute("ROLLBACK")
            return DatabaseState(revision, f"PostgreSQL {version.major}.{version.minor}")
        finally:
            connection.terminate()
    except ERRORS as error:
        raise ConnectionError(said(cause_of(error))) from None
