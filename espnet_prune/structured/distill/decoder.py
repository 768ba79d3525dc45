"""Distillation through Whisper's frozen decoder: what it predicts matters, not the states alone."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from espnet_prune.structured.whisper_decoder import end_of, prompt_of, whole_whisper

#: fills rows of tokens up
PADDING = -1


class Decoder:
    """The decoder of the teacher, frozen.

    Not a `Module`, as `Teacher`: it stays out of checkpoints and optimisers.

    Args:
        directory: of a whole Whisper in `transformers`' format.
    Raises:
        ValueError: it has no decoder, or weights that are NaN or infinite.
    """

    def __init__(self, directory: str | Path):
        self.model = whole_whisper(directory).requires_grad_(False)
        self.model.model.encoder = None  # there is a better one

    def divergence(self, teacher: Tensor, student: Tensor, tokens: Tensor) -> Tensor:
        """KL(teacher || student) of the next token, mean over the tokens of the batch.

            sum_v p_t(v | y_<i, h_t) (log p_t(v | y_<i, h_t) - log p_s(v | y_<i, h_s))

        Args:
            teacher, student: (B, T, D) last hidden states h_t and h_s.
            tokens: (B, L) prompt, transcript y and end, filled up with `PADDING`.
        """
        if self.model.device != student.device:
            self.model.to(student.device)
        given = tokens[:, :-1].clamp(min=0)
        with torch.no_grad():
            wanted = self._predict(teacher, given)
        found = self._predict(student, given)
        each = F.kl_div(found, wanted, log_target=True, reduction="none").sum(-1)
        counts = tokens[:, 1:] != PADDING
        return (each * counts).sum() / counts.sum().clamp(min=1)

    def _predict(self, states: Tensor, tokens: Tensor) -> Tensor:
        hidden = self.model.model.decoder(
            input_ids=tokens, encoder_hidden_states=states, use_cache=False
        ).last_hidden_state
        return self.model.proj_out(hidden).float().log_softmax(-1)


class Transcript:
    """Text -> token ids with Whisper's prompt and end, as many as its decoder takes.

    Args:
        directory: of a whole Whisper.
    """

    def __init__(self, directory: str | Path):
        config = GenerationConfig.from_pretrained(directory)
        self.tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        self.prompt, self.end = prompt_of(config), end_of(config)
        whisper = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        self.most = whisper.max_target_positions

    def __call__(self, text: str) -> list[int]:
        words = self.tokenizer(f" {text.strip()}", add_special_tokens=False).input_ids
        return [*self.prompt, *words, self.end][: self.most]
