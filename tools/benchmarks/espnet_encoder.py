"""WER of an ASR model of ESPnet: dense, its encoder pruned, fine-tuned, and trained from scratch.

The speech is strings of two to five digits, joined from recordings of the Free Spoken Digit Dataset
({digit}_{speaker}_{index}.wav, 8 kHz). One speaker is held out. Every training and decoding is
ESPnet's own; what is finished in the working directory is not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from espnet_prune.cli import errors as cli
from espnet_prune.data.corpora.fsdd import DIGITS, TEST, VALID, read_corpus
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate
from espnet_prune.evaluate.report import table, with_interval
from espnet_prune.files.writing import write_text

RUN = (sys.executable, "-m", "espnet_prune.plugin.run")
FS, HELD_OUT, MODEL = 8000, "nicolas", "valid.acc.ave.pth"
TRAINING = Path(__file__).with_suffix(".yaml")


def make_strings(corpus: Path, data: Path) -> None:
    """Data directories with tables as ESPnet's trainings read them."""
    found: dict[tuple[str, str], dict[int, Path]] = {}
    for each, index in read_corpus(corpus):
        found.setdefault((each.speaker, each.text), {})[index] = each.path
    speakers = sorted({speaker for speaker, _ in found} - {HELD_OUT})
    draw = random.Random(0)

    def write(name: str, names: list[str], indices: range, number: int) -> None:
        rows: dict[str, dict[str, object]] = {}
        for count in range(number):
            speaker = names[count % len(names)]
            words = [DIGITS[draw.randrange(10)] for _ in range(draw.randint(2, 5))]
            parts = []
            for word in words:
                recording = found[speaker, word][draw.choice(indices)]
                parts.append(soundfile.read(recording, dtype="float32")[0])
                parts.append(np.zeros(int(FS * draw.uniform(0.02, 0.15)), np.float32))
            samples, utterance = np.concatenate(parts), f"{speaker}-{count:05d}"
            path = (data / name / "wav" / f"{utterance}.wav").resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, FS)
            rows[utterance] = {"wav.scp": path, "shape": len(samples), "text": " ".join(words)}
        for file in ("shape", "text", "wav.scp"):
            write_table(data / name / file, {u: str(rows[u][file]) for u in sorted(rows)})

    write("train", speakers, range(10, 50), 1000)
    write("valid", speakers, VALID, 90)
    write("test_seen", speakers, TEST, 150)
    write("test_unseen", [HELD_OUT], range(50), 150)
    letters = sorted({letter for word in DIGITS for letter in word})
    tokens = ["<blank>", "<unk>", "<space>", *letters, "<sos/eos>"]
    write_text(data / "tokens.txt", "\n".join(tokens) + "\n")


def run(log: Path, *command: object) -> None:
    """Run a command, with what it prints in a file.

    Raises:
        ValueError: it failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run([str(word) for word in command], stdout=file, stderr=file)
    if done.returncode:
        raise ValueError(f"{log}: the command failed")


def train(data: Path, exp: Path, config: Path, *options: object) -> None:
    """A training of ESPnet, unless it has been run to its end."""
    if (exp / MODEL).exists():
        return
    args: list[str] = []
    for part in ("train", "valid"):
        for each in ("wav.scp,speech,sound", "text,text,text"):
            args += [f"--{part}_data_path_and_name_and_type", f"{data}/{part}/{each}"]
        args += [f"--{part}_shape_file", f"{data}/{part}/shape"]
    args += ["--token_type", "char", "--token_list", f"{data}/tokens.txt"]
    command = (*RUN, "espnet2.bin.asr_train", "--config", config, "--output_dir", exp)
    run(exp.with_name(f"{exp.name}.log"), *command, *args, *options)


def word_error_rate(data: Path, exp: Path, name: str) -> str:
    """WER in percent of ESPnet's decoding of a test set, with its interval."""
    output = exp / "decoded" / name
    said, found = read_table(data / name / "text"), output / "1best_recog" / "text"
    if not found.exists() or len(read_table(found)) < len(said):
        run(
            *(exp / f"{name}.log", *RUN, "espnet2.bin.asr_inference", "--ngpu", 0),
            *("--beam_size", 5, "--ctc_weight", 0.5, "--output_dir", output),
            *("--data_path_and_name_and_type", f"{data}/{name}/wav.scp,speech,sound"),
            *("--asr_train_config", exp / "config.yaml", "--asr_model_file", exp / MODEL),
        )
    heard = read_table(found)
    counts = count_errors(list(said.values()), [heard.get(name, "") for name in said])
    rate = error_rate(counts)
    return with_interval(rate.rate, rate.low, rate.high)


def main(args: argparse.Namespace) -> None:
    data, exp = args.work_dir / "data", args.work_dir / "exp"
    if not (data / "tokens.txt").exists():
        make_strings(args.corpus, data)
    dense = exp / "dense"
    train(data, dense, TRAINING)
    rows = [["model", "encoder (M)", "WER %: seen speakers", "unseen speaker"]]

    def add(name: str, parameters: int) -> None:
        rates = [word_error_rate(data, exp / name, f"test_{t}") for t in ("seen", "unseen")]
        rows.append([name, f"{parameters / 1e6:.3f}", *rates])

    for target in args.targets:
        pruned, tuned, scratch = (f"{n}_{target:g}" for n in ("pruned", "tuned", "scratch"))
        if not (exp / pruned / "config.yaml").exists():
            run(
                *(exp / f"{pruned}.log", "espnet-prune", "encoder", "prune", data / "train"),
                *("--asr_train_config", dense / "config.yaml", "--asr_model_file", dense / MODEL),
                *("--target", target, "--output_dir", exp / pruned),
            )
        config, epochs = exp / pruned / "train.yaml", ("--max_epoch", args.epochs)
        init = ("--init_param", exp / pruned / MODEL)
        train(data, exp / tuned, config, *epochs, *init, "--optim_conf", "lr=0.001")
        train(data, exp / scratch, config, *epochs)
        size = json.loads((exp / pruned / "summary.json").read_text())
        if len(rows) == 1:
            add("dense", size["dense_parameters"])
        for name in (pruned, tuned, scratch):
            add(name, size["parameters"])
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder of the recordings")
    parser.add_argument("work_dir", type=Path, help="directory for data and experiments")
    text = "parameters to remove (default: 0.5 and 0.7)"
    parser.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.7], help=text)
    parser.add_argument("--epochs", type=int, default=5, help="of fine-tuning, and from scratch")
    cli.run(main, parser)
