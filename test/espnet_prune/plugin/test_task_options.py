"""Options that `pruned_ssl` changes: the structure of its model, no normalised waveforms."""

import argparse
import logging
import shutil
import subprocess
import sys
import types

import pytest
import soundfile
import yaml

from espnet_prune.plugin.task_options import (
    carry_structures,
    complete_options,
    leave_waveforms_alone,
)
from test.espnet_prune.asr_training import ROOT, asr_arguments, run_here, write_corpus

FRONTEND = {
    "frontend": "pruned_ssl",
    "frontend_conf": {"full_window": False},
    "encoder": "transformer",
    "encoder_conf": {"output_size": 8, "attention_heads": 2, "num_blocks": 1},
}
ENCODER = {
    "input_size": 1,
    "frontend": None,
    "encoder": "pruned_ssl",
    "encoder_conf": {"full_window": False},
}


@pytest.mark.parametrize("conf", [FRONTEND, ENCODER], ids=["frontend", "encoder"])
def test_a_packed_model_needs_no_directory(conf, tiny, tmp_path, monkeypatch):
    """Trained with what stock recipes pass, decoded and packed here, used in another process."""
    write_corpus(tmp_path)
    model = shutil.copytree(tiny["whisper"], tmp_path / "model")
    conf = {**conf, "max_epoch": 2, "keep_nbest_models": 2}
    name = "frontend" if conf["frontend"] else "encoder"
    conf[f"{name}_conf"] = {**conf[f"{name}_conf"], "model": str(model)}
    monkeypatch.chdir(tmp_path)  # names in a pack are relative then
    args = asr_arguments(tmp_path, tmp_path / "stats", **conf)
    run_here("espnet2.bin.asr_train", "--collect_stats", "true", *args)
    run_here(
        *("espnet2.bin.asr_train", *asr_arguments(tmp_path, tmp_path / "exp", **conf)),
        *("--frontend_conf", "fs=16k", "--normalize", "global_mvn"),
        *("--normalize_conf", "stats_file=stats/train/feats_stats.npz"),
    )
    config = yaml.safe_load((tmp_path / "exp" / "config.yaml").read_text())
    assert config["normalize"] == ("global_mvn" if name == "frontend" else None)
    assert config[f"{name}_conf"]["structure"]["family"] == "whisper"
    files = ("--asr_train_config", "exp/config.yaml")
    files += ("--asr_model_file", "exp/valid.loss.ave.pth")
    decode = (
        *("espnet2.bin.asr_inference", "--ctc_weight", "1.0", "--beam_size", "2", "--ngpu", "0"),
        *("--data_path_and_name_and_type", f"{tmp_path}/wav.scp,speech,sound", *files),
    )
    run_here(*decode, "--output_dir", "before")
    shutil.rmtree(model)
    run_here(*decode, "--output_dir", "after")
    scores = [(tmp_path / d / "1best_recog" / "score").read_text() for d in ("before", "after")]
    assert scores[0] == scores[1] and len(scores[0].splitlines()) == 6

    stats = ("--option", "stats/train/feats_stats.npz")
    run_here("espnet2.bin.pack", "asr", *files, *stats, "--outpath", "packed.zip")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("packed.zip", elsewhere)
    shutil.copy("3.wav", elsewhere)
    for folder in ("exp", "stats"):
        shutil.rmtree(folder)
    code = """
import espnet_prune.auto
import soundfile
from espnet2.bin.asr_inference import Speech2Text
from espnet2.main_funcs.pack_funcs import unpack
found = Speech2Text(**unpack("packed.zip", "."), ctc_weight=1.0, beam_size=2)
print("SCORE", float(found(soundfile.read("3.wav")[0])[0][-1].score))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    score = float(done.stdout.partition("SCORE")[2])
    line = scores[0].splitlines()[3]
    assert line.startswith("utt3 ")
    assert score == pytest.approx(float(line.partition("(")[2].partition(")")[0]), abs=1e-4)
    assert soundfile.info(elsewhere / "3.wav").samplerate == 16000


def test_structures_are_written_where_pruned_ssl_is(tiny):
    wrapped = {"encoder": "Pruned_SSL", "encoder_conf": {"model": str(tiny["hubert"])}}
    options = {
        "frontend": "default",
        "frontend_conf": {"fs": 16000},
        "encoder": "token_pruning",
        "encoder_conf": {**wrapped, "rate": 0.5},
        "asr_frontend": "pruned_ssl",  # of enh_s2t
        "asr_frontend_conf": {"model": str(tiny["wav2vec2"])},
        "decoder": None,
        "decoder_conf": {},
    }
    outer = options["asr_frontend_conf"]
    carry_structures(options)
    assert "structure" not in options["frontend_conf"]
    assert options["encoder_conf"]["encoder_conf"]["structure"]["family"] == "hubert"
    assert outer["structure"]["family"] == "wav2vec2"
    yaml.safe_dump(options)
    outer["model"] = "/nowhere"
    carry_structures(options)  # a structure that is there stays
    assert outer["structure"]["family"] == "wav2vec2"


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"encoder": "pruned_ssl"}, None),
        ({"encoder": "token_pruning", "encoder_conf": {"encoder": "pruned_ssl"}}, None),
        ({"encoder": "conformer", "encoder_conf": {}}, "global_mvn"),
        ({"encoder": "conformer", "frontend": "pruned_ssl"}, "global_mvn"),
        ({"encoder": None}, "global_mvn"),
        ({}, "global_mvn"),
    ],
)
@pytest.mark.parametrize("key", ["normalize", "src_normalize"])
def test_waveforms_are_not_normalised(options, left, key, caplog):
    options = {**options, key: "global_mvn", f"{key}_conf": {"stats_file": "x.npz"}}
    with caplog.at_level(logging.WARNING):
        leave_waveforms_alone(options)
    assert options[key] == left
    assert options[f"{key}_conf"] == ({"stats_file": "x.npz"} if left else {})
    assert (f"{key}: global_mvn is left out, here and in config.yaml" in caplog.text) != bool(left)


def test_tasks_are_completed_once():
    built = []

    class Task:
        @classmethod
        def build_model(cls, args):
            built.append((cls, args.normalize))
            return "model"

    class Other(Task):
        pass

    module = types.ModuleType("tasks_of_a_test")
    for task in (Task, Other):
        task.__module__ = module.__name__
        setattr(module, task.__name__, task)
    complete_options(module)
    first = Task.__dict__["build_model"]
    complete_options(module)
    assert Task.__dict__["build_model"] is first and "build_model" not in vars(Other)
    args = argparse.Namespace(encoder="pruned_ssl", normalize="global_mvn")
    assert Other.build_model(args=args) == "model"
    assert built == [(Other, None)]
