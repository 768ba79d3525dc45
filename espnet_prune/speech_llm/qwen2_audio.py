"""Qwen2-Audio (arXiv 2407.10759) on `transformers`' own class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration
from transformers.masking_utils import create_bidirectional_mask

from espnet_prune.speech_llm.base import Heard, SpeechLLM, log_mel
from espnet_prune.speech_llm.encoders import put_encoder
from espnet_prune.structured.encoder import read_model_config
from espnet_prune.tokens.scores import inside


class Qwen2Audio(SpeechLLM):
    """Whisper-large-v3-like encoder, average of pairs, linear projector, Qwen-7B: 25 tokens/s.

    A long recording's chunks stand one after another between one `<|audio_bos|>` and one
    `<|audio_eos|>`, as if the audio were one piece; the rest of the prompt is the processor's chat
    template. `processor` is the model's `Qwen2AudioProcessor`.
    """

    def __init__(self, model: Qwen2AudioForConditionalGeneration, processor: Any):
        super().__init__(model, processor.tokenizer, processor.feature_extractor.n_samples)
        self.processor = processor

    @classmethod
    def from_pretrained(
        cls, model: str, device: str = "cpu", dtype: str = "auto", encoder: str | None = None
    ) -> Qwen2Audio:
        """Load a directory or a hub name in `float32`, `bfloat16`, … or (`auto`) as stored.

        Args:
            encoder: directory of the model's own encoder, pruned, which takes its place.
        FileNotFoundError, ValueError: no such model, a config.json that is refused, or errors of
        `put_encoder`.
        """
        read_model_config(str(model))
        loaded = Qwen2AudioForConditionalGeneration.from_pretrained(model, dtype=dtype)
        if encoder is not None:
            put_encoder(loaded, encoder)
        return cls(
            loaded.to(device).eval(), AutoProcessor.from_pretrained(model, trust_remote_code=False)
        )

    def encode(self, chunks: list[np.ndarray]) -> list[Heard]:
        options = {"padding": "max_length", "return_attention_mask": True}
        features = log_mel(self.processor.feature_extractor, chunks, **options)
        tokens = self.encode_features(features.input_features, features.attention_mask)
        return [Heard(row) for row in tokens]

    def encode_features(self, features: Tensor, mask: Tensor) -> list[Tensor]:
        """Audio tokens (N_i, D) of each chunk from what the processor made, `input_features`
        (chunks, bins, frames) and `feature_attention_mask` (chunks, frames).

        The same steps as in the model's forward pass, which has no name for them.
        """
        core = self.lm.model
        tower = core.audio_tower
        features, mask = features.to(tower.device), mask.to(tower.device)
        frames, tokens = tower._get_feat_extract_output_lengths(mask.sum(1))
        size = (features.shape[-1] - 2) // 2 + 1
        real = inside(frames, size)
        shape = torch.zeros(*real.shape, 1, dtype=tower.dtype, device=mask.device)
        attention = create_bidirectional_mask(tower.config, shape, real.long())
        hidden = tower(features, attention_mask=attention).last_hidden_state
        projected = core.multi_modal_projector(hidden)
        return [row[:n] for row, n in zip(projected, tokens.tolist(), strict=True)]

    def layout(self, question: str) -> tuple[list[int], list[int]]:
        content = [{"type": "audio", "audio_url": "audio"}, {"type": "text", "text": question}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        parts = text.split(self.processor.audio_token)
        before, after = self.tokenizer(parts, add_special_tokens=False).input_ids
        return before, after
