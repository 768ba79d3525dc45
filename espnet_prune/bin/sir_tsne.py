"""Draw the tokens of a recording in a plane: kept audio tokens, dropped ones, and the question's.

t-SNE as in Figure 2 of SpeechPrune (arXiv 2412.12009). The options are those of sir_inference, so
that its config serves here, too; the pruner is that of token_pruner and token_pruner_conf, and what
is about answers is not read.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from espnet_prune.bin import sir_inference
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.sir import conditions
from espnet_prune.evaluate.sir.inference import load_speech, read_recordings
from espnet_prune.evaluate.sir.plots import plot_tokens, tsne
from espnet_prune.speech_llm import SPEECH_LLMS

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    if args.data_dir is None or args.plot is None or args.speech_llm is None:
        raise ValueError("--data_dir, --plot and --speech_llm have to be given")
    if args.speech_llm not in SPEECH_LLMS:
        raise ValueError(f"speech_llm is '{args.speech_llm}', choose from {', '.join(SPEECH_LLMS)}")
    kind = SPEECH_LLMS[args.speech_llm]
    condition = conditions.single(args.token_pruner, args.token_pruner_conf)
    pruner = conditions.pruner(condition, args.token_pruner_conf, kind.frame_tokens, kind.window)
    name = args.item or next(iter(read_table(Path(args.data_dir) / "wav.scp")))
    (recording,) = read_recordings(args.data_dir, [name])
    llm = sir_inference.load_speech_llm(args.speech_llm, args.speech_llm_conf)
    audio = llm.embed_audio(load_speech(recording, llm.sampling_rate), llm.sampling_rate)
    question = recording.question.question
    (kept,) = llm.select(pruner, [audio], [question], [name])
    stays = torch.zeros(len(audio), dtype=torch.bool, device=audio.device)
    stays[kept] = True
    groups = {
        "dropped audio tokens": audio[~stays],
        "kept audio tokens": audio[stays],
        "text tokens of the question": llm.embed_text(question),
    }
    points = tsne({label: _array(rows) for label, rows in groups.items()}, args.seed)
    plot_tokens(points, Path(args.plot), f"{name}, {condition.name}")
    logger.info("%s: %d of %d audio tokens are kept", args.plot, len(kept), len(audio))


def _array(tokens: torch.Tensor) -> np.ndarray:
    return tokens.float().cpu().numpy()


def get_parser() -> argparse.ArgumentParser:
    parser = sir_inference.get_parser()
    parser.description = __doc__
    parser.add_argument("--item", help="id of the recording (default: the first)")
    parser.add_argument("--plot", help="PNG file to write")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    transformers_logging.disable_progress_bar()
    with torch.inference_mode():
        cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
