"""Serving the emulator: binds a port, says where it listens, and stops cleanly.

``python -m gateway.emulator.server --port 0`` prints one line, ``emulator ready on http://127.0.0.1:PORT``.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

import uvicorn

from gateway.emulator.app import create_app
from gateway.emulator.desk import Settings
from gateway.emulator.stream import ExposedTransport
from gateway.emulator.studio import Studio

#: Answers that are on their way get this long after SIGTERM, then their connections are closed.
_GRACE_S = 1

_STDIN = 0
_READ_BYTES = 4096
_FRUGAL_KEPT_BYTES = 16 * 2**20
_NICENESS = 10
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"


class AnnouncingServer(uvicorn.Server):
    """uvicorn's server, which says so on standard output once it takes connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stdout.write(f"emulator ready on http://{shown}:{port}\n")
            sys.stdout.flush()


def run(
    host: str,
    port: int,
    *,
    latency_s: float = 0.0,
    require_token: bool = False,
    parent_watch: bool = False,
    frugal: bool = False,
    storage_url: str | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 picks a free one.

    With ``parent_watch`` it also stops when standard input ends, and so dies with the process that holds the
    other end of that pipe. ``frugal`` is for life beside something more important: it composes one clip at a
    time, keeps few, and gives way where processor time or memory runs short. ``storage_url`` is a Cloud
    Storage emulator for what is too long for an answer.

    Raises `OSError` when the address cannot be bound.
    """
    studio = None
    if frugal:
        _give_way()
        studio = Studio(workers=1, kept_bytes=_FRUGAL_KEPT_BYTES)
    app = create_app(
        settings=Settings(latency_s=latency_s),
        require_token=require_token,
        studio=studio,
        storage_url=storage_url,
    )
    config = uvicorn.Config(
        app,
        http=ExposedTransport,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = AnnouncingServer(config)
    if parent_watch:
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    with socket.create_server((host, port), family=_family(host), backlog=config.backlog) as listener:
        before = [signal.signal(number, _already_stopping) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            server.run(sockets=[listener])
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gateway.emulator.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 picks a free one (default %(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before every answer")
    parser.add_argument("--require-token", action="store_true", help="refuse calls without Authorization")
    parser.add_argument("--watch-parent", action="store_true", help="stop when standard input ends")
    parser.add_argument("--frugal", action="store_true", help="use little, and give way to other processes")
    parser.add_argument(
        "--storage-url", metavar="URL", help="a Cloud Storage emulator, for what is too long for an answer"
    )
    options = parser.parse_args(arguments)
    try:
        run(
            options.host,
            options.port,
            latency_s=options.latency,
            require_token=options.require_token,
            parent_watch=options.watch_parent,
            frugal=options.frugal,
            storage_url=options.storage_url,
        )
    except OSError as fault:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {os.strerror(fault.errno or 0)}\n")
        return 1
    return 0


def _give_way() -> None:
    """Others have the processor first, and are spared where the kernel has to end somebody for memory."""
    os.nice(_NICENESS)
    # Linux only; nobody needs a right to volunteer.
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_FIRST_TO_GO)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _already_stopping(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do: uvicorn raises the signal that stopped it once more when it is done."""


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    # os.read, not sys.stdin: a thread inside the buffered reader would hold its lock at interpreter exit.
    while os.read(_STDIN, _READ_BYTES):
        pass
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
