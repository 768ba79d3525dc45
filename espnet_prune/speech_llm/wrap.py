"""`prune_tokens`: token pruning inside the ordinary `generate` of a loaded Qwen2-Audio."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2AudioForConditionalGeneration

from espnet_prune.speech_llm.base import check_tokens
from espnet_prune.speech_llm.generation import ALLOWED, LENGTHS, OUTPUTS, check_options, settings
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

    Where all tokens stay, `generate` gives what it gives without wrapping. It takes the options for
    which that is known (`espnet_prune.speech_llm.generation`), and refuses any other by name.

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
        """As `generate` of the model; prompts without audio go there unchanged.

        `max_length` and `min_length` count the whole prompt, wherever they are set. The cache is
        not given back (`past_key_values` is None): it fits the pruned prompt, not the ids.

        Raises:
            ValueError: an option that is not known to be right here (see `generation.ALLOWED`);
                audio without `input_ids`, without `input_features`, or with a number of
                placeholders that does not match; a batch of which nobody knows what is padding,
                or that is padded on the right; no text to compare the audio with.
        """
        if inputs is not None and options.get("input_ids") is not None:
            raise ValueError("give the prompts as inputs or as input_ids, not as both")
        ids = options.pop("input_ids", inputs)
        features = options.pop("input_features", None)
        feature_mask = options.pop("feature_attention_mask", None)
        if features is None:
            return self._without_audio(ids, generation_config, feature_mask, options)
        if ids is None or feature_mask is None:
            raise ValueError("pruning needs input_ids and feature_attention_mask of the processor")
        mask = options.pop("attention_mask", None)
        found = settings(self.model, options, generation_config)
        check_options(found, ALLOWED | LENGTHS | OUTPUTS)
        filler = found.get("pad_token_id")
        mask = checked_mask(ids, mask, filler, found.get("eos_token_id"))
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
        # The ids go along with the embeddings for what reads them, as a repetition penalty does;
        # so the padding is what it was
        filler = int(ids[mask == 0][0]) if bool((mask == 0).any()) else filler or 0
        short = pad([i[p] for i, p in zip(text, places, strict=True)], filler)
        for name in LENGTHS:
            if found.get(name) is not None and found.get(f"{name[:3]}_new_tokens") is None:
                options[name] = max(found[name] - ids.shape[1] + short.shape[1], 0)
        out = self._generate(short, generation_config, **prompts.inputs, **options)
        sequences = out if isinstance(out, Tensor) else out.sequences
        prompt = ids.repeat_interleave(len(sequences) // len(ids), 0).to(sequences.device)
        sequences = torch.cat([prompt, sequences[:, short.shape[1] :]], 1)
        if isinstance(out, Tensor):
            return sequences
        names = {field.name for field in dataclasses.fields(out)}
        caches = names & {"past_key_values", "cache"}  # the second is its name since 5.24
        return dataclasses.replace(out, sequences=sequences, **dict.fromkeys(caches))

    def _without_audio(
        self, ids: Tensor | None, config: Any, feature_mask: Tensor | None, options: dict
    ) -> Any:
        """The model's own `generate`, for prompts that have no audio in them."""
        if feature_mask is not None:
            options["feature_attention_mask"] = feature_mask
        if ids is not None and bool((ids == self.model.config.audio_token_id).any()):
            raise ValueError(
                "the prompt has audio placeholders, but there are no input_features: a pruned "
                "prompt leaves no cache to go on from, give the whole prompt with its audio again"
            )
        return self._generate(ids, config, **options)

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
        check_tokens(audio)
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


def checked_mask(ids: Tensor, mask: Tensor | None, pad_id: Any, end_id: Any) -> Tensor:
    """The mask (B, P) of a left-padded batch of ids (B, P). Where none is given it is made as
    `transformers` makes it, of the `pad_id`, if that ends no answer (`end_id`, one or several).

    ValueError: no mask, and none can be made; it has another shape; or it hides what stands behind
    the first token of a prompt.
    """
    if mask is None:
        ends = torch.as_tensor([] if end_id is None else end_id)
        if pad_id is not None and not bool((ends == pad_id).any()):
            mask = (ids != pad_id).long()
        elif len(ids) == 1:
            mask = torch.ones_like(ids)
        else:
            raise ValueError("pruning needs the attention_mask of the processor for a batch")
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask is {tuple(mask.shape)}, input_ids {tuple(ids.shape)}")
    real = mask.bool()
    if bool((real[:, :-1] & ~real[:, 1:]).any()) or not bool(real[:, -1].all()):
        raise ValueError(
            "attention_mask hides tokens behind the first one of a prompt: pad prompts on the left "
            "(padding_side='left' of the tokenizer)"
        )
    return mask


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
