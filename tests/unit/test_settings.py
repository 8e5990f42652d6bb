"""Settings: names, defaults, and mistakes that are told rather than guessed at."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import Deployment
from gateway.settings import Settings, parse_proxies, unknown_names, variable_name
from gateway.urls import CloudSqlPlace, cloud_sql_place, postgres_dsn, printable_url

ENDPOINT = "projects/p/locations/europe-west4/endpoints/7"


def test_nothing_has_to_be_set() -> None:
    settings = Settings()
    assert settings.database_path == Path("data/gateway.db")
    assert settings.effective_public_url == "http://127.0.0.1:8080"
    assert settings.deployments() == ()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PROJECT", "acme")
    monkeypatch.setenv("GATEWAY_CONCURRENCY", "3")
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    settings = Settings()
    assert (settings.project, settings.concurrency, settings.port) == ("acme", 3, 9000)
    assert (settings.host, settings.storage_emulator_host) == ("0.0.0.0", "localhost:4443")


def test_names_the_world_has_taken_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "1")
    assert Settings().port == 8080


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().project = "other"


def test_a_secret_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SIGNING_SECRET", "s" * 32)
    assert "ssss" not in repr(Settings())


def test_a_bad_secret_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SIGNING_SECRET", "tooshort")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "tooshort" not in str(caught.value.errors(include_url=False, include_input=False))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_CONCURRENCY", "-1"),
        ("GATEWAY_CONCURRENCY", "many"),
        ("GATEWAY_LEASE_S", "0"),
        ("GATEWAY_MAX_ATTEMPTS", "0"),
        ("GATEWAY_MAX_ATTEMPTS", "21"),
        ("GATEWAY_URL_TTL_S", "59"),
        ("GATEWAY_URL_TTL_S", "604801"),
        ("GATEWAY_MUSICGEN_ENDPOINT", "endpoints/7"),
        ("GATEWAY_MUSICGEN_ENDPOINT", f"{ENDPOINT}/more"),
        ("GATEWAY_VERTEX_URL", "ftp://x"),
        ("GATEWAY_VERTEX_URL", "http://x/path"),
        ("GATEWAY_PUBLIC_URL", "gateway.example.com"),
        ("GATEWAY_GOOGLE_AUTH", "none"),
        ("GATEWAY_SIGNING_SECRET", "short"),
        ("GATEWAY_LYRIA2_PRICE_USD", "-0.01"),
        ("GATEWAY_LYRIA2_COST_USD", "0.0000001"),
        ("GATEWAY_LYRIA2_COST_USD", "6e-2"),
        ("GATEWAY_MUSICGEN_COST_USD", "-0.01"),
        ("GATEWAY_MUSICGEN_COST_USD", "free"),
        ("GATEWAY_DEFAULT_RPM", "0"),
        ("GATEWAY_DEFAULT_MAX_QUEUED", "0"),
        ("GATEWAY_WAIT_S", "3601"),
        ("GATEWAY_GRACE_S", "-1"),
        ("GATEWAY_LOG_FORMAT", "xml"),
        ("GATEWAY_LOG_LEVEL", "loud"),
        ("GATEWAY_DATABASE_URL", "mysql://x"),
        ("GATEWAY_DATABASE_URL", "gateway.db"),
        ("GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///"),
        ("GATEWAY_DATABASE_URL", "postgresql://user@host/name"),
        ("GATEWAY_DATABASE_URL", "postgresql+asyncpg://user@host"),
        ("GATEWAY_DATABASE_URL", "postgresql+asyncpg://user@host/?host=/run"),
        ("GATEWAY_DATABASE_POOL", "0"),
        ("GATEWAY_STORAGE_URL", "s3://bucket"),
        ("GATEWAY_STORAGE_URL", "/var/audio"),
        ("GATEWAY_READS_PER_MINUTE", "-1"),
        ("GATEWAY_BAD_KEYS_PER_MINUTE", "few"),
        ("GATEWAY_LIMITS_URL", "memcached://localhost:11211"),
        ("GATEWAY_LIMITS_URL", "redis:6379"),
        ("GATEWAY_LIMITS_URL", "redis://"),
        ("GATEWAY_LIMITS_URL", "redis://localhost:port"),
        ("GATEWAY_LIMITS_URL", "redis://localhost:99999/0"),
        ("GATEWAY_LIMITS_URL", "redis://localhost/first"),
        ("GATEWAY_LIMITS_URL", "unix://"),
        ("GATEWAY_LIMITS_URL", "unix://redis.sock"),
        ("GATEWAY_LIMITS_ON_ERROR", "ignore"),
        ("GATEWAY_TRUSTED_PROXIES", "-1"),
        ("GATEWAY_TRUSTED_PROXIES", "21"),
        ("GATEWAY_TRUSTED_PROXIES", "all"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("GATEWAY_ADMIN_API", "yes"),
        ("GATEWAY_ADMIN_PORT", "65536"),
        ("GATEWAY_ADMIN_PORT", "8080"),
        ("PORT", "65536"),
        ("PORT", "http"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://redis.internal:6379/3",
        "rediss://user:pass%2Fword@[::1]:6380/0?ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock?db=1",
        "unix://:secret@/run/redis.sock",
    ],
)
def test_a_redis_can_be_named_in_its_usual_ways(url: str) -> None:
    assert Settings(limits_url=url).limits_url.get_secret_value() == url


def test_the_password_of_redis_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(Settings(limits_url="redis://:hunter2@localhost"))
    monkeypatch.setenv("GATEWAY_LIMITS_URL", "redis://:hunter2@")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "hunter2" not in str(caught.value.errors(include_url=False, include_input=False))


@pytest.mark.parametrize(
    ("text", "proxies"),
    [
        ("", 0),
        (" ", 0),
        ("0", 0),
        ("1", 1),
        (" 20 ", 20),
        ("10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("192.0.2.1", (ip_network("192.0.2.1/32"),)),
    ],
)
def test_proxies_are_a_number_or_networks(text: str, proxies: object) -> None:
    assert parse_proxies(Settings(trusted_proxies=text).trusted_proxies) == proxies


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite+aiosqlite:////var/lib/gateway.db", "/var/lib/gateway.db"),
        ("sqlite+aiosqlite:///here.db", "here.db"),
        ("", "elsewhere/gateway.db"),
    ],
)
def test_where_the_database_is(url: str, path: str) -> None:
    assert Settings(database_url=url, data_dir=Path("elsewhere")).database_path == Path(path)


@pytest.mark.parametrize(
    ("url", "printed", "dsn"),
    [
        (
            "postgresql+asyncpg://user:p%40ss@db.example:5433/name",
            "postgresql+asyncpg://user@db.example:5433/name",
            "postgresql://user:p%40ss@db.example:5433/name",
        ),
        (
            "postgresql+asyncpg://a.example:5432,b.example:5432/name?sslmode=require&password=pass",
            "postgresql+asyncpg://a.example:5432,b.example:5432/name",
            "postgresql://a.example:5432,b.example:5432/name?sslmode=require&password=pass",
        ),
        (
            "postgresql+asyncpg://user:pass@/name?host=/cloudsql/project:region:instance",
            "postgresql+asyncpg://user@/cloudsql/project:region:instance/name",
            "postgresql://user:pass@/name?host=/cloudsql/project:region:instance",
        ),
    ],
)
def test_a_server_is_named_without_its_password(url: str, printed: str, dsn: str) -> None:
    settings = Settings(database_url=url)
    assert settings.database_path is None
    assert settings.effective_database_url == url
    assert printable_url(url) == printed
    assert postgres_dsn(url) == dsn
    assert "pass" not in repr(settings).replace(printed, "")
    assert "ss@" not in str(settings)


@pytest.mark.parametrize(
    ("options", "instance", "ip"),
    [
        ("cloud_sql=my-project:us-central1:db", "my-project:us-central1:db", "public"),
        (
            "cloud_sql=example.com:my-project:us-central1:db&ip=psc",
            "example.com:my-project:us-central1:db",
            "psc",
        ),
    ],
)
@pytest.mark.parametrize("user", ["music@p.iam", "music%40p.iam"])
def test_an_instance_of_cloud_sql_is_named_in_the_url(
    user: str, options: str, instance: str, ip: str
) -> None:
    url = f"postgresql+asyncpg://{user}@/name?{options}"
    assert Settings(database_url=url).effective_database_url == url
    assert cloud_sql_place(url) == CloudSqlPlace(instance, "music@p.iam", "name", ip)
    assert printable_url(url) == f"postgresql+asyncpg://{user}@{instance}/name"


@pytest.mark.parametrize(
    "rest",
    [
        "music:secret@/name?cloud_sql=p:r:i",
        "music@host/name?cloud_sql=p:r:i",
        "/name?cloud_sql=p:r:i",
        "music@/name?cloud_sql=p:r:i&sslmode=require",
        "music@/name?cloud_sql=p:r",
        "music@/name?cloud_sql=",
        "music@/name?cloud_sql=p:r:i&cloud_sql=p:r:j",
        "music@/name?cloud_sql=p:r:i&ip=secret",
        "music@/name/more?cloud_sql=p:r:i",
    ],
)
def test_what_a_connector_cannot_use_is_refused_and_not_told(rest: str) -> None:
    with pytest.raises(ValidationError, match="cloud_sql") as caught:
        Settings(database_url=f"postgresql+asyncpg://{rest}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["se/cret", "se?cret", "se#cret", "se/cr@et", "se[cret"])
def test_a_password_that_hides_the_rest_of_the_address_is_refused_and_not_told(password: str) -> None:
    with pytest.raises(ValidationError, match="%2F") as caught:
        Settings(database_url=f"postgresql+asyncpg://user:{password}@host/name")
    for text in (str(caught.value), repr(caught.value)):
        assert password not in text


def test_a_file_is_printed_as_it_is() -> None:
    assert printable_url("sqlite+aiosqlite:////var/lib/gateway.db") == "/var/lib/gateway.db"


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"HOST": "0.0.0.0", "PORT": 80}, "http://localhost:80"),
        ({"HOST": "::"}, "http://localhost:8080"),
        ({"HOST": "::1"}, "http://[::1]:8080"),
        ({"HOST": "10.0.0.7"}, "http://10.0.0.7:8080"),
        ({"public_url": "https://music.example.com/"}, "https://music.example.com"),
        ({"public_url": "https://example.com/music"}, "https://example.com/music"),
    ],
)
def test_where_callers_reach_the_gateway(changes: dict[str, object], url: str) -> None:
    assert Settings(**changes).effective_public_url == url


def test_a_project_gives_lyria() -> None:
    settings = Settings(project="acme", location="global", lyria2_price_usd=0.07)
    assert settings.deployments() == (
        Deployment("lyria-002", LYRIA2, "acme", "global", None, price_micros=70_000, cost_micros=70_000),
    )


def test_an_endpoint_gives_musicgen_before_lyria() -> None:
    settings = Settings(project="acme", musicgen_endpoint=ENDPOINT, musicgen_price_usd=0.015)
    musicgen, lyria = settings.deployments()
    assert musicgen == Deployment("musicgen", MUSICGEN, "p", "europe-west4", ENDPOINT, 15_000, 15_000)
    assert lyria.kind is LYRIA2


def test_prices_are_exact_to_the_millionth() -> None:
    assert Settings(project="p", lyria2_price_usd=0.1 + 0.2).deployments()[0].price_micros == 300_000


def test_a_project_gives_lyria_3_where_that_is_wanted() -> None:
    _, clip, pro = Settings(project="p", location="europe-west4", lyria3=True).deployments()
    assert (clip.name, clip.kind, clip.location, clip.price_micros) == (
        "lyria-3-clip-preview",
        "lyria-3-clip-preview",
        "global",
        40_000,
    )
    assert (pro.kind, pro.location, pro.price_micros) == ("lyria-3-pro-preview", "global", 80_000)
    assert Settings(lyria3=True).deployments() == ()


def test_the_order_of_the_standard_route_is_of_models_that_there_are() -> None:
    assert Settings(standard_models=" lyria-002, musicgen,lyria-002").standard_order == (
        "lyria-002",
        "musicgen",
    )
    assert Settings().standard_order == ()
    with pytest.raises(ValidationError, match="'suno' is no model"):
        Settings(standard_models="suno")


@pytest.mark.parametrize(
    ("usd", "micros"),
    [("", 60_000), ("0", 0), ("0.043", 43_000), ("0.000001", 1), ("999999999.999999", 10**15 - 1)],
)
def test_what_a_clip_costs_us_is_exact_and_the_price_where_nothing_is_said(usd: str, micros: int) -> None:
    (lyria,) = Settings(project="p", lyria2_cost_usd=usd).deployments()
    assert (lyria.price_micros, lyria.cost_micros) == (60_000, micros)
    musicgen = Settings(musicgen_endpoint=ENDPOINT, musicgen_price_usd=0.06, musicgen_cost_usd=usd)
    assert musicgen.deployments()[0].cost_micros == micros


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ()),
        (" , ", ()),
        ("a" * 32, ("a" * 32,)),
        (f" {'a' * 32} , {'b' * 40},", ("a" * 32, "b" * 40)),
    ],
)
def test_admin_tokens_stand_between_commas(text: str, tokens: tuple[str, ...]) -> None:
    assert Settings(admin_token=text).admin_tokens == tokens


def test_without_an_admin_token_there_is_none() -> None:
    assert Settings().admin_tokens == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("short", "token 1 of 1 has fewer than 32 characters"),
        (f"{'a' * 32},{'b' * 31}", "token 2 of 2 has fewer than 32 characters"),
        ("a" * 20 + " " + "b" * 20, "characters that cannot be sent"),
        ("ä" * 32, "characters that cannot be sent"),
        ("mg_live_" + "a" * 51, "looks like an API key"),
    ],
)
def test_an_admin_token_that_will_not_do_is_refused_and_never_told(
    monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert told in str(caught.value)
    for token in text.split(","):
        assert token not in str(caught.value)


def test_a_misspelt_name_is_noticed() -> None:
    environment = {
        "GATEWAY_PORJECT": "x",
        "GATEWAY_PORT": "1",
        "GATEWAY_PROJECT": "x",
        "PATH": "/",
        "PORT": "1",
    }
    assert unknown_names(environment) == ("GATEWAY_PORJECT", "GATEWAY_PORT")


def test_every_name_is_known() -> None:
    assert unknown_names({variable_name(field): "" for field in Settings.model_fields}) == ()


def test_networks_for_webhooks_are_none_unless_named() -> None:
    assert Settings().webhook_networks == ()
    named = Settings(webhook_allow=" 10.20.0.0/16, fd00::/8 ,127.0.0.1,")
    assert [str(network) for network in named.webhook_networks] == [
        "10.20.0.0/16",
        "fd00::/8",
        "127.0.0.1/32",
    ]


@pytest.mark.parametrize("value", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8;127.0.0.1"])
def test_what_is_no_network_is_told(value: str) -> None:
    with pytest.raises(ValidationError, match="webhook_allow"):
        Settings(webhook_allow=value)
