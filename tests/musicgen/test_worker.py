"""The line, failures of the model, and the end, with a model that plays nothing."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from musicgen_server.contract import Piece, Refusal
from musicgen_server.wav import Format
from musicgen_server.worker import Abandoned, Job, Worker

PATIENCE_S = 10


@dataclass
class Mime:
    """Notes the seeds that it was asked for. Holds each piece until `go`, and raises what it is told."""

    made: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    troubles: list[BaseException] = field(default_factory=list)
    silences: int = 0
    form: Format = field(default_factory=lambda: Format(8_000, 1))

    def rehearse(self) -> None:
        if self.silences:
            self.silences -= 1
            raise RuntimeError("out of memory")

    def record(
        self, piece: Piece, seeds: Sequence[int], paths: Sequence[Path], stop: Callable[[], bool]
    ) -> None:
        self.made.append(seeds[0])
        while not self.go.wait(0.005):
            if stop():
                raise Abandoned
        if self.troubles:
            raise self.troubles.pop()


@contextmanager
def working(mime: Mime, waiting: int = 1) -> Iterator[Worker]:
    worker = Worker(lambda: mime, waiting=waiting, retry_s=0.01)
    worker.start()
    until(lambda: worker.is_ready)
    yield worker
    mime.go.set()
    worker.drain()
    worker.join()


def job(seed: int) -> Job:
    return Job(Piece("a", None, 1), [seed], [])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def begun(worker: Worker, mime: Mime, seed: int) -> Job:
    submitted = job(seed)
    worker.submit(submitted)
    until(lambda: mime.made[-1:] == [seed])
    return submitted


def test_it_is_not_ready_before_it_has_played() -> None:
    mime, opened = Mime(), threading.Event()
    worker = Worker(lambda: (opened.wait(PATIENCE_S), mime)[1], waiting=1)
    worker.start()
    assert not worker.is_ready
    with pytest.raises(Refusal, match="cannot answer yet"):
        worker.submit(job(1))
    with pytest.raises(Refusal, match="cannot answer yet"):
        _ = worker.form
    opened.set()
    until(lambda: worker.is_ready)
    assert worker.form == mime.form
    worker.drain()
    worker.join()


def test_one_after_the_other_in_order() -> None:
    mime = Mime()
    with working(mime, waiting=3) as worker:
        begun(worker, mime, 1)
        others = [job(seed) for seed in (2, 3, 4)]
        for other in others:
            worker.submit(other)
        mime.go.set()
        for other in others:
            other.done.result(PATIENCE_S)
    assert mime.made == [1, 2, 3, 4]


def test_a_full_line() -> None:
    mime = Mime()
    with working(mime, waiting=1) as worker:
        begun(worker, mime, 1)
        worker.submit(job(2))
        with pytest.raises(Refusal) as caught:
            worker.submit(job(3))
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")


def test_with_no_room_to_wait_one_is_still_made() -> None:
    mime = Mime()
    with working(mime, waiting=0) as worker:
        begun(worker, mime, 1)
        with pytest.raises(Refusal, match="are waiting"):
            worker.submit(job(2))


def test_who_leaves_the_line_makes_room() -> None:
    mime = Mime()
    with working(mime, waiting=1) as worker:
        begun(worker, mime, 1)
        gone, stays = job(2), job(3)
        worker.submit(gone)
        worker.abandon(gone)
        assert isinstance(gone.done.exception(0), Abandoned)
        worker.submit(stays)
        mime.go.set()
        stays.done.result(PATIENCE_S)
    assert mime.made == [1, 3]


def test_what_is_made_for_nobody_is_stopped() -> None:
    mime = Mime()
    with working(mime) as worker:
        first = begun(worker, mime, 1)
        worker.abandon(first)
        assert isinstance(first.done.exception(PATIENCE_S), Abandoned)
        assert worker.is_ready


def test_after_a_failure_it_is_ready_again_once_it_has_played() -> None:
    """As when a GPU's memory did not suffice."""
    mime = Mime(troubles=[RuntimeError("out of memory")])
    with working(mime) as worker:
        mime.silences = 10_000
        first = begun(worker, mime, 1)
        mime.go.set()
        assert isinstance(first.done.exception(PATIENCE_S), RuntimeError)
        assert not worker.is_ready
        with pytest.raises(Refusal) as caught:
            worker.submit(job(2))
        assert caught.value.code == 503
        mime.silences = 0
        until(lambda: worker.is_ready)
        begun(worker, mime, 3).done.result(PATIENCE_S)


def test_when_its_thread_dies_nobody_waits_for_it() -> None:
    mime, ended = Mime(troubles=[SystemExit()]), threading.Event()
    worker = Worker(lambda: mime, waiting=1, on_end=ended.set)
    worker.start()
    until(lambda: worker.is_ready)
    first, second = begun(worker, mime, 1), job(2)
    worker.submit(second)
    mime.go.set()
    assert isinstance(first.done.exception(PATIENCE_S), SystemExit)
    with pytest.raises(Refusal, match="stopping"):
        second.done.result(PATIENCE_S)
    assert ended.wait(PATIENCE_S)
    worker.join()
    assert not worker.is_ready
    assert isinstance(worker.failure, SystemExit)


def test_a_model_that_cannot_be_opened() -> None:
    def missing() -> Mime:
        raise FileNotFoundError

    worker = Worker(missing, waiting=1)
    worker.start()
    worker.join()
    assert not worker.is_ready
    assert isinstance(worker.failure, FileNotFoundError)


def test_draining_finishes_what_is_made() -> None:
    mime = Mime()
    with working(mime) as worker:
        first, second = begun(worker, mime, 1), job(2)
        worker.submit(second)
        worker.drain()
        assert not worker.is_ready
        with pytest.raises(Refusal, match="stopping"):
            second.done.result(PATIENCE_S)
        mime.go.set()
        first.done.result(PATIENCE_S)
        worker.join()
    assert worker.failure is None
    assert mime.made == [1]
