"""Audio worked on as a task has it worked on, beside the library's own way with all of it in memory.

    python -m tests.bench.conversions WHAT HOW

does one piece of work and prints its seconds and the MiB by which it made the process larger.
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pyloudnorm
import soundfile

from gateway.audio.produce import Recipe, produce
from gateway.audio.sound import open_sound
from gateway.audio.survey import look_at
from gateway.emulator.music.composer import Order, compose
from gateway.model import AudioFormat
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench

TAKE_S = 32.768
RATE_HZ = 48_000
LONG_S, SHORT_S = 300, 60
_LIBRARY = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
_MIB = 1 << 20


def measure(bench: Bench) -> list[Section]:
    return [_conversions(bench), _joins(bench)]


def _conversions(bench: Bench) -> Section:
    section = Section(
        "Conversions",
        f"a take of {TAKE_S} s at 48 kHz, stereo, each in a process of its own; the library alone decodes "
        "and encodes all of it at once, without looking at it",
    )
    for what in ("untouched", *_LIBRARY, "loudness"):
        ours, theirs = [], []
        for _ in range(bench.rounds):
            ours.append(_run(what, "ours"))
            theirs.append(_run(what, "library"))
        speeds = tuple(TAKE_S / seconds for seconds, _ in ours)
        section.add(Series(f"{what}: times real time", "x", speeds))
        section.add(ratio(f"{what}: speed / the library alone", speeds, [TAKE_S / s for s, _ in theirs]))
        section.add(Series(f"{what}: memory added, ours", "MiB", tuple(mib for _, mib in ours)))
        section.add(Series(f"{what}: memory added, the library", "MiB", tuple(mib for _, mib in theirs)))
    return section


def _joins(bench: Bench) -> Section:
    section = Section("Joins", f"of ten takes to {LONG_S} s and of two to {SHORT_S} s, as WAV")
    many = [_run("join", "10") for _ in range(bench.rounds)]
    few = [_run("join", "2") for _ in range(bench.rounds)]
    section.add(Series("ten takes: times real time", "x", tuple(LONG_S / s for s, _ in many)))
    section.add(Series("two takes: times real time", "x", tuple(SHORT_S / s for s, _ in few)))
    section.add(Series("ten takes: memory added", "MiB", tuple(mib for _, mib in many)))
    section.add(Series("two takes: memory added", "MiB", tuple(mib for _, mib in few)))
    section.add(ratio("memory of ten / of two", [m for _, m in many], [m for _, m in few]), Aim(most=1.5))
    return section


def _run(what: str, how: str) -> tuple[float, float]:
    """Seconds, and MiB added, of a process that does one thing."""
    command = [sys.executable, "-m", "tests.bench.conversions", what, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, mib = done.stdout.split()
    return float(seconds), float(mib)


def _work(what: str, how: str) -> Callable[[], object]:
    """What is timed; what it needs is made before."""
    if what == "join":
        takes = [_take(seed) for seed in range(int(how))]
        length_s = LONG_S if len(takes) > 2 else SHORT_S
        return lambda: produce(takes, Recipe(AudioFormat.WAV, length_s), _file())
    take = _take(1)
    if how == "library":
        return lambda: _by_library(what, take)
    if what == "loudness":
        return lambda: _look(take)
    if what == "untouched":
        return lambda: produce([take], Recipe(None), _file())
    # A second less, or WAV would be left as it is.
    length_s = int(TAKE_S) - 1 if what == "wav" else None
    return lambda: produce([take], Recipe(AudioFormat(what), length_s), _file())


def _look(take: int) -> object:
    with open_sound(take) as reader:
        return look_at(reader)


def _by_library(what: str, take: int) -> object:
    samples, rate_hz = soundfile.read(io.BytesIO(os.pread(take, 1 << 30, 0)), dtype="float32")
    if what == "untouched":
        return samples
    if what == "loudness":
        return pyloudnorm.Meter(rate_hz).integrated_loudness(samples)
    container, subtype = _LIBRARY[what]
    return soundfile.write(_file(), samples, rate_hz, format=container, subtype=subtype, closefd=False)


def _take(seed: int) -> int:
    """The descriptor of a composed take. Another process composes it, which takes more than our work."""
    take = _file()
    if (child := os.fork()) == 0:
        wav = compose(Order("slow piano with soft strings", "", seed, round(TAKE_S * RATE_HZ), RATE_HZ, 2))
        os.pwrite(take, wav, 0)
        os._exit(0)
    os.waitpid(child, 0)
    return take


def _file(content: bytes = b"") -> int:
    """The descriptor of a file without a name; the process is short."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())


def _warm_up() -> None:
    """Load what is loaded with the first piece of audio."""
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros((RATE_HZ, 2), dtype=np.float32), RATE_HZ, format="WAV")
    produce([_file(silence.getvalue())], Recipe(AudioFormat.OPUS), _file())


def main(what: str, how: str) -> None:
    work = _work(what, how)
    _warm_up()
    before_kib = _peak_kib()
    began_s = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - began_s
    del kept
    sys.stdout.write(f"{seconds} {max(0, _peak_kib() - before_kib) * 1024 / _MIB}\n")


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
