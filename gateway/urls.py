"""Where the database and the counts of limits are: what such a URL may be, and what people may see of it."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SQLITE_SCHEME = "sqlite+aiosqlite:///"
POSTGRES_SCHEME = "postgresql+asyncpg://"

# PROJECT:REGION:INSTANCE; old projects have a domain before their name.
_INSTANCE = re.compile(r"([a-z0-9.-]+:)?[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]+")
_IPS = ("public", "private", "psc")


@dataclass(frozen=True, slots=True)
class CloudSqlPlace:
    """A database that Google's connector opens for a user whom IAM knows; ``ip`` is one of its words."""

    instance: str
    user: str
    database: str
    ip: str


def sqlite_path(url: str) -> Path | None:
    """The file that a database's URL names; None for PostgreSQL."""
    return Path(url.removeprefix(SQLITE_SCHEME)) if url.startswith(SQLITE_SCHEME) else None


def postgres_dsn(url: str) -> str:
    """As PostgreSQL's own tools write it, with the password."""
    return f"postgresql://{url.removeprefix(POSTGRES_SCHEME)}"


def cloud_sql_place(url: str) -> CloudSqlPlace | None:
    """What ``?cloud_sql=project:region:instance&ip=private`` names; None where a URL has an address.

    Raises `ValueError` without any part of it.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if "cloud_sql" not in options:
        return None
    user, _, host = parts.netloc.rpartition("@")
    (instance, *more), ip = options.pop("cloud_sql"), options.pop("ip", [_IPS[0]])
    if more or not _INSTANCE.fullmatch(instance) or ip[1:] or ip[0] not in _IPS:
        raise ValueError("cloud_sql is project:region:instance, and ip one of " + ", ".join(_IPS))
    if host or options or not user or ":" in user or "/" in parts.path[1:]:
        raise ValueError("with cloud_sql, write user@/name: no password, host or option besides ip")
    return CloudSqlPlace(instance, unquote(user), unquote(parts.path[1:]), ip[0])


def printable_url(url: str) -> str:
    """A database's file, or its address: without its password, and without options, which may hold one."""
    if url.startswith(SQLITE_SCHEME):
        return url.removeprefix(SQLITE_SCHEME)
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    options = parse_qs(parts.query)
    host = ",".join(options.get("cloud_sql") or options.get("host") or [hosts])
    return f"{POSTGRES_SCHEME}{user.partition(':')[0]}{at}{host}{parts.path}"


def check_database_url(url: str, name: str = "GATEWAY_DATABASE_URL") -> None:
    """Raises `ValueError`, with the name of it and without any part: there may be a password in it."""
    if not url:
        return
    if not url.startswith((SQLITE_SCHEME, POSTGRES_SCHEME)):
        raise ValueError(f"{name} must begin with {SQLITE_SCHEME} or {POSTGRES_SCHEME}")
    if url == SQLITE_SCHEME:
        raise ValueError(f"{name} names no file: write {SQLITE_SCHEME}path")
    if url.startswith(POSTGRES_SCHEME) and not _names_database(url):
        raise ValueError(
            f"{name} cannot be read: write {POSTGRES_SCHEME}user:password@host:port/name, "
            "with %2F, %3F, %23 and %40 for /, ?, # and @ in a password"
        )
    if url.startswith(POSTGRES_SCHEME):
        try:
            cloud_sql_place(url)
        except ValueError as error:
            raise ValueError(f"{name} cannot be read: {error}") from None


def _names_database(url: str) -> bool:
    """Whether a server's URL is in one piece: a password may have taken it apart."""
    place, _, rest = url.removeprefix(POSTGRES_SCHEME).partition("/")
    try:
        urlsplit(url)
    except ValueError:
        return False
    return rest.partition("?")[0] != "" and not ("?" in place or "@" in rest or "#" in url)


def names_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return parts.hostname is None and len(parts.path) > 1
    number = parts.path.removeprefix("/")
    is_place = bool(parts.hostname) and port != 0 and (not number or number.isdecimal())
    return parts.scheme in {"redis", "rediss"} and is_place
