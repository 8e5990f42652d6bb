"""A tiny MusicGen with random weights, from the library's own configuration classes. Nothing is downloaded.

It makes 8 kHz audio from five frames of codes a second where the real one makes 32 kHz from fifty, so that a
minute of music takes seconds to make and yet has windows, a delay pattern, guidance and a codec.
"""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

CODEBOOKS_A_CHANNEL = 4
CODES = 64
WIDTH = 16


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, so that any two prompts differ."""
    words = ["<pad>", "</s>", "<unk>", *(chr(code) for code in range(32, 127))]
    found = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    found.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    found.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def configuration(channels: int) -> MusicgenConfig:
    frame_rate, bits = 5, CODES.bit_length() - 1
    return MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=128,
            d_model=WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
        ),
        audio_encoder=EncodecConfig(
            sampling_rate=8_000,
            upsampling_ratios=[8, 5, 8, 5],
            target_bandwidths=[CODEBOOKS_A_CHANNEL * bits * frame_rate / 1000],
            codebook_size=CODES,
            hidden_size=WIDTH,
            num_filters=2,
            num_lstm_layers=2,
            use_causal_conv=False,  # as the published codec
        ),
        decoder=MusicgenDecoderConfig(
            vocab_size=CODES,
            hidden_size=2 * WIDTH,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_codebooks=CODEBOOKS_A_CHANNEL * channels,
            audio_channels=channels,
            pad_token_id=CODES,
            bos_token_id=CODES,
            initializer_factor=0.5,  # far from even chances, so that prompts, guidance and history are heard
        ),
    )


def build(directory: Path, channels: int) -> None:
    torch.manual_seed(2026)
    model = MusicgenForConditionalGeneration(configuration(channels))
    # Random codes are silent in a codec that was never trained: make its codes, and so the audio, large.
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_(std=4.0)
    model.generation_config.decoder_start_token_id = CODES
    model.generation_config.pad_token_id = CODES
    model.generation_config.bos_token_id = CODES
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
