"""Puts the parts together, and serves until it is told to stop."""

import signal
import tempfile
from pathlib import Path
from types import FrameType

import uvicorn

from musicgen_server.app import Server
from musicgen_server.settings import Settings
from musicgen_server.storage import CloudStorage
from musicgen_server.studio import MusicGenStudio
from musicgen_server.worker import Studio, Worker


class HttpServer(uvicorn.Server):
    """On SIGTERM nothing new is begun; what is being made is finished and answered."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._worker.drain()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """From any thread: end as soon as nothing is being made."""
        self._worker.drain()
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Until SIGTERM or SIGINT. Returns the exit code: 1 if the model was not loaded or its thread died."""
    with tempfile.TemporaryDirectory(prefix="musicgen-weights-") as directory:
        return _serve(settings, Path(directory))


def _serve(settings: Settings, weights: Path) -> int:
    storage = CloudStorage()

    def open_studio() -> Studio:
        if settings.weights_uri is None:
            return MusicGenStudio.open(settings.model, settings)
        storage.fetch(settings.weights_uri, weights)
        return MusicGenStudio.open(str(weights), settings)

    def end() -> None:
        server.stop()

    worker = Worker(open_studio, waiting=settings.waiting, on_end=end)
    app = Server(settings, worker, storage).app()
    every_address = "0.0.0.0"  # noqa: S104 - as the container's contract has it
    config = uvicorn.Config(
        app, host=every_address, port=settings.port, log_level="info", access_log=False, server_header=False
    )
    server = HttpServer(config, worker)
    # Until uvicorn has its own; and after that, when it raises the signal once more, which would end us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    worker.start()
    server.run()
    worker.drain()
    worker.join()
    return 0 if worker.failure is None else 1
