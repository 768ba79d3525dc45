"""Whisper's own decoder, behind its encoder or a pruned one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as transformers_logging

from espnet_prune.files.model_config import check_model_directory
from espnet_prune.files.reading import read_record
from espnet_prune.structured.encoder import SpeechEncoder, load_encoder
from espnet_prune.structured.tensor_files import check_finite


def whole_whisper(directory: str | Path, attention: str = "sdpa") -> Any:
    """The `WhisperForConditionalGeneration` of a directory, in float32 and eval mode.

    Args:
        attention: how it is computed; only "eager" shows its weights.
    Raises:
        ValueError: it has no decoder, or weights that are NaN or infinite.
    """
    check_model_directory(directory)
    model, info = WhisperForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True, attn_implementation=attention
    )
    for key in sorted(info["missing_keys"]):  # `transformers` would draw it at random
        raise ValueError(f"{directory}: lacks {key}: its decoder cannot be used")
    check_finite(model.state_dict(), str(directory))
    return model.eval()


def load_with_decoder(
    whisper: str | Path, encoder: str | Path | None = None, attention: str = "sdpa"
) -> tuple[Any, SpeechEncoder]:
    """A whole Whisper, for its decoder, and the encoder to put in front of it.

    Args:
        whisper: its directory.
        encoder: directory of a dense or pruned one; None: Whisper's own.
        attention: as for `whole_whisper`.
    Raises:
        FileNotFoundError, ValueError: a directory is missing or damaged, the first is no Whisper,
            or the encoder does not fit its decoder.
    """
    file = Path(whisper) / "config.json"
    kind = read_record(file, hint="give a transformers directory of Whisper").get("model_type")
    if kind != "whisper":
        raise ValueError(f"{file}: the model type is '{kind}'; only Whisper has a decoder")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # each call of `generate` explains itself
    front = load_encoder(encoder or whisper).eval()
    model = whole_whisper(whisper, attention)
    if front.family != "whisper" or front.hidden_size != model.config.d_model:
        raise ValueError(
            f"{encoder}: a {front.family} encoder with {front.hidden_size} dimensions does not fit "
            f"Whisper's decoder of {whisper} with {model.config.d_model}"
        )
    return model, front


def prompt_of(config: GenerationConfig) -> list[int]:
    """Token ids that stand before an English transcript without timestamps."""
    prompt = [config.decoder_start_token_id]
    if getattr(config, "is_multilingual", False):
        prompt += [config.lang_to_id["<|en|>"], config.task_to_id["transcribe"]]
    return [*prompt, config.no_timestamps_token_id]


def end_of(config: GenerationConfig) -> int:
    """The token id behind a transcript."""
    end = config.eos_token_id
    return end[0] if isinstance(end, list) else end


#: a loop is what repeats itself in so many copies, and for so many tokens, or more
LOOP_COPIES, LOOP_TOKENS = 3, 12
#: longest part that is repeated, in tokens
LOOP_PERIOD = 24


def loop_period(row: Sequence[int]) -> int | None:
    """Tokens of the part that the end of a row of token ids repeats; None: there is no loop."""
    for period in range(1, LOOP_PERIOD + 1):
        length = max(LOOP_COPIES * period, LOOP_TOKENS)
        if len(row) < length:
            return None
        end = row[-length:]
        if end[period:] == end[:-period]:
            return period
    return None


class EndLoops(LogitsProcessor):
    """Allows nothing but the end behind a loop.

    What Whisper does not understand it may repeat until its context ends.
    """

    def __init__(self, end: int):
        self.end = end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, vocabulary) scores of what follows the tokens (B, N)."""
        loops = [b for b, row in enumerate(input_ids.tolist()) if loop_period(row)]
        scores = scores.clone()
        scores[loops] = -torch.inf
        scores[loops, self.end] = 0.0
        return scores


@torch.inference_mode()
def greedy_decode(
    model: WhisperForConditionalGeneration, states: Tensor, max_new_tokens: int, loops: bool = True
) -> list[list[int]]:
    """The most probable token at each step, of an English transcript without timestamps.

    Args:
        model: whose decoder and generation config are used.
        states: (B, frames, d_model) the encoder's last hidden states.
        max_new_tokens: limit for what never ends by itself.
        loops: False: a row that repeats itself ends with the first copy, see `EndLoops`.
    Returns: B lists of token ids, without prompt and end token.
    """
    config = model.generation_config
    options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "return_timestamps": False}
    if getattr(config, "is_multilingual", False):
        options |= {"language": "en", "task": "transcribe"}
    if not loops:
        options["logits_processor"] = LogitsProcessorList([EndLoops(end_of(config))])
    encoded = BaseModelOutput(states)
    rows = model.generate(encoder_outputs=encoded, max_new_tokens=max_new_tokens, **options)
    rows, end = rows.tolist(), end_of(config)
    rows = [row[: row.index(end)] if end in row else row for row in rows]
    return rows if loops else [without_copies(row) for row in rows]


def without_copies(row: list[int]) -> list[int]:
    """A row of token ids that ends with the first copy where it ended in a loop."""
    period = loop_period(row)
    while period and row[-period:] == row[-2 * period : -period]:
        row = row[:-period]
    return row
