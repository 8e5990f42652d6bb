"""Connections that go only where `AddressPolicy` lets them, whatever a name resolves to.

The check is made where the connection is: a name is resolved once, its addresses are checked, and one of
those is connected to, no other. What the name resolves to before or afterwards does not matter. TLS verifies
the name as ever, since httpcore takes it from the URL. No connection is used twice: none outlives its check.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore

from gateway.webhooks.addresses import Address, AddressPolicy

#: Resolves a name; raises `OSError` when it cannot.
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

# A name server that does not answer holds a thread for half a minute.
_MAX_LOOK_UPS = 64
# Seconds for each address but the last, so that one which swallows packets leaves time for the others.
_FIRST_ADDRESSES_S = 3.0


class AddressRefused(Exception):
    """None of the addresses may be reached. Says no more: what a name is inside is nobody's business."""


class NameNotFound(Exception):
    """The name does not resolve."""


class Resolver:
    """The system's resolver, in threads of its own.

    The event loop's are few and serve connections to models as well: names that a tenant chose must not keep
    those waiting. Daemons, because nothing can interrupt a look-up, and a process must be able to end.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_MAX_LOOK_UPS)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """In the order in which to try them. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        await self._slots.acquire()
        found: asyncio.Future[Sequence[Address]] = loop.create_future()

        def settle(addresses: Sequence[Address], error: OSError | None) -> None:
            self._slots.release()
            if found.done():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses: Sequence[Address] = ()
            failure: OSError | None = None
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = tuple(ip_address(info[4][0]) for info in infos)
            except (OSError, UnicodeError) as error:  # a name too long to be one is the latter
                failure = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
                loop.call_soon_threadsafe(settle, addresses, failure)

        threading.Thread(target=look_up, name="webhook-resolver", daemon=True).start()
        return await found


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves, checks, and has ``inner`` connect to the very address that was checked."""

    def __init__(
        self, policy: AddressPolicy, resolve: Resolve, inner: httpcore.AsyncNetworkBackend, *, plain: bool
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._inner = inner
        self._plain = plain

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises `AddressRefused`, `NameNotFound`, or httpcore's ConnectError and ConnectTimeout."""
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise NameNotFound(host) from error
        permitted = [found for found in addresses if self._policy.permits(found, plain=self._plain)]
        if not permitted:
            raise AddressRefused(host)
        for address in permitted[:-1]:
            # One of several, such as IPv6 where there is none: the next may do.
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._inner.connect_tcp(
                    str(address), port, _FIRST_ADDRESSES_S, local_address, socket_options
                )
        return await self._inner.connect_tcp(str(permitted[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the same
    ) -> httpcore.AsyncNetworkStream:
        """Raises `AddressRefused`: no webhook goes to a path."""
        raise AddressRefused(path)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def guarded_pools(
    policy: AddressPolicy,
    resolve: Resolve,
    inner: httpcore.AsyncNetworkBackend,
    context: ssl.SSLContext,
) -> dict[str, httpcore.AsyncConnectionPool]:
    """A pool for each scheme: without TLS only what the policy names may be reached.

    They read no proxy variables: a proxy would resolve names itself, unseen.
    """
    return {
        scheme: httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=GuardedBackend(policy, resolve, inner, plain=plain),
        )
        for scheme, plain in (("https", False), ("http", True))
    }
