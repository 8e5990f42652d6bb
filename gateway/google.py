"""Google credentials: where they come from, and the access tokens got with them.

google-auth does the cryptography and knows the credential files; the HTTP is ours, so that `requests` is not
loaded into the server. Documents: Application Default Credentials
(cloud.google.com/docs/authentication/application-default-credentials) and the metadata server
(cloud.google.com/compute/docs/metadata).
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import httpx

from gateway.errors import AttemptFault, ConfigurationError, ErrorCode, UpstreamError
from gateway.ports import Clock

CLOUD_PLATFORM_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
METADATA_URL = "http://metadata.google.internal"

# The metadata server hands out the same token until four minutes before it ends (google-auth keeps the same
# threshold): asking earlier gives nothing newer, and would be asked again at once.
REFRESH_EARLY_S = 225.0
#: What `TokenSource` promises: a token handed out is good for this long.
LEAST_LIFE_S = 60.0

# google-auth has one exception for "nothing anywhere" and for "what is there is broken".
_NOT_FOUND = "default credentials were not found"


class _Response(google.auth.transport.Response):
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class HttpTransport(google.auth.transport.Request):
    """google-auth's transport over a synchronous httpx client. Called in worker threads only."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_ignored: Any,
    ) -> _Response:
        """Make the call; raises google-auth's TransportError when there is no answer."""
        try:
            response = self._client.request(
                method,
                url,
                content=body,
                headers=headers,
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise google.auth.exceptions.TransportError(str(error)) from error
        return _Response(response)

    def close(self) -> None:
        self._client.close()


def open_transport(*, timeout_s: float = 10.0) -> HttpTransport:
    """A transport with a client of its own; the metadata server is never asked through a proxy."""
    direct = {"all://metadata.google.internal": None, "all://169.254.169.254": None}
    return HttpTransport(httpx.Client(timeout=timeout_s, mounts=direct))


class MetadataCredentials(google.auth.credentials.Credentials):
    """Tokens of the service account that a Cloud Run or Compute Engine machine runs as.

    google-auth has these too, but only where `requests` is installed, which the server does without.
    """

    def __init__(self, url: str, scopes: Sequence[str]) -> None:
        google.auth.credentials.Credentials.__init__(self)
        self._account_url = f"{url.rstrip('/')}/computeMetadata/v1/instance/service-accounts/default"
        self._scopes = tuple(scopes)
        self.service_account_email: str | None = None

    def refresh(self, request: google.auth.transport.Request) -> None:
        """Fetch e-mail and token. Raises TransportError or RefreshError, as google-auth's own do."""
        if self.service_account_email is None:
            self.service_account_email = self._get(request, "email").decode("ascii").strip()
        body = self._get(request, f"token?scopes={quote(','.join(self._scopes), safe='')}")
        try:
            answer = json.loads(body)
            self.token = str(answer["access_token"])
            lifetime = timedelta(seconds=int(answer["expires_in"]))
        except (ValueError, KeyError, TypeError) as error:
            raise google.auth.exceptions.RefreshError("the metadata server's token is unreadable") from error
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + lifetime

    def _get(self, request: google.auth.transport.Request, what: str) -> bytes:
        response = request(f"{self._account_url}/{what}", headers={"Metadata-Flavor": "Google"})
        if response.status != httpx.codes.OK:
            raise google.auth.exceptions.RefreshError(
                f"the metadata server answered {response.status} for {what.partition('?')[0]}",
                retryable=response.status >= httpx.codes.INTERNAL_SERVER_ERROR,
            )
        return bytes(response.data)


async def load_credentials(
    scopes: Sequence[str] = (CLOUD_PLATFORM_SCOPE,), *, metadata_url: str = METADATA_URL
) -> google.auth.credentials.Credentials:
    """Application Default Credentials: key file, `gcloud` login, workload identity, or the machine's account.

    Files are read and the metadata server is asked in a worker thread. Raises `ConfigurationError`.
    """
    return await asyncio.to_thread(_find_credentials, tuple(scopes), metadata_url)


def _find_credentials(scopes: tuple[str, ...], metadata_url: str) -> google.auth.credentials.Credentials:
    with httpx.Client(timeout=3.0, trust_env=False) as probe:
        transport = HttpTransport(probe)
        try:
            credentials, _project = google.auth.default(scopes=scopes, request=transport)
        except google.auth.exceptions.DefaultCredentialsError as error:
            # A key file that was named but is missing or broken must not be passed over in silence.
            if _NOT_FOUND not in str(error):
                raise ConfigurationError(f"The Google credentials cannot be used: {error}") from error
            if not _is_metadata_server(transport, metadata_url):
                raise ConfigurationError(
                    "No Google credentials found. Run `gcloud auth application-default login`, point "
                    "GOOGLE_APPLICATION_CREDENTIALS at a key file, run on Google Cloud, or set "
                    "GATEWAY_GOOGLE_AUTH=anonymous for emulators.",
                    internal=str(error),
                ) from error
            return MetadataCredentials(metadata_url, scopes)
    found: google.auth.credentials.Credentials = credentials
    return found


def _is_metadata_server(transport: HttpTransport, url: str) -> bool:
    try:
        response = transport(url, headers={"Metadata-Flavor": "Google"}, timeout=3.0)
    except google.auth.exceptions.TransportError:
        return False
    return response.headers.get("metadata-flavor") == "Google"


class AnonymousTokens:
    """For emulators: calls go out without credentials."""

    async def token(self) -> str | None:
        return None

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    expires_at_ms: int | None


class GoogleTokens:
    """`TokenSource` on google-auth credentials.

    A token is refreshed in the background once it has less than `REFRESH_EARLY_S` to live; callers wait
    only when it has less than `LEAST_LIFE_S`. One refresh runs at a time, whoever asked, in a worker thread.
    After a failure the next attempt waits ``pause_s``; until then the old token serves while it lives, and
    afterwards callers get the same error.
    """

    def __init__(
        self,
        credentials: google.auth.credentials.Credentials,
        clock: Clock,
        *,
        transport: HttpTransport,
        pause_s: float = 5.0,
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._transport = transport
        self._pause_s = pause_s
        self._token: _Token | None = None
        self._refresh: asyncio.Task[_Token] | None = None
        self._quiet_until_s = clock.monotonic_s()
        self._failure: google.auth.exceptions.GoogleAuthError | None = None

    async def token(self) -> str:
        """An access token.

        Raises `UpstreamError`: NOT_SENT when Google was not reached, MISCONFIGURED when it refused.
        """
        left_s = self._life_left_s()
        if self._token is not None and left_s >= LEAST_LIFE_S:
            if left_s < REFRESH_EARLY_S and not self._resting():
                self._start_refresh()
            return self._token.text
        try:
            if self._failure is not None and self._resting():
                raise _as_upstream_error(self._failure) from self._failure
            # Shielded: a caller that hangs up must not take the refresh away from the others.
            return (await asyncio.shield(self._start_refresh())).text
        except UpstreamError:
            if self._token is not None and self._life_left_s() > 0:
                return self._token.text
            raise

    async def service_account_email(self) -> str:
        """The account's e-mail, which some credentials know only after their first refresh.

        Raises `UpstreamError` (MISCONFIGURED) for credentials of a person, which have none.
        """
        await self.token()
        email = getattr(self._credentials, "service_account_email", None)
        if not isinstance(email, str) or "@" not in email:
            raise _misconfigured(
                "These Google credentials belong to no service account, so they cannot sign audio links.",
                "impersonate one: gcloud auth application-default login --impersonate-service-account=EMAIL",
            )
        return email

    async def close(self) -> None:
        """Let a running refresh end (its timeouts bound it), then close the connections."""
        if self._refresh is not None:
            await asyncio.wait({self._refresh})
        self._transport.close()

    def _life_left_s(self) -> float:
        if self._token is None:
            return 0.0
        if self._token.expires_at_ms is None:
            return float("inf")
        return (self._token.expires_at_ms - self._clock.now_ms()) / 1000

    def _resting(self) -> bool:
        return self._clock.monotonic_s() < self._quiet_until_s

    def _start_refresh(self) -> asyncio.Task[_Token]:
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._refreshed())
            # Read even when nobody awaits it any more, or asyncio complains of an unseen exception.
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _refreshed(self) -> _Token:
        try:
            self._token = await asyncio.to_thread(self._refresh_blocking)
            self._failure = None
        except google.auth.exceptions.GoogleAuthError as error:
            self._failure = error
            raise _as_upstream_error(error) from error
        finally:
            # Also after success: a token that comes back as short-lived as it was must not be asked for again
            # by the very next caller.
            self._quiet_until_s = self._clock.monotonic_s() + self._pause_s
            self._refresh = None
        return self._token

    def _refresh_blocking(self) -> _Token:
        self._credentials.refresh(self._transport)
        expiry = self._credentials.expiry
        expires_at_ms = None if expiry is None else int(expiry.replace(tzinfo=UTC).timestamp() * 1000)
        return _Token(str(self._credentials.token), expires_at_ms)


def _misconfigured(detail: str, internal: str) -> UpstreamError:
    return UpstreamError(
        detail, code=ErrorCode.MODEL_MISCONFIGURED, fault=AttemptFault.MISCONFIGURED, internal=internal
    )


def _unreachable(detail: str, internal: str) -> UpstreamError:
    return UpstreamError(
        detail, code=ErrorCode.MODEL_UNAVAILABLE, fault=AttemptFault.NOT_SENT, internal=internal
    )


def _as_upstream_error(error: google.auth.exceptions.GoogleAuthError) -> UpstreamError:
    # Some credentials wrap a lost connection in a RefreshError: what matters is the cause.
    lost = isinstance(error.__cause__, google.auth.exceptions.TransportError)
    final = (google.auth.exceptions.RefreshError, google.auth.exceptions.DefaultCredentialsError)
    if isinstance(error, final) and not error.retryable and not lost:
        return _misconfigured(
            "Google refused the gateway's credentials. Its operator has to renew them.",
            f"{type(error).__name__}: {error}",
        )
    return _unreachable("Google's token service could not be reached.", f"{type(error).__name__}: {error}")
