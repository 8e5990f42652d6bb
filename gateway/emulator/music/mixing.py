"""From parts to a finished stereo (or mono) signal: panning, echo, room, loudness, limiter, fade."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.emulator.music.synth import Signal, good_length, noise
from gateway.emulator.music.theory import Chance

_CEILING = 10 ** (-1.0 / 20)
_LOOK_FRAMES = 240
_LOOK_BLOCKS = 5
_DC_HZ = 28.0


class Desk:
    """Collects parts as they are played: what is heard directly, and what goes to the room."""

    def __init__(self, channels: int, frames: int, rate_hz: int) -> None:
        self.dry = np.zeros((channels, frames), np.float32)
        self.room = np.zeros((channels, frames), np.float32)
        self.rate_hz = rate_hz

    def add(self, part: Signal, *, level: float, room: float) -> None:
        self.dry += part * np.float32(level)
        if room:
            self.room += part * np.float32(level * room)


def place(buffer: Signal, sound: Signal, start: int, gain: float, pan: float) -> None:
    """Add a sound (channels or 1, frames) at a frame; what would pass the end is cut."""
    frames = min(sound.shape[1], buffer.shape[1] - start)
    if frames <= 0:
        return
    if len(buffer) == 1:
        buffer[0, start : start + frames] += sound[0, :frames] * np.float32(gain)
        return
    angle = (pan + 1.0) * np.pi / 4
    gains = np.array([[np.cos(angle)], [np.sin(angle)]], np.float32) * np.float32(gain * 2**0.5)
    buffer[:, start : start + frames] += sound[:, :frames] * gains


def with_echo(part: Signal, delay_frames: int, level: float) -> Signal:
    """Three echoes, each softer, going from side to side."""
    out = part.copy()
    for tap in range(1, 4):
        shift = tap * delay_frames
        if shift >= part.shape[1]:
            break
        source = part[:: -1 if tap % 2 else 1, : part.shape[1] - shift]
        out[:, shift:] += source * np.float32(level**tap)
    return out


def driven(part: Signal, amount: float, rate_hz: int) -> Signal:
    """An overdriven amplifier and the loudspeaker that tames it."""
    level = float(np.sqrt(np.mean(part**2))) or 1.0
    hot = np.tanh(part * np.float32(amount / level))
    return _filtered(hot, 85.0, 4300.0, rate_hz) * np.float32(level * 1.6)


def trembling(part: Signal, rate_hz: int, speed_hz: float, depth: float) -> Signal:
    """Loudness swinging between the sides."""
    swing = np.sin(np.arange(part.shape[1]) * (2 * np.pi * speed_hz / rate_hz)) * depth
    sides = [1.0 + swing, 1.0 - swing][: len(part)]
    return part * np.array(sides, np.float32)


def pumped(part: Signal, kicks: list[int], rate_hz: int, depth: float) -> Signal:
    """Ducks under every kick and comes back within a third of a second."""
    curve = np.ones(part.shape[1], np.float32)
    length = round(0.32 * rate_hz)
    duck = (1.0 - depth * (1.0 - np.linspace(0.0, 1.0, length)) ** 1.5).astype(np.float32)
    for kick in kicks:
        piece = curve[kick : kick + length]
        np.minimum(piece, duck[: len(piece)], out=piece)
    return part * curve


def crackle(frames: int, rate_hz: int, chance: Chance) -> Signal:
    """An old record: dust and a little hiss."""
    sound = np.zeros(frames, np.float32)
    count = max(1, round(14 * frames / rate_hz))
    where = chance.integers(0, frames, count)
    sound[where] = chance.exponential(0.5, count).astype(np.float32) * chance.choice((-1.0, 1.0), count)
    hiss = noise(frames, 800.0, 7000.0, rate_hz, chance)
    dust: Signal = _filtered(sound[None, :], 900.0, 7500.0, rate_hz)[0] * np.float32(0.12)
    return dust + hiss * np.float32(0.0025)


@dataclass(frozen=True, slots=True)
class Finish:
    """How the piece leaves the desk. ``dark`` from 0 to 1 rounds off the top; levels as RMS in dBFS."""

    reverb_s: float
    reverb_level: float
    dark: float
    rms_db: float
    fade_s: float


def finish(desk: Desk, how: Finish, chance: Chance) -> Signal:
    """Room, tone, loudness, limiter and fade. The peak is at most -1 dBFS."""
    channels, frames = desk.dry.shape
    tail = min(round(how.reverb_s * desk.rate_hz), 4 * frames)
    length = good_length(frames + tail)
    hz = np.fft.rfftfreq(length, 1.0 / desk.rate_hz)
    top_hz = 17_000.0 * (1.0 - how.dark) + 4200.0 * how.dark
    low = np.maximum(hz, 1e-3) / _DC_HZ
    mask = (low**4 / (1.0 + low**4) / (1.0 + (hz / top_hz) ** 4)).astype(np.float32)
    mixed = np.empty((channels, frames), np.float32)
    for channel in range(channels):
        bins = np.fft.rfft(_room(tail, desk.rate_hz, chance), length)
        bins *= np.fft.rfft(desk.room[channel], length) * np.float32(how.reverb_level)
        bins += np.fft.rfft(desk.dry[channel], length)
        bins *= mask
        mixed[channel] = np.fft.irfft(bins, length)[:frames]
    return _faded(_mastered(mixed, how.rms_db), how.fade_s, desk.rate_hz)


def _room(frames: int, rate_hz: int, chance: Chance) -> Signal:
    """The room's answer to a click: noise that dies away, its high part sooner, after a short gap."""
    if frames < 64:  # noqa: PLR2004 - shorter than any room
        return np.zeros(max(1, frames), np.float32)
    time = np.arange(frames, dtype=np.float32) / np.float32(frames)
    seconds = frames / rate_hz
    low = noise(frames, 120.0, 1500.0, rate_hz, chance) * np.exp(time * np.float32(-6.9))
    high = noise(frames, 1500.0, 7000.0, rate_hz, chance) * np.exp(time * np.float32(-13.0))
    sound: Signal = low + high * np.float32(0.7)
    gap = min(frames // 4, round((0.008 + 0.006 * seconds) * rate_hz))
    sound[:gap] = 0.0
    sound /= np.float32(np.sqrt(np.sum(sound**2)) or 1.0)
    return sound


def _mastered(mixed: Signal, rms_db: float) -> Signal:
    """To the wanted loudness, twice, because limiting takes some of it away."""
    target = 10 ** (rms_db / 20)
    for _ in range(2):
        level = float(np.sqrt(np.mean(mixed**2)))
        mixed = _limited(mixed * np.float32(target / max(level, 1e-9)))
    return mixed


def _limited(signal: Signal) -> Signal:
    """Turns down ahead of peaks, for a few milliseconds about each: nothing is clipped."""
    frames = signal.shape[1]
    blocks = -(-frames // _LOOK_FRAMES)
    loudest = np.zeros(blocks * _LOOK_FRAMES, np.float32)
    loudest[:frames] = np.abs(signal).max(axis=0)
    peaks = loudest.reshape(blocks, _LOOK_FRAMES).max(axis=1)
    needed = np.minimum(1.0, _CEILING / np.maximum(peaks, 1e-9))
    # The smallest gain needed nearby, then smoothed over the same neighbourhood: never above what is needed.
    wide = _neighbourhood(needed, _LOOK_BLOCKS).min(axis=1)
    weights = np.hanning(2 * _LOOK_BLOCKS - 1)
    smooth = _neighbourhood(wide, _LOOK_BLOCKS - 1) @ (weights / weights.sum())
    centres = (np.arange(blocks) + 0.5) * _LOOK_FRAMES
    gain = np.interp(np.arange(frames), centres, smooth).astype(np.float32)
    limited: Signal = np.clip(signal * gain, -_CEILING, _CEILING)
    return limited


def _neighbourhood(values: NDArray[np.floating], reach: int) -> NDArray[np.floating]:
    padded = np.pad(values, reach, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)


def _faded(signal: Signal, fade_s: float, rate_hz: int) -> Signal:
    frames = signal.shape[1]
    start = min(frames, round(0.004 * rate_hz))
    end = min(frames, round(fade_s * rate_hz))
    signal[:, :start] *= np.linspace(0.0, 1.0, start, dtype=np.float32)
    signal[:, frames - end :] *= np.cos(np.linspace(0.0, np.pi / 2, end)).astype(np.float32) ** 1.5
    return signal


def _filtered(part: Signal, low_hz: float, high_hz: float, rate_hz: int) -> Signal:
    frames = part.shape[1]
    length = good_length(frames + rate_hz // 10)
    hz = np.fft.rfftfreq(length, 1.0 / rate_hz)
    mask = 1.0 / (1.0 + (low_hz / np.maximum(hz, 1e-3)) ** 4) / (1.0 + (hz / high_hz) ** 6)
    bins = np.fft.rfft(part, length, axis=1) * mask.astype(np.float32)
    return np.fft.irfft(bins, length, axis=1)[:, :frames].astype(np.float32)
