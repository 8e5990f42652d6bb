"""What the gateway stands on: its way out, who it is to Google, where audio goes, the models behind it."""

import asyncio
import contextlib
import random
import secrets
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from gateway import __version__
from gateway.companion import Companion
from gateway.errors import ConfigurationError
from gateway.families.registry import FAMILIES
from gateway.google import AnonymousTokens, GoogleTokens, load_credentials, open_transport
from gateway.metrics import CallMetrics, Metrics
from gateway.model import KeyMode, ModelKind
from gateway.ports import Clock, FileSource, MusicModel, ObjectSource, Storage, TokenSource
from gateway.settings import Settings
from gateway.storage.api import GoogleApi
from gateway.storage.download import ForeignObjects
from gateway.storage.gcs import GCS_URL, GcsStorage
from gateway.storage.local import LocalStorage
from gateway.storage.signers import EmulatorSigner, signer_for
from gateway.storage.signing import Signer
from gateway.upstream.client import VertexClient
from gateway.upstream.model import VertexModel
from gateway.upstream.network import pulling_transport
from gateway.upstream.objects import ObjectReader

USER_AGENT = f"music-gateway/{__version__}"
#: The shortest secret to sign with.
SECRET_BYTES = 32
# Each running task holds one connection to Vertex, and its clips one to Cloud Storage.
_CONNECTIONS_PER_TASK = 2
_SPARE_CONNECTIONS = 16


def make_models(
    settings: Settings,
    clock: Clock,
    http: httpx.AsyncClient,
    tokens: TokenSource,
    api: GoogleApi,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> dict[KeyMode, Mapping[ModelKind, MusicModel]]:
    """The models for live keys, and unless those are switched off the emulator's for test keys."""
    base_url = settings.vertex_url.rstrip("/") or None
    live, test = CallMetrics(metrics, KeyMode.LIVE), CallMetrics(metrics, KeyMode.TEST)
    vertex = VertexClient(http, tokens, base_url, clock, observer=live)
    objects = ForeignObjects(api, _emulator_url(settings.storage_emulator_host) or GCS_URL)
    models = {KeyMode.LIVE: _models_at(vertex, objects)}
    if not settings.test_keys:
        return models
    # Where everything is emulated, test keys need no emulator of their own.
    emulator_url = settings.test_emulator_url.rstrip("/") or (base_url if settings.emulated else None)
    locate = None
    if emulator_url is None:
        companion = Companion(clock)
        stack.push_async_callback(companion.close)
        locate = companion.url
    vertex = VertexClient(http, AnonymousTokens(), emulator_url, clock, locate=locate, observer=test)
    return {**models, KeyMode.TEST: _models_at(vertex, None)}


def _models_at(vertex: VertexClient, objects: ObjectSource | None) -> Mapping[ModelKind, MusicModel]:
    reader = ObjectReader(objects)
    return {kind: VertexModel(vertex, family, reader) for kind, family in FAMILIES.items()}


def http_client(settings: Settings, context: ssl.SSLContext) -> httpx.AsyncClient:
    connections = settings.concurrency * _CONNECTIONS_PER_TASK + _SPARE_CONNECTIONS
    return httpx.AsyncClient(
        verify=context,
        # Mounted rather than given as the transport, so that proxy variables are still honoured; but no proxy
        # reaches an emulator on this very machine.
        mounts={
            "all://": pulling_transport(max_connections=connections, verify=context),
            "all://127.0.0.1": pulling_transport(max_connections=connections, verify=context),
        },
        follow_redirects=False,
        headers={"User-Agent": USER_AGENT},
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the gateway is to Google: its tokens, and its signer once there is an API to sign with."""

    tokens: TokenSource
    make_signer: Callable[[GoogleApi], Signer]


async def open_identity(
    settings: Settings, clock: Clock, stack: AsyncExitStack, *, timeout_s: float = 10.0
) -> Identity:
    """``timeout_s`` is for each request for a token."""
    if settings.google_auth == "anonymous":
        return Identity(AnonymousTokens(), lambda _: EmulatorSigner())
    if not (settings.deployments() or settings.storage_url.startswith("gs://")):
        return Identity(AnonymousTokens(), lambda _: EmulatorSigner())
    credentials = await load_credentials()
    tokens = GoogleTokens(credentials, clock, transport=open_transport(timeout_s=timeout_s))
    stack.push_async_callback(tokens.close)
    return Identity(tokens, lambda api: signer_for(credentials, api, tokens.service_account_email))


def make_storage_api(http: httpx.AsyncClient, identity: Identity, clock: Clock) -> GoogleApi:
    return GoogleApi(http, identity.tokens, clock, random.SystemRandom())


async def open_storage(
    settings: Settings,
    secret: bytes,
    clock: Clock,
    api: GoogleApi,
    identity: Identity,
    stack: AsyncExitStack,
) -> tuple[Storage, FileSource | None]:
    """Raises `StorageError` where there is a directory that cannot be made."""
    storage, files = make_storage(settings, secret, clock, api, identity)
    stack.push_async_callback(storage.close)
    if isinstance(storage, LocalStorage):
        await storage.open()
    return storage, files


def make_storage(
    settings: Settings, secret: bytes, clock: Clock, api: GoogleApi, identity: Identity
) -> tuple[Storage, FileSource | None]:
    """As `open_storage`, with nothing made or cleared on a disk; to be closed by the caller."""
    if settings.storage_url.startswith("gs://"):
        bucket, prefix = _bucket_and_prefix(settings.storage_url)
        gcs = GcsStorage(
            api,
            bucket,
            prefix,
            identity.make_signer(api),
            clock,
            base_url=_emulator_url(settings.storage_emulator_host) or GCS_URL,
            url_ttl_s=settings.url_ttl_s,
        )
        return gcs, None
    local = LocalStorage(
        local_directory(settings),
        secret,
        settings.effective_public_url,
        clock,
        url_ttl_s=settings.url_ttl_s,
    )
    return local, local


async def keep_secret(settings: Settings) -> bytes:
    try:
        return await asyncio.to_thread(signing_secret, settings)
    except OSError as error:
        raise ConfigurationError(f"The signing secret cannot be kept: {error}.") from error


def signing_secret(settings: Settings) -> bytes:
    """The configured secret, or one made at the first start and kept under the data directory."""
    if settings.signing_secret is not None:
        return settings.signing_secret.get_secret_value().encode()
    path = secret_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written aside and linked into place: of two processes that start at once, both read one secret.
        aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_hex(SECRET_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
        aside.unlink()
    secret = path.read_bytes()
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"{path} is too short to sign with; delete it to have a new one made.")
    return secret


def secret_path(settings: Settings) -> Path:
    """Where the secret is kept that nobody configured."""
    return settings.data_dir / "signing-secret"


def local_directory(settings: Settings) -> Path:
    """Where audio is kept that no bucket is named for."""
    if settings.storage_url:
        return Path(unquote(urlsplit(settings.storage_url).path))
    return settings.data_dir / "audio"


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if not parts.netloc:
        raise ConfigurationError("GATEWAY_STORAGE_URL names no bucket: write gs://bucket/prefix.")
    return parts.netloc, parts.path.strip("/")


def _emulator_url(host: str) -> str:
    return host if "://" in host or not host else f"http://{host}"
