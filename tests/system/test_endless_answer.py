"""A model that sends a gigabyte: it is cut off at a set limit, and memory does not grow."""

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.running import RunningGateway, start_gateway

GIGABYTE = 1 << 30
LIMIT_BYTES = 256 << 20
#: Base64 of a WAV that goes on and on, in pieces that join up.
_HEAD = (
    b"RIFF" + b"\xff\xff\xff\x7f" + b"WAVEfmt " + bytes.fromhex("100000000100020080bb000000ee020004001000")
)
_WAV = base64.b64encode((_HEAD + b"data" + b"\xff\xff\xff\x7f").ljust(48, b"\0"))
_PIECE = base64.b64encode(bytes(range(48)) * 16_384)


class Flood:
    """Answers each call with one take of a gigabyte. ``sent_bytes`` is how much was taken of each."""

    def __init__(self) -> None:
        self.sent_bytes: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                self.sent_bytes.append(self._answer(connection))

    @staticmethod
    def _answer(connection: socket.socket) -> int:
        request = b""
        while b"\r\n\r\n" not in request:
            block = connection.recv(65_536)
            if not block:
                return 0
            request += block
        sent = 0
        try:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(b'{"predictions": [{"bytesBase64Encoded": "' + _WAV)
            while sent < GIGABYTE:
                connection.sendall(_PIECE)
                sent += len(_PIECE)
            connection.sendall(b'"}]}')
        except OSError:
            pass  # hung up on
        return sent

    def close(self) -> None:
        self._listener.close()


@contextmanager
def start_flood() -> Iterator[Flood]:
    flood = Flood()
    thread = threading.Thread(target=flood.serve)
    thread.start()
    try:
        yield flood
    finally:
        # Whoever waits in `accept` is not woken by a close.
        host = flood.url.removeprefix("http://").partition(":")
        with socket.create_connection((host[0], int(host[2]))):
            flood.close()
        thread.join()


def most_memory(gateway: RunningGateway, go_on: threading.Event) -> int:
    """The most resident bytes that were seen until told to stop."""
    assert gateway.process is not None
    process, most = psutil.Process(gateway.process.pid), 0
    while not go_on.wait(0.05):
        most = max(most, process.memory_info().rss)
    return most


def test_a_gigabyte_is_refused_at_the_limit(tmp_path: Path) -> None:
    with start_flood() as flood, start_gateway(tmp_path, flood.url, GATEWAY_MAX_ATTEMPTS="1") as gateway:
        assert gateway.process is not None
        before = psutil.Process(gateway.process.pid).memory_info().rss
        ended, seen = threading.Event(), list[int]()
        watcher = threading.Thread(target=lambda: seen.append(most_memory(gateway, ended)))
        watcher.start()
        answer = httpx.post(
            f"{gateway.url}/api/music_generate_lyria",
            headers={"X-Api-Key": gateway.create_key()},
            json={"prompt": "slow piano"},
            timeout=120,
            trust_env=False,
        )
        ended.set()
        watcher.join()
        task = answer.json()
        assert (task["status"], task["error"]["code"]) == ("failed", "model_answer_invalid")
        assert task["price"]["charged_micros"] == 0
        # What lay in buffers on the way when it hung up was sent too.
        assert flood.sent_bytes[0] < LIMIT_BYTES + (32 << 20)
        assert seen[0] - before < 64 << 20
        assert list((tmp_path / "data" / "audio").rglob("*.object")) == []
        assert list((tmp_path / "data" / "spool").iterdir()) == []
