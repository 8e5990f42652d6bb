"""Takes that are joined: ten of them to five minutes beside two to one. Memory must not know which."""

from pathlib import Path

from gateway.model import AudioFormat
from tests.bench.conversions import TAKE_S, Worked, added, composed, times_real, worked
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench

_MANY, _FEW = 10, 2
_PIECE_S = 30
_MOST_TIMES = 1.1


def measure(bench: Bench) -> list[Section]:
    """A section for WAV, which costs least, and one for MP3, which costs most."""
    takes = [composed(bench.directory, seed) for seed in range(1, _MANY + 1)]
    return [_compare(bench, takes, audio_format) for audio_format in (AudioFormat.WAV, AudioFormat.MP3)]


def _compare(bench: Bench, takes: list[Path], audio_format: AudioFormat) -> Section:
    many: list[Worked] = []
    few: list[Worked] = []
    for _ in range(bench.rounds):
        for count, side in ((_MANY, many), (_FEW, few)):
            side.append(worked("join", audio_format, takes[:count], count * _PIECE_S))
    one, other = f"{_MANY} to {_MANY * _PIECE_S} s", f"{_FEW} to {_FEW * _PIECE_S} s"
    found = Section(
        f"Joins, {audio_format.value}", f"takes of {TAKE_S:g} s, {bench.rounds} rounds, a process each"
    )
    for name, side in ((one, many), (other, few)):
        found.add(times_real(name, side))
        found.add(Series(f"{name}, wall time", "s", tuple(each.seconds for each in side), 1))
        found.add(added(f"{name}, memory added", side))
    found.add(Series(f"{one}, peak RSS of the process", "MiB", tuple(each.peak_mib for each in many)))
    found.add(
        ratio("peak RSS of the process", [w.peak_mib for w in many], [w.peak_mib for w in few]),
        Aim(most=_MOST_TIMES),
    )
    found.add(ratio("speed", [w.times_real for w in many], [w.times_real for w in few]))
    return found
