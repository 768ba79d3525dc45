"""Tiny random Whispers with a decoder and a tokenizer."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

END, START, NO_TIMESTAMPS = 256, 257, 258
WINDOW = 16000  # samples: 50 frames of 20 ms


def make_teacher(folder, d_model=16, full=False, tokens=()):
    """A tiny random Whisper with a window of one second (30 if full), and a tokenizer of bytes."""
    torch.manual_seed(3)
    config = WhisperConfig(
        vocab_size=260 + len(tokens),
        d_model=d_model,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=1500 if full else 50,
        max_target_positions=448 if full else 40,
        pad_token_id=END,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        # The end must come now and then, at different steps.
        model.model.decoder.embed_tokens.weight[END] *= 2.0
    model.generation_config = GenerationConfig(
        decoder_start_token_id=START,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
        no_timestamps_token_id=NO_TIMESTAMPS,
        suppress_tokens=[*range(100, 256), START, NO_TIMESTAMPS, 259],
        begin_suppress_tokens=[1, END],
        is_multilingual=False,
        return_timestamps=False,
    )
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens([*special, *tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def save_ear(folder: Path) -> Path:
    """`make_teacher`'s, whose generation config names the heads that follow the speech."""
    make_teacher(folder)
    file = folder / "generation_config.json"
    heads = {"alignment_heads": [[0, 1], [1, 0]]}
    file.write_text(json.dumps(json.loads(file.read_text()) | heads))
    return folder
