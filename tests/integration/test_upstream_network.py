"""Connections that are read only when asked: on both event loops, plain and encrypted."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import httpx
import pytest
import uvloop

from gateway.upstream.network import PulledStream, PullingBackend, pulling_transport
from gateway.upstream.trust import LateContext
from tests.certificates import write_certificate
from tests.vertexstub import a_transport

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
MEGABYTE = 1 << 20


@pytest.fixture(params=LOOPS)
def run(request) -> Callable[[Coroutine[object, object, None]], None]:
    """Runs a coroutine to its end on a loop of its own."""

    def run(main: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main)

    return run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Key and self-signed certificate of 127.0.0.1 in one file."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]]


@asynccontextmanager
async def serving(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server for raw connections; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.01)  # connections close a turn of the loop later


async def connected(port: int) -> PulledStream:
    stream = await PullingBackend().connect_tcp("127.0.0.1", port, timeout=10)
    assert isinstance(stream, PulledStream)
    return stream


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def wait_forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def test_what_is_written_comes_back(run):
    async def main() -> None:
        async with serving(echo) as port:
            stream = await connected(port)
            await stream.write(b"")
            await stream.write(b"hello")
            assert await stream.read(3, timeout=10) == b"hel"
            assert await stream.read(100, timeout=10) == b"lo"
            await stream.aclose()

    run(main())


def test_a_stream_that_nobody_reads_holds_the_sender_back(run):
    async def main() -> None:
        sent = 0

        async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                sent += 65_536

        async with serving(pour) as port:
            stream = await connected(port)
            received = len(await stream.read(10, timeout=10))
            before = -1
            while before < sent:  # until the kernel's buffers are full
                before = sent
                await asyncio.sleep(0.2)
            stalled_at = sent
            while received < stalled_at + MEGABYTE:
                received += len(await stream.read(65_536, timeout=10))
            assert sent > stalled_at
            await stream.aclose()

    run(main())


def test_large_writes_and_reads_arrive_whole(run):
    async def main() -> None:
        data = bytes(range(256)) * 20_000
        async with serving(echo) as port:
            stream = await connected(port)
            writing = asyncio.create_task(stream.write(data, timeout=20))
            back = bytearray()
            while len(back) < len(data):
                back += await stream.read(65_536, timeout=20)
            await writing
            assert back == data
            await stream.aclose()

    run(main())


def test_the_end_is_an_empty_read(run):
    async def bye(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async def main() -> None:
        async with serving(bye) as port:
            stream = await connected(port)
            received = b""
            while data := await stream.read(2, timeout=10):
                received += data
            assert received == b"bye"
            assert await stream.read(2, timeout=10) == b""
            assert stream.get_extra_info("is_readable")
            await stream.aclose()
            await stream.aclose()

    run(main())


def test_a_reset_is_a_read_error(run):
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def main() -> None:
        async with serving(reset) as port:
            stream = await connected(port)
            await stream.write(b"x")
            with pytest.raises(httpcore.ReadError):
                await stream.read(10, timeout=10)
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"y")
            await stream.aclose()

    run(main())


def test_silence_is_a_timeout(run):
    async def main() -> None:
        async with serving(wait_forever) as port:
            stream = await connected(port)
            assert not stream.get_extra_info("is_readable")
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(10, timeout=0.02)
            await stream.aclose()

    run(main())


def test_a_peer_that_reads_nothing_is_a_write_timeout(run):
    async def main() -> None:
        async with serving(wait_forever) as port:
            stream = await connected(port)
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(bytes(64 * MEGABYTE), timeout=0.2)
            await stream.aclose()

    run(main())


def test_a_write_that_fails_while_waiting_is_a_write_error(run):
    async def main() -> None:
        async with serving(wait_forever) as port:
            stream = await connected(port)
            writing = asyncio.create_task(stream.write(bytes(64 * MEGABYTE), timeout=10))
            await asyncio.sleep(0.05)
            stream._protocol.connection_lost(ConnectionResetError("gone"))
            with pytest.raises(httpcore.WriteError, match="gone"):
                await writing
            await stream.aclose()

    run(main())


def test_a_refused_connection_is_a_connect_error(run):
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            with pytest.raises(httpcore.ConnectError):
                await connected(free.getsockname()[1])

    run(main())


def test_socket_options_and_addresses_can_be_had(run):
    async def main() -> None:
        async with serving(echo) as port:
            stream = await PullingBackend().connect_tcp(
                "127.0.0.1",
                port,
                local_address="127.0.0.1",
                socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
            )
            own = stream.get_extra_info("socket")
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
            assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
            assert stream.get_extra_info("unheard_of") is None
            await stream.aclose()

    run(main())


def test_an_option_the_system_refuses_is_a_connect_error(run):
    async def main() -> None:
        async with serving(echo) as port:
            with pytest.raises(httpcore.ConnectError):
                await PullingBackend().connect_tcp("127.0.0.1", port, socket_options=[(999, 999, 1)])

    run(main())


async def test_unix_sockets_are_not_supported():
    with pytest.raises(httpcore.UnsupportedProtocol):
        await PullingBackend().connect_unix_socket("/tmp/x")


async def test_the_backend_can_sleep():
    await PullingBackend().sleep(0)


# HTTP over it.


def answering(body: bytes) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    return answer


def test_https_works_and_checks_certificates(run, certificate):
    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        trusting = ssl.create_default_context(cafile=certificate)
        body = bytes(range(256)) * 8000
        async with serving(answering(body), tls) as port:
            async with httpx.AsyncClient(transport=pulling_transport(verify=trusting)) as client:
                for _ in range(2):
                    assert (await client.get(f"https://127.0.0.1:{port}/")).content == body
            async with httpx.AsyncClient(transport=pulling_transport()) as client:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(f"https://127.0.0.1:{port}/")

    run(main())


def test_a_server_that_speaks_no_tls_is_a_connect_error(run):
    async def main() -> None:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.test ESMTP\r\n" * 10)
            await asyncio.Event().wait()

        async with serving(talk) as port, httpx.AsyncClient(transport=a_transport()) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://127.0.0.1:{port}/")

    run(main())


def test_a_tls_handshake_that_hangs_is_a_connect_timeout(run):
    async def main() -> None:
        async with serving(wait_forever) as port, httpx.AsyncClient(transport=a_transport()) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"https://127.0.0.1:{port}/", timeout=0.1)

    run(main())


def test_a_connection_closed_while_idle_is_not_used_again(run):
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def main() -> None:
        async with serving(once) as port, httpx.AsyncClient(transport=a_transport()) as client:
            for _ in range(3):
                assert (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"
                await asyncio.sleep(0.05)

    run(main())


@pytest.mark.parametrize("ours", [True, False], ids=["our transport", "httpx's own"])
def test_authorities_are_read_once_and_only_for_tls(run, certificate, ours):
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(ssl.create_default_context(cafile=certificate))
        return made[-1]

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        late = LateContext(make)
        options = {"transport": pulling_transport(verify=late)} if ours else {"verify": late}
        async with (
            serving(answering(b"plain")) as plain,
            serving(answering(b"secret"), tls) as secret,
            httpx.AsyncClient(trust_env=False, **options) as client,
        ):
            assert (await client.get(f"http://127.0.0.1:{plain}/")).content == b"plain"
            assert made == []
            answers = await asyncio.gather(*[client.get(f"https://127.0.0.1:{secret}/") for _ in range(3)])
            assert {answer.content for answer in answers} == {b"secret"}
            assert len(made) == 1

    run(main())


def test_who_is_not_trusted_stays_so(run, certificate):
    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        transport = pulling_transport(verify=LateContext(ssl.create_default_context))
        async with serving(answering(b""), tls) as port, httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"https://127.0.0.1:{port}/")

    run(main())
