"""Tiny random models of `transformers` that scatter audio over placeholders, and their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import Tensor

from espnet_prune.speech_llm.prompts import pad
from test.espnet_prune.speech_llm.models import phi4_config, randomize, seeded, tokenizer

TOKENIZER = tokenizer()
AUDIO, PAD = TOKENIZER.convert_tokens_to_ids("<|AUDIO|>"), TOKENIZER.pad_token_id
BINS = 16
TEXT = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 4096,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": None,
}
AUDIO_HEADS = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
WHISPER = {
    "num_mel_bins": BINS,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
OMNI = {"num_mel_bins": BINS, "d_model": 16, "output_dim": 24, **AUDIO_HEADS}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 10000.0}


@dataclass(frozen=True)
class Tiny:
    """One class: its configuration, and how features of `frames` are named and shaped.

    Attributes:
        name: of the class.
        tokens: audio tokens of a clip of so many frames.
        frames: of clips, the longest first.
        mask: name of the mask over frames, None without one.
        sees_batch: the encoder gives a clip other numbers in another batch.
        time_first: features are (clips, frames, bins) instead of (clips, bins, frames).
        features: name of the features.
        sizes: name of the numbers of audio tokens, if the model is given them.
    """

    name: str
    config: dict
    tokens: Callable[[int], int]
    frames: tuple[int, int] = (100, 60)
    mask: str | None = "input_features_mask"
    time_first: bool = False
    sees_batch: bool = False
    features: str = "input_features"
    sizes: str | None = None

    @seeded()
    def model(self):
        """A random model; skips where this `transformers` has no such class."""
        kind = getattr(transformers, self.name, None)
        if kind is None:
            pytest.skip(f"transformers {transformers.__version__} has no {self.name}")
        model = kind(kind.config_class(**self.config))
        model = randomize(model)
        model.generation_config.pad_token_id = PAD
        model.generation_config.eos_token_id = None
        return model

    def inputs(self, rows: Sequence[tuple[Sequence[int], str]], seed: int = 0) -> dict[str, Tensor]:
        """A left-padded batch of prompts: the frames of a row's clips, and its question."""
        generator = torch.Generator().manual_seed(seed)
        ids, clips = [], []
        for frames, question in rows:
            parts = ["<|im_start|>user\n"]
            for n in frames:
                parts.append("<|audio_bos|>" + "<|AUDIO|>" * self.tokens(n) + "<|audio_eos|>")
                clips.append(torch.randn(n, BINS, generator=generator))
            parts.append(f"{question}<|im_end|>\n<|im_start|>assistant\n")
            ids.append(torch.tensor(TOKENIZER("".join(parts)).input_ids))
        longest = max(self.frames) if self.mask is None else max(map(len, clips), default=0)
        batch = {
            "input_ids": pad(ids, PAD),
            "attention_mask": pad([torch.ones_like(i) for i in ids]),
        }
        if clips:
            features = torch.zeros(len(clips), longest, BINS)
            mask = torch.zeros(len(clips), longest, dtype=torch.long)
            for n, clip in enumerate(clips):
                features[n, : len(clip)], mask[n, : len(clip)] = clip, 1
            batch[self.features] = features if self.time_first else features.mT.contiguous()
            if self.sizes is not None:
                batch[self.sizes] = torch.tensor([self.tokens(len(clip)) for clip in clips])
            if self.mask == "tokens":  # of Granite: over audio tokens
                sizes = [self.tokens(len(clip)) for clip in clips]
                real = [torch.ones(size, dtype=torch.bool) for size in sizes]
                batch["input_features_mask"] = torch.nn.utils.rnn.pad_sequence(real, True)
            elif self.mask is not None:
                batch[self.mask] = mask.bool() if self.time_first else mask
        return batch


def _halved(frames: int) -> int:
    return (frames - 1) // 2 + 1


def _pairs(frames: int) -> int:
    return (_halved(frames) - 2) // 2 + 1


TINY = [
    Tiny(
        "Qwen2AudioForConditionalGeneration",
        {
            "audio_config": {
                "model_type": "qwen2_audio_encoder",
                "num_mel_bins": BINS,
                "d_model": 16,
                "max_source_positions": 50,
                **AUDIO_HEADS,
            },
            "text_config": {"model_type": "qwen2", **TEXT},
            "audio_token_index": AUDIO,
        },
        _pairs,
        mask="feature_attention_mask",
    ),
    Tiny(
        "VoxtralForConditionalGeneration",
        {
            "audio_config": {**WHISPER, "intermediate_size": 64, "max_source_positions": 48},
            "text_config": {"model_type": "llama", **TEXT},
            "audio_token_id": AUDIO,
        },
        lambda frames: 12,
        frames=(96, 96),
        mask=None,
    ),
    Tiny(
        "AudioFlamingo3ForConditionalGeneration",
        {
            "audio_config": {**WHISPER, "max_source_positions": 50},
            "text_config": {"model_type": "qwen2", **TEXT},
            "audio_token_id": AUDIO,
        },
        _pairs,
    ),
    Tiny(
        "MusicFlamingoForConditionalGeneration",
        {
            "audio_config": {
                "model_type": "audioflamingo3_encoder",
                **WHISPER,
                "max_source_positions": 50,
            },
            "text_config": {"model_type": "qwen2", **TEXT},
            "audio_token_id": AUDIO,
            "audio_bos_token_id": TOKENIZER.convert_tokens_to_ids("<|audio_bos|>"),
            "audio_eos_token_id": TOKENIZER.convert_tokens_to_ids("<|audio_eos|>"),
        },
        _pairs,
    ),
    Tiny(
        "GlmAsrForConditionalGeneration",
        {
            "audio_config": {**WHISPER, "intermediate_size": 64},
            "text_config": {"model_type": "llama", **TEXT},
            "audio_token_id": AUDIO,
        },
        lambda frames: _halved(frames) // 4,
        frames=(96, 64),
    ),
    Tiny(
        "Qwen3ASRForConditionalGeneration",
        {
            "audio_config": {**OMNI, "downsample_hidden_size": 8, "n_window": 50},
            "text_config": {"model_type": "qwen3", **TEXT},
            "audio_token_id": AUDIO,
            "pad_token_id": PAD,
            "eos_token_id": PAD,
        },
        lambda frames: _halved(_halved(_halved(frames))),
    ),
    Tiny(
        "GraniteSpeechForConditionalGeneration",
        {
            "encoder_config": {
                "input_dim": BINS,
                "num_layers": 2,
                "hidden_dim": 16,
                "feedforward_mult": 2,
                "num_heads": 2,
                "output_dim": 8,
                "context_size": 20,
                "max_pos_emb": 32,
                "conv_kernel_size": 3,
            },
            "projector_config": {
                "model_type": "blip_2_qformer",
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "encoder_hidden_size": 16,
            },
            "text_config": {"model_type": "granite", **TEXT},
            "audio_token_index": AUDIO,
            "has_lora_adapter": False,
        },
        lambda frames: -(-frames // 15) * 3,
        frames=(90, 60),
        mask="tokens",
        time_first=True,
    ),
    Tiny(
        "Qwen2_5OmniThinkerForConditionalGeneration",
        {
            "audio_config": {**OMNI, "max_source_positions": 50, "n_window": 20},
            "vision_config": {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 24},
            "text_config": {**TEXT, "rope_parameters": MROPE},
            "audio_token_index": AUDIO,
            "vision_start_token_id": len(TOKENIZER) - 3,
            "image_token_index": len(TOKENIZER) - 1,
            "video_token_index": len(TOKENIZER) - 2,
        },
        _pairs,
        mask="feature_attention_mask",
    ),
    Tiny(
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        {
            "audio_config": {**OMNI, "downsample_hidden_size": 8, "n_window": 50},
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "out_hidden_size": 24,
                "intermediate_size": 16,
                "deepstack_visual_indexes": [0],
            },
            "text_config": {
                **TEXT,
                "rope_parameters": MROPE,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
            },
            "audio_token_id": AUDIO,
            "vision_start_token_id": len(TOKENIZER) - 3,
            "image_token_id": len(TOKENIZER) - 1,
            "video_token_id": len(TOKENIZER) - 2,
        },
        lambda frames: _halved(_halved(_halved(frames))),
        mask="feature_attention_mask",
        sees_batch=True,
    ),
    Tiny(
        "Gemma4ForConditionalGeneration",
        {
            "audio_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "subsampling_conv_channels": [16, 4],
                "output_proj_dims": 24,
            },
            "vision_config": None,
            "text_config": {
                **TEXT,
                "global_head_dim": 6,
                "hidden_size_per_layer_input": 4,
                "vocab_size_per_layer_input": len(TOKENIZER),
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 64,
            },
            "audio_token_id": AUDIO,
            "image_token_id": len(TOKENIZER) - 1,
            "video_token_id": len(TOKENIZER) - 2,
        },
        lambda frames: _halved(_halved(frames)),
        time_first=True,
    ),
    Tiny(
        "Phi4MultimodalForCausalLM",
        phi4_config(TOKENIZER, BINS),
        lambda frames: -(-frames // 8),
        mask="audio_attention_mask",
        time_first=True,
        features="audio_input_features",
        sizes="audio_embed_sizes",
    ),
]
BY_NAME = {tiny.name: tiny for tiny in TINY}
#: what pruning reads of a processor
PROCESSOR = SimpleNamespace(tokenizer=TOKENIZER)
