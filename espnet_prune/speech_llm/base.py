"""`SpeechLLM`: what all speech language models have in common here.

A speech LLM is a causal language model that gets audio as embeddings among those of text:

    tokens of "before" | audio tokens (N, D) | tokens of "after"  ->  answer

An adapter says how audio becomes tokens and what stands before and after it; the rest is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from espnet_prune.data.audio import SAMPLING_RATE, check_speech
from espnet_prune.speech_llm.generation import ALLOWED, LENGTHS, check_options, settings
from espnet_prune.speech_llm.prompts import (
    PADDING,
    POSITIONS,
    SHARED,
    Prompts,
    left_pad,
    seen_by,
    staying,
)
from espnet_prune.tokens import STRATEGIES, FirstLayer, TokenPruner
from espnet_prune.tokens.pruner import FRAME_TOKENS, WINDOW, Outcome

#: Chunks that go through the audio encoder together, so that its memory does not grow with length.
CHUNKS_AT_ONCE = 4
#: Longest chunk of audio for an encoder, 30 s, unless it says otherwise.
CHUNK_SAMPLES = 30 * SAMPLING_RATE
#: kinds (`model_type`) whose `qkv_proj` has the rows of all query heads, then those of all key
#: heads; others that fuse have the rows of a head together
STACKED = frozenset({"phi4_multimodal"})


@dataclass(frozen=True)
class Read:
    """Prompts that the language model has gone through: keys and values of all P columns, and the
    last hidden state (B, 1, D) of the last one."""

    prompts: Prompts
    cache: DynamicCache
    last: Tensor


class Heard(NamedTuple):
    """Tokens (N, D) of audio for the language model; words if it has a recogniser, and which tokens
    say them, (N,) bool, if it knows."""

    tokens: Tensor
    words: str = ""
    spoken: Tensor | None = None


class SpeechLLM(ABC):
    """A speech language model that answers questions about recordings of any length.

        llm = Qwen2Audio.from_pretrained("Qwen/Qwen2-Audio-7B-Instruct", device="cuda")
        prune = TokenPruner("speechprune", rate=0.2)
        prompts = llm.prompts([llm.hear(speech, 16000).tokens], ["Who wins?"], prune)
        llm.generate(prompts)  # ["The red team."]

    The steps are separate, so that one pass through the audio encoder serves many questions and
    pruners, and that each can be timed. What stands in the place of audio are (N, D) embeddings;
    those of text (`embed_text` of a transcript) or none at all (`empty_audio`) do as well, for the
    upper and the lower bound of what listening brings.

    Args:
        lm: a `transformers` causal LM that takes `inputs_embeds`, in evaluation mode.
        chunk_samples: longest chunk of audio that the encoder takes.
    """

    #: samples a second
    sampling_rate = SAMPLING_RATE
    #: audio tokens a second and in a full chunk: `frame_tokens` and `window` of a `TokenPruner`
    frame_tokens = FRAME_TOKENS
    window = WINDOW
    #: whether an audio token stands for a stretch of time, `frame_tokens` of them for a second
    in_time = True
    #: whether it has a recogniser, whose words `hear` returns
    recognises = False
    #: what stands between the prompt and an answer, as text
    answer_lead = ""

    def __init__(self, lm: Any, tokenizer: Any, chunk_samples: int = CHUNK_SAMPLES):
        self.lm, self.tokenizer, self.chunk_samples = lm, tokenizer, chunk_samples

    @abstractmethod
    def encode(self, chunks: list[np.ndarray]) -> list[Heard]:
        """Audio tokens of chunks, (N_i, D) as the language model receives them (N_i may be 0), and
        their words where the model `recognises`. A chunk is a float32 waveform (T_i,) of 1 to
        `chunk_samples` samples."""

    @abstractmethod
    def layout(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids that stand before and after the audio, special ones included."""

    def chunks(self, speech: np.ndarray) -> list[np.ndarray]:
        """A recording, (T,) float32, in parts of up to `chunk_samples`."""
        return audio_chunks(speech, self.sampling_rate, self.sampling_rate, self.chunk_samples)

    @torch.no_grad()
    def hear(self, speech: Tensor | np.ndarray, sampling_rate: int) -> Heard:
        """Audio tokens (N, D) and words of a recording of any length, (T,) floating point in
        [-1, 1]: `encode`, chunk after chunk. Words are "" where there is no recogniser or no word.
        ValueError: another sampling rate, several channels, whole numbers, no samples, too few for
        a token, or tokens with NaN."""
        whole = checked_audio(speech, sampling_rate, self.sampling_rate)
        chunks = self.chunks(whole)
        heard: list[Heard] = []
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            heard += self.encode(chunks[start : start + CHUNKS_AT_ONCE])
        tokens = torch.cat([chunk.tokens for chunk in heard]).to(self._embedding.weight)
        if not len(tokens):
            raise ValueError(f"audio of {len(whole)} samples is too short for an audio token")
        check_tokens(tokens)
        spoken = [chunk.spoken for chunk in heard if chunk.spoken is not None]
        words = " ".join(filter(None, (chunk.words for chunk in heard)))
        return Heard(tokens, words, torch.cat(spoken) if spoken else None)

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """(L, D) embeddings of a text without special tokens (ValueError: no text, or special
        tokens in it)."""
        return self._embed(self._text_ids(text))

    def empty_audio(self) -> Tensor:
        """(0, D): a prompt without audio."""
        return self._embedding.weight.new_zeros(0, self._embedding.weight.shape[1])

    def written_audio(self, text: str) -> Tensor:
        """(L, D): a text in the place of audio, after the blank that the layout asks for."""
        return self.embed_text(self.answer_lead + text) if text else self.empty_audio()

    def first_layer(self) -> FirstLayer:
        """That of the language model, see `first_layer_of`."""
        return first_layer_of(self.lm)

    def select(
        self,
        pruner: TokenPruner,
        audio: Sequence[Tensor],
        queries: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> list[Tensor]:
        """Which audio tokens stay: B long tensors of indices into N_b, in time order, `kept` of
        the `outcomes`, whose arguments and errors these are."""
        return [outcome.kept for outcome in self.outcomes(pruner, audio, queries, keys)]

    @torch.no_grad()
    def outcomes(
        self,
        pruner: TokenPruner,
        audio: Sequence[Tensor],
        queries: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> list[Outcome]:
        """What becomes of the audio tokens. `prompts` does this; it is apart to be timed and looked
        at.

        Args:
            pruner: takes this model's `window` and `frame_tokens` where it was given none.
            audio: B tensors (N_b, D).
            queries: B texts; not read where the strategy needs none, or an item has no audio.
            keys: B names of the recordings, for random strategies; see `TokenPruner`.
        Returns: B outcomes (ValueError: as `TokenPruner`, `embed_text` and `first_layer`).
        """
        found = [Outcome(torch.arange(0, device=tokens.device)) for tokens in audio]
        rows = [b for b, tokens in enumerate(audio) if len(tokens)]
        if not rows:
            return found
        strategy = STRATEGIES[pruner.strategy]
        # without names: row numbers of the whole batch
        options: dict[str, Any] = {"keys": rows if keys is None else [keys[b] for b in rows]}
        if strategy.needs_query:
            for b in rows:
                if not queries[b].strip():
                    raise ValueError(
                        f"prompt {b + 1} of {len(audio)} has no text to compare its audio with: "
                        f"give a query, or take a strategy that reads none (not {pruner.strategy})"
                    )
            texts = [self.embed_text(queries[b]) for b in rows]
            options |= {"query": pad_sequence(texts, True), "query_lengths": list(map(len, texts))}
        if strategy.needs_first_layer:
            options["first_layer"] = self.first_layer()
        some = [audio[b] for b in rows]
        prune = pruner.fitted(self.window, self.frame_tokens)
        chosen = prune.outcomes(pad_sequence(some, True), list(map(len, some)), **options)
        for b, outcome in zip(rows, chosen, strict=True):
            found[b] = outcome
        return found

    @torch.no_grad()
    def prompts(
        self,
        audio: Sequence[Tensor],
        questions: Sequence[str],
        pruner: TokenPruner | None = None,
        keys: Sequence[str] | None = None,
        positions: str = "contiguous",
        outcomes: Sequence[Outcome] | None = None,
    ) -> Prompts:
        """A batch of prompts, left-padded. The question is also the query of the pruner.

        Args:
            audio, pruner, keys: as for `outcomes`; all tokens stay without a pruner.
            positions: one of `POSITIONS`, see `left_pad`.
            outcomes: of the method, instead of a pruner: for a query that is not the prompt's text.
        Raises:
            ValueError: a question without text, numbers that do not match, what the pruner says.
        """
        if not audio or len(audio) != len(questions):
            raise ValueError(f"{len(audio)} recordings, but {len(questions)} questions")
        self.check_positions(positions)
        for question in questions:
            self._text_ids(question)
        if pruner is not None and outcomes is not None:
            raise ValueError("give a pruner or outcomes, not both")
        if pruner is not None:
            outcomes = self.outcomes(pruner, audio, questions, keys)
        elif outcomes is None:
            whole = (torch.arange(len(tokens), device=tokens.device) for tokens in audio)
            outcomes = list(map(Outcome, whole))
        rows, places = [], []
        for tokens, question, outcome in zip(audio, questions, outcomes, strict=True):
            before, after = map(self._embed, self.layout(question))
            size = len(before) + len(tokens) + len(after)
            is_audio = torch.zeros(size, dtype=torch.bool, device=tokens.device)
            is_audio[len(before) : len(before) + len(tokens)] = True
            places.append(staying(is_audio, outcome.kept))
            rows.append(torch.cat([before, outcome.apply(tokens), after]))
        return left_pad(rows, places, positions, [outcome.kept for outcome in outcomes])

    @torch.no_grad()
    def generate(self, prompts: Prompts, max_new_tokens: int = 64, **options: Any) -> list[str]:
        """B answers without special tokens, greedy ones unless `options` (those of `transformers`'
        `generate` in `generation.ALLOWED`; of any other, and as `check_turn`, a ValueError) say
        otherwise.

        The model reads embeddings: penalties of repetition see new tokens only.
        """
        check_options(options, ALLOWED)
        own = settings(self.lm, {})
        check_options({n: v for n, v in own.items() if n not in LENGTHS}, ALLOWED)
        self.check_turn(prompts, max_new_tokens)
        ids = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        # What stands behind an answer that has ended; never seen
        filler = next((i for i in ids if i is not None), 0)
        options = {"do_sample": False, "pad_token_id": filler, **self.stops(), **options}
        ids = self.lm.generate(**prompts.inputs, max_new_tokens=max_new_tokens, **options)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def stops(self) -> dict:
        """Options of `generate` that end an answer, where the model's own do not."""
        return {}

    @torch.no_grad()
    def read(self, prompts: Prompts, begun: Read | None = None) -> Read:
        """Let the language model go through prompts, once for all that continues them.

        The columns that `begun` begins with, too, are not computed again, so that the beginning of
        a recording costs next to nothing after the whole. Results differ by rounding.
        """
        start, cache = 0, DynamicCache()
        if begun is not None and self._turned(begun.prompts) == self._turned(prompts):
            # the last column's state is needed, so that it is computed in any case
            start = min(prompts.shared(begun.prompts), prompts.position_ids.shape[1] - 1)
            for n, layer in enumerate(begun.cache.layers if start else ()):
                cache.update(layer.keys[:, :, :start], layer.values[:, :, :start], n)
        out = self.lm.base_model(
            inputs_embeds=prompts.inputs_embeds[:, start:],
            attention_mask=prompts.attention_mask,
            position_ids=prompts.position_ids[:, start:],
            past_key_values=cache,
            use_cache=True,
        )
        return Read(prompts, out.past_key_values, out.last_hidden_state[:, -1:])

    @torch.no_grad()
    def score_choices(
        self, prompts: Prompts | Read, choices: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """How likely each choice is as the answer.

            score = (1 / L) sum_l log p(c_l | prompt, c_1 ... c_{l-1})

        over the L tokens of the choice's text. The prompts go through the model once, unless they
        have been `read`; all choices continue from their cache in one pass.

        Returns: for B lists of C_b texts B float32 tensors (C_b,), at most 0 (ValueError: an item
            without choices, a choice without text, NaN, or as `check_turn`).
        """
        whole = prompts.prompts if isinstance(prompts, Read) else prompts
        number = len(whole.kept)
        if len(choices) != number:
            raise ValueError(f"{number} prompts, but {len(choices)} choices")
        if not all(choices):
            raise ValueError("an item has no choices")
        ids = [[self._text_ids(text, self.answer_lead) for text in row] for row in choices]
        self.check_turn(whole, max(len(tokens) for row in ids for tokens in row))
        read = prompts if isinstance(prompts, Read) else self.read(prompts)
        most = max(map(len, ids))
        # Flash attention knows no mask that keeps choices apart
        at_once = 1 if "flash" in self._attention else most
        scores: list[list[Tensor]] = [[] for _ in ids]
        for start in range(0, most, at_once):
            found = self._continue(read, [row[start : start + at_once] for row in ids])
            scores = [row + more for row, more in zip(scores, found, strict=True)]
        answer = [torch.stack(row).cpu() for row in scores]
        if any(bool(row.isnan().any()) for row in answer):
            raise ValueError(
                "the language model gives NaN for a choice: it is damaged, or overflows (load it "
                "in bfloat16 or float32 instead of float16)"
            )
        return answer

    def _continue(self, read: Read, ids: list[list[list[int]]]) -> list[list[Tensor]]:
        """Mean log-likelihoods of token sequences (some or none for each of B prompts) after the
        prompts; the cache is left as it was.

        The sequences of a prompt stand one behind the other. A mask hides them from each other,
        and each has the positions that follow the prompt's.
        """
        prompts, hidden = read.prompts, read.last
        inputs = [
            [(i, c, n) for c, tokens in enumerate(row) for n, i in enumerate(tokens[:-1])]
            for row in ids
        ]
        width = max(map(len, inputs))
        if width:
            filled = [row + [(0, PADDING, 0)] * (width - len(row)) for row in inputs]
            token, part, step = torch.tensor(filled, device=hidden.device).unbind(-1)
            out = self.lm.base_model(
                inputs_embeds=self._embedding(token),
                attention_mask=self._apart(prompts.attention_mask, part),
                position_ids=prompts.position_ids[:, -1:] + 1 + step,
                past_key_values=read.cache,
                use_cache=True,
            )
            read.cache.crop(-width)
            hidden = torch.cat([hidden, out.last_hidden_state], 1)
        likely = self.lm.get_output_embeddings()(hidden).float().log_softmax(-1)
        scores: list[list[Tensor]] = [[] for _ in ids]
        for b, row in enumerate(ids):
            ends = 1
            for tokens in row:
                places = [0, *range(ends, ends := ends + len(tokens) - 1)]
                scores[b].append(likely[b, places, tokens].mean())
        return scores

    def _apart(self, mask: Tensor, part: Tensor) -> Tensor:
        """Attention mask of sequences that stand one behind the other after a prompt: (B, N + W) as
        the prompts' own `mask` (B, N) if there is one sequence, else (B, 1, W, N + W), to be added.
        `part` (B, W) numbers the sequence of each token."""
        if int(part.max()) <= 0:
            return torch.cat([mask, (part >= 0).to(mask)], 1)
        past = torch.where(mask.bool(), SHARED, PADDING)
        seen = seen_by(torch.cat([past, part], 1), part.shape[1])[:, None]
        dtype = self._embedding.weight.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    @property
    def _attention(self) -> str:
        """How attention is computed: sdpa, eager, flash_attention_2, …"""
        return getattr(self.lm.get_decoder().config, "_attn_implementation", None) or ""

    def _turned(self, prompts: Prompts) -> bool:
        """Whether prompts pass the length of which `check_turn` speaks."""
        turn = self._turn
        return turn is not None and int(prompts.position_ids.max()) >= turn

    @property
    def _turn(self) -> int | None:
        return getattr(self.lm.get_decoder().config, "original_max_position_embeddings", None)

    def check_turn(self, prompts: Prompts, new: int, width: int | None = None) -> None:
        """Raises ValueError where `new` tokens after prompts would pass the length at which a model
        of Phi's kind rotates all positions otherwise (LongRoPE): no cache fits then.

        `transformers` goes on there with keys that do not fit, or forgets the prompt. It counts
        positions for the one, and for the other ids, where prompts have them: `width` (columns).
        """
        turn = self._turn
        if turn is None:
            return
        last = int(prompts.position_ids.max()) + 1
        for size in (last, last if width is None else width):
            if size <= turn < size + new - 1:  # the last new token is not read
                raise ValueError(
                    f"{new} new tokens after a prompt of {size} pass {turn}, where "
                    f"{type(self.lm).__name__} rotates all positions otherwise, so that its cache "
                    f"fits no more: at most {turn - size + 1} can be new"
                )

    def check_positions(self, positions: str) -> None:
        """Raises ValueError where positions are unknown or would be silently misread."""
        if positions not in POSITIONS:
            raise ValueError(f"positions is '{positions}', choose from {', '.join(POSITIONS)}")
        # With flash attention `transformers` takes gaps in position ids for borders of sequences.
        if positions == "original" and "flash" in self._attention:
            raise ValueError(
                f"positions 'original' does not work with {self._attention}: take 'contiguous', or "
                "load the model with attn_implementation='sdpa'"
            )

    @property
    def _embedding(self) -> torch.nn.Embedding:
        return self.lm.get_input_embeddings()

    def _embed(self, ids: list[int]) -> Tensor:
        embedding = self._embedding
        return embedding(torch.tensor(ids, dtype=torch.long, device=embedding.weight.device))

    def _text_ids(self, text: str, lead: str = "") -> list[int]:
        if not text.strip():
            raise ValueError("a question or answer has no text")
        ids = self.tokenizer(lead + text, add_special_tokens=False).input_ids
        special = set(ids) & set(self.tokenizer.all_special_ids)
        if special:
            token = self.tokenizer.convert_ids_to_tokens(min(special))
            raise ValueError(f"the text '{text}' has the special token {token} in it: remove that")
        return ids


def first_layer_of(lm: Any, linear: Callable[[nn.Module, str], Any] | None = None) -> FirstLayer:
    """Query and key projection of a language model's first layer, and what stands around them.

    Args:
        lm: a `transformers` causal LM.
        linear: gives an object with the `weight` and `bias` of the projection of an attention and a
            name, where these are not a plain linear layer's.
    Raises:
        ValueError: they are fused (but in kinds of `STACKED`), quantised, adapted or offloaded, so
            that their weights cannot be read.
    """
    decoder = lm.get_decoder()
    layer = decoder.layers[0]
    attention = layer.self_attn
    query, key = ((linear or _projection)(attention, name) for name in ("q_proj", "k_proj"))
    norm = getattr(layer, "input_layernorm", None)
    gains = (getattr(getattr(attention, n, None), "weight", None) for n in ("q_norm", "k_norm"))
    query_gain, key_gain = (None if gain is None else gain.detach() for gain in gains)
    return FirstLayer(
        query.weight.detach(),
        key.weight.detach(),
        decoder.config.num_attention_heads,
        norm_gain=None if norm is None else norm.weight.detach(),
        norm_eps=getattr(decoder.config, "rms_norm_eps", 1e-6),
        query_bias=None if query.bias is None else query.bias.detach(),
        key_bias=None if key.bias is None else key.bias.detach(),
        query_gain=query_gain,
        key_gain=key_gain,
        scale=getattr(attention, "scaling", None),
    )


def _projection(attention: nn.Module, name: str) -> Any:
    """Weight and bias of a projection of an attention, those of a layer of its own or a part."""
    config: Any = getattr(attention, "config", None)
    if getattr(config, "model_type", None) not in STACKED:
        return _plain_layer(attention, name)
    fused, size = _plain_layer(attention, "qkv_proj"), attention.head_dim
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    rows = slice(queries) if name == "q_proj" else slice(queries, queries + keys)
    bias = None if fused.bias is None else fused.bias[rows]
    return SimpleNamespace(weight=fused.weight[rows], bias=bias)


def _plain_layer(attention: nn.Module, name: str) -> nn.Linear:
    """A linear layer of an attention that computes with its weight and with nothing else."""
    layer = getattr(attention, name, None)
    if layer is None:
        raise ValueError(
            f"the language model's first layer has no {name}, which pruning reads: "
            f"{type(attention).__name__} fuses its projections; take a strategy that reads none"
        )
    weight: Any = getattr(layer, "weight", None)
    kinds = type(layer), type(weight)
    if kinds != (nn.Linear, nn.Parameter) or not weight.is_floating_point():
        what = "has an adapter (LoRA)" if hasattr(layer, "base_layer") else "is quantised"
        raise ValueError(
            f"the language model's first layer {what}, but pruning reads the weights of its q_proj "
            f"and k_proj ({name} is a {type(layer).__name__}): merge the adapter "
            "(merge_and_unload), or leave these two in floating point"
        )
    if weight.is_meta:
        raise ValueError(f"{name} of the language model's first layer is offloaded: load it whole")
    return layer


def check_tokens(tokens: Tensor) -> None:
    """ValueError for audio tokens (N, D) with NaN or infinite values."""
    wrong = int((~tokens.isfinite().all(-1)).sum())
    if wrong:
        raise ValueError(
            f"{wrong} of {len(tokens)} audio tokens have NaN or infinite values: the audio encoder "
            "is damaged, or overflows (load it in bfloat16 or float32 instead of float16)"
        )


def log_mel(extractor: Any, chunks: list[np.ndarray], **options: Any) -> Any:
    """What a feature extractor of `transformers` gives, as tensors; its products of matrices are
    torch's, which autocast would bring to half precision."""
    with torch.autocast("cpu", enabled=False):
        return extractor(chunks, sampling_rate=SAMPLING_RATE, return_tensors="pt", **options)


def checked_audio(
    speech: Tensor | np.ndarray, sampling_rate: int, wanted_rate: int = SAMPLING_RATE
) -> np.ndarray:
    """A recording, (T,) floating point at `wanted_rate`, in float32 (ValueError: see
    `SpeechLLM.hear`)."""
    speech = speech.detach().cpu().numpy() if isinstance(speech, Tensor) else np.asarray(speech)
    if not np.issubdtype(speech.dtype, np.floating):
        raise ValueError(f"audio is {speech.dtype}: give floating point numbers in [-1, 1]")
    speech = speech.astype(np.float32)
    check_speech(speech, sampling_rate, "audio", fs=wanted_rate)
    return speech


def audio_chunks(
    speech: Tensor | np.ndarray,
    sampling_rate: int,
    wanted_rate: int = SAMPLING_RATE,
    chunk_samples: int = CHUNK_SAMPLES,
) -> list[np.ndarray]:
    """Cut a recording, (T,) floating point at `wanted_rate`, into float32 chunks of up to
    `chunk_samples` (30 s), the last one as long as it is (ValueError: see `SpeechLLM.hear`)."""
    speech = checked_audio(speech, sampling_rate, wanted_rate)
    return [speech[i : i + chunk_samples] for i in range(0, len(speech), chunk_samples)]
