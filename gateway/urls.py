"""Where the database and the counts of limits are: what such a URL may be, and what people may see of it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SQLITE_SCHEME = "sqlite+aiosqlite:///"
POSTGRES_SCHEME = "postgresql+asyncpg://"


def sqlite_path(url: str) -> Path | None:
    """The file that a database's URL names; None for PostgreSQL."""
    return Path(url.removeprefix(SQLITE_SCHEME)) if url.startswith(SQLITE_SCHEME) else None


def postgres_dsn(url: str) -> str:
    """As PostgreSQL's own tools write it, with the password."""
    return f"postgresql://{url.removeprefix(POSTGRES_SCHEME)}"


def printable_url(url: str) -> str:
    """A database's file, or its address: without its password, and without options, which may hold one."""
    if url.startswith(SQLITE_SCHEME):
        return url.removeprefix(SQLITE_SCHEME)
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    host = ",".join(parse_qs(parts.query).get("host", [hosts]))
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
