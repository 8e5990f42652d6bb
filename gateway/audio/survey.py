"""One pass over a sound: how long, how loud, and where it is busy and quiet."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.audio.loudness import LoudnessMeter
from gateway.audio.sound import Block, SoundFacts, SoundReader, Undecodable
from gateway.audio.waveform import WaveformMeter


@dataclass(frozen=True, slots=True)
class Survey:
    """``facts`` have the frames that there really are; ``levels`` are mean squares, hop by hop, as heard."""

    facts: SoundFacts
    peak_dbfs: float | None
    loudness_lufs: float | None
    waveform: bytes
    levels: NDArray[np.float64]


class Surveyor:
    """Looks at blocks as they pass."""

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self._loudness = LoudnessMeter(sample_rate_hz, channels)
        self._waveform = WaveformMeter(sample_rate_hz)
        self.frames = 0

    def see(self, block: Block) -> None:
        self.frames += len(block)
        self._loudness.feed(block)
        self._waveform.feed(block)

    def survey(self, facts: SoundFacts) -> Survey:
        return Survey(
            facts,
            self._loudness.peak_dbfs(),
            self._loudness.integrated_lufs(),
            self._waveform.bars(),
            self._loudness.levels(),
        )


def look_at(reader: SoundReader) -> Survey:
    """Decode all of it. Raises `gateway.audio.sound.Undecodable`, also when there is nothing."""
    facts = reader.facts
    surveyor = Surveyor(facts.sample_rate_hz, facts.channels)
    for block in reader.blocks():
        surveyor.see(block)
    if not surveyor.frames:
        raise Undecodable("it has no sound")
    return surveyor.survey(replace(facts, frames=surveyor.frames))
