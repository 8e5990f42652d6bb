"""The codes of clips, window by window, each clip with randomness of its own.

`transformers.MusicgenForConditionalGeneration.generate` is left aside for three reasons: it draws from the
one generator that all rows share, so a clip would depend on its neighbours; it gives audio and keeps the
codes, which the next window continues from; and it cannot be stopped. Everything else is the library's: the
forward pass with its cache, the delay pattern of the codebooks, and guidance by a second, unconditional half
of the batch. Where nothing is drawn by chance both make the same audio, to the bit: there is a test of it.

Longer music is made as audiocraft's ``GenModel._generate_tokens`` makes it: each window after the first
begins with the last codes of the one before (12 s of them unless set otherwise) and goes on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from musicgen_server.worker import Abandoned


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next code is chosen. A guidance of 1 is none; `top_k` codes are considered."""

    guidance: float
    temperature: float
    top_k: int


@dataclass(frozen=True, slots=True)
class Windows:
    """Lengths in frames of codes. `stride` is what each window after the first adds."""

    window: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride < self.window:
            raise ValueError("the stride is at least a frame, and shorter than the window")


@dataclass(frozen=True, slots=True)
class Condition:
    """The text encoder's states for what is wanted, and then for what is not, each once for every row."""

    states: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes codes of shape (rows, codebooks, frames)."""

    model: MusicgenForConditionalGeneration
    sampling: Sampling
    windows: Windows

    def compose(
        self,
        condition: Condition,
        generators: Sequence[torch.Generator],
        frames: int,
        stop: Callable[[], bool],
    ) -> Tensor:
        """One row per generator. Raises `Abandoned` at the first frame at which `stop` says so."""
        rows, codebooks = len(generators), self.model.decoder.num_codebooks
        codes = torch.empty((rows, codebooks, 0), dtype=torch.long, device=self.model.device)
        offset = 0
        while codes.shape[-1] < frames:
            prompt = codes[..., offset:]
            length = min(frames - offset, self.windows.window)
            window = self._window(condition, generators, prompt, length, stop)
            codes = torch.cat([codes, window[..., prompt.shape[-1] :]], dim=-1)
            offset += self.windows.stride
        return codes

    def _window(
        self,
        condition: Condition,
        generators: Sequence[torch.Generator],
        prompt: Tensor,
        frames: int,
        stop: Callable[[], bool],
    ) -> Tensor:
        """`frames` frames, of which the first are `prompt`."""
        decoder = self.model.decoder
        first = self.model.generation_config.decoder_start_token_id
        begun = torch.cat([prompt.new_full((*prompt.shape[:2], 1), first), prompt], dim=-1)
        delays = self._delays()
        fresh, pattern = decoder.build_delay_pattern_mask(
            begun.flatten(end_dim=1), pad_token_id=first, max_length=frames + max(delays) + 1
        )
        tokens = pattern.clone()
        cache = None
        for column in range(fresh.shape[-1], pattern.shape[-1]):
            if stop():
                raise Abandoned
            made = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=condition.states),
                attention_mask=condition.mask,
                decoder_input_ids=fresh.repeat(2, 1),
                cache=cache,
                use_cache=True,
            )
            cache = made.cache
            fixed = pattern[:, column]
            tokens[:, column] = torch.where(fixed == -1, self._choose(made.logits[:, -1], generators), fixed)
            fresh = tokens[:, column : column + 1]
        rows = tokens.reshape(len(generators), decoder.num_codebooks, -1)
        return torch.stack([rows[:, k, d + 1 : d + 1 + frames] for k, d in enumerate(delays)], dim=1)

    def _delays(self) -> list[int]:
        """By how many frames each codebook is late. Left and right alternate, with the same delay."""
        channels = self.model.config.decoder.audio_channels
        return [codebook // channels for codebook in range(self.model.decoder.num_codebooks)]

    def _choose(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw from each row's chances with the row's own generator: the largest of p / Exp(1) is a draw."""
        wanted, unwanted = logits.float().chunk(2)
        scores = (unwanted + (wanted - unwanted) * self.sampling.guidance) / self.sampling.temperature
        least = scores.topk(min(self.sampling.top_k, scores.shape[-1])).values[:, -1:]
        chances = scores.masked_fill(scores < least, -torch.inf).softmax(dim=-1)
        each = (chances.shape[0] // len(generators), chances.shape[-1])
        noise = [
            torch.empty(each, device=chances.device).exponential_(generator=generator)
            for generator in generators
        ]
        return (chances / torch.cat(noise)).argmax(dim=-1)
