"""Cloud SQL through Google's connector: IAM says who may connect, and there is no password.

Loaded only where a URL names an instance; the library is the extra ``cloudsql``. It asks Google where the
instance is, and for a certificate with a token in it, which is good for an hour at most.
See https://cloud.google.com/sql/docs/postgres/iam-authentication.
"""

import asyncio
from typing import Any

import asyncpg
import google.auth.exceptions
from google.cloud.sql.connector import Connector

from gateway.db.connecting import ERRORS
from gateway.errors import ConfigurationError
from gateway.urls import CloudSqlPlace

# Two requests to Google come before the connection where the certificate has run out.
_OPEN_TIMEOUT_S = 15.0


class CloudSqlServer:
    """`gateway.db.connecting.Server` behind the connector. To be used in the loop it was opened in."""

    def __init__(self, place: CloudSqlPlace, connector: Connector) -> None:
        self._place = place
        self._connector = connector

    @classmethod
    async def open(cls, place: CloudSqlPlace) -> "CloudSqlServer":
        """Finds credentials, and asks nobody yet. Raises `ConfigurationError` where there are none."""
        try:
            # Looking for credentials reads files and may ask the metadata server.
            connector = await asyncio.to_thread(
                Connector,
                loop=asyncio.get_running_loop(),
                # The pool keeps its connections, so a certificate is wanted now and then, and not every hour.
                refresh_strategy="LAZY",
                ip_type=place.ip,
                enable_iam_auth=True,
            )
        except google.auth.exceptions.GoogleAuthError as error:
            raise ConfigurationError(f"The Google credentials cannot be used: {error}") from error
        return cls(place, connector)

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """``options`` are asyncpg's. Raises what is in `ERRORS`; Google's own no is a `ConnectionError`."""
        place = self._place
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                return await self._connector.connect_async(
                    place.instance, "asyncpg", user=place.user, database=place.database, **options
                )
        except ERRORS:
            raise
        # The library's own errors have no name in common, and aiohttp's and google-auth's come through it.
        except Exception as error:
            said = getattr(error, "message", "") or str(error) or type(error).__name__
            raise ConnectionError(f"Cloud SQL cannot be reached: {said}") from error

    async def close(self) -> None:
        await self._connector.close_async()
