"""Where takes are joined: at a quiet moment, and so that the beats of both fall together if they have any.

Takes are crossed with equal power, which keeps the loudness of two that have nothing to do with each other.
How much may be given up for that is what all takes together have too much; the rest is cut from the last.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gateway.audio.lengths import LEAST_OVERLAP_S
from gateway.audio.loudness import hop_frames
from gateway.audio.shaping import skipped
from gateway.audio.sound import Block
from gateway.audio.survey import Survey

_OVERLAPS_S = (2.0, 1.0, LEAST_OVERLAP_S)
#: How far from its ends a take may be left and entered.
_REACH_S = 8.0
_LARGEST_GAIN_DB = 6.0
#: What counts beside the beats that meet: that the music sinks or rises by few tens of decibels, and
#: that it is crossed between two beats.
_EVEN_WEIGHT = 16.0
_QUIET_WEIGHT = 0.2
#: Over fewer hops beats may seem to meet by chance.
_TRUSTED_HOPS = 100
#: A second of what is heard before a crossing, and after it; and three of the music on its sides.
_HEARD_HOPS = 50
_SIDE_HOPS = 150
_SIDES_WEIGHT = 0.25
#: And that neither take has a beat where the crossing begins and ends, within so many hops.
_EDGE_WEIGHT = 1.0
_EDGE_HOPS = 3
_SILENCE = 1e-8
#: A sum of two takes may be louder than either.
_HEADROOM_DB = -0.5


@dataclass(frozen=True, slots=True)
class Seam:
    """In frames: what is dropped of the first take's end and of the second's start, and how they overlap."""

    tail: int
    head: int
    overlap: int


_Scores = NDArray[np.float64]


def gains_of(surveys: Sequence[Survey]) -> list[float]:
    """Factors that bring all takes to one loudness, their median, as far as none becomes too loud."""
    known = [s.loudness_lufs for s in surveys if s.loudness_lufs is not None]
    if not known:
        return [1.0] * len(surveys)
    target = float(np.median(known))
    gains_db = [0.0 if s.loudness_lufs is None else _limited(target - s.loudness_lufs) for s in surveys]
    loudest_db = max((s.peak_dbfs or -math.inf) + gain for s, gain in zip(surveys, gains_db, strict=True))
    headroom_db = min(0.0, _HEADROOM_DB - loudest_db) if any(gains_db) else 0.0
    return [10 ** ((gain + headroom_db) / 20) for gain in gains_db]


def find_seams(surveys: Sequence[Survey], wanted: int | None) -> list[Seam]:
    """A seam between each two takes, which together reach ``wanted`` frames (None: as many as there are)."""
    rate_hz = surveys[0].facts.sample_rate_hz
    least = round(LEAST_OVERLAP_S * rate_hz)
    seams: list[Seam] = []
    spare = sum(s.facts.frames for s in surveys) - (wanted or math.inf)
    for place, (first, second) in enumerate(pairwise(surveys)):
        left = len(surveys) - 1 - place
        # Each seam may spend an equal share of what is left, and at least as much as takes overlap by.
        budget = least if wanted is None else max(least, int(spare) // left)
        seam = _best(first, second, min(budget, round(_REACH_S * rate_hz)), least)
        seams.append(seam)
        spare -= seam.tail + seam.head + seam.overlap
    return seams


def _best(first: Survey, second: Survey, budget: int, least: int) -> Seam:
    """The seam that costs least among those that spend no more than the budget."""
    rate_hz = first.facts.sample_rate_hz
    shortest = min(first.facts.frames, second.facts.frames) // 2
    overlaps = {max(least, round(seconds * rate_hz)) for seconds in _OVERLAPS_S}
    affordable = [overlap for overlap in overlaps if overlap <= min(budget, shortest)] or [
        min(least, shortest)
    ]
    found = [
        _best_of(first, second, overlap, max(0, min(budget, shortest) - overlap))
        for overlap in sorted(affordable, reverse=True)
    ]
    return max(found, key=lambda scored: scored[0])[1]


def _best_of(first: Survey, second: Survey, overlap: int, spare: int) -> tuple[float, Seam]:
    hop = hop_frames(first.facts.sample_rate_hz)
    slack, width = spare // hop, max(2, overlap // hop)
    ends = _windows(first.levels[::-1][: slack + width][::-1], width)
    starts = _windows(second.levels[: slack + width], width)
    if not len(ends) or not len(starts):
        return -math.inf, Seam(0, 0, overlap)
    # Row i of `ends` leaves the first take (its number of rows less one, less i) hops before its end.
    score = _shape(ends) @ _shape(starts).T / max(width, _TRUSTED_HOPS)
    score -= _EVEN_WEIGHT * _unevenness(first, second, ends, starts)
    entries = _QUIET_WEIGHT * _middle(ends) + _EDGE_WEIGHT * _edges(
        first.levels[-len(ends) - width :], len(ends)
    )
    exits = _QUIET_WEIGHT * _middle(starts) + _EDGE_WEIGHT * _edges(second.levels[width - 1 :], len(starts))
    score -= entries[:, np.newaxis] + exits[np.newaxis, :]
    tails = np.arange(len(ends))[::-1]
    score[tails[:, np.newaxis] + np.arange(len(starts)) > slack] = -math.inf
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(score[row, column]), Seam(int(tails[row]) * hop, int(column) * hop, overlap)


def _windows(levels: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if len(levels) < width:
        return np.zeros((0, width), dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(levels, width)


def _shape(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """How suddenly it becomes louder, hop by hop, of each window alike: beats stand out."""
    rise = np.maximum(
        0, np.diff(np.log10(windows + _SILENCE), axis=1, prepend=np.log10(windows[:, :1] + _SILENCE))
    )
    rise -= rise.mean(axis=1, keepdims=True)
    spread = rise.std(axis=1, keepdims=True)
    shape: NDArray[np.float64] = np.divide(rise, spread, out=np.zeros_like(rise), where=spread > 0)
    return shape


def _unevenness(
    first: Survey, second: Survey, ends: NDArray[np.float64], starts: NDArray[np.float64]
) -> _Scores:
    """By how many tens of decibels the music sinks or rises where each two windows cross.

    That is: below and above what is on both sides, and a part of what the sides differ by. What is heard of
    a crossing is that with a second before it and a second after.
    """
    width = ends.shape[1]
    angle = np.linspace(0, np.pi / 2, width)
    falling, rising = ends @ np.square(np.cos(angle)), starts @ np.square(np.sin(angle))
    left, right = first.levels, second.levels[::-1]
    before, side_before = (_before(left, width, len(ends), hops) for hops in (_HEARD_HOPS, _SIDE_HOPS))
    after, side_after = (_before(right, width, len(starts), hops)[::-1] for hops in (_HEARD_HOPS, _SIDE_HOPS))
    heard = (falling + _HEARD_HOPS * before)[:, np.newaxis] + (rising + _HEARD_HOPS * after)[np.newaxis, :]
    across = np.log10(heard / (width + 2 * _HEARD_HOPS) + _SILENCE)
    one = np.log10(side_before + _SILENCE)[:, np.newaxis]
    other = np.log10(side_after + _SILENCE)[np.newaxis, :]
    sunk, risen = np.minimum(one, other) - across, across - np.maximum(one, other)
    uneven: _Scores = np.maximum(0, np.maximum(sunk, risen)) + _SIDES_WEIGHT * np.abs(one - other)
    return uneven


def _before(levels: NDArray[np.float64], width: int, count: int, hops: int) -> NDArray[np.float64]:
    """How loud it is in the ``hops`` before each of the last ``count`` windows of ``width``."""
    padded = np.pad(levels, (hops, 0), mode="edge")[-(hops + width + count - 1) :]
    found: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, hops)[:count].mean(axis=1)
    return found


def _edges(levels: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """How suddenly it becomes louder around each of the first ``count`` hops."""
    padded = np.pad(levels, (_EDGE_HOPS, count + 2 * _EDGE_HOPS), mode="edge")
    rise = np.maximum(0, np.diff(np.log10(padded + _SILENCE)))
    around = np.lib.stride_tricks.sliding_window_view(rise, 2 * _EDGE_HOPS)
    found: NDArray[np.float64] = around[:count].max(axis=1)
    return found


def _middle(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """How loud the middle of each window is beside the whole of it: below 0 it lies between two beats."""
    middle = windows[:, windows.shape[1] // 2]
    level: NDArray[np.float64] = np.log10((middle + _SILENCE) / (windows.mean(axis=1) + _SILENCE))
    return np.clip(level, -1, 1)


def splice(
    takes: Sequence[Iterable[Block]], lengths: Sequence[int], seams: Sequence[Seam]
) -> Iterator[Block]:
    """The takes, already of one loudness, as one stream. ``lengths`` are theirs in frames."""
    ending: Block | None = None
    for place, (blocks, length) in enumerate(zip(takes, lengths, strict=True)):
        start = seams[place - 1].head if place else 0
        stop = length - (seams[place].tail if place < len(seams) else 0)
        body = skipped(blocks, start, stop)
        if ending is not None:
            body = _crossed(ending, body)
        if place == len(seams):
            yield from body
            return
        held = _Held(seams[place].overlap)
        yield from held.all_but_last(body)
        ending = held.last


def _crossed(ending: Block, body: Iterable[Block]) -> Iterator[Block]:
    """The first of ``body`` rises while ``ending`` falls: sine and cosine, so that the power stays."""
    angle: NDArray[np.float32] = np.linspace(0, np.pi / 2, len(ending), dtype=np.float32)[:, np.newaxis]
    at = 0
    for block in body:
        part = block[: len(ending) - at]
        if len(part):
            there = slice(at, at + len(part))
            yield ending[there] * np.cos(angle[there]) + part * np.sin(angle[there])
            at += len(part)
        if len(part) < len(block):
            yield block[len(part) :]


class _Held:
    """Keeps back the last frames of a stream."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.last: Block = np.zeros((0, 1), dtype=np.float32)

    def all_but_last(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            self.last = np.concatenate([self.last, block]) if len(self.last) else block
            surplus = len(self.last) - self._frames
            if surplus > 0:
                yield self.last[:surplus]
                self.last = self.last[surplus:]


def _limited(gain_db: float) -> float:
    return min(_LARGEST_GAIN_DB, max(-_LARGEST_GAIN_DB, gain_db))


def seconds_of(seams: Sequence[Seam], lengths: Sequence[int], rate_hz: int) -> list[float]:
    """When in the joined piece each seam begins."""
    found: list[float] = []
    at = 0
    for seam, length in zip(seams, lengths, strict=False):
        at += length - seam.tail - seam.overlap - (seams[len(found) - 1].head if found else 0)
        found.append(at / rate_hz)
    return found
