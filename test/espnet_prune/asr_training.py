"""Stock ESPnet trainings of a few seconds on six synthetic utterances."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml

from espnet_prune.plugin.run import main

ROOT = Path(__file__).resolve().parents[2]
RUN = (sys.executable, "-m", "espnet_prune.plugin.run")


def run(*args: str, cwd: Path = ROOT, path: tuple[Path, ...] = (), stdin: str = "", rc: int = 0):
    """The finished process of `python -m espnet_prune.plugin.run ARGS`."""
    done = subprocess.run(
        [*RUN, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": ":".join(map(str, (*path, ROOT))), "OMP_NUM_THREADS": "1"},
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def write_corpus(directory: Path) -> None:
    """Tables, audio at 16 kHz and a token list."""
    rng = np.random.default_rng(0)
    wav_scp, text, shape = [], [], []
    for i in range(6):
        samples = 6400 + 800 * i
        tone = 0.3 * np.sin(np.arange(samples) * 0.05 * (i + 1)) + 0.01 * rng.normal(size=samples)
        soundfile.write(directory / f"{i}.wav", tone, 16000)
        wav_scp.append(f"utt{i} {directory / f'{i}.wav'}\n")
        text.append(f"utt{i} {'ab' * (i % 2 + 1)}\n")
        shape.append(f"utt{i} {samples}\n")
    (directory / "wav.scp").write_text("".join(wav_scp))
    (directory / "text").write_text("".join(text))
    (directory / "shape").write_text("".join(shape))
    (directory / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")


def asr_arguments(corpus: Path, output: Path, **conf) -> list[str]:
    """Arguments of `asr_train` as the stock template gives them, with a small configuration."""
    conf = {
        "optim": "adam",
        "optim_conf": {"lr": 0.01},
        "max_epoch": 1,
        "batch_type": "unsorted",
        "batch_size": 3,
        "num_workers": 0,
        "model_conf": {"ctc_weight": 1.0},
        "use_tensorboard": False,
        "use_matplotlib": False,
        **conf,
    }
    output.mkdir(parents=True, exist_ok=True)
    config = output / "train.yaml"
    config.write_text(yaml.safe_dump(conf))
    args = ["--use_preprocessor", "true", "--token_type", "char", "--config", str(config)]
    args += ["--token_list", str(corpus / "tokens.txt"), "--output_dir", str(output)]
    args += ["--valid_data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"]
    args += ["--valid_data_path_and_name_and_type", f"{corpus}/text,text,text"]
    args += ["--train_data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"]
    args += ["--train_data_path_and_name_and_type", f"{corpus}/text,text,text"]
    args += ["--train_shape_file", f"{corpus}/shape", "--valid_shape_file", f"{corpus}/shape"]
    return args


def run_here(*args: str) -> None:
    """`main` in this process, which has paid for importing ESPnet already."""
    argv = sys.argv
    try:
        main([str(arg) for arg in args])
    except SystemExit as status:
        assert not status.code
    finally:
        sys.argv = argv
