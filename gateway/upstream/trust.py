"""Whom TLS trusts, read when the first connection needs it.

Reading the certificate authorities takes a fifth of the time that a bare server takes to start, and no
request waits for it but the first that leaves over TLS.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self


class LateContext(ssl.SSLContext):
    """Stands for the context that ``make`` gives, which is called once, for the first connection.

    Use `ready` where waiting is possible. A library that uses this as the context it seems to be gets the
    same, but makes the event loop wait for it.
    """

    _make: Callable[[], ssl.SSLContext]
    _lock: threading.Lock
    _made: ssl.SSLContext | None
    _protocols: list[str] | None

    def __new__(cls, make: Callable[[], ssl.SSLContext]) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._make = make
        self._lock = threading.Lock()
        self._made = None
        self._protocols = None
        return self

    async def ready(self) -> ssl.SSLContext:
        """The context itself, made in a thread if it is the first time."""
        return await asyncio.to_thread(self._context) if self._made is None else self._made

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Kept for when the context is made."""
        self._protocols = list(alpn_protocols)
        if self._made is not None:
            self._made.set_alpn_protocols(self._protocols)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self._context().wrap_bio(*args, **options)

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._made is None:
                made = self._make()
                if self._protocols is not None:
                    made.set_alpn_protocols(self._protocols)
                self._made = made
            return self._made
