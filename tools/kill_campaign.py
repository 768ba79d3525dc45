#!/usr/bin/env python3
"""Kill what the project computes at random moments, run it again, and see that nothing is lost.

Each operation runs to its end first, twice. Then it is started anew as often as --kills says, ended
by kill -9 with all that it has started, and run again. Two things have to hold:

- What stands under a final name right after the kill is whole: it equals the final content, or it
  is a file that grows line by line, or one that each epoch writes anew and that can be read.
- The files after the rerun are those of the first run, byte by byte, and no others.

Models are tiny and random, audio is noise; an operation takes seconds. What is not compared:
EXCLUDED
Of checkpoint.pth all is compared but the reporter, which holds the seconds of each epoch. The exit
status is 1 when anything differs. It takes about --kills times two minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if "test" not in sys.modules:  # ours instead of the standard library's
    sys.modules["test"] = types.ModuleType("test")
    sys.modules["test"].__path__ = [str(ROOT / "test")]

from espnet_prune.launch.supervise import descendants, ended_together  # noqa: E402
from espnet_prune.launch.warm_python import serving  # noqa: E402

WARM = ROOT / "espnet_prune" / "launch" / "warm_python.py"
#: pattern of a path -> why it is not compared
EXCLUDED = {
    "*.log": "logs: times and process numbers",
    "*tensorboard/*": "TensorBoard's events: the time of day",
    "*/images/*_time.png": "ESPnet's plots of the seconds of each epoch",
    "*/.lock": "who held a directory last",
    "*/.made_of.json": "notes that hold the time at which an input changed",
}
#: Written line by line: right after a kill they hold a part.
GROWING = ("*.partial", "*.jsonl")
#: Written anew by each epoch: right after a kill they are those of an earlier one, and whole.
EACH_EPOCH = ("*.pth", "*.png", "*.jsonl", "*/RESULTS.md")


@dataclass
class Operation:
    """What is killed.

    Args:
        prepare: makes the inputs in a folder, once; returns the commands that run in the working
            directory, with arguments as they come after `python`.
        start: folder whose copy the working directory is at first; made by `prepare`.
    """

    name: str
    prepare: Callable[[Path], list[list[str]]]
    commands: list[list[str]] = field(default_factory=list)
    start: Path | None = None


def corpus(folder: Path, seconds: tuple[float, ...], rate: int = 16000) -> Path:
    """A data directory of noise."""
    import numpy as np
    import soundfile

    (folder / "wav").mkdir(parents=True)
    tables: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "spk2utt": [], "shape": []}
    for number, length in enumerate(seconds):
        path = folder / "wav" / f"u{number:03d}.wav"
        noise = np.random.default_rng(number).normal(size=int(rate * length)) * 0.1
        soundfile.write(path, noise, rate)
        tables["wav.scp"].append(f"{path.stem} {path}\n")
        tables["utt2spk"].append(f"{path.stem} {path.stem}\n")
        tables["spk2utt"].append(f"{path.stem} {path.stem}\n")
        tables["shape"].append(f"{path.stem} {len(noise)}\n")
    for name, lines in tables.items():
        (folder / name).write_text("".join(lines))
    return folder


def data_preparation(inputs: Path) -> list[list[str]]:
    source = corpus(inputs / "data", (1.0, 2.5, 0.7, 4.0) * 8, rate=22050)
    shared = ["-m", "espnet_prune", "data"]
    return [
        [*shared, "format", "--nj", "2", str(source), "formatted"],
        [*shared, "pack", "--nj", "2", "--window", "10", "formatted", "packed"],
        [*shared, "subset", "--random", "20", "formatted", "part"],
    ]


def training_options(inputs: Path, **changes: object) -> list[str]:
    """Options of ssl_prune_train on a tiny Whisper and six utterances, with a config of its own."""
    import yaml

    from test.espnet_prune.tiny import saved

    if not (inputs / "data").exists():
        corpus(inputs / "data", (1.0, 1.02, 1.04, 1.06, 1.08, 1.1))
        saved("whisper", inputs / "teacher")
    config = {
        "optim": "adamw",
        "optim_conf": {"lr": 1e-3},
        "max_epoch": 3,
        "batch_type": "unsorted",
        "batch_size": 2,
        "num_workers": 0,
        "keep_nbest_models": 2,
        "best_model_criterion": [["valid", "distill", "min"]],
        "num_att_plot": 0,
        "use_matplotlib": False,
        "log_interval": 1,
        **changes,
    }
    (inputs / "train.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", str(inputs / "train.yaml"), "--teacher", str(inputs / "teacher")]
    for part in ("train", "valid"):
        scp = f"{inputs}/data/wav.scp,speech,sound"
        options += [f"--{part}_data_path_and_name_and_type", scp]
        options += [f"--{part}_shape_file", f"{inputs}/data/shape"]
    return ["-m", "espnet_prune.bin.ssl_prune_train", *options, "--resume", "true"]


PRUNING = {
    "target": 0.4,
    "ramp_updates": 6,
    "gate_lr": 0.3,
    "multiplier_lr": 0.3,
    "init": 1.0,
    "targets": [0.2],
}


def training(inputs: Path) -> list[list[str]]:
    return [[*training_options(inputs, pruning_conf=PRUNING), "--output_dir", "prune"]]


def pruned(inputs: Path) -> Path:
    """A finished first training."""
    (command,) = training(inputs)
    finish([command], inputs)
    return inputs / "prune"


def distillation(inputs: Path) -> list[list[str]]:
    slim = ["-m", "espnet_prune", "encoder", "slim", "--train_dir", str(pruned(inputs))]
    finish([[*slim, "--output_dir", "slim"]], inputs)
    student = ["--student", str(inputs / "slim"), "--output_dir", "distill"]
    return [[*training_options(inputs), *student]]


def export(inputs: Path) -> list[list[str]]:
    shared = ["-m", "espnet_prune", "encoder"]
    slim = [*shared, "slim", "--train_dir", str(pruned(inputs)), "--output_dir", "slim"]
    random_ = [*shared, "random", "--teacher", str(inputs / "teacher"), "--output_dir", "random"]
    settings = ["--", "--config", str(inputs / "train.yaml")]
    return [[*slim, "--all_targets", "true"], [*random_, *settings]]


def cache_writing(inputs: Path) -> list[list[str]]:
    options = training_options(inputs, pruning_conf=PRUNING, max_epoch=2)
    return [[*options, "--model_conf", "teacher_cache=cache", "--output_dir", "prune"]]


def decoding(inputs: Path) -> list[list[str]]:
    from test.espnet_prune.evaluate.test_whisper_decoding import make_teacher

    teacher = make_teacher(inputs / "teacher")
    data = corpus(inputs / "data", (0.5, 0.1, 1.0, 0.3, 0.7) * 8)
    options = ["--teacher_dir", str(teacher), "--data_dir", str(data), "--batch_size", "2"]
    return [["-m", "espnet_prune.bin.whisper_inference", *options, "--output_dir", "decoded"]]


def sir_inference(inputs: Path) -> list[list[str]]:
    import yaml

    from test.espnet_prune.evaluate.sir.stand_in import save_data_dir, save_speech_llm

    config = {
        "speech_llm": "qwen2_audio",
        "speech_llm_conf": {"model": str(save_speech_llm(inputs / "model"))},
        "token_pruner_conf": {"window": 100},
    }
    (inputs / "sir.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", str(inputs / "sir.yaml"), "--output_dir", "answers"]
    options += ["--strategies", "speechprune rap uniform", "--rates", "0.2 0.5 0.8"]
    data = save_data_dir(inputs / "data")
    return [["-m", "espnet_prune.bin.sir_inference", *options, "--data_dir", str(data)]]


def superb_probing(inputs: Path) -> list[list[str]]:
    """Training, inference and scoring of a recipe, whose data are prepared here. It is called as a
    user calls it, with its jobs."""
    from test.espnet_prune import small_corpora
    from test.espnet_prune.tiny import saved
    from test.recipes.running import copy_of

    upstream = saved("wavlm-base", inputs / "upstream")
    small_corpora.voxceleb1(inputs / "voxceleb1")
    copy_of("voxceleb1/superb_sid1", inputs / "start")
    recipe = "cd egs2/voxceleb1/superb_sid1 && ./run.sh --debug true --nj 1 --inference_nj 2"
    recipe += f" --python {WARM} --upstream {upstream} --results_dir results"
    environment = {"VOXCELEB1": str(inputs / "voxceleb1")}
    # The list of labels and the paths in it are of the working directory.
    work = inputs.parent.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(inputs / "start", work, symlinks=True)
    call(f"{recipe} --stop_stage 5", work, **environment)
    shutil.rmtree(inputs / "start")
    shutil.move(work, inputs / "start")
    return [["sh", f"{recipe} --stage 6 --stop_stage 8"]]


OPERATIONS = {
    "data preparation": data_preparation,
    "training": training,
    "distillation": distillation,
    "decoding": decoding,
    "SIR inference": sir_inference,
    "SUPERB probing": superb_probing,
    "export": export,
    "cache writing": cache_writing,
}


def line_of(commands: list[list[str]]) -> str:
    """The commands for a shell; one that begins with sh is a line already."""
    lines = [c[1] if c[0] == "sh" else shlex.join([str(WARM), *c]) for c in commands]
    return " && ".join(lines)


def begin(line: str, work: Path, **environment: str) -> subprocess.Popen:
    work.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    with (work.parent / "output.txt").open("w") as output:
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def call(line: str, work: Path, **environment: str) -> None:
    """Run a line to its end (RuntimeError: it failed)."""
    status = begin(line, work, **environment).wait()
    if status:
        said = (work.parent / "output.txt").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{line}: exit status {status}\n{said}")


def finish(commands: list[list[str]], work: Path) -> None:
    call(line_of(commands), work)


def excluded(name: str) -> bool:
    return any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in EXCLUDED)


def files_of(folder: Path) -> dict[str, str]:
    """Path in the folder -> what identifies the content; links count by what they name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if excluded(name) or (path.is_dir() and not path.is_symlink()):
            continue
        found[name] = f"link to {os.readlink(path)}" if path.is_symlink() else content(path)
    return found


def content(path: Path) -> str:
    if path.name == "checkpoint.pth":
        import torch

        # ESPnet's own training state
        states = torch.load(path, map_location="cpu", weights_only=False)
        states.pop("reporter")
        whole = hashlib.sha256()
        for name, value in flat("", states):
            whole.update(name.encode())
            if isinstance(value, torch.Tensor):
                value = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            whole.update(value if isinstance(value, bytes) else repr(value).encode())
        return whole.hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The leaves of nested dicts and lists."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from flat(f"{name}/{key}", each)
    else:
        yield name, value


def faults_after_kill(work: Path, reference: Path, start: dict[str, str]) -> list[str]:
    """Files under final names that are not whole."""
    faults = []
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if excluded(name) or path.is_dir() or path.is_symlink() or ".tmp" in name:
            continue
        final = reference / name
        if start.get(name) or (final.is_file() and final.read_bytes() == path.read_bytes()):
            continue
        if any(fnmatch.fnmatch(name, pattern) for pattern in GROWING) and grows(path, final):
            continue
        if any(fnmatch.fnmatch(f"/{name}", p) for p in EACH_EPOCH) and readable(path):
            continue
        faults.append(f"{name}: not whole right after the kill")
    return faults


def grows(path: Path, final: Path) -> bool:
    """Whether a file is a part of the final one, or all but its last line is JSON."""
    data = path.read_bytes()
    if final.is_file() and final.read_bytes().startswith(data):
        return True
    try:
        for line in data.split(b"\n")[:-1]:
            json.loads(line)
    except ValueError:
        return False
    return True


def readable(path: Path) -> bool:
    if path.suffix == ".png":
        return path.read_bytes().endswith(b"IEND\xaeB`\x82")
    if path.suffix == ".pth":
        import torch

        try:
            torch.load(path, map_location="cpu", weights_only=False)
        except Exception:
            return False
    if path.suffix == ".json":
        try:
            json.loads(path.read_text())
        except ValueError:
            return False
    return True


def differences(work: Path, reference: dict[str, str]) -> list[str]:
    found = files_of(work)
    faults = [f"{name}: is not there" for name in reference.keys() - found.keys()]
    faults += [f"{name}: is left over" for name in found.keys() - reference.keys()]
    both = reference.keys() & found.keys()
    return sorted(faults + [f"{n}: differs" for n in both if found[n] != reference[n]])


class Campaign:
    """Runs operations below a folder, with a warm Python, and kills them."""

    def __init__(self, folder: Path, server: subprocess.Popen) -> None:
        self.folder, self.server = folder, server

    def anew(self, operation: Operation) -> Path:
        """The working directory as it is at first; its path is the same in all runs."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        if operation.start is None:
            work.mkdir(parents=True)
        else:
            shutil.copytree(operation.start, work, symlinks=True)
        return work

    def run(self, name: str, kills: int, seed: int) -> tuple[int, int, list[str]]:
        """Kills that happened, runs that came out the same, and what was wrong."""
        inputs = self.folder / "inputs" / name.replace(" ", "_")
        shutil.rmtree(inputs, ignore_errors=True)
        inputs.mkdir(parents=True)
        operation = Operation(name, OPERATIONS[name])
        operation.commands = operation.prepare(inputs)
        if (inputs / "start").is_dir():
            operation.start = inputs / "start"
        line = line_of(operation.commands)
        reference = self.folder / "reference"
        shutil.rmtree(reference, ignore_errors=True)
        work = self.anew(operation)
        start = files_of(work)
        call(line, work)
        shutil.copytree(work, reference, symlinks=True)
        known = files_of(work)

        work = self.anew(operation)
        begun = time.monotonic()
        call(line, work)
        seconds = time.monotonic() - begun
        unsteady = [f"without a kill: {fault}" for fault in differences(work, known)]
        print(f"{name}: {len(known)} files, {seconds:.1f} s", flush=True)

        moments = random.Random(f"{seed} {name}")
        happened = same = 0
        wrong = unsteady
        for number in range(1, kills + 1):
            work = self.anew(operation)
            moment = moments.uniform(0, seconds)
            happened += self.kill(line, work, moment)
            faults = faults_after_kill(work, reference, start)
            try:
                call(line, work)
                faults += differences(work, known)
            except RuntimeError as error:
                faults.append(f"the rerun failed: {error}")
            same += not faults
            wrong += [f"kill {number} at {moment:.2f} s: {fault}" for fault in faults]
        return happened, same, wrong

    def kill(self, line: str, work: Path, moment: float) -> bool:
        """Start it, and kill it with all that it has started; whether it was still running."""
        process = begin(line, work)
        time.sleep(moment)
        running = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        while left := descendants(self.server.pid):  # forks of the warm Python, and theirs
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        process.wait()
        return running


def main(argv: list[str] | None = None) -> int:
    """Run the campaign; the exit status."""
    why = "\n".join(f"  {pattern}  ({reason})" for pattern, reason in EXCLUDED.items())
    parser = argparse.ArgumentParser(
        description=__doc__.replace("EXCLUDED", why),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=25, metavar="N", help="of each operation")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS), metavar="NAME",
        help=f"which ones (default: all): {', '.join(map(repr, OPERATIONS))}",
    )  # fmt: skip
    args = parser.parse_args(argv)
    rows, failed = [("operation", "kills", "same", "differs")], False
    folder = tempfile.TemporaryDirectory()
    with ended_together(), folder as name, serving(Path(name), ROOT) as server:
        campaign = Campaign(Path(name), server)
        for operation in args.operations:
            happened, same, wrong = campaign.run(operation, args.kills, args.seed)
            print(*wrong, f"{operation}: {same} of {args.kills} the same", sep="\n", flush=True)
            failed |= bool(wrong)
            rows.append((operation, str(happened), str(same), str(args.kills - same)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join(cells)} |")
        if row is rows[0]:
            print(f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
