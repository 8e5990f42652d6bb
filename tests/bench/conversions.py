"""What is done to a take, block by block: each format, nothing at all, and measuring; the same in one go."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.emulator.music.composer import Order, compose
from gateway.model import AudioFormat
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench

TAKE_S = 32.8
_RATE_HZ = 48_000
_WITHIN_S = 300.0
_LEAST_RATIO = 0.5
_MOST_ADDED_MIB = 16.0


@dataclass(frozen=True, slots=True)
class Worked:
    """What `tests.bench.sounds` told of one piece of work. The audio that was made is ``audio_s`` long."""

    audio_s: float
    seconds: float
    cpu_s: float
    before_mib: float
    peak_mib: float
    made_mib: float

    @property
    def times_real(self) -> float:
        """By processor time: what else the machine does is not the work's."""
        return self.audio_s / self.cpu_s

    @property
    def added_mib(self) -> float:
        return self.peak_mib - self.before_mib


def measure(bench: Bench) -> list[Section]:
    """Two sections: what a take becomes, and measuring alone."""
    take = composed(bench.directory, 1)
    found = Section(
        "Conversions of a take",
        f"{TAKE_S:g} s at {_RATE_HZ // 1000} kHz, stereo, {bench.rounds} rounds, a process each; "
        "in one go: soundfile decodes and encodes in memory, pyloudnorm measures",
    )
    for audio_format in AudioFormat:
        _compare(bench, found, take, audio_format, audio_format.value, ("convert", "convert_at_once"))
    _compare(bench, found, take, AudioFormat.WAV, "untouched", ("leave", "measure_at_once"))
    loudness = Section(
        "Loudness of a take",
        f"{bench.rounds} rounds, a process each, decoding included; block by block also peak and waveform",
    )
    works = ("measure", "measure_at_once")
    _compare(bench, loudness, take, AudioFormat.WAV, "measuring", works, other="pyloudnorm")
    return [found, loudness]


def _compare(
    bench: Bench,
    found: Section,
    take: Path,
    audio_format: AudioFormat,
    what: str,
    works: tuple[str, str],
    other: str = "in one go",
) -> None:
    ours: list[Worked] = []
    theirs: list[Worked] = []
    for _ in range(bench.rounds):
        for work, side in zip(works, (ours, theirs), strict=True):
            side.append(worked(work, audio_format, [take], TAKE_S))
    speeds = [[each.times_real for each in side] for side in (ours, theirs)]
    found.add(times_real(f"{what}, block by block", ours))
    found.add(times_real(f"{what}, {other}", theirs))
    found.add(ratio(f"{what}, block by block / {other}", *speeds), Aim(least=_LEAST_RATIO))
    found.add(added(f"{what}, block by block, memory added", ours), Aim(most=_MOST_ADDED_MIB))
    found.add(added(f"{what}, {other}, memory added", theirs))


def composed(directory: Path, seed: int) -> Path:
    """A take of the emulator's, composed once a run."""
    path = directory / f"take-{seed}.wav"
    if not path.exists():
        frames = round(TAKE_S * _RATE_HZ)
        path.write_bytes(compose(Order("slow piano with soft strings", "", seed, frames, _RATE_HZ, 2)))
    return path


def worked(work: str, audio_format: AudioFormat, takes: Sequence[Path], audio_s: float) -> Worked:
    """The work done once, in a new process."""
    command = [sys.executable, "-m", "tests.bench.sounds", work, audio_format.value, *map(str, takes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WITHIN_S)
    return Worked(audio_s=audio_s, **json.loads(done.stdout))


def times_real(name: str, side: Sequence[Worked]) -> Series:
    return Series(name, "times real time", tuple(each.times_real for each in side))


def added(name: str, side: Sequence[Worked]) -> Series:
    return Series(name, "MiB", tuple(each.added_mib for each in side))
