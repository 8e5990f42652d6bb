"""The loaded model: a prompt and seeds become WAV files."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, PreTrainedTokenizerBase

from musicgen_server import wav
from musicgen_server.composing import Composer, Condition, Sampling, Windows
from musicgen_server.contract import Piece, Refusal
from musicgen_server.settings import Settings
from musicgen_server.wav import Format

# Seconds of codes that are decoded on both sides of a block and thrown away again, for what a codec makes of
# a code depends on its neighbours: without them the seam could be heard.
_MARGIN_S = 2
_LOUDEST = 32_767

log = logging.getLogger("musicgen")


@dataclass(frozen=True, slots=True)
class MusicGenStudio:
    """As `musicgen_server.worker.Studio`.

    `rows` clips are computed together, always, also when fewer are wanted: what a device computes for a
    row depends in its last bits on how many there are, and a seed shall give one clip, alone or among others.
    """

    model: MusicgenForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    composer: Composer
    rows: int

    @classmethod
    def open(cls, source: str, settings: Settings) -> "MusicGenStudio":
        """Load a directory, or what the hub has under this name. Raises what `transformers` raises."""
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = settings.dtype
        if dtype == "auto":
            dtype = "float16" if device.startswith("cuda") else "float32"
        model = MusicgenForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
        # Most weights and nearly all of the time are the decoder's. T5 is known to overflow in half
        # precision, and the codec is small: both stay as they are.
        model.decoder.to(getattr(torch, dtype))
        if hasattr(model, "enc_to_dec_proj"):
            model.enc_to_dec_proj.to(getattr(torch, dtype))
        model.to(device)
        torch.backends.cudnn.deterministic = True
        codec = model.config.audio_encoder
        windows = Windows(
            settings.window_s * codec.sampling_rate // codec.hop_length,
            settings.stride_s * codec.sampling_rate // codec.hop_length,
        )
        sampling = Sampling(settings.guidance, settings.temperature, settings.top_k)
        log.info("loaded %s on %s, decoder in %s", source, device, dtype)
        return cls(
            model, AutoTokenizer.from_pretrained(source), Composer(model, sampling, windows), settings.rows
        )

    @property
    def form(self) -> Format:
        return Format(self.model.config.audio_encoder.sampling_rate, self.model.config.decoder.audio_channels)

    def rehearse(self) -> None:
        with tempfile.TemporaryDirectory(prefix="musicgen-") as directory:
            self.record(Piece("warm-up", None, 1), [0], [Path(directory) / "0.wav"], lambda: False)

    def record(
        self, piece: Piece, seeds: Sequence[int], paths: Sequence[Path], stop: Callable[[], bool]
    ) -> None:
        try:
            with torch.inference_mode():
                self._record(piece, seeds, paths, stop)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(len(seeds), piece.seconds) from error
        finally:
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()

    def _record(
        self, piece: Piece, seeds: Sequence[int], paths: Sequence[Path], stop: Callable[[], bool]
    ) -> None:
        condition = self._condition(piece)
        for first in range(0, len(seeds), self.rows):
            group = list(seeds[first : first + self.rows])
            codes = self._codes(piece.seconds, group, condition, stop)
            # There may be more rows than clips are wanted.
            for row, path in zip(codes, paths[first : first + self.rows], strict=False):
                wav.write(path, self.form, self._blocks(row, self.form.frames(piece.seconds)))

    def _codes(
        self, seconds: int, seeds: list[int], condition: Condition, stop: Callable[[], bool]
    ) -> Tensor:
        """A row per seed, and some more of which nothing is used."""
        filled = seeds + seeds[-1:] * (self.rows - len(seeds))
        generators = [torch.Generator(self.model.device).manual_seed(seed) for seed in filled]
        hop = self.model.config.audio_encoder.hop_length
        frames = -(-self.form.frames(seconds) // hop)
        return self.composer.compose(condition, generators, frames, stop)

    def _condition(self, piece: Piece) -> Condition:
        """Without a negative prompt, guidance leads away from nothing at all, as the model was trained to."""
        texts = [piece.prompt] if piece.negative_prompt is None else [piece.prompt, piece.negative_prompt]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.model.device)
        mask = tokens["attention_mask"]
        states = self.model.text_encoder(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
        if piece.negative_prompt is None:
            states = torch.cat([states, torch.zeros_like(states)])
            mask = torch.cat([mask, torch.zeros_like(mask)])
        return Condition(
            states.to(self.model.decoder.dtype).repeat_interleave(self.rows, dim=0),
            mask.repeat_interleave(self.rows, dim=0),
        )

    def _blocks(self, codes: Tensor, frames: int) -> Iterator[bytes]:
        """`frames` samples a channel, a window at a time: five minutes at once would take gigabytes."""
        codec = self.model.config.audio_encoder
        margin = _MARGIN_S * codec.sampling_rate // codec.hop_length
        for start in range(0, codes.shape[-1], self.composer.windows.window):
            end = min(start + self.composer.windows.window, codes.shape[-1])
            before = max(0, start - margin)
            audio = self._decoded(codes[:, before : end + margin])
            audio = audio[:, (start - before) * codec.hop_length : (end - before) * codec.hop_length]
            audio = audio[:, : frames - start * codec.hop_length]
            samples = (audio.T.clamp(-1, 1) * _LOUDEST).round().to(torch.int16).contiguous().cpu()
            yield samples.numpy().astype("<i2", copy=False).tobytes()

    def _decoded(self, codes: Tensor) -> Tensor:
        """(codebooks, frames) to (channels, samples). Stereo is a mono codec, with codebooks by turns."""
        channels = self.model.config.decoder.audio_channels
        heard = [
            self.model.audio_encoder.decode(codes[None, None, channel::channels], [None]).audio_values[0, 0]
            for channel in range(channels)
        ]
        return torch.stack(heard)


class OutOfMemoryError(Refusal):
    """The device's memory did not suffice."""

    def __init__(self, clips: int, seconds: int) -> None:
        super().__init__(
            503,
            "RESOURCE_EXHAUSTED",
            f"The device ran out of memory making {clips} x {seconds} s. Lower MUSICGEN_ROWS, or serve "
            "from a larger GPU.",
        )
