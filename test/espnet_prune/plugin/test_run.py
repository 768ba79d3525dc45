"""`python -m espnet_prune.plugin.run`, as a user and as ESPnet's recipes call it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from test.espnet_prune.asr_training import RUN, asr_arguments, run, run_here, write_corpus


@pytest.mark.parametrize("args", [(), ("-h",), ("--help",)])
def test_help(args):
    done = run(*args)
    assert done.stdout.startswith("usage: python3 -m espnet_prune.plugin.run [-m] MODULE [ARG ...]")
    assert "./run.sh --python" in done.stdout and "frontend: pruned_ssl" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("espnet2.bin.asr_trian", "--config", "x"), "no module named 'espnet2.bin.asr_trian'"),
        (("-m", "espnet4.bin.asr_train"), "no module named 'espnet4.bin.asr_train'"),
        (("-m", "..asr_train"), "no module named '..asr_train'"),
        (("-m", "espnet2.bin"), "'espnet2.bin' is a package, name one of its modules"),
        (("-m",), "-m needs an argument, see --help"),
        (("-c",), "-c needs an argument, see --help"),
        (("--verbose", "espnet2.bin.asr_train"), "unknown option --verbose, see --help"),
        (("pyscripts/nothing.py",), "no such file: pyscripts/nothing.py"),
    ],
)
def test_errors_are_one_line(args, message):
    assert run(*args, rc=1).stderr == f"error: {message}\n"


def test_module_of_espnet_gets_its_arguments_and_file_name():
    done = run("-m", "espnet2.bin.launch", "--help")
    assert done.stdout.startswith("usage: launch.py [-h]")
    assert "espnet2/bin/launch.py --help" in done.stderr
    assert run("espnet2.bin.launch", "--help").stdout == done.stdout


def test_exit_status_is_that_of_the_module():
    assert "unrecognized arguments: --no" in run("espnet2.bin.launch", "--no", "x", rc=2).stderr


def test_module_that_is_neither_ours_nor_espnets():
    assert json.loads(run("-m", "json.tool", stdin='{"a": 1}').stdout) == {"a": 1}


def test_script_runs_as_python_runs_it(tmp_path):
    folder = tmp_path / "pyscripts"
    folder.mkdir()
    (folder / "neighbour.py").write_text("NAME = 'neighbour'")
    (folder / "script.py").write_text(
        "import sys, neighbour\nprint(__name__, __file__, sys.argv, neighbour.NAME)\nsys.exit(3)"
    )
    expected = subprocess.run(
        [sys.executable, "pyscripts/script.py", "a", "-m"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    done = run("pyscripts/script.py", "a", "-m", cwd=tmp_path, rc=3)
    # python makes __file__ absolute since 3.9, runpy does not
    assert done.stdout.replace(str(tmp_path) + "/", "") == expected.stdout.replace(
        str(tmp_path) + "/", ""
    )


def test_code_runs_as_python_runs_it():
    code = "import sys\ndef f(): return __name__\nprint(f(), sys.argv)"
    assert run("-c", code, "x").stdout == "__main__ ['-c', 'x']\n"
    assert run("-c", "import espnet2.no", rc=1).stderr.startswith("Traceback")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Six synthetic utterances, a token list, and a random Whisper of two layers."""
    from transformers import WhisperConfig, WhisperModel

    directory = tmp_path_factory.mktemp("corpus")
    write_corpus(directory)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        max_source_positions=50,
        vocab_size=60,
        pad_token_id=0,
    )
    WhisperModel(config).save_pretrained(directory / "model")
    return directory


def test_stock_recipe_with_frontend(corpus, tmp_path):
    """Statistics, training through `launch`, decoding, as `asr.sh --python "${RUN}"` does it."""
    conf = {
        "frontend": "pruned_ssl",
        "frontend_conf": {"model": str(corpus / "model"), "full_window": False},
        "encoder": "transformer",
        "encoder_conf": {"output_size": 8, "attention_heads": 2, "num_blocks": 1},
    }
    stats, exp = tmp_path / "stats", tmp_path / "exp"
    args = asr_arguments(corpus, stats, **conf)
    run_here("-m", "espnet2.bin.asr_train", "--collect_stats", "true", *args)
    with np.load(stats / "train" / "feats_stats.npz") as feats:
        assert feats["count"] == 20 + 23 + 25 + 28 + 30 + 33  # ceil(samples / 320)
        assert feats["sum"].shape == (16,)

    job = tmp_path / "run.pl"  # Kaldi's job interface: run.pl --gpu N LOG COMMAND
    job.write_text('#!/bin/sh\nshift 2; log=$1; shift; exec "$@" >"$log" 2>&1\n')
    job.chmod(0o755)
    args = asr_arguments(corpus, exp, **conf)
    run(
        *("-m", "espnet2.bin.launch", "--cmd", f"{job}", "--log", exp / "train.log"),
        *("--ngpu", "0", "--multiprocessing_distributed", "true", "--"),
        *(*RUN, "-m", "espnet2.bin.asr_train", *args, "--frontend_conf", "fs=16k"),
        *("--normalize", "global_mvn"),
        *("--normalize_conf", f"stats_file={stats}/train/feats_stats.npz"),
    )
    assert "1epoch results" in (exp / "train.log").read_text()
    config = yaml.safe_load((exp / "config.yaml").read_text())
    assert config["frontend"] == "pruned_ssl" and config["frontend_conf"]["fs"] == "16k"

    decoded = tmp_path / "decoded"
    run_here(
        *("-m", "espnet2.bin.asr_inference", "--ctc_weight", "1.0", "--beam_size", "2"),
        *("--data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"),
        *("--asr_train_config", exp / "config.yaml", "--asr_model_file", exp / "1epoch.pth"),
        *("--output_dir", decoded, "--batch_size", "1", "--ngpu", "0"),
    )
    scores = (decoded / "1best_recog" / "score").read_text().splitlines()
    assert [line.split()[0] for line in scores] == [f"utt{i}" for i in range(6)]


def test_spawned_process_trains_with_encoder(corpus, tmp_path):
    """ESPnet starts one process per GPU so. Without GPUs, a module beside its own does."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import espnet2.bin\nespnet2.bin.__path__.append({str(tmp_path)!r})\n"
    )
    (tmp_path / "spawned.py").write_text(
        "def train(cmd):\n    from espnet2.bin.asr_train import main\n    main(cmd)\n"
    )
    (tmp_path / "spawning.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, spawned, sys

            def main():
                context = multiprocessing.get_context("spawn")
                process = context.Process(target=spawned.train, args=(sys.argv[1:],))
                process.start()
                process.join()
                sys.exit(process.exitcode)
            """
        )
    )
    exp = tmp_path / "exp"
    args = asr_arguments(
        corpus,
        exp,
        input_size=1,
        frontend=None,
        normalize=None,
        encoder="pruned_ssl",
        encoder_conf={"model": str(corpus / "model"), "freeze_finetune_updates": 1},
    )
    run("-m", "espnet2.bin.spawning", *args, path=(tmp_path,))
    import torch

    state = torch.load(exp / "1epoch.pth", weights_only=True)
    assert state["encoder.num_updates"] == 2  # six utterances, three a batch


def test_edit_distance_where_the_package_is_absent(monkeypatch):
    import importlib.util

    from espnet_prune.plugin.run import provide_editdistance

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "editdistance" else find_spec(n, *a)
    )
    monkeypatch.delitem(sys.modules, "editdistance", raising=False)
    provide_editdistance()
    # once more, in the same process: the module that stands in has no spec
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    provide_editdistance()
    import editdistance

    assert editdistance.eval("kitten", "sitting") == 3
    assert editdistance.eval(["a", "b"], ["b"]) == 1
    del sys.modules["editdistance"]
