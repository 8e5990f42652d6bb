"""One piece of work on sound in a process of its own, so that what it takes at most is seen from outside.

    python -m tests.bench.sounds WORK FORMAT TAKE...

WORK is a name in `WORKS`. Prints seconds, processor seconds, and MiB: before, at most, and what was made.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import soundfile
from numpy.typing import NDArray

from gateway.audio.produce import Recipe, produce
from gateway.audio.sound import open_sound
from gateway.audio.survey import look_at
from gateway.model import AudioFormat
from tests.bench.machine import MIB, forget_peak, peak_rss_mib, rss_mib

#: The default bit rates, in libsndfile's words.
_SUBTYPES: dict[AudioFormat, tuple[str, str, dict[str, Any]]] = {
    AudioFormat.WAV: ("WAV", "PCM_16", {}),
    AudioFormat.FLAC: ("FLAC", "PCM_16", {}),
    AudioFormat.MP3: (
        "MP3",
        "MPEG_LAYER_III",
        {"bitrate_mode": "CONSTANT", "compression_level": (320 - 192) / (320 - 32)},
    ),
    AudioFormat.OGG: ("OGG", "VORBIS", {"compression_level": 0.5}),
    AudioFormat.OPUS: ("OGG", "OPUS", {"compression_level": (256 - 128 / 2) / (256 - 6)}),
}
#: Enough to have every library and table loaded before anything is measured.
_WARM_UP_S = 0.5


def _produce(takes: Sequence[Path], audio_format: AudioFormat | None, duration_s: int | None) -> int:
    with ExitStack() as stack:
        fds = [stack.enter_context(take.open("rb")).fileno() for take in takes]
        out = stack.enter_context(tempfile.TemporaryFile()).fileno()
        produce(fds, Recipe(audio_format, duration_s), out)
        return os.fstat(out).st_size


def convert(takes: Sequence[Path], audio_format: AudioFormat) -> int:
    """As the gateway: decoded, measured and encoded, block by block. The length is said: WAV is made anew."""
    (take,) = takes
    return _produce([take], audio_format, int(soundfile.info(take).duration) or None)


def leave(takes: Sequence[Path], _: AudioFormat) -> int:
    """As the gateway where nothing has to change: decoded and measured."""
    return _produce(takes, None, None)


def join(takes: Sequence[Path], audio_format: AudioFormat) -> int:
    """As the gateway: as many times 30 s as there are takes of 32.8 s."""
    return _produce(takes, audio_format, 30 * len(takes))


def measure(takes: Sequence[Path], _: AudioFormat) -> int:
    """The gateway's look at a file: loudness, peak and waveform, decoding included."""
    with takes[0].open("rb") as file, open_sound(file.fileno()) as reader:
        look_at(reader)
    return 0


def convert_at_once(takes: Sequence[Path], audio_format: AudioFormat) -> int:
    """The reference: all of it decoded by soundfile, measured by pyloudnorm, and encoded, in memory."""
    samples, rate_hz = _measured_at_once(takes[0])
    made = BytesIO()
    container, subtype, quality = _SUBTYPES[audio_format]
    soundfile.write(made, samples, rate_hz, format=container, subtype=subtype, **quality)
    return len(made.getvalue())


def measure_at_once(takes: Sequence[Path], _: AudioFormat) -> int:
    """The reference of measuring, decoding included, and so of what is left as it is."""
    _measured_at_once(takes[0])
    return 0


def _measured_at_once(take: Path) -> tuple[NDArray[np.float32], int]:
    samples, rate_hz = soundfile.read(take, dtype="float32", always_2d=True)
    pyloudnorm.Meter(rate_hz).integrated_loudness(samples.astype(np.float64))
    return samples, rate_hz


WORKS: dict[str, Callable[[Sequence[Path], AudioFormat], int]] = {
    work.__name__: work for work in (convert, leave, join, measure, convert_at_once, measure_at_once)
}


def _warm_up(work: Callable[[Sequence[Path], AudioFormat], int], audio_format: AudioFormat) -> None:
    one = convert if work is join else work
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        noise = np.random.default_rng(1).normal(0, 0.1, (round(_WARM_UP_S * 48_000), 2))
        soundfile.write(file.name, noise, 48_000, subtype="PCM_16")
        one([Path(file.name)], audio_format)


def main(name: str, audio_format: AudioFormat, takes: Sequence[Path]) -> None:
    work, pid = WORKS[name], os.getpid()
    _warm_up(work, audio_format)
    before_mib = rss_mib(pid)
    forget_peak(pid)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    made_bytes = work(takes, audio_format)
    found = {
        "seconds": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - began_cpu_s,
        "before_mib": before_mib,
        "peak_mib": peak_rss_mib(pid),
        "made_mib": made_bytes / MIB,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], AudioFormat(sys.argv[2]), [Path(take) for take in sys.argv[3:]])
