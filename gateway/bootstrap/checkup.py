"""`gateway check`: everything that a configuration names is tried for real, and nothing of it is changed.

Nothing is paid, migrated, made or kept; what is written is taken back or deleted at once.
"""

import asyncio
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from gateway.accounts.counts import open_counts
from gateway.bootstrap.clockskew import find_skew
from gateway.bootstrap.ground import (
    SECRET_BYTES,
    Identity,
    http_client,
    local_directory,
    make_storage,
    open_identity,
    secret_path,
)
from gateway.bootstrap.probes import Probe, run_probes
from gateway.bootstrap.services import SystemClock
from gateway.db.probing import probe_database
from gateway.db.revision import may_run_on
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError, StorageError, Unavailable, UpstreamError
from gateway.findings import Finding, Outcome
from gateway.google import GoogleTokens
from gateway.model import Deployment
from gateway.ports import Clock, FileSource
from gateway.settings import Settings
from gateway.storage.api import GoogleApi, RetryPolicy
from gateway.storage.probing import leaving_no_folders, probe_storage
from gateway.tasks.naming import probe_name
from gateway.tasks.scratch import LEAST_FREE_BYTES
from gateway.upstream.probing import free_call, judge
from gateway.upstream.trust import LateContext
from gateway.urls import printable_url

PROBE_TIMEOUT_S = 8.0
_REQUEST_TIMEOUT_S = 5.0
# Nothing is tried for long: somebody is waiting, and what fails now is what is to be told.
_FEW_TRIES = RetryPolicy(tries=2, deadline_s=4.0, base_s=0.2, cap_s=0.5)
# A Redis may be slow to be connected to, and is left alone for a second after it did not answer.
_REDIS_TRIES = 3
_REDIS_PAUSE_S = 1.1
_GOOGLE = "https://storage.googleapis.com/"


async def check_up(
    settings: Settings, clock: Clock | None = None, *, timeout_s: float = PROBE_TIMEOUT_S
) -> tuple[Finding, ...]:
    """What was found, in a lasting order. No probe takes longer than ``timeout_s``."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client(settings, LateContext(httpx.create_ssl_context)))
        opening = asyncio.create_task(
            open_identity(settings, clock, stack, timeout_s=_REQUEST_TIMEOUT_S), name="credentials"
        )
        # Read even when no probe awaits it any more, or asyncio complains of an unseen exception.
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        checkup = _Checkup(settings, clock, http, partial(asyncio.shield, opening))
        try:
            return await run_probes(checkup.groups(), timeout_s=timeout_s)
        finally:
            # Its own timeouts bound it; what it has opened by then, the stack closes.
            await asyncio.wait((opening,))


@dataclass(frozen=True, slots=True)
class _Checkup:
    """The probes of one configuration. ``identity`` raises `ConfigurationError` where there is none."""

    settings: Settings
    clock: Clock
    http: httpx.AsyncClient
    identity: Callable[[], Awaitable[Identity]]

    def groups(self) -> list[list[Probe]]:
        # What may make a folder for a moment is not tried beside what looks for one.
        local = [self.database(), self.scratch(), self.secret(), self.storage()]
        away = [self.token(), *self.deployments(), self.clock_skew()]
        if self.settings.limits_url.get_secret_value():
            away.append(self.redis())
        if self.settings.test_keys and self.settings.test_emulator_url:
            away.append(self.test_emulator())
        if not self.settings.storage_url.startswith("gs://"):
            return [local, *([probe] for probe in away)]
        return [local[:3], [local[3]], *([probe] for probe in away)]

    def database(self) -> Probe:
        url = self.settings.effective_database_url

        async def run() -> Finding:
            state = await probe_database(url)
            if may_run_on(state.revision):
                return probe.ok(f"{state.software}, schema {state.revision}")
            if state.revision is not None and state.revision > SCHEMA_REVISION:
                return probe.failed(
                    f"its schema is {state.revision}, of a newer version; this one has {SCHEMA_REVISION}"
                )
            found = "it has no schema yet" if state.revision is None else f"its schema is {state.revision}"
            advice = f"gateway migrate, or serve, brings it to {SCHEMA_REVISION}."
            return Finding(probe.check, Outcome.WARNING, probe.tried, f"{state.software}, {found}", advice)

        advice = "See GATEWAY_DATABASE_URL, the server, and the user's rights there."
        tried = f"reading and writing {printable_url(url)}, taken back"
        probe = Probe("database", tried, advice, run)
        return probe

    def scratch(self) -> Probe:
        folder = self.settings.data_dir / "spool"

        async def run() -> Finding:
            free_bytes = await asyncio.to_thread(_room_in, _nearest(folder))
            free = f"{free_bytes >> 20:,} MiB are free"
            if free_bytes < LEAST_FREE_BYTES:
                return probe.failed(f"{free}, too few for any call")
            if free_bytes >> 20 < self.settings.spool_mib:
                advice = "Make room, or lower GATEWAY_SPOOL_MIB."
                found = f"{free}, fewer than GATEWAY_SPOOL_MIB ({self.settings.spool_mib:,})"
                return Finding(probe.check, Outcome.WARNING, probe.tried, found, advice)
            return probe.ok(free)

        advice = "Make room there, or name another GATEWAY_DATA_DIR that may be written."
        probe = Probe("scratch", f"a file without a name in {folder}", advice, run)
        return probe

    def secret(self) -> Probe:
        path = secret_path(self.settings)

        async def run() -> Finding:
            if self.settings.signing_secret is not None:
                return probe.ok("GATEWAY_SIGNING_SECRET is set")
            if path.exists() and len(await asyncio.to_thread(path.read_bytes)) < SECRET_BYTES:
                return probe.failed(f"{path} is too short to sign with")
            found = f"it is kept in {path}" if path.exists() else f"the first start makes {path}"
            if self.settings.database_path is None:
                advice = "Set GATEWAY_SIGNING_SECRET, the same on every instance that shares this PostgreSQL."
                return Finding(probe.check, Outcome.WARNING, probe.tried, f"{found}, for one machine", advice)
            return probe.ok(found)

        probe = Probe("signing secret", "looking for it", "Delete it, or set GATEWAY_SIGNING_SECRET.", run)
        return probe

    def storage(self) -> Probe:
        is_bucket = self.settings.storage_url.startswith("gs://")
        folder = local_directory(self.settings)
        name = probe_name(secrets.token_hex(12))

        async def run() -> Finding:
            identity = await self.identity()
            api = GoogleApi(self.http, identity.tokens, self.clock, random.SystemRandom(), _FEW_TRIES)
            # Not the real one: it may not be made by now, and nothing that it signs is kept.
            secret = secrets.token_bytes(SECRET_BYTES)
            storage, files = make_storage(self.settings, secret, self.clock, api, identity)
            read = self._fetch if files is None else partial(_resolve, files)
            try:
                with nullcontext() if is_bucket else leaving_no_folders(folder / ".incoming"):
                    await probe_storage(storage, name, read)
            finally:
                await storage.close()
            return probe.ok("all of it works")

        where = self.settings.storage_url if is_bucket else str(folder)
        advice = "See GATEWAY_STORAGE_URL and who may write there."
        if is_bucket:
            advice = (
                "The account needs roles/storage.objectUser on the bucket, and without a key file "
                "roles/iam.serviceAccountTokenCreator on itself."
            )
        tried = f"writing {name} in {where}, signing, reading by the link, deleting"
        probe = Probe("storage", tried, advice, run)
        return probe

    async def _fetch(self, url: str) -> bytes:
        """As a caller without credentials would."""
        try:
            response = await self.http.get(url, timeout=_REQUEST_TIMEOUT_S)
        except httpx.RequestError as error:
            raise StorageError("The link cannot be reached.", internal=type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            raise StorageError(
                "The link was refused.", internal=f"{response.status_code}: {response.text[:300]}"
            )
        return response.content

    def token(self) -> Probe:
        async def run() -> Finding:
            if self.settings.emulated:
                return probe.ok("none is needed: GATEWAY_GOOGLE_AUTH=anonymous")
            tokens = (await self.identity()).tokens
            if not isinstance(tokens, GoogleTokens):
                return probe.ok("none is needed: nothing of Google's is configured")
            await tokens.token()
            try:
                return probe.ok(f"for {await tokens.service_account_email()}")
            except UpstreamError:
                return probe.ok("for a person, or an account that does not say who it is")

        advice = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS."
        probe = Probe("google token", "getting one", advice, run)
        return probe

    def deployments(self) -> list[Probe]:
        try:
            found = self.settings.deployments()
        except ConfigurationError as error:
            return [
                _known(Finding("deployments", Outcome.FAILED, "reading them", error.detail, "Mend the file."))
            ]
        if not found:
            advice = "Set GATEWAY_PROJECT, GATEWAY_MUSICGEN_ENDPOINT or GATEWAY_DEPLOYMENTS."
            nothing = "there are none, so only test keys can make music"
            return [_known(Finding("deployments", Outcome.WARNING, "reading them", nothing, advice))]
        return [self.deployment(each) for each in found]

    def deployment(self, deployment: Deployment) -> Probe:
        base_url = self.settings.vertex_url.rstrip("/") or None

        async def run() -> Finding:
            call = free_call(deployment, base_url)
            token = await (await self.identity()).tokens.token()
            headers = {**call.headers, **({"authorization": f"Bearer {token}"} if token else {})}
            try:
                response = await self.http.request(
                    call.method, call.url, content=call.body, headers=headers, timeout=_REQUEST_TIMEOUT_S
                )
            except httpx.RequestError as error:
                return Finding(
                    probe.check, Outcome.FAILED, f"{call.method} {call.url}",
                    f"it cannot be reached ({type(error).__name__})", probe.advice,
                )  # fmt: skip
            return judge(deployment, call, response.status_code, response.text)

        advice = "See its place and host, and this machine's way out; then the line about the token."
        probe = Probe(f"deployment {deployment.name}", "a call that costs nothing", advice, run)
        return probe

    def clock_skew(self) -> Probe:
        url = self._address_of_a_clock()

        async def run() -> Finding:
            if not url:
                return probe.ok("nothing of Google's is configured, so there is nothing to compare with")
            return await find_skew(self.http, url, self.clock, probe.check, probe.tried, _REQUEST_TIMEOUT_S)

        advice = "The clock could not be compared; see this machine's way out."
        probe = Probe("clock", f"comparing with {url or 'nobody'}", advice, run)
        return probe

    def _address_of_a_clock(self) -> str:
        if self.settings.vertex_url:
            return self.settings.vertex_url
        if self.settings.emulated:
            return ""
        of_google = self.settings.project or self.settings.musicgen_endpoint or self.settings.deployments_file
        return _GOOGLE if of_google or self.settings.storage_url.startswith("gs://") else ""

    def redis(self) -> Probe:
        async def run() -> Finding:
            counts = await open_counts(self.settings.limits_url.get_secret_value(), self.clock)
            try:
                for tries in range(1, _REDIS_TRIES + 1):
                    try:
                        await counts.bad_keys.look("gateway check", 1)
                        break
                    except Unavailable:
                        if tries == _REDIS_TRIES:
                            raise
                    await asyncio.sleep(_REDIS_PAUSE_S)
                return probe.ok("it answers in time")
            finally:
                await counts.close()

        advice = "See GATEWAY_LIMITS_URL; meanwhile GATEWAY_LIMITS_ON_ERROR says what becomes of requests."
        probe = Probe("redis", "reading a count", advice, run)
        return probe

    def test_emulator(self) -> Probe:
        url = f"{self.settings.test_emulator_url.rstrip('/')}/control/health"

        async def run() -> Finding:
            try:
                response = await self.http.get(url, timeout=_REQUEST_TIMEOUT_S)
            except httpx.RequestError as error:
                return probe.failed(f"it cannot be reached ({type(error).__name__})")
            if response.status_code != httpx.codes.OK:
                return probe.failed(f"{response.status_code}, so it is no emulator")
            return probe.ok("it answers")

        advice = "Start gateway emulator there, or leave GATEWAY_TEST_EMULATOR_URL empty to have one started."
        probe = Probe("emulator for test keys", f"GET {url}", advice, run)
        return probe


def _known(finding: Finding) -> Probe:
    """What needs no trying."""

    async def run() -> Finding:
        return finding

    return Probe(finding.check, finding.tried, finding.advice, run)


async def _resolve(files: FileSource, url: str) -> bytes:
    """As the gateway's own route for files does."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    name = unquote(parts.path.partition("/files/")[2])
    file = await files.resolve(name, query["expires"][0], query["signature"][0])
    return await asyncio.to_thread(file.path.read_bytes)


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _room_in(folder: Path) -> int:
    """Free bytes. Raises `OSError` where nothing can be written."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"1")
        file.flush()
        os.fsync(file.fileno())
    return shutil.disk_usage(folder).free
