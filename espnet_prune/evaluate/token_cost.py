"""What token pruning costs and saves: the pruner's own time; time, FLOPs and memory of the prefill;
time of a generated token.

A language model of true size reads a prompt of audio and text, with real weights or with random
ones, which take as long. The output layer is asked for one position in the prefill, and for every
new token. All variants take turns in one process.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from espnet_prune.evaluate import both_halves
from espnet_prune.evaluate.measuring import DTYPES, clock, use_machine, write_report
from espnet_prune.evaluate.report import table
from espnet_prune.speech_llm import SPEECH_LLMS, SpeechLLM
from espnet_prune.structured.cost.measure import peak_memory_of
from espnet_prune.tokens import FirstLayer, TokenPruner

_NAMES = [
    *("hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "intermediate_size", "vocab_size"),
]
#: the language model of each speech LLM, as published
SIZES = {
    name: (family, dict(zip(_NAMES, sizes, strict=True)))
    for name, family, *sizes in (
        ("qwen2_audio", "qwen2", 4096, 32, 32, 32, 11008, 156032),
        ("diva", "llama", 4096, 32, 32, 8, 14336, 128256),
        ("compact", "llama", 576, 30, 9, 3, 1536, 49152),
    )
}


def speech_llm_class(name: str) -> type[SpeechLLM]:
    """A class of `SPEECH_LLMS` that `SIZES` knows (ValueError: it does not)."""
    if name not in SIZES:
        raise ValueError(f"speech_llm is '{name}', choose from {', '.join(SIZES)}")
    return SPEECH_LLMS[name]


def language_model_config(name: str, layers: int | None = None):
    """Configuration of the language model of a speech LLM, or of its first layers."""
    kind, sizes = SIZES[name]
    if layers is not None:
        sizes = sizes | {"num_hidden_layers": layers}
    return AutoConfig.for_model(kind, **sizes, attn_implementation="sdpa")


def prefill_flops(config, tokens: int) -> float:
    """Floating-point operations of the prefill of one prompt, a multiplication and an addition 2.

        2 T (D (h + 2 h_kv) d_h + D h d_h + 3 D F) + 4 T^2 h d_h  for each layer
        + 2 D V  for the output layer, which is asked for one position

    Args:
        config: `transformers` configuration with D, h, h_kv, F, V and the number of layers.
        tokens: T, of text and audio.
    """
    d, heads = config.hidden_size, config.num_attention_heads
    size = d // heads
    projections = d * size * (2 * heads + 2 * config.num_key_value_heads)
    linear = projections + 3 * d * config.intermediate_size
    attention = 4 * tokens**2 * heads * size
    return config.num_hidden_layers * (2 * tokens * linear + attention) + 2 * d * config.vocab_size


def cache_bytes(config, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of a prompt, which stay as long as an answer is generated: 2 L T h_kv d_h
    numbers."""
    size = config.hidden_size // config.num_attention_heads
    heads = config.num_hidden_layers * config.num_key_value_heads
    return 2 * heads * tokens * size * dtype.itemsize


def parameters_of(config) -> int:
    """Of a causal language model."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


@dataclass
class Variant:
    """A strategy at a rate, and what was measured of it."""

    pruner: TokenPruner
    tokens: int
    prune: list[float] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)  # of the layers
    output: list[float] = field(default_factory=list)  # of the output layer for one position
    decode: list[float] = field(default_factory=list)  # of one token, by layers and output layer
    #: of the processors, over all threads: prune, prefill and output
    processors: list[tuple[float, float, float]] = field(default_factory=list)
    prefill_bytes: int | None = None  # peak beyond weights and prompt
    total_bytes: int | None = None  # that peak with weights and prompt

    def prefill_of(self, parts: float = 1.0) -> float:
        """Median seconds, for so many times the layers that were timed."""
        return parts * float(np.median(self.prefill)) + float(np.median(self.output))

    def processors_of(self, parts: float = 1.0) -> float:
        """Median seconds of the processors for pruning and prefill, in the same way."""
        prune, prefill, output = np.median(np.array(self.processors), axis=0).tolist()
        return prune + parts * prefill + output


@torch.inference_mode()
def measure(lm, variants: list[Variant], args: argparse.Namespace) -> None:
    """Time every variant, taking turns, with a causal language model of `transformers`, or one
    with audio around it."""
    generator = torch.Generator().manual_seed(0)
    body, head = lm.get_decoder(), lm.get_output_embeddings()
    device, dtype, width = head.weight.device, head.weight.dtype, body.config.hidden_size

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    audio, text = random(1, args.audio_tokens, width), random(1, args.text_tokens, width)
    query = text[:, : args.query_tokens]
    own, heads = body.layers[0].self_attn, body.config.num_attention_heads
    first = FirstLayer(own.q_proj.weight, own.k_proj.weight, heads)

    for turn in range(args.repeats + 1):
        for variant in variants:
            start = clock(device)
            (outcome,) = variant.pruner.outcomes(audio, query=query, first_layer=first)
            heard = outcome.apply(audio[0])[None]
            middle = clock(device)
            prompt = torch.cat([heard, text], 1)
            before = clock(device)
            out = body(inputs_embeds=prompt, use_cache=True)
            end = clock(device)
            head(out.last_hidden_state[:, -1:])
            read = clock(device)
            cache = out.past_key_values
            for _ in range(args.decode_tokens):
                new = body(inputs_embeds=text[:, :1], past_key_values=cache, use_cache=True)
                head(new.last_hidden_state)
            last = clock(device)
            if turn:  # the first one warms up
                parts = middle - start, end - before, read - end
                for times, part in zip(
                    (variant.prune, variant.prefill, variant.output), parts, strict=True
                ):
                    times.append(float(part[0]))
                variant.processors.append(tuple(float(part[1]) for part in parts))
                variant.decode.append(float(last[0] - read[0]) / args.decode_tokens)
    # once each: the output layer may be the embeddings
    weights = {id(p): p.nbytes for part in (body, head) for p in part.parameters()}
    for variant in variants:
        prompt = torch.cat([audio[:, : variant.tokens], text], 1)

        def prefill(prompt=prompt):
            out = body(inputs_embeds=prompt, use_cache=True)
            return head(out.last_hidden_state[:, -1:])

        variant.prefill_bytes = peak_memory_of(prefill, device)
        if variant.prefill_bytes is not None:
            variant.total_bytes = sum(weights.values()) + prompt.nbytes + variant.prefill_bytes


def load_model(args: argparse.Namespace, layers: int, dtype: torch.dtype):
    """The language model of --model, or one with random weights."""
    if args.model is not None:
        llm = SPEECH_LLMS[args.speech_llm].from_pretrained(args.model, device=args.device)
        return llm.lm.to(dtype)
    torch.manual_seed(0)
    config = language_model_config(args.speech_llm, layers)
    words, config.vocab_size = config.vocab_size, 1
    with torch.device(args.device):
        lm = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        head = torch.nn.Linear(config.hidden_size, words, bias=False, dtype=dtype)
    lm.set_output_embeddings(head)
    # counted, but without memory: prompts are embeddings, and no token is looked up
    lm.set_input_embeddings(
        torch.nn.Embedding(words, config.hidden_size, device="meta", dtype=dtype)
    )
    return lm


def profile(args: argparse.Namespace) -> None:
    """Measure the first 30 s and all strategies at all rates, and with an encoder target also all
    tokens, and every variant behind both encoders; print tables, write a JSON file (ValueError: a
    value out of its range, an unknown speech LLM or strategy)."""
    kind = speech_llm_class(args.speech_llm)
    if args.audio_tokens is None:
        args.audio_tokens = 3 * kind.window
    for name in ("audio_tokens", "text_tokens", "query_tokens", "repeats", "decode_tokens"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}, but has to be 1 or more")
    if args.query_tokens > args.text_tokens:
        raise ValueError("--query_tokens: the query is a part of the text, so not longer")
    if args.model is not None and args.layers is not None:
        raise ValueError("--layers is for random weights: --model has all of its layers")
    whole = language_model_config(args.speech_llm)
    layers = whole.num_hidden_layers if args.layers is None else args.layers
    if not 1 <= layers <= whole.num_hidden_layers:
        raise ValueError(f"--layers is {layers}, but the model has {whole.num_hidden_layers}")
    pairs = []
    if args.encoder_target is not None:
        target = args.encoder_target
        pairs = both_halves.dense_and_pruned(args.speech_llm, args.layers, target)
    pruners = [TokenPruner("crop", rate=0.0)]  # the paper's "Original": 30 s
    pruners += [TokenPruner("none")] if pairs else []
    pruners += [TokenPruner(name, rate=rate) for name in args.strategies for rate in args.rates]
    pruners = [pruner.fitted(kind.window, kind.frame_tokens) for pruner in pruners]
    dtype = use_machine(args)
    chunks = -(-args.audio_tokens // kind.window)
    encoders = [cost for cost, _ in pairs]
    if pairs:
        run = args.speech_llm, chunks, args.repeats, args.device, dtype
        both_halves.measure(pairs, *run)
        del pairs  # the memory is for the language model
    lm = load_model(args, layers, dtype)
    if args.model is not None:
        whole = lm.get_decoder().config
        layers = whole.num_hidden_layers
    variants = [Variant(pruner, pruner.kept_tokens(args.audio_tokens)) for pruner in pruners]
    measure(lm, variants, args)
    parts = whole.num_hidden_layers / layers
    first = variants[0].prefill_of(parts)
    numbers = [_numbers(variant, variants[0], whole, parts, args) for variant in variants]
    rows = [
        {
            "strategy": found["strategy"],
            "rate": f"{found['rate']:g}",
            "audio tokens": str(found["audio_tokens"]),
            "TFLOPs": f"{found['flops'] / 1e12:.2f}",
            "prune ms": f"{1000 * np.median(variant.prune):.1f}",
            "prefill ms": f"{1000 * variant.prefill_of():.1f}",
            "speed": f"{found['speed']:.2f}x",
            "FLOPs": f"{numbers[0]['flops'] / found['flops']:.2f}x",
            "prune / prefill of 30 s": f"{np.median(variant.prune) / first:.2%}",
            "ms a new token": f"{1000 * np.median(variant.decode):.1f}",
            **{f"{n} MB": _megabytes(found[f"{n}_bytes"]) for n in ("prefill", "total", "cache")},
        }
        for variant, found in zip(variants, numbers, strict=True)
    ]
    weights = "random weights" if args.model is None else f"weights of {args.model}"
    conditions = (
        f"{args.speech_llm}, {weights}, {layers} of {whole.num_hidden_layers} layers "
        "(ms and MB are of these, with the output layer; TFLOPs, speed, share and cache of all; "
        "prefill MB are beyond weights and prompt, total MB with them), window "
        f"{variants[0].pruner.window}, {args.audio_tokens} audio and "
        f"{args.text_tokens} text tokens, {args.dtype}, {args.device}, "
        f"{torch.get_num_threads()} threads, medians of {args.repeats}"
    )
    print(table([list(rows[0]), *(list(row.values()) for row in rows)]), conditions, sep="\n\n")
    both = []
    if encoders:
        both = both_halves.halves(
            encoders,
            chunks,
            parameters_of(whole),
            [
                {
                    **found,
                    "prune": float(np.median(variant.prune)),
                    "prefill": variant.prefill_of(parts),
                    "processors": variant.processors_of(parts),
                }
                for variant, found in zip(variants[1:], numbers[1:], strict=True)
            ],
        )
        print("", both_halves.halves_table(both, chunks), sep="\n")
    if args.output:
        write_report(args.output, conditions, variants=numbers, halves=both)


def _numbers(variant: Variant, original: Variant, whole, parts: float, args) -> dict:
    """What the JSON file has of a variant; pruning and the output layer are there once, whatever
    number of layers was timed."""
    tokens = variant.tokens + args.text_tokens
    return {
        "strategy": variant.pruner.strategy,
        "rate": variant.pruner.rate,
        "audio_tokens": variant.tokens,
        "flops": prefill_flops(whole, tokens),
        "prune_seconds": variant.prune,
        "prefill_seconds": [a + b for a, b in zip(variant.prefill, variant.output, strict=True)],
        "output_seconds": variant.output,
        "decode_seconds": variant.decode,
        "speed": original.prefill_of(parts) / variant.prefill_of(parts),
        "prefill_bytes": variant.prefill_bytes,
        "total_bytes": variant.total_bytes,
        "cache_bytes": cache_bytes(whole, tokens, DTYPES[args.dtype]),
    }


def _megabytes(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e6:.0f}"
