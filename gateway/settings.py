"""Every setting: a name, a default and a sentence. Read once, by the command line.

The environment variable is ``GATEWAY_`` plus the name in capitals, except HOST, PORT, NO_COLOR and
STORAGE_EMULATOR_HOST, which the world has named already.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.client_settings import ClientSettings
from gateway.dashboard_settings import DashboardSettings
from gateway.deployments import ENDPOINT, HOST, OUTPUT_URI, USD, Usual, make_deployment, read_deployments
from gateway.families.lyria2 import LYRIA2
from gateway.families.lyria3 import LYRIA3_CLIP, LYRIA3_PRO
from gateway.families.musicgen import MUSICGEN
from gateway.families.registry import KINDS
from gateway.model import Deployment, ModelKind
from gateway.units import MICROS_PER_USD, parse_millionths
from gateway.urls import SQLITE_SCHEME, check_database_url, names_redis, sqlite_path

_OR_NOTHING = "|^$"
_ANY_ADDRESS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - to be recognised, not to be bound
ADMIN_TOKEN_CHARS = 32
# What an API key begins with: whoever held that key would be an administrator too.
_KEY_PREFIX = "mg_"


#: Proxies in a row that can be told apart.
MOST_PROXIES = 20

Network = IPv4Network | IPv6Network


class Settings(DashboardSettings, ClientSettings):
    """Frozen; unknown ``GATEWAY_*`` names are the command line's to refuse (see `unknown_names`)."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        frozen=True,
        extra="ignore",
        env_file=None,
        # Some inputs are secrets, and so are wrong ones.
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(Path("data"), description="Where embedded things live: database, audio, secret.")
    database_url: SecretStr = Field(
        SecretStr(""),
        description="`sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host:port/name`, "
        "or with IAM `postgresql+asyncpg://user@/name?cloud_sql=project:region:instance`; "
        "empty means `gateway.db` under GATEWAY_DATA_DIR.",
    )
    database_pool: int = Field(
        5,
        ge=1,
        le=200,
        description="Connections a process keeps to PostgreSQL, besides one that listens; unused on SQLite.",
    )
    storage_url: str = Field(
        "",
        description="`file:///dir` or `gs://bucket/prefix`; empty means `audio` under GATEWAY_DATA_DIR.",
    )
    spool_mib: int = Field(
        2048,
        ge=64,
        description="MiB of received audio that may lie in `spool` under GATEWAY_DATA_DIR until stored.",
    )
    audio_workers: int = Field(
        2,
        ge=1,
        le=64,
        description="Threads that measure, cut, join and convert audio; each keeps a core busy.",
    )
    storage_emulator_host: str = Field(
        "",
        validation_alias=AliasChoices("STORAGE_EMULATOR_HOST"),
        description="A Cloud Storage emulator to use in place of Google's, as Google's own clients do.",
    )
    url_ttl_s: int = Field(
        43_200,
        ge=60,
        le=604_800,
        description="Life of a signed audio URL in seconds; without a key file Google promises 12 h at most.",
    )
    deployments_file: Path | None = Field(
        None,
        validation_alias=AliasChoices("GATEWAY_DEPLOYMENTS"),
        description="A YAML file of deployments, with their quotas; it replaces what the next four give.",
    )
    project: str = Field("", description="Google Cloud project; gives one Lyria 2 deployment.")
    location: str = Field("us-central1", description="Where that deployment is called.")
    lyria3: bool = Field(
        default=False,
        description="Whether that project gives Lyria 3 Clip and Pro too, which are previews.",
    )
    musicgen_endpoint: str = Field(
        "",
        pattern=ENDPOINT + _OR_NOTHING,
        description="`projects/…/locations/…/endpoints/…` of a MusicGen endpoint, for the standard route.",
    )
    musicgen_host: str = Field(
        "",
        pattern=HOST + _OR_NOTHING,
        description="Host of that endpoint where it is a dedicated one; empty means a shared one.",
    )
    musicgen_output: str = Field(
        "",
        pattern=OUTPUT_URI + _OR_NOTHING,
        description="`gs://bucket/prefix` where that endpoint puts audio that is too long for its answer.",
    )
    standard_models: str = Field(
        "",
        description="Models of the standard route between commas, the best first; empty: an endpoint of your "
        "own, then the cheapest for the request.",
    )
    musicgen_licence: Literal["", "cc-by-nc-4.0", "own-weights"] = Field(
        "",
        description="`cc-by-nc-4.0`: you accept the licence of the published MusicGen weights, not for "
        "commercial use; `own-weights`: they are yours. `gateway endpoint deploy` needs it.",
    )
    vertex_url: str = Field(
        "",
        pattern=r"^(https?://[^/]+)?/?$",
        description="Replaces `https://LOCATION-aiplatform.googleapis.com`; paths stay as Google's.",
    )
    google_auth: Literal["adc", "anonymous"] = Field(
        "adc",
        description="`adc` (application default credentials) or `anonymous`: an emulator, and said so.",
    )
    test_keys: bool = Field(
        True, description="Whether `mg_test_` keys may make tasks; `off` refuses them with 403."
    )
    test_emulator_url: str = Field(
        "",
        pattern=r"^(https?://[^/]+)?/?$",
        description="Emulator for `mg_test_` keys; empty starts one here at the first of their tasks.",
    )
    lyria2_price_usd: float = Field(0.06, ge=0, description="Price of one Lyria 2 clip in dollars.")
    musicgen_price_usd: float = Field(0.0, ge=0, description="Price of one MusicGen clip in dollars.")
    lyria2_cost_usd: str = Field(
        "",
        pattern=USD + _OR_NOTHING,
        description="What Google takes for one Lyria 2 clip in dollars; empty means the price.",
    )
    musicgen_cost_usd: str = Field(
        "",
        pattern=USD + _OR_NOTHING,
        description="What one MusicGen clip costs you in dollars; empty means the price.",
    )
    signing_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Signs local audio URLs and derives the secrets of webhooks; made and kept under "
        "GATEWAY_DATA_DIR when absent.",
    )
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^/]+.*)?$",
        description="Where callers reach the gateway; empty means `http://HOST:PORT`.",
    )
    host: str = Field("127.0.0.1", validation_alias=AliasChoices("HOST"), description="Address to listen on.")
    port: int = Field(
        8080, ge=0, le=65_535, validation_alias=AliasChoices("PORT"), description="Port to listen on."
    )
    admin_token: SecretStr | None = Field(
        None,
        description="Opens the admin API; several between commas while one replaces another; none: closed.",
    )
    admin_api: Literal["on", "off"] = Field(
        "on", description="`off` takes the admin API away altogether, whatever tokens there are."
    )
    admin_port: int = Field(
        0, ge=0, le=65_535, description="A port of its own for the admin API; 0 serves it on PORT."
    )
    admin_host: str = Field("127.0.0.1", description="Address to listen on for that port.")
    concurrency: int = Field(8, ge=0, le=1000, description="Tasks this process runs at once; 0 runs none.")
    lease_s: float = Field(
        60.0, ge=1, description="Seconds a claimed task may go without renewal before another worker has it."
    )
    max_attempts: int = Field(4, ge=1, le=20, description="Paid calls per clip that a task may cost at most.")
    task_timeout_s: float = Field(
        900.0, ge=1, description="Seconds from acceptance after which a task is not tried again."
    )
    cancel_charge: Literal["full", "delivered", "free"] = Field(
        "full",
        description="What canceling costs once a call is under way: the price, the clips stored, nothing.",
    )
    call_timeout_s: float = Field(180.0, ge=1, description="Seconds one call to a model may take.")
    wait_s: float = Field(
        270.0, ge=0, le=3600, description="Seconds a POST waits for its music by default; then 202."
    )
    stream_s: float = Field(
        3300.0,
        ge=1,
        le=86_400,
        description="Seconds after which an event stream ends and is resumed; less than what a proxy allows.",
    )
    default_rpm: int = Field(
        60, ge=1, description="Requests a minute for a key that names no limit of its own."
    )
    default_max_queued: int = Field(
        100, ge=1, description="Queued tasks of a tenant that names no limit of its own."
    )
    webhook_allow: str = Field(
        "",
        description="Networks (CIDR, comma-separated) that webhooks may reach although private, and then "
        "without TLS too.",
    )
    reads_per_minute: int = Field(
        1200, ge=0, description="GET requests under `/api` a minute with one key; 0 is no limit."
    )
    bad_keys_per_minute: int = Field(
        60, ge=0, description="Requests without a valid key a minute from one address; 0 is no limit."
    )
    limits_url: SecretStr = Field(
        SecretStr(""),
        description="`redis://`, `rediss://` or `unix://`: all instances count there; empty: each in memory.",
    )
    limits_on_error: Literal["allow", "refuse"] = Field(
        "allow", description="What becomes of requests that Redis did not count in time; `refuse` is a 503."
    )
    trusted_proxies: str = Field(
        "",
        description="Proxies in front: how many, or their networks (CIDR, commas); Cloud Run is `1`.",
    )
    grace_s: float = Field(
        8.0, ge=0, description="Seconds to finish running work after SIGTERM; Cloud Run kills at 10."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json` (Cloud Logging), `text`, or `auto`: text on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    no_color: str = Field(
        "",
        validation_alias=AliasChoices("NO_COLOR"),
        description="Not empty: commands use no colours on terminals either (no-color.org).",
    )

    @field_validator("admin_token")
    @classmethod
    def _are_admin_tokens(cls, value: SecretStr | None) -> SecretStr | None:
        tokens = _split(value)
        for number, token in enumerate(tokens, 1):
            which = f"token {number} of {len(tokens)}"
            if len(token) < ADMIN_TOKEN_CHARS:
                raise ValueError(f"{which} has fewer than {ADMIN_TOKEN_CHARS} characters")
            if not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(f"{which} has characters that cannot be sent; use letters and digits")
            if token.startswith(_KEY_PREFIX):
                raise ValueError(f"{which} looks like an API key; an admin token must be none")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> "Settings":
        if self.admin_port and self.admin_port == self.port:
            raise ValueError("GATEWAY_ADMIN_PORT is PORT already; leave it 0 to serve both there")
        return self

    @field_validator("webhook_allow")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        # Its own words name the part and what is wrong with it, such as bits beyond the mask.
        _networks(value)
        return value

    @model_validator(mode="after")
    def _known_schemes(self) -> "Settings":
        check_database_url(self.database_url.get_secret_value())
        if self.storage_url and not self.storage_url.startswith(("file:///", "gs://")):
            raise ValueError("GATEWAY_STORAGE_URL must begin with file:/// or gs://")
        return self

    @field_validator("limits_url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not names_redis(url.get_secret_value()):
            raise ValueError("write redis://HOST:PORT/NUMBER, rediss://HOST:PORT/NUMBER or unix:///PATH")
        return url

    @field_validator("standard_models")
    @classmethod
    def _are_models(cls, text: str) -> str:
        _models(text)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_proxies(cls, text: str) -> str:
        parse_proxies(text)
        return text

    @property
    def effective_database_url(self) -> str:
        """With its password: for those who open it. `printable_url` is for people."""
        return self.database_url.get_secret_value() or f"{SQLITE_SCHEME}{self.data_dir / 'gateway.db'}"

    @property
    def database_path(self) -> Path | None:
        """The file; None on PostgreSQL."""
        return sqlite_path(self.effective_database_url)

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        return _networks(self.webhook_allow)

    @property
    def effective_public_url(self) -> str:
        """Without a trailing slash. Where none is set, the address listened on, or localhost for any."""
        host = "localhost" if self.host in _ANY_ADDRESS else self.host
        host = f"[{host}]" if ":" in host else host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def admin_tokens(self) -> tuple[str, ...]:
        """Each of them in clear: to be hashed, and not to be kept."""
        return _split(self.admin_token)

    @property
    def emulated(self) -> bool:
        """Whether the music cannot come from Google: nothing of Google's answers unauthenticated calls."""
        return self.google_auth == "anonymous"

    def deployments(self) -> tuple[Deployment, ...]:
        """Where models can be called, in order of preference for the standard route.

        Raises `ConfigurationError` when there is a file of them that cannot be used.
        """
        prices = {
            LYRIA2: round(self.lyria2_price_usd * MICROS_PER_USD),
            MUSICGEN: round(self.musicgen_price_usd * MICROS_PER_USD),
        }
        costs = {LYRIA2: self.lyria2_cost_usd, MUSICGEN: self.musicgen_cost_usd}
        usual = Usual(
            self.project,
            self.location,
            prices,
            {kind: parse_millionths(usd) for kind, usd in costs.items() if usd},
            self.musicgen_host or None,
            self.musicgen_output or None,
        )
        if self.deployments_file is not None:
            return read_deployments(self.deployments_file, usual)
        found = []
        if self.musicgen_endpoint:
            found.append(make_deployment("musicgen", MUSICGEN, usual, self.musicgen_endpoint))
        if self.project:
            found.append(make_deployment("lyria-002", LYRIA2, usual))
        if self.project and self.lyria3:
            found.extend(make_deployment(kind, kind, usual) for kind in (LYRIA3_CLIP, LYRIA3_PRO))
        return tuple(found)

    @property
    def standard_order(self) -> tuple[ModelKind, ...]:
        return _models(self.standard_models)


def parse_proxies(text: str) -> int | tuple[Network, ...]:
    """How many proxies stand in front, or the networks they are in. Raises `ValueError`."""
    if not text.strip():
        return 0
    if text.strip().isdecimal():
        hops = int(text)
        if hops > MOST_PROXIES:
            raise ValueError(f"at most {MOST_PROXIES} proxies in a row")
        return hops
    return _networks(text)


def _models(text: str) -> tuple[ModelKind, ...]:
    """Raises `ValueError`."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := [name for name in names if name not in KINDS]:
        raise ValueError(f"{unknown[0]!r} is no model; there are: {', '.join(KINDS)}")
    return tuple(map(ModelKind, dict.fromkeys(names)))


def _split(secret: SecretStr | None) -> tuple[str, ...]:
    parts = secret.get_secret_value().split(",") if secret is not None else []
    return tuple(part.strip() for part in parts if part.strip())


def _networks(text: str) -> tuple[Network, ...]:
    """Raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def variable_name(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"GATEWAY_{field.upper()}"


def unknown_names(environment: dict[str, str]) -> tuple[str, ...]:
    """``GATEWAY_*`` names in the environment that are no setting: a typo must not mean "no limit"."""
    known = {variable_name(field) for field in Settings.model_fields}
    return tuple(sorted(n for n in environment if n.startswith("GATEWAY_") and n not in known))
