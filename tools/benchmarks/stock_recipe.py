"""WER of ESPnet's recipe egs2/mini_an4/asr1: dense, its encoder pruned, tuned, and from scratch.

The recipe and its data come from a checkout of ESPnet and are run unmodified in a copy; only the
config of the training is ours. After scoring, the recipe packs the tuned model, which another
process unpacks and uses in an empty folder. sclite has to be on PATH for the scores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.evaluate.report import table
from espnet_prune.files.writing import write_text
from espnet_prune.launch import warm_python

ROOT = Path(__file__).resolve().parents[2]
#: as `python3 -m espnet_prune.plugin.run`, and starts at once
RUN = f"{warm_python.__file__} -m espnet_prune.plugin.run"
#: weights after the last update: AN4 has one utterance to choose others by
MODEL = "latest.pth"
TRAINING = Path(__file__).with_suffix(".yaml")
#: what recipes need of a checkout; links in them lead to each other
NEEDED = (
    *("egs2/TEMPLATE", "egs2/mini_an4/asr1", "egs/an4/asr1/local"),
    *("egs/mini_an4/asr1/downloads.tar.gz", "tools/extra_path.sh", "utils"),
)
#: AN4's recordings are uncompressed NIST SPHERE files, which libsndfile reads
SPH2PIPE = """#!/usr/bin/env python3
import io, sys, soundfile
samples, rate = soundfile.read(sys.argv[-1], dtype="int16")
wav = io.BytesIO()
soundfile.write(wav, samples, rate, format="WAV")
sys.stdout.buffer.write(wav.getvalue())
"""
#: what uses a pack, by task: class, options of its own, and what it says
USERS = {
    "asr": ("espnet2.bin.asr_inference", "Speech2Text", "said[0][0]"),
    "cls": ("espnet2.bin.cls_inference", "Classification", "said[-1]"),
}
#: run where a pack has been unpacked, with the import that README has
ELSEWHERE = """
import sys
import espnet_prune.auto
import soundfile
from {module} import {user}
from espnet2.main_funcs.pack_funcs import unpack
model = {user}(**unpack(sys.argv[1], "."), **{options})
for line in open(sys.argv[2], encoding="utf-8"):
    name, path = line.split()
    said = model(soundfile.read(path)[0])
    print(name, {words})
"""


def copy_recipes(checkout: Path, directory: Path) -> None:
    """The recipes' files, with a stand-in for sph2pipe where there is none.

    Raises:
        FileNotFoundError: the checkout lacks something.
    """
    for name in NEEDED:
        source, target = checkout / name, directory / name
        if not source.exists():
            raise FileNotFoundError(f"{source}: missing; give a checkout of ESPnet")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not target.exists():
            shutil.copytree(source, target, symlinks=True)
        elif source.is_file():
            shutil.copy(source, target)
    if shutil.which("sph2pipe") is None:
        stand_in = directory / "bin" / "sph2pipe"
        write_text(stand_in, SPH2PIPE)
        stand_in.chmod(0o755)


def environment(directory: Path) -> dict[str, str]:
    """What a recipe in a copy needs: this Python in front, and this package."""
    path = [str(directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    package = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PATH": ":".join(path), "PYTHONPATH": ":".join(package)}


def run(directory: Path, folder: str, log: str, *command: object) -> str:
    """What a command prints in a folder of the copy; it is in a file beside the copy, too.

    Raises:
        ValueError: it failed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory / folder,
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    write_text(directory / f"{log}.log", done.stdout)
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-20:])
        raise ValueError(f"{directory / log}.log: {shlex.join(map(str, command))} failed:\n{end}")
    return done.stdout


def word_error_rates(exp: Path) -> dict[str, str]:
    """Test set -> words and WER in percent, as sclite sums them up."""
    found = {}
    for result in sorted(exp.glob("*/**/score_wer/result.txt")):
        line = re.search(r"\|\s*Sum/Avg\s*\|\s*\d+\s+(\d+)\s*\|(.*)\|", result.read_text())
        if line is None:
            raise ValueError(f"{result}: no sums; is sclite on PATH?")
        found[result.parent.parent.name] = f"{line[2].split()[4]} ({line[1]} words)"
    return found


def audio_of(recipe: Path, data_dir: str) -> dict[str, Path]:
    """Utterance -> file of a data directory, whose paths are relative to the recipe's."""
    found = read_table(recipe / data_dir / "wav.scp")
    return {name: (recipe / path).resolve() for name, path in found.items()}


def use_elsewhere(
    directory: Path, pack: Path, audio: Mapping[str, Path], task: str = "asr", **options: object
) -> list[str]:
    """What another process says in an empty folder with a copy of the pack: names and words.

    Args:
        audio: name -> file.
        task: of `USERS`, whose class gets the options.
    Raises:
        ValueError: it failed.
    """
    module, user, words = USERS[task]
    code = ELSEWHERE.format(module=module, user=user, words=words, options=options)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(pack, folder)
        write_table(Path(folder) / "wav.scp", audio)
        done = subprocess.run(
            [sys.executable, "-c", code, pack.name, "wav.scp"],
            cwd=folder,
            env=environment(directory),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise ValueError(f"{pack}: cannot be used elsewhere: {done.stderr}")
    lines = [line.split() for line in done.stdout.splitlines()]
    return [word for line in lines if line[:1] and line[0] in audio for word in line]


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, warm_python.serving(Path(folder), ROOT):
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Train, prune, train again, decode, and use the pack elsewhere."""
    directory, recipe = args.work_dir.resolve(), "egs2/mini_an4/asr1"
    copy_recipes(args.checkout, directory)
    asr, own = directory / recipe, {"ctc_weight": 0.5, "beam_size": 5}
    write_text(asr / "conf" / "decode.yaml", yaml.safe_dump(own))
    shutil.copy(TRAINING, asr / "conf" / "dense.yaml")
    options = [*("--python", RUN, "--ngpu", 0, "--use_lm", "false", "--token_type", "char")]
    options += ["--inference_asr_model", MODEL]
    options += ["--nj", 1, "--inference_nj", 1, "--inference_config", "conf/decode.yaml"]
    if args.data is not None:
        shutil.copytree(args.data, asr / "data", symlinks=True, dirs_exist_ok=True)
        options += ["--train_set", args.train_set, "--valid_set", args.valid_set]
        options += ["--test_sets", args.test_sets, "--lm_train_text", f"data/{args.train_set}/text"]

    def stages(first: int, last: int, config: str, *more: object) -> Path:
        name = Path(config).stem
        span = ("--stage", first, "--stop_stage", last, "--asr_config", config)
        command = ("./run.sh", *options, *span, "--asr_tag", name, *more)
        run(directory, recipe, f"{name}_{first}", *command)
        return asr / "exp" / f"asr_{name}"

    epochs = ("--asr_args", f"--max_epoch {args.epochs}")
    dense = stages(1 if args.data is None else 2, 13, "conf/dense.yaml")
    pruned = asr / "exp" / "pruned"
    train = args.train_set if args.data is not None else "train_nodev"
    files = ("--asr_train_config", dense / "config.yaml", "--asr_model_file", dense / MODEL)
    if not (pruned / "config.yaml").exists():
        out = ("--target", args.target, "--output_dir", pruned)
        command = ("espnet-prune", "encoder", "prune", f"dump/raw/{train}", *files, *out)
        run(directory, recipe, "pruned", sys.executable, "-m", "espnet_prune", *command[1:])
    shutil.copy(pruned / "train.yaml", asr / "conf" / "tuned.yaml")
    shutil.copy(pruned / "train.yaml", asr / "conf" / "scratch.yaml")
    stages(12, 13, "conf/dense.yaml", "--asr_exp", "exp/pruned")
    init = ("--pretrained_model", pruned / MODEL)
    lower = (epochs[0], f"{epochs[1]} --optim_conf lr={args.tuning_lr}")
    tuned = stages(11, 14, "conf/tuned.yaml", *init, *lower, "--skip_packing", "false")
    scratch = stages(11, 13, "conf/scratch.yaml", *epochs)

    size = json.loads((pruned / "summary.json").read_text())
    sizes = [size["dense_parameters"], *[size["parameters"]] * 3]
    names = ["dense", "pruned", "pruned, fine-tuned", "from scratch in its sizes"]
    rates = [word_error_rates(exp) for exp in (dense, pruned, tuned, scratch)]
    rows = [["model", "encoder (M)", *(f"WER %: {name}" for name in rates[0])]]
    for name, parameters, found in zip(names, sizes, rates, strict=True):
        rows.append([name, f"{parameters / 1e6:.3f}", *found.values()])
    print(table(rows))
    test = next(name for name in rates[0] if name.startswith("test"))
    (pack,), (decoded,) = tuned.glob("*.zip"), tuned.glob(f"**/{test}/text")
    audio = audio_of(asr, f"dump/raw/{test}")
    same = use_elsewhere(directory, pack, audio, **own) == decoded.read_text().split()
    print(f"\n{pack.name}, unpacked in an empty folder: transcripts of {test} are the same: {same}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="checkout of ESPnet, of the installed version")
    parser.add_argument("work_dir", type=Path, help="directory for the copy and its experiments")
    parser.add_argument("--target", type=float, default=0.5, help="parameters to remove")
    text = "of fine-tuning, and from scratch"
    parser.add_argument("--epochs", type=int, default=20, help=text)
    parser.add_argument("--tuning_lr", type=float, default=0.001, help="peak, of fine-tuning")
    text = "data directories of another corpus instead of AN4's, with the names of its sets"
    parser.add_argument("--data", type=Path, help=text)
    parser.add_argument("--train_set", default="train", help="with --data")
    parser.add_argument("--valid_set", default="valid", help="with --data")
    parser.add_argument("--test_sets", default="test", help="with --data")
    cli.run(main, parser)
