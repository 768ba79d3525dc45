"""`prune_tokens`: token pruning inside the ordinary `generate` of a loaded speech LLM."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_prune.speech_llm.audio_llm import AudioLLM
from espnet_prune.speech_llm.base import check_tokens
from espnet_prune.speech_llm.encoders import put_encoder
from espnet_prune.speech_llm.families import Family
from espnet_prune.speech_llm.generation import ALLOWED, LENGTHS, OUTPUTS, check_options, settings
from espnet_prune.speech_llm.prompts import Prompts, left_pad, pad, staying
from espnet_prune.structured import SpeechEncoder
from espnet_prune.tokens import STRATEGIES, TokenPruner

#: one for all prompts, or one for each, or what the prompts say
Query = str | Sequence[str] | None


def prune_tokens(
    model: Any,
    processor: Any,
    pruner: TokenPruner,
    query: Query = None,
    positions: str = "contiguous",
    encoder: SpeechEncoder | str | Path | None = None,
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
        model: of a kind in `espnet_prune.speech_llm.families.FAMILIES`; changed in place, only its
            attribute `generate`.
        processor: the model's, for the text of the query.
        query: what the audio is compared with: one text for all prompts or one for each. When
            absent it is read from the prompt: the text of the last user turn (of the whole prompt
            if it has no turns) without special tokens, placeholders and "Audio 1:".
        positions: `contiguous`, or `original` for those of the whole prompt.
        encoder: the model's own encoder, pruned (`espnet_prune.prune`), or its directory: takes the
            place of the dense one until `unwrap()`, so that both halves are pruned.
    Raises:
        FileNotFoundError, ValueError: another kind of model, one that is wrapped already, or what
            `espnet_prune.speech_llm.encoders.put_encoder` says of the encoder.
    """
    llm = AudioLLM(model, processor)
    if isinstance(vars(model).get("generate"), PrunedGenerate):
        raise ValueError("the model prunes already: call unwrap() first")
    return PrunedGenerate(llm, pruner, query, positions, encoder)


class PrunedGenerate:
    """The `generate` of a wrapped model, made by `prune_tokens`.

    `kept` has the indices of the audio tokens that stayed in the last call, a tensor for each item.
    """

    def __init__(
        self,
        llm: AudioLLM,
        pruner: TokenPruner,
        query: Query,
        positions: str,
        encoder: SpeechEncoder | str | Path | None = None,
    ):
        llm.check_positions(positions)
        self.llm, self.pruner, self.query, self.positions = llm, pruner, query, positions
        self.model = llm.lm
        self.kept: list[Tensor] = []
        self._before = vars(self.model).get("generate")  # what someone else may have put there
        self._generate = self.model.generate
        self._put_back = None if encoder is None else put_encoder(self.model, encoder)
        self.model.generate = self

    def unwrap(self) -> None:
        """Give the model back as it was."""
        if vars(self.model).get("generate") is self:
            del self.model.generate
            if self._before is not None:
                self.model.generate = self._before
            if self._put_back is not None:
                self._put_back()

    def __enter__(self) -> Any:
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
                audio without `input_ids`, without its features, or with a number of
                placeholders that does not match; a batch of which nobody knows what is padding,
                or that is padded on the right; no text to compare the audio with; more new tokens
                than `SpeechLLM.check_turn` lets through.
        """
        if inputs is not None and options.get("input_ids") is not None:
            raise ValueError("give the prompts as inputs or as input_ids, not as both")
        ids = options.pop("input_ids", inputs)
        known = self.llm.family.inputs
        audio = {name: options.pop(name) for name in known if name in options}
        audio = {name: value for name, value in audio.items() if value is not None}
        if known[0] not in audio:
            return self._without_audio(ids, generation_config, audio | options)
        if ids is None:
            raise ValueError(f"pruning needs input_ids of the processor beside its {known[0]}")
        if not any(name in options for name in ("pixel_values", "pixel_values_videos")):
            options.pop("mm_token_type_ids", None)  # read for images only
        mask = options.pop("attention_mask", None)
        found = settings(self.model, options, generation_config)
        check_options(found, ALLOWED | LENGTHS | OUTPUTS)
        filler = found.get("pad_token_id")
        mask = checked_mask(ids, mask, filler, found.get("eos_token_id"))
        embeds, where = self.llm.merge(ids, mask, audio), self.llm.is_audio(ids)
        check_tokens(embeds[where])
        is_random = STRATEGIES[self.pruner.strategy].random
        numbers = where.sum(1).tolist()
        keys = audio_keys(audio, numbers, self.llm.family) if is_random else None

        real = [m.bool() for m in mask]
        is_audio = [a[r] for a, r in zip(where, real, strict=True)]
        text = [i[r] for i, r in zip(ids, real, strict=True)]
        rows = [e[r] for e, r in zip(embeds, real, strict=True)]
        heard = [row[a] for row, a in zip(rows, is_audio, strict=True)]
        queries = self._queries(text, is_audio)
        outcomes = self.llm.outcomes(self.pruner, heard, queries, keys)
        self.kept = [outcome.kept for outcome in outcomes]
        places = [staying(a, k) for a, k in zip(is_audio, self.kept, strict=True)]
        # what was merged stands in the places of what stays
        for row, a, outcome in zip(rows, is_audio, outcomes, strict=True):
            row[a.nonzero().squeeze(1)[outcome.kept]] = outcome.apply(row[a])
        staid = [row[p] for row, p in zip(rows, places, strict=True)]
        prompts = left_pad(staid, places, self.positions, self.kept)
        # The ids go along with the embeddings for what reads them, as a repetition penalty does;
        # so the padding is what it was
        filler = int(ids[mask == 0][0]) if bool((mask == 0).any()) else filler or 0
        short = pad([i[p] for i, p in zip(text, places, strict=True)], filler)
        for name in LENGTHS:
            if found.get(name) is not None and found.get(f"{name[:3]}_new_tokens") is None:
                options[name] = max(found[name] - ids.shape[1] + short.shape[1], 0)
        new = found.get("max_new_tokens")
        if new is None:  # without any length, `transformers` takes 20
            new = options["max_length"] - short.shape[1] if "max_length" in options else 20
        self.llm.check_turn(prompts, new, short.shape[1])
        with self._as_the_model_reads(prompts, short) as read:
            out = self._generate(short, generation_config, **{**options, **read})
        sequences = out if isinstance(out, Tensor) else out.sequences
        prompt = ids.repeat_interleave(len(sequences) // len(ids), 0).to(sequences.device)
        sequences = torch.cat([prompt, sequences[:, short.shape[1] :]], 1)
        if isinstance(out, Tensor):
            return sequences
        names = {field.name for field in dataclasses.fields(out)}
        caches = names & {"past_key_values", "cache"}  # the second is its name since 5.24
        return dataclasses.replace(out, sequences=sequences, **dict.fromkeys(caches))

    @contextlib.contextmanager
    def _as_the_model_reads(self, prompts: Prompts, ids: Tensor) -> Iterator[dict[str, Any]]:
        """What `generate` is given beside the pruned `ids` (B, P). Where that is no embeddings, a
        hook puts those of the audio in before the decoder, as long as this is open."""
        if self.llm.family.prompt == "embeddings":
            yield prompts.inputs
            return
        where = self.llm.is_audio(ids) & prompts.attention_mask.bool()

        def put_in(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            embeds = kwargs["inputs_embeds"]
            cache: Any = kwargs.get("past_key_values", kwargs.get("cache"))  # since 5.24
            if cache.get_seq_length():
                return None
            number = len(embeds) // len(ids)  # of beams; those of a prompt stand together
            places = where.repeat_interleave(number, 0)
            embeds = embeds.clone()
            embeds[places] = prompts.inputs_embeds.repeat_interleave(number, 0)[places]
            return args, {**kwargs, "inputs_embeds": embeds}

        hook = self.model.get_decoder().register_forward_pre_hook(put_in, with_kwargs=True)
        try:
            # always with a cache, as `transformers` has it where it is given embeddings: without
            # one it takes gaps in positions for borders of sequences
            given = {n: v for n, v in prompts.inputs.items() if n != "inputs_embeds"}
            yield {**given, "use_cache": True}
        finally:
            hook.remove()

    def _without_audio(self, ids: Tensor | None, config: Any, options: dict) -> Any:
        """The model's own `generate`, for prompts that have no audio in them."""
        if ids is not None and bool(self.llm.is_audio(ids).any()):
            raise ValueError(
                f"the prompt has audio placeholders, but there are no {self.llm.family.inputs[0]}: "
                "a pruned prompt leaves no cache to go on from, give the whole prompt with its "
                "audio again"
            )
        return self._generate(ids, config, **options)

    def _queries(self, text: list[Tensor], is_audio: list[Tensor]) -> list[str]:
        if self.query is None:
            said = [ids[~audio] for ids, audio in zip(text, is_audio, strict=True)]
            prompts = self.llm.tokenizer.batch_decode(said, clean_up_tokenization_spaces=False)
            return list(map(self.llm.family.question, prompts))
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


def audio_keys(audio: Mapping[str, Tensor], numbers: Sequence[int], family: Family) -> list[str]:
    """A name for the audio of each prompt: a digest of its clips' features without the padding.

    Features and not audio tokens: those are rounded otherwise in another batch. Clips belong to the
    prompts in order, to each as many as have its share of all audio tokens.

    Args:
        audio: the family's `inputs`: features of C clips and, where the model has it, their mask.
        numbers: audio tokens of each prompt.
        family: of the model.
    """
    features, stride = audio[family.inputs[0]].float().cpu(), family.stride
    names = [name for name in family.inputs if name.endswith("mask") and name in audio]
    frames = [features.shape[1:].numel()] * len(features)
    if names:
        frames = audio[names[0]].sum(1).tolist()
        width = audio[names[0]].shape[1]
    ends = torch.tensor(frames).double().cumsum(0)
    shares = torch.tensor(numbers).double().cumsum(0)
    if shares[-1] > 0:
        shares *= ends[-1] / shares[-1]
    # a clip belongs to the prompt in whose share its middle is
    middles = ends - torch.tensor(frames).double() / 2
    owners = torch.searchsorted(shares, middles).clamp(max=len(numbers) - 1)
    digests = [hashlib.blake2b(digest_size=16) for _ in numbers]
    for clip, number, owner in zip(features, frames, owners.tolist(), strict=True):
        if names:
            time = 0 if stride > 1 or clip.shape[0] == width else 1
            # the last elements of a coarse mask may be frames of the padding
            number = number if stride == 1 else max(1, stride * (number - 3) + 1)
            clip = clip.narrow(time, 0, min(number, clip.shape[time]))
        digests[owner].update(clip.contiguous().numpy().tobytes())
    return [digest.hexdigest() for digest in digests]
