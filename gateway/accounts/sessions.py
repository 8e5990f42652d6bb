"""Sessions of people: opened by signing in, carried in a cookie, renewed on the way, ended at will.

A token is ``<session id>.<secret>.<signature>``. The signature (HMAC-SHA256) lets a made-up token be refused
without a look into the database; of the secret only a hash is kept there. The secret is replaced every
`ROTATE_AFTER_S`; the one before it is taken for `OVERLAP_S` more, for requests that were under way.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.db import sessions
from gateway.db.engine import Database, Tx
from gateway.db.sessions import LinkRow, SessionRow
from gateway.errors import ErrorCode, Unauthorized
from gateway.ports import Clock

ROTATE_AFTER_S = 900
OVERLAP_S = 60
LINK_LIFE_S = 900
_SECRET_BYTES = 24
_SIGNING = b"dashboard session\0"
_FORMS = b"dashboard form\0"
_SEALING = b"dashboard sealed\0"


class SignInMethod(StrEnum):
    """How somebody showed who they are."""

    LINK = "link"
    OIDC = "oidc"
    IAP = "iap"


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's session. ``token`` is what the cookie should hold from now on; None: what it holds.

    ``form_token`` proves that a form was made by this gateway for this session.
    """

    id: str
    email: str
    admin: bool
    method: SignInMethod
    expires_at_ms: int
    form_token: str
    token: str | None = None


class Sessions:
    """``new_bytes`` gives random bytes. Everything raises `Unavailable` while the database is away."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_bytes: Callable[[int], bytes],
        secret: bytes,
        *,
        life_s: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_bytes = new_bytes
        self._secret = secret
        self._life_s = life_s

    async def open(self, email: str, method: SignInMethod, *, admin: bool = False) -> Session:
        """A new session, whose id and secret nobody knew before, whatever the cookie held."""
        return await self._database.write(self._opening(email, method, admin=admin))

    async def find(self, token: str) -> Session | None:
        """The session of a token, renewed if it is time; None for what is none, or is over."""
        session_id, _, rest = token.partition(".")
        secret, _, signature = rest.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(session_id, secret).encode()):
            return None
        row = await self._database.read(lambda tx: sessions.get_session(tx, session_id))
        now_ms = self._clock.now_ms()
        if row is None or now_ms >= row.expires_at_ms:
            return None
        digest = _sha256(secret)
        if hmac.compare_digest(digest, row.sha256):
            return await self._renew(row, now_ms) or self._session(row)
        if hmac.compare_digest(digest, row.previous_sha256 or "") and now_ms < (row.previous_until_ms or 0):
            return self._session(row)
        return None

    async def is_open(self, session_id: str) -> bool:
        """Whether it was not ended since it was found."""
        row = await self._database.read(lambda tx: sessions.get_session(tx, session_id))
        return row is not None and self._clock.now_ms() < row.expires_at_ms

    async def end(self, session_id: str) -> None:
        await self._database.write(lambda tx: sessions.delete_session(tx, session_id))

    async def end_all(self, email: str) -> int:
        """Sign somebody out everywhere; how many sessions that were."""
        return await self._database.write(lambda tx: sessions.delete_sessions_of(tx, email.lower()))

    async def make_link(self, email: str, *, admin: bool) -> str:
        """The secret of a link that signs somebody in, once, within `LINK_LIFE_S`."""
        secret = self._new_bytes(_SECRET_BYTES).hex()
        expires_at_ms = self._clock.now_ms() + LINK_LIFE_S * 1000
        link = LinkRow(_sha256(secret), email.strip().lower(), admin, expires_at_ms)
        await self._database.write(lambda tx: sessions.insert_link(tx, link))
        return secret

    async def use_link(self, secret: str) -> Session:
        """The session that a link opens. Raises `Unauthorized` when it was used, is over, or is none."""

        def write(tx: Tx) -> Session | None:
            link = sessions.use_link(tx, _sha256(secret))
            if link is None or self._clock.now_ms() >= link.expires_at_ms:
                return None
            return self._opening(link.email, SignInMethod.LINK, admin=link.admin)(tx)

        session = await self._database.write(write)
        if session is None:
            raise Unauthorized(
                "This link was used already, or its time is over. Make another: gateway dashboard link.",
                code=ErrorCode.LINK_INVALID,
            )
        return session

    async def forget_ended(self) -> None:
        """Delete what is over. Safe to run in several processes at once."""
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: sessions.forget(tx, now_ms=now_ms))

    def form_token(self, session_id: str) -> str:
        """What forms of a session carry."""
        return self._digest(_FORMS, session_id)

    def seal(self, text: str, life_s: int) -> str:
        """The text with its end and a signature: for what a browser keeps for us. It is not hidden."""
        sealed = f"{text}.{self._clock.now_ms() // 1000 + life_s}"
        return f"{sealed}.{self._digest(_SEALING, sealed)}"

    def unseal(self, sealed: str) -> str | None:
        """The text; None for what was not sealed here, or whose time is over."""
        rest, _, signature = sealed.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._digest(_SEALING, rest).encode()):
            return None
        text, _, until_s = rest.rpartition(".")
        return text if self._clock.now_ms() // 1000 < int(until_s) else None

    def _opening(self, email: str, method: SignInMethod, *, admin: bool) -> Callable[[Tx], Session]:
        now_ms = self._clock.now_ms()
        session_id, secret = (self._new_bytes(_SECRET_BYTES).hex() for _ in range(2))
        row = SessionRow(
            id=session_id,
            email=email.strip().lower(),
            admin=admin,
            method=method.value,
            sha256=_sha256(secret),
            created_at_ms=now_ms,
            rotated_at_ms=now_ms,
            expires_at_ms=now_ms + self._life_s * 1000,
        )

        def write(tx: Tx) -> Session:
            sessions.insert_session(tx, row)
            return self._session(row, secret)

        return write

    async def _renew(self, row: SessionRow, now_ms: int) -> Session | None:
        """The session with another secret, if it is time and nobody else does it this moment."""
        if now_ms < row.rotated_at_ms + ROTATE_AFTER_S * 1000:
            return None
        secret = self._new_bytes(_SECRET_BYTES).hex()
        renewed = await self._database.write(
            lambda tx: sessions.rotate_session(
                tx,
                row.id,
                old_sha256=row.sha256,
                new_sha256=_sha256(secret),
                old_until_ms=now_ms + OVERLAP_S * 1000,
                now_ms=now_ms,
            )
        )
        return self._session(row, secret) if renewed else None

    def _session(self, row: SessionRow, secret: str | None = None) -> Session:
        token = None if secret is None else f"{row.id}.{secret}.{self._sign(row.id, secret)}"
        return Session(
            row.id,
            row.email,
            row.admin,
            SignInMethod(row.method),
            row.expires_at_ms,
            self.form_token(row.id),
            token,
        )

    def _sign(self, session_id: str, secret: str) -> str:
        return self._digest(_SIGNING, f"{session_id}.{secret}")

    def _digest(self, purpose: bytes, text: str) -> str:
        return hmac.new(self._secret, purpose + text.encode(), "sha256").hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
