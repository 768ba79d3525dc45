"""`prune_tokens`: token pruning inside the ordinary `generate` of a loaded Qwen2-Audio."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2AudioForConditionalGeneration

from espnet_prune.speech_llm.prompts import left_pad, pad, staying
from espnet_prune.speech_llm.qwen2_audio import Qwen2Audio
from espnet_prune.tokens import STRATEGIES, TokenPruner

#: one for all prompts, or one for each, or what the prompts say
Query = str | Sequence[str] | None


def prune_tokens(
    model: Qwen2AudioForConditionalGeneration,
    processor: Any,
    pruner: TokenPruner,
    query: Query = None,
    positions: str = "contiguous",
) -> PrunedGenerate:
    """Have `model.generate(**inputs)` prune audio tokens, until `unwrap()`.

    >>> inputs = processor(text=text, audio=audio, return_tensors="pt")
    >>> with prune_tokens(model, processor, TokenPruner("speechprune", rate=0.2)):
    ...     ids = model.generate(**inputs, max_new_tokens=8)

    Works without `with`, too: keep the result and call its `unwrap()`. The ids that come back
    begin with the whole prompt, as without pruning. All audio of a prompt counts as one recording:
    longer ones than 30 s go in as several chunks (`audio_chunks`), each with a placeholder of its
    own, for the feature extractor cuts off silently what is beyond 30 s. Random strategies draw by
    the pruner's seed and a digest of the prompt's audio features, so that a recording keeps the
    same tokens in any batch. Plain `model(**inputs)` prunes nothing.

    Args:
        model: changed in place; only its attribute `generate`.
        processor: the model's, for the text of the query.
        query: what the audio is compared with: one text for all prompts or one for each. When
            absent it is read from the prompt: the text of the last user turn (of the whole prompt
            if it has no turns) without special tokens, placeholders and "Audio 1:".
        positions: `contiguous`, or `original` for those of the whole prompt.
    Raises:
        ValueError: another kind of model, or one that is wrapped already.
    """
    if not isinstance(model, Qwen2AudioForConditionalGeneration):
        raise ValueError(
            f"prune_tokens takes Qwen2AudioForConditionalGeneration, not {type(model).__name__}"
        )
    if isinstance(vars(model).get("generate"), PrunedGenerate):
        raise ValueError("the model prunes already: call unwrap() first")
    return PrunedGenerate(Qwen2Audio(model, processor), pruner, query, positions)


class PrunedGenerate:
    """The `generate` of a wrapped model, made by `prune_tokens`.

    `kept` has the indices of the audio tokens that stayed in the last call, a tensor for each item.
    """

    def __init__(self, llm: Qwen2Audio, pruner: TokenPruner, query: Query, positions: str):
        llm.check_positions(positions)
        self.llm, self.pruner, self.query, self.positions = llm, pruner, query, positions
        self.model = llm.lm
        self.kept: list[Tensor] = []
        self._before = vars(self.model).get("generate")  # what someone else may have put there
        self._generate = self.model.generate
        self.model.generate = self

    def unwrap(self) -> None:
        """Give the model back as it was."""
        if vars(self.model).get("generate") is self:
            del self.model.generate
            if self._before is not None:
                self.model.generate = self._before

    def __enter__(self) -> Qwen2AudioForConditionalGeneration:
        return self.model

    def __exit__(self, *exception: object) -> None:
        self.unwrap()

    @torch.no_grad()
    def __call__(
        self, inputs: Tensor | None = None, generation_config: Any = None, **options: Any
    ) -> Any:
        """As `generate` of the model; inputs without `input_features` go there unchanged.

        `max_length` and `min_length`, given as keywords, count the whole prompt.

        Raises:
            ValueError: audio without `input_ids`, or with a number of placeholders that does not
                match; a cache from an earlier call; no text to compare the audio with.
        """
        features = options.pop("input_features", None)
        if features is None:
            return self._generate(inputs, generation_config, **options)
        feature_mask = options.pop("feature_attention_mask", None)
        ids = options.pop("input_ids", inputs)
        mask = options.pop("attention_mask", None)
        if ids is None or feature_mask is None:
            raise ValueError("pruning needs input_ids and feature_attention_mask of the processor")
        if options.get("past_key_values") is not None:
            raise ValueError("a pruned prompt cannot continue a cache: give the whole prompt")
        options.pop("position_ids", None)
        mask = torch.ones_like(ids) if mask is None else mask
        embeds, where, keys = self._merge(ids, features, feature_mask)

        real = [m.bool() for m in mask]
        is_audio = [a[r] for a, r in zip(where, real, strict=True)]
        text = [i[r] for i, r in zip(ids, real, strict=True)]
        rows = [e[r] for e, r in zip(embeds, real, strict=True)]
        audio = [row[a] for row, a in zip(rows, is_audio, strict=True)]
        self.kept = self.llm.select(self.pruner, audio, self._queries(text, is_audio), keys)
        places = [staying(a, k) for a, k in zip(is_audio, self.kept, strict=True)]
        staid = [row[p] for row, p in zip(rows, places, strict=True)]
        prompts = left_pad(staid, places, self.positions, self.kept)
        # The ids go along with the embeddings for what reads them, as a repetition penalty does.
        filler = self.model.generation_config.pad_token_id
        short = pad([i[p] for i, p in zip(text, places, strict=True)], filler or 0)
        for name in ("max_length", "min_length"):
            if options.get(name) is not None:
                options[name] = max(options[name] - ids.shape[1] + short.shape[1], 0)
        out = self._generate(short, generation_config, **prompts.inputs, **options)
        sequences = out if isinstance(out, Tensor) else out.sequences
        prompt = ids.repeat_interleave(len(sequences) // len(ids), 0).to(sequences.device)
        sequences = torch.cat([prompt, sequences[:, short.shape[1] :]], 1)
        if isinstance(out, Tensor):
            return sequences
        out.sequences = sequences
        return out

    def _merge(
        self, ids: Tensor, features: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, list[str] | None]:
        """(B, P, D) embeddings with audio, (B, P) bool where that is, `audio_keys` if random."""
        embeds = self.model.get_input_embeddings()(ids)
        is_audio = ids == self.model.config.audio_token_id
        clips = self.llm.encode_features(features, mask)
        audio, numbers = torch.cat(clips).to(embeds), is_audio.sum(1).tolist()
        if sum(numbers) != len(audio):
            raise ValueError(
                f"{sum(numbers)} audio placeholders for {len(audio)} audio tokens: make text and "
                "features in one call of the processor"
            )
        embeds[is_audio] = audio
        is_random = STRATEGIES[self.pruner.strategy].random
        keys = audio_keys(features, mask, list(map(len, clips)), numbers) if is_random else None
        return embeds, is_audio, keys

    def _queries(self, text: list[Tensor], is_audio: list[Tensor]) -> list[str]:
        if self.query is None:
            said = [ids[~audio] for ids, audio in zip(text, is_audio, strict=True)]
            prompts = self.llm.tokenizer.batch_decode(said, clean_up_tokenization_spaces=False)
            return list(map(question_in_prompt, prompts))
        queries = [self.query] * len(text) if isinstance(self.query, str) else list(self.query)
        if len(queries) != len(text):
            raise ValueError(f"{len(text)} prompts, but {len(queries)} queries")
        return queries


def audio_keys(
    features: Tensor, mask: Tensor, clip_tokens: Sequence[int], item_tokens: Sequence[int]
) -> list[str]:
    """A name for the audio of each prompt: a digest of its clips' features without the padding.

    Features, (clips, bins, frames) with a mask (clips, frames), and not audio tokens: those are
    rounded otherwise in another batch. `clip_tokens` and `item_tokens` are the numbers of audio
    tokens of each clip and of each prompt, which tell whose a clip is.
    """
    rows = zip(features.float().cpu(), mask.bool().cpu(), clip_tokens, strict=True)
    clips = ((clip, real, number) for clip, real, number in rows if number)
    keys = []
    for tokens in item_tokens:
        digest = hashlib.blake2b(digest_size=16)
        while tokens > 0:
            clip, real, number = next(clips)
            digest.update(clip[:, real].numpy().tobytes())
            tokens -= number
        keys.append(digest.hexdigest())
    return keys


def question_in_prompt(prompt: str) -> str:
    """What the user says in a prompt of Qwen2-Audio from which audio tokens are removed: the last
    turn, or all of a prompt without turns, without special tokens and "Audio 1:"."""
    turns = re.findall(r"<\|im_start\|>user\n(.*?)(?:<\|im_end\|>|$)", prompt, re.DOTALL)
    text = turns[-1] if turns else prompt
    text = re.sub(r"(Audio \d+: ?)?<\|audio_bos\|>\s*<\|audio_eos\|>", " ", text)
    return re.sub(r"<\|[^|>]*\|>", " ", text).strip()
