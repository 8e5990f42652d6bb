"""Where clips are composed: in threads, each once, the last ones kept within a bound of bytes."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from gateway.emulator.answers import Encoding
from gateway.emulator.mp3 import mp3_bytes
from gateway.emulator.music.composer import Order, compose


class Studio:
    """``kept_bytes`` bounds the cache; a clip larger than that is made and not kept.

    Composing holds the interpreter only between numpy calls, so the server keeps answering meanwhile.
    """

    def __init__(self, *, workers: int = 2, kept_bytes: int = 128 * 2**20) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="studio")
        self._limit_bytes = kept_bytes
        self._held_bytes = 0
        self._kept: OrderedDict[_Wish, bytes] = OrderedDict()
        self._composing: dict[_Wish, asyncio.Future[bytes]] = {}

    async def clip(self, order: Order, encoding: Encoding = Encoding.WAV) -> bytes:
        """The file of ``order``; callers who ask for the same at once share one rendering."""
        wish = (order, encoding)
        if wish in self._kept:
            self._kept.move_to_end(wish)
            return self._kept[wish]
        if wish not in self._composing:
            work = asyncio.get_running_loop().run_in_executor(self._pool, _render, order, encoding)
            self._composing[wish] = work
            work.add_done_callback(lambda done: self._finished(wish, done))
        # One caller leaving must not spoil the clip for another.
        return await asyncio.shield(self._composing[wish])

    def close(self) -> None:
        """Let go of the threads; what is being composed is finished and thrown away."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finished(self, wish: "_Wish", done: asyncio.Future[bytes]) -> None:
        del self._composing[wish]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[wish] = done.result()
        self._held_bytes += len(done.result())
        while self._held_bytes > self._limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._held_bytes -= len(oldest)


_Wish = tuple[Order, Encoding]


def _render(order: Order, encoding: Encoding) -> bytes:
    wav = compose(order)
    return mp3_bytes(wav) if encoding is Encoding.MP3 else wav
