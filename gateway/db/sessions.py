"""People who are signed in, and the links that sign somebody in once: every statement about them."""

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.session_tables import sessions, sign_in_links
from gateway.db.tables import members, tenants
from gateway.db.tenants import COLUMNS, tenant_from
from gateway.model import Role, Tenant


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as it is kept: of its secrets only the hashes (SHA-256, hex)."""

    id: str
    email: str
    admin: bool
    method: str
    sha256: str
    created_at_ms: int
    rotated_at_ms: int
    expires_at_ms: int
    previous_sha256: str | None = None
    previous_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A link that signs somebody in; it is deleted when it is used."""

    sha256: str
    email: str
    admin: bool
    expires_at_ms: int


_ID: sa.BindParameter[str] = sa.bindparam("of_id")
_GET = sa.select(sessions).where(sessions.c.id == _ID)
_INSERT = sa.insert(sessions)
# Of two that rotate at once, one does.
_ROTATE = (
    sa.update(sessions)
    .where(sessions.c.id == _ID, sessions.c.sha256 == sa.bindparam("old_sha256"))
    .values(
        sha256=sa.bindparam("new_sha256"),
        previous_sha256=sa.bindparam("old_sha256"),
        previous_until_ms=sa.bindparam("old_until_ms", type_=sa.BigInteger),
        rotated_at_ms=sa.bindparam("now_ms", type_=sa.BigInteger),
    )
)
_END = sa.delete(sessions).where(sessions.c.id == _ID)
_END_ALL = sa.delete(sessions).where(sessions.c.email == sa.bindparam("of_email"))
_FORGET = sa.delete(sessions).where(sessions.c.expires_at_ms <= sa.bindparam("now_ms"))
_INSERT_LINK = sa.insert(sign_in_links)
_USE_LINK = (
    sa.delete(sign_in_links)
    .where(sign_in_links.c.sha256 == sa.bindparam("of_sha256"))
    .returning(sign_in_links)
)
_FORGET_LINKS = sa.delete(sign_in_links).where(sign_in_links.c.expires_at_ms <= sa.bindparam("now_ms"))
_MEMBERSHIPS = (
    sa.select(members.c.role, *(tenants.c[name] for name in COLUMNS))
    .join(tenants, tenants.c.id == members.c.tenant_id)
    .where(members.c.email == sa.bindparam("of_email"))
    .order_by(tenants.c.name)
)


def insert_session(tx: Tx, session: SessionRow) -> None:
    tx.execute(_INSERT, asdict(session))


def get_session(tx: Tx, session_id: str) -> SessionRow | None:
    row = tx.execute(_GET, {"of_id": session_id}).one_or_none()
    return None if row is None else SessionRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def rotate_session(
    tx: Tx, session_id: str, *, old_sha256: str, new_sha256: str, old_until_ms: int, now_ms: int
) -> bool:
    """Give it another secret, unless somebody else has just done so."""
    values = {
        "of_id": session_id,
        "old_sha256": old_sha256,
        "new_sha256": new_sha256,
        "old_until_ms": old_until_ms,
        "now_ms": now_ms,
    }
    return tx.execute(_ROTATE, values).rowcount == 1


def delete_session(tx: Tx, session_id: str) -> None:
    tx.execute(_END, {"of_id": session_id})


def delete_sessions_of(tx: Tx, email: str) -> int:
    """How many they were."""
    return tx.execute(_END_ALL, {"of_email": email}).rowcount


def insert_link(tx: Tx, link: LinkRow) -> None:
    tx.execute(_INSERT_LINK, asdict(link))


def use_link(tx: Tx, sha256: str) -> LinkRow | None:
    """Take it away: whoever is second finds none."""
    row = tx.execute(_USE_LINK, {"of_sha256": sha256}).one_or_none()
    return None if row is None else LinkRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def forget(tx: Tx, *, now_ms: int) -> None:
    """Delete sessions and links that are over."""
    tx.execute(_FORGET, {"now_ms": now_ms})
    tx.execute(_FORGET_LINKS, {"now_ms": now_ms})


def list_memberships(tx: Tx, email: str) -> tuple[tuple[Tenant, Role], ...]:
    """The tenants that somebody is a member of, by name."""
    rows = tx.execute(_MEMBERSHIPS, {"of_email": email})
    return tuple((tenant_from(row), Role(row.role)) for row in rows)
