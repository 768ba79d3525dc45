"""`espnet-prune tokens`: audio token pruning of speech LLMs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import SPEECH_LLMS, KeyValues, add_machine, calls, whole


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


def serve(parser: ArgumentParser):
    """Start vLLM's OpenAI-compatible server for a speech LLM whose audio `tokens ask` prunes.

    Qwen2-Audio is served as it is, without its audio encoder, and takes audio tokens. Of any other
    speech LLM the language model is written to --directory (once), and takes embeddings of prompts.
    vLLM pins another torch than ESPnet has: name the Python of its own environment, which
    tools/test_vllm.sh makes. What stands behind -- goes to vLLM: --port 8001, --dtype bfloat16,
    --max-model-len 8192, --tensor-parallel-size 2, --pipeline-parallel-size 2. A recording with
    more audio tokens than a step of vLLM has needs --max-num-batched-tokens.
    """
    add = parser.add_argument
    _add_speech_llm(parser)
    add("--directory", type=Path, default=Path("exp/served"), help="language model to write")
    add("--python", default="python3", help="command that starts Python with vLLM")
    add("options", nargs="*", metavar="-- OPTION", help="options of vLLM's server")

    return calls("evaluate.serving.serve")


def ask(parser: ArgumentParser):
    """Ask a server of `tokens serve` about recordings of any length, with pruned audio.

    Audio encoder and pruner run here, without vLLM. Prints a line of JSON for each recording: the
    answer (a greedy one), the tokens of the audio, those that were kept, those of the prompt as the
    server counts them, and the seconds to the first token.
    """
    add = parser.add_argument
    add("audio", nargs="+", metavar="AUDIO", help="recordings: files of one channel at 16 kHz")
    add("--question", nargs="+", required=True, help="one for all, or one for each")
    add("--url", default="http://127.0.0.1:8000", help="of the server")
    _add_speech_llm(parser)
    add("--token_pruner", default="none", help="strategy, see `tokens strategies`")
    add("--token_pruner_conf", action=KeyValues, help="an argument of TokenPruner, e.g. rate=0.2")
    add("--max_new_tokens", type=whole(1), default=64, help="longest answer")

    return calls("evaluate.serving.ask")


def _add_speech_llm(parser: ArgumentParser) -> None:
    """Add --speech_llm and --speech_llm_conf."""
    add = parser.add_argument
    add("--speech_llm", required=True, help=SPEECH_LLMS)
    add("--speech_llm_conf", action=KeyValues, help="an argument of its loading, e.g. model=DIR")


VERBS = {"profile": profile, "strategies": strategies, "serve": serve, "ask": ask}
