"""Answer the questions of a data directory with a speech LLM whose audio tokens are pruned.

The data directory has wav.scp and questions (text for the transcript, and utt2num_samples to find
recordings that end early, if they are there). Without --strategies there is one condition, that of
token_pruner and token_pruner_conf. With --strategies and --rates there are all of their pairs, and
beside them the whole recording, its first 30 s, its transcript if there is text, the words that
the model's own recogniser hears if it has one, and no audio at all; each recording is embedded once
for all.

Writes OUTPUT_DIR/answers.NAME.jsonl, where NAME is that of the key file: for every item and
condition the score of every choice, the chosen one, and which audio tokens were kept
(`answers` has the format). A job that was stopped goes on where it was, also with
another split.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from espnet2.utils.config_argparse import ArgumentParser
from espnet2.utils.nested_dict_action import NestedDictAction
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from espnet_prune.bin.measuring import check_device
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.data.sir.directory import data_mark
from espnet_prune.evaluate.sir import conditions
from espnet_prune.evaluate.sir.answers import AnswerFile
from espnet_prune.evaluate.sir.conditions import TRANSCRIPT, Condition
from espnet_prune.evaluate.sir.inference import (
    PROMPT,
    Answerer,
    Recording,
    read_recordings,
    written,
)
from espnet_prune.speech_llm import POSITIONS, SPEECH_LLMS, SpeechLLM

logger = logging.getLogger(__name__)


def words(value: str | Sequence | None) -> list[str]:
    """A YAML list, or words with blanks between them."""
    if value is None:
        return []
    parts = value.split() if isinstance(value, str) else value
    return [str(part) for part in (parts if isinstance(parts, list | tuple) else [parts])]


def asked_conditions(args: argparse.Namespace) -> list[Condition]:
    """What the options ask for.

    Raises:
        ValueError: as `conditions.single` and `conditions.grid`; a rate that is no number.
    """
    strategies, rates = words(args.strategies), words(args.rates)
    if not strategies and not rates:
        return [conditions.single(args.token_pruner, args.token_pruner_conf)]
    try:
        numbers = [float(rate) for rate in rates]
    except ValueError:
        raise ValueError(f"rates are '{' '.join(rates)}', but have to be numbers") from None
    given = sorted({"rate", "keep"} & set(args.token_pruner_conf))
    if given:
        raise ValueError(f"token_pruner_conf has {given[0]}, but strategies and rates say that")
    found = conditions.grid(strategies, numbers, SPEECH_LLMS[args.speech_llm].recognises)
    has_text = (Path(args.data_dir) / "text").is_file()
    return [c for c in found if c != TRANSCRIPT or has_text]


def load_speech_llm(name: str, conf: dict) -> SpeechLLM:
    """A speech LLM by its name in `SPEECH_LLMS` and the arguments of its `from_pretrained`.

    Raises:
        ValueError: an argument that it does not have, or lacks; a device that is not there.
    """
    check_device(str(conf.get("device", "cpu")), "device of speech_llm_conf")
    load = SPEECH_LLMS[name].from_pretrained
    try:
        inspect.signature(load).bind(**conf)
    except TypeError as error:
        raise ValueError(f"speech_llm_conf of {name}: {error}") from None
    return load(**conf)


def model_mark(conf: dict) -> str:
    """Digest of the configuration and, for a local directory, of its files' names and sizes.

    Weights are not read: there may be 16 GB of them.
    """
    mark = hashlib.sha256(repr(sorted(conf.items())).encode())
    for value in conf.values():
        if isinstance(value, str) and Path(value).is_dir():
            for file in sorted(Path(value).iterdir()):
                stat = file.stat()
                mark.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return mark.hexdigest()[:16]


def header(args: argparse.Namespace) -> dict:
    """What the answers depend on besides their conditions, and how to read token numbers as times.

    `frame_tokens` is None where audio tokens are not stretches of time.
    """
    kind = SPEECH_LLMS[args.speech_llm]
    conf = {k: v for k, v in args.token_pruner_conf.items() if k not in ("rate", "keep")}
    return {
        "speech_llm": args.speech_llm,
        "speech_llm_conf": model_mark(args.speech_llm_conf),
        "token_pruner_conf": conf,
        "data_dir": data_mark(args.data_dir),
        "prompt": args.prompt,
        "positions": args.positions,
        "seed": args.seed,
        "frame_tokens": kind.frame_tokens if kind.in_time else None,
    }


def run(args: argparse.Namespace) -> None:
    if args.data_dir is None or args.output_dir is None or args.speech_llm is None:
        raise ValueError("--data_dir, --output_dir and --speech_llm have to be given")
    args.data_dir, args.output_dir = Path(args.data_dir), Path(args.output_dir)
    if args.batch_size < 1:
        raise ValueError(f"--batch_size is {args.batch_size}; give 1 or more")
    if args.speech_llm not in SPEECH_LLMS:
        raise ValueError(f"speech_llm is '{args.speech_llm}', choose from {', '.join(SPEECH_LLMS)}")
    kind = SPEECH_LLMS[args.speech_llm]
    wanted = asked_conditions(args)
    pruners = {
        c: conditions.pruner(c, args.token_pruner_conf, kind.frame_tokens, kind.window)
        for c in wanted
    }
    keys = list(read_table(args.key_file)) if args.key_file else None
    recordings = read_recordings(args.data_dir, keys)
    if TRANSCRIPT in wanted:
        for recording in recordings:
            written(recording, TRANSCRIPT.input)
    name = Path(args.key_file).stem if args.key_file else "all"
    file = AnswerFile(args.output_dir / f"answers.{name}.jsonl", header(args))
    left = [
        (recording, tuple(c for c in wanted if (recording.id, c) not in file.done))
        for recording in recordings
    ]
    number = sum(len(missing) for _, missing in left)
    if number < len(recordings) * len(wanted):
        done = len(recordings) * len(wanted) - number
        logger.info("%d of %d answers are there already", done, done + number)
    if number:
        llm = load_speech_llm(args.speech_llm, args.speech_llm_conf)
        answerer = Answerer(llm, args.prompt, args.seed, args.positions)
        with tqdm(total=number, unit="answer", mininterval=5) as bar:
            for batch, missing in batches(left, args.batch_size):
                for answers in answerer(batch, [(c, pruners[c]) for c in missing]):
                    file.add(answers)
                    bar.update(len(answers))
    logger.info("%s: %d items under %d conditions", file.path, len(recordings), len(wanted))


def batches(
    left: Sequence[tuple[Recording, tuple[Condition, ...]]], size: int
) -> list[tuple[list[Recording], tuple[Condition, ...]]]:
    """Batches of neighbours that lack the same answers."""
    found: list[tuple[list[Recording], tuple[Condition, ...]]] = []
    for recording, missing in left:
        if not missing:
            continue
        if found and found[-1][1] == missing and len(found[-1][0]) < size:
            found[-1][0].append(recording)
        else:
            found.append(([recording], missing))
    return found


def get_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_dir", help="Kaldi-style, with questions")
    add("--key_file", help="items to answer, one a line: a part of wav.scp (default: all)")
    add("--output_dir", help="for answers.NAME.jsonl")
    add("--speech_llm", help=f"one of {', '.join(SPEECH_LLMS)}")
    add(
        "--speech_llm_conf",
        action=NestedDictAction,
        default={},
        help="arguments of its from_pretrained, e.g. model=DIR",
    )
    add("--token_pruner", default="none", help="strategy, without --strategies")
    add(
        "--token_pruner_conf",
        action=NestedDictAction,
        default={},
        help="arguments of TokenPruner, e.g. rate=0.2",
    )
    add("--strategies", help="words, e.g. 'speechprune rap'")
    add("--rates", help="numbers in [0, 1), e.g. '0.2 0.8'")
    add("--prompt", default=PROMPT, help="with {question} and, if wanted, {choices}")
    add("--positions", choices=POSITIONS, default=POSITIONS[0], help="position ids")
    add("--seed", type=int, default=0, help="of the order of choices")
    add("--batch_size", type=int, default=1, help="items at a time")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    transformers_logging.disable_progress_bar()
    with torch.inference_mode():
        cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
