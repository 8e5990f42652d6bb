"""One thread that has the model, and a short line of who waits for it.

Predictions are made one at a time: two at once on one device take as long as one after the other, and twice
the memory. Whoever hangs up leaves the line, or stops what is being made.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from musicgen_server.contract import Piece, Refusal, unavailable
from musicgen_server.wav import Format

RETRY_S = 10.0
_NOT_READY = "The model cannot answer yet, or not at present. Try again when health says so."

log = logging.getLogger("musicgen")


class Abandoned(Exception):
    """Nobody waits for it any more."""


class Studio(Protocol):
    """A loaded model. Used by one thread only."""

    @property
    def form(self) -> Format:
        """Of the files that it writes."""
        ...

    def rehearse(self) -> None:
        """Make a second of music and forget it. Raises whatever keeps the model from answering."""
        ...

    def record(
        self, piece: Piece, seeds: Sequence[int], paths: Sequence[Path], stop: Callable[[], bool]
    ) -> None:
        """Write a WAV of exactly the piece's length per seed. Raises `Abandoned` once `stop` says so."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """A prediction in the line or being made. `done` ends with what `Studio.record` raised, if anything."""

    piece: Piece
    seeds: Sequence[int]
    paths: Sequence[Path]
    done: Future[None] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{len(self.seeds)} x {self.piece.seconds} s"


class Worker:
    """Loads the model when started, then makes what is submitted, in order."""

    def __init__(
        self,
        open_studio: Callable[[], Studio],
        *,
        waiting: int,
        on_end: Callable[[], None] = lambda: None,
        retry_s: float = RETRY_S,
    ) -> None:
        """`waiting` may wait behind the one that is made; `on_end` is told that the thread ended."""
        self._open_studio = open_studio
        self._waiting = waiting
        self._on_end = on_end
        self._retry_s = retry_s
        # Reentrant: `drain` is called by a signal handler, whatever its thread was doing.
        self._changed = threading.Condition(threading.RLock())
        self._line: deque[Job] = deque()
        self._busy = False
        self._draining = False
        self._well = False
        self._studio: Studio | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the model can answer: it has done so before, and nothing has gone wrong since."""
        return self._well and not self._draining and self._thread.is_alive()

    @property
    def form(self) -> Format:
        """Of what will be made. Raises `Refusal` unless ready."""
        if self._studio is None or not self.is_ready:
            raise unavailable(
                "The model cannot answer yet, or not at present. Try again when health says so."
            )
        return self._studio.form

    def submit(self, job: Job) -> None:
        """Put it into the line. Raises `Refusal` when that is full, or nothing is served."""
        with self._changed:
            if not self.is_ready:
                raise unavailable(_NOT_READY)
            if len(self._line) >= self._waiting + (0 if self._busy else 1):
                raise Refusal(
                    429,
                    "RESOURCE_EXHAUSTED",
                    f"{len(self._line)} predictions are waiting and one is made; try again later, or have "
                    "more replicas.",
                )
            self._line.append(job)
            log.info("waiting: %s", job)
            self._changed.notify()

    def abandon(self, job: Job) -> None:
        """Nobody waits for it any more. `job.done` ends with `Abandoned`, at once if it was not begun."""
        with self._changed:
            job.stop.set()
            if job in self._line:
                self._line.remove(job)
                job.done.set_exception(Abandoned())

    def drain(self) -> None:
        """Refuse who waits and who comes; what is being made is finished, and then the thread ends."""
        with self._changed:
            self._draining = True
            while self._line:
                self._line.popleft().done.set_exception(
                    unavailable("The server is stopping; try again, another one will answer.")
                )
            self._changed.notify()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            studio = self._open_studio()
            studio.rehearse()
            self._studio, self._well = studio, True
            log.info("the model can answer")
            while self._next(studio):
                pass
        except BaseException as error:  # noqa: BLE001 - it ends the thread, and the server with it
            self.failure = error
            log.critical("the model's thread ended", exc_info=error)
        finally:
            self._well = False
            self.drain()
            self._on_end()

    def _next(self, studio: Studio) -> bool:
        """Make one, or try again whether the model is well. False when there is nothing more to do."""
        with self._changed:
            self._busy = False
            while not self._line and not self._draining:
                if not self._changed.wait(None if self._well else self._retry_s):
                    break
            if self._draining:
                return False
            job = self._line.popleft() if self._line else None
            self._busy = job is not None
        if job is not None:
            self._make(studio, job)
        if not self._well:
            self._rehearse(studio)
        return True

    def _make(self, studio: Studio, job: Job) -> None:
        log.info("making %s", job)
        try:
            studio.record(job.piece, job.seeds, job.paths, job.stop.is_set)
        except Abandoned as error:
            job.done.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, who waits is told and the model is asked again
            self._well = False
            log.error("a prediction failed", exc_info=error)
            job.done.set_exception(error)
        except BaseException as error:
            job.done.set_exception(error)
            raise
        else:
            job.done.set_result(None)

    def _rehearse(self, studio: Studio) -> None:
        """After a failure: well again once the model has answered."""
        try:
            studio.rehearse()
        except Exception as error:  # noqa: BLE001 - it is tried again, and health is false until then
            log.error("the model does not answer; trying again in %s s", self._retry_s, exc_info=error)
        else:
            self._well = True
            log.info("the model answers again")
