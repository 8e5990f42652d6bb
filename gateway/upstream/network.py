"""Connections that take from the kernel only what was asked for.

httpx's own streams leave a socket readable once data is awaited, so an event loop that reads until nothing
is left (libuv makes up to 32 reads per turn) can pile up megabytes per connection faster than they are
decoded. Here a socket is read into one fixed buffer and paused the moment something is in it: what waits,
waits in the kernel, where TCP's own flow control holds the sender back. It also spares a copy per read.

Implements httpcore's documented "network backend" interface; HTTP itself stays httpx's and httpcore's.
"""

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpcore
import httpx

from gateway.upstream.trust import LateContext

READ_BUFFER_BYTES = 128 << 10


def pulling_transport(
    *,
    max_connections: int | None = 100,
    keepalive_expiry_s: float = 5.0,
    verify: ssl.SSLContext | bool = True,
) -> httpx.AsyncHTTPTransport:
    """For ``httpx.AsyncClient(transport=…)``: HTTP/1.1 in bounded memory. Proxy variables are not read."""
    return _PullingTransport(
        httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=keepalive_expiry_s,
            network_backend=PullingBackend(),
        )
    )


class _PullingTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool of ours; its constructor cannot be told the pool's backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:  # the parent's would build its own pool
        self._pool = pool


class PullingBackend(httpcore.AsyncNetworkBackend):
    """Opens `PulledStream` on the running asyncio (or uvloop) event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises httpcore's ConnectError and ConnectTimeout."""
        async with _mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            transport, protocol = await asyncio.get_running_loop().create_connection(
                _Pull,
                host,
                port,
                local_addr=(local_address, 0) if local_address else None,
            )
            for option in socket_options or ():
                transport.get_extra_info("socket").setsockopt(*option)
        return PulledStream(transport, protocol)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the same
    ) -> httpcore.AsyncNetworkStream:
        """Raises `httpcore.UnsupportedProtocol`: nothing of ours listens on a path."""
        raise httpcore.UnsupportedProtocol(f"no connection to {path}: Unix sockets are not supported")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PulledStream(httpcore.AsyncNetworkStream):
    """One connection. At most one reader and one writer at a time, as httpcore has it."""

    def __init__(self, transport: asyncio.Transport, protocol: "_Pull") -> None:
        self._transport = transport
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the same
        """What is there, once anything is; ``b""`` at the end. Raises httpcore's ReadError, ReadTimeout."""
        protocol = self._protocol
        if not protocol.ready:
            async with _mapped(timeout, httpcore.ReadTimeout, httpcore.ReadError):
                await protocol.wait_readable()
        return protocol.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        """Raises httpcore's WriteError and WriteTimeout."""
        if not buffer:
            return
        async with _mapped(timeout, httpcore.WriteTimeout, httpcore.WriteError):
            self._protocol.check_open()
            self._transport.write(buffer)
            await self._protocol.wait_writable()

    async def aclose(self) -> None:
        # Everything worth sending has been sent; a polite close of TLS would wait for the other side. One
        # turn of the loop closes the socket. Waiting for `connection_lost` could be for ever: it is not
        # called when a TLS handshake had not ended.
        self._transport.abort()
        await asyncio.sleep(0)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted. Raises httpcore's ConnectError and ConnectTimeout."""
        try:
            async with _mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                if isinstance(ssl_context, LateContext):
                    ssl_context = await ssl_context.ready()
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport, self._protocol, ssl_context, server_hostname=server_hostname
                )
        except BaseException:  # cancelled or not, a half-made connection must not stay open
            await self.aclose()
            raise
        # Typed as possibly None for a connection lost meanwhile, which has raised above.
        self._protocol.transport = cast("asyncio.Transport", transport)
        return PulledStream(self._protocol.transport, self._protocol)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._protocol.ready or _is_readable(self._transport.get_extra_info("socket"))
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))


class _Pull(asyncio.BufferedProtocol):
    """Reading is on only while somebody waits and the buffer is empty."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._from = 0
        self._to = 0
        self._ended = False
        self._lost: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer[self._to :]

    def buffer_updated(self, nbytes: int) -> None:
        self._to += nbytes
        self._pause()
        self._readable.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._lost = exc
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the stream calls.

    @property
    def ready(self) -> bool:
        """Something can be had without waiting: bytes, or the end of them."""
        return self._to > self._from

    async def wait_readable(self) -> None:
        """Until there are bytes or no more will come. Raises `OSError` when the connection broke."""
        if not self._ended:
            self._readable.clear()
            if self.transport is not None:
                self.transport.resume_reading()
            await self._readable.wait()
        if not self.ready and self._lost is not None:
            raise OSError(str(self._lost)) from self._lost

    def take(self, max_bytes: int) -> bytes:
        end = min(self._to, self._from + max_bytes)
        data = bytes(self._buffer[self._from : end])
        self._from = end
        if self._from == self._to:
            self._from = self._to = 0
        return data

    def check_open(self) -> None:
        """Raises `OSError` when the connection has gone."""
        if self._ended:
            raise OSError("the connection is closed")

    async def wait_writable(self) -> None:
        """Until what was written fits the kernel. Raises `OSError` when the connection broke."""
        await self._writable.wait()
        if self._lost is not None:
            raise OSError(str(self._lost)) from self._lost

    def _pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()


@asynccontextmanager
async def _mapped(
    limit_s: float | None, timed_out: type[Exception], failed: type[Exception]
) -> AsyncIterator[None]:
    """A time limit; its expiry and the system's errors become httpcore's."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise timed_out(f"after {limit_s} s") from error
    except OSError as error:  # ssl.SSLError and socket.gaierror are among them
        raise failed(str(error)) from error


def _is_readable(sock: Any) -> bool:
    """For an idle connection: the other side has closed it, or sent what nobody asked for."""
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
