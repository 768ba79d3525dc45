"""`espnet-prune tokens`: audio token pruning of speech LLMs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import SPEECH_LLMS, add_machine


def profile(parser: ArgumentParser):
    """Measure what token pruning costs and saves: time, FLOPs and memory of prefill and decoding.

    A language model of true size reads a prompt of audio and text, with real weights (--model) or
    with random ones, which take as long. On machines too small for all its layers --layers takes
    the first ones; FLOPs, speed and the pruner's share are those of the whole model in any case.
    With --encoder_target a second table has both halves: the audio encoder, dense and pruned, of
    random weights, before the language model; parameters, FLOPs and time to the first token.
    """
    add = parser.add_argument
    add("--speech_llm", default="qwen2_audio", help=SPEECH_LLMS)
    add("--model", metavar="DIR_OR_NAME", help="speech LLM with weights (default: random ones)")
    add("--layers", type=int, help="number of first layers to build (default: all)")
    add("--encoder_target", type=float, metavar="SHARE", help="parameters gone, in (0, 1)")
    add("--audio_tokens", type=int, help="tokens of the recording (default: those of 90 s)")
    add("--text_tokens", type=int, default=110, help="tokens of prompt and question")
    add("--query_tokens", type=int, default=20, help="tokens of the question")
    add("--strategies", nargs="+", default=["speechprune"], help="see `tokens strategies`")
    add("--rates", nargs="+", type=float, default=[0.2, 0.4, 0.6, 0.8], help="pruning rates")
    add("--repeats", type=int, default=5, help="timed runs of each")
    add("--decode_tokens", type=int, default=4, help="tokens generated in each run")
    add_machine(parser, ("float32", "bfloat16"))
    add("--output", type=Path, help="JSON file for all numbers")

    def run(args):
        from espnet_prune.evaluate.token_cost import profile

        profile(args)

    return run


def strategies(parser: ArgumentParser):
    """List the strategies: which audio tokens of a recording each keeps."""

    def run(args):
        from espnet_prune.tokens import STRATEGIES

        width = max(map(len, STRATEGIES))
        for name, strategy in STRATEGIES.items():
            print(f"{name:{width}}  {strategy.description}")

    return run


VERBS = {"profile": profile, "strategies": strategies}
