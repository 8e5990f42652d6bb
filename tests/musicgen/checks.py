"""Builds the tiny models in two directories, and tells what only a look at them can. Runs where torch is."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from musicgen_server.contract import Piece, Refusal
from musicgen_server.settings import Settings
from musicgen_server.studio import MusicGenStudio
from tiny_model import build

PROMPT = "a slow waltz"


def opened(directory: str, **variables: str) -> MusicGenStudio:
    environment = {"MUSICGEN_MODEL": directory, "MUSICGEN_ACKNOWLEDGE_LICENCE": "own-weights", **variables}
    return MusicGenStudio.open(directory, Settings.read(environment))


def certain(studio: MusicGenStudio) -> MusicGenStudio:
    """Of which nothing is left to chance."""
    sampling = replace(studio.composer.sampling, top_k=1)
    return replace(studio, composer=replace(studio.composer, sampling=sampling), rows=1)


def recorded(studio: MusicGenStudio, piece: Piece, *seeds: int) -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / str(number) for number in range(len(seeds))]
        studio.record(piece, seeds, paths, lambda: False)
        return [path.read_bytes() for path in paths]


def codes(studio: MusicGenStudio, seconds: int, seed: int) -> torch.Tensor:
    return studio._codes(seconds, [seed], studio._condition(Piece(PROMPT, None, seconds)), lambda: False)[0]


def is_the_librarys(studio: MusicGenStudio) -> bool:
    """Without chance, a window is what `generate` makes, to the bit."""
    ours = codes(studio, 20, 0)
    theirs = studio.model.generate(
        **studio.tokenizer([PROMPT], return_tensors="pt"),
        do_sample=False,
        guidance_scale=3.0,
        max_length=ours.shape[-1] + 4,
    )
    return torch.equal(theirs[0], studio._decoded(ours))


def later_windows_continue(studio: MusicGenStudio) -> bool:
    """Without chance, the second window is what `generate` makes of the last codes of the first."""
    ours = codes(studio, 48, 0)  # one window of 30 s and 18 s of the next
    rate = 5
    theirs = studio.model.generate(
        **studio.tokenizer([PROMPT], return_tensors="pt"),
        decoder_input_ids=ours[:, 18 * rate : 30 * rate],
        do_sample=False,
        guidance_scale=3.0,
        max_length=30 * rate + 4,
    )
    return torch.equal(theirs[0], studio._decoded(ours[:, 18 * rate :]))


def seam_steps(studio: MusicGenStudio) -> int:
    """By how many of 32,768 steps decoding block by block differs from decoding at once, at most."""
    found = codes(studio, 65, 7)
    whole = (studio._decoded(found).T.clamp(-1, 1) * 32_767).round()
    blocks = b"".join(studio._blocks(found, studio.form.frames(65)))
    in_blocks = torch.frombuffer(bytearray(blocks), dtype=torch.int16).reshape(whole.shape)
    return int((whole - in_blocks).abs().max())


def peak_of_decoding(studio: MusicGenStudio) -> float:
    blocks = b"".join(studio._blocks(codes(studio, 5, 7), studio.form.frames(5)))
    return float(torch.frombuffer(bytearray(blocks), dtype=torch.int16).float().abs().max())


def rows_do_not_matter_alone(studio: MusicGenStudio) -> bool:
    """One by one and four at once: here equal too, though only the same MUSICGEN_ROWS is promised."""
    piece = Piece(PROMPT, None, 5)
    return recorded(replace(studio, rows=1), piece, 5, 6) == recorded(studio, piece, 5, 6)


def halves(directory: str) -> bool:
    """A decoder in half precision answers, and repeats itself alone and among others."""
    studio = opened(directory, MUSICGEN_DTYPE="bfloat16")
    piece = Piece(PROMPT, "drums", 5)
    return recorded(studio, piece, 6) == recorded(studio, piece, 5, 6)[1:]


class Greedy:
    """A composer for which no memory suffices."""

    def compose(self, *_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError


def says_that_memory_did_not_suffice(studio: MusicGenStudio) -> str:
    try:
        recorded(replace(studio, composer=Greedy()), Piece(PROMPT, None, 5), 1)
    except Refusal as refusal:
        return f"{refusal.code} {refusal.status}: {refusal.message}"
    return ""


if __name__ == "__main__":
    for channels, directory in enumerate(sys.argv[1:], start=1):
        build(Path(directory), channels)
    mono, stereo = opened(sys.argv[1]), opened(sys.argv[2])
    with torch.inference_mode():
        answer = {
            "is_the_librarys": [is_the_librarys(certain(mono)), is_the_librarys(certain(stereo))],
            "later_windows_continue": [
                later_windows_continue(certain(mono)),
                later_windows_continue(certain(stereo)),
            ],
            "seam_steps": [seam_steps(mono), seam_steps(stereo)],
            "peak_of_decoding": peak_of_decoding(mono),
            "rows_do_not_matter_alone": rows_do_not_matter_alone(mono),
            "memory": says_that_memory_did_not_suffice(mono),
            "halves": halves(sys.argv[1]),
        }
    sys.stdout.write(json.dumps(answer))
