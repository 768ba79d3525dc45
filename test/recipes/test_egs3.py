"""Recipes of ESPnet 3 through all their stages: its own of mini_an4 with our task, and ours."""

import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from transformers import WhisperConfig, WhisperModel

pytest.importorskip("espnet3", reason="ESPnet 3 comes with ESPnet 202611")
pytest.importorskip("lightning", reason="ESPnet 3 needs espnet_prune[espnet3]")

from espnet_prune.api import prune
from espnet_prune.structured import load_encoder
from test.espnet_prune.tiny import saved

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "mini_an4/esp2_ssl_prune"
# ESPnet's builder of the corpus calls this tool, which its own installation compiles
SPH2PIPE = f"""#!{sys.executable}
import io, sys
import soundfile
samples, rate = soundfile.read(sys.argv[-1], dtype="int16")
wav = io.BytesIO()
soundfile.write(wav, samples, rate, format="WAV")
sys.stdout.buffer.write(wav.getvalue())
"""
RELOAD = """
import sys
import soundfile
{preparation}
from espnet3.publication import InferenceModel
model = InferenceModel.from_packed("."{trust})
print(*(model(soundfile.read(path, dtype="float32")[0])["text"] for path in sys.argv[1:]), sep="|")
"""
pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]


def python(folder: Path, *words: str, path: tuple[Path, ...] = (), tools: Path = ROOT) -> str:
    """The output of Python in a folder; `path` and `tools` come before what is installed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout


def run(recipe: Path, training: str, **places) -> None:
    """All stages but those that upload or need a demo."""
    names = {"training": training, "inference": "inference", "metrics": "metrics"}
    names["publication"] = "publication"
    configs = [f"--{role}_config=conf/{name}.yaml" for role, name in names.items()]
    stages = ["create_dataset", "train_tokenizer", "collect_stats", "train", "infer", "measure"]
    if recipe.name == "esp2_ssl_prune":
        stages += ["fetch_teacher", "prune", "distill"]
    python(recipe, "run.py", *configs, "--stages", *stages, "pack_model", **places)


def check_results(recipe: Path, experiment: str, **reload: str) -> None:
    """There are figures, and the pack gives the same transcripts elsewhere, without the recipe."""
    results = recipe / "exp" / experiment / "inference"
    metrics = json.loads((results / "metrics.json").read_text())
    assert {name.split(".")[-1] for name in metrics} == {"WER", "CER"}
    assert all(found.keys() == {"valid", "test"} for found in metrics.values())
    lines = (results / "test" / "text.scp").read_text().splitlines()
    assert len(lines) == 2
    elsewhere = recipe.parents[2] / "elsewhere"
    elsewhere.mkdir()
    packed = shutil.move(recipe / "exp" / experiment / "model_pack", elsewhere / "pack")
    for number, speaker in enumerate(("fcaw", "mmxg")):  # of the test set, in its order
        (file,) = (recipe / "downloads").rglob(f"cen8-{speaker}-b.sph")
        shutil.copy(file, elsewhere / f"{number}.sph")
    shutil.rmtree(recipe)
    code = RELOAD.format(**reload)
    found = python(packed, "-c", code, *map(str, sorted(elsewhere.glob("*.sph"))))
    assert found.splitlines()[-1] == "|".join(line.partition(" ")[2] for line in lines)


def test_their_recipe_with_our_task(tmp_path):
    with resources.as_file(resources.files("egs3")) as installed:
        shutil.copytree(installed, tmp_path / "egs3")
    recipe, tools = tmp_path / "egs3" / "mini_an4" / "esp2_asr", tmp_path / "tools"
    tools.mkdir()
    (tools / "sph2pipe").write_text(SPH2PIPE)
    (tools / "sph2pipe").chmod(0o755)
    noise = [0.1 * torch.randn(16000) for _ in range(3)]
    prune(saved("wav2vec2-base", tmp_path / "dense"), noise, 0.4, recipe / "exp" / "pruned")

    def change(name: str, edit) -> None:
        config = yaml.safe_load((recipe / "conf" / f"{name}.yaml").read_text())
        edit(config)
        (recipe / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(config))

    def train(config: dict) -> None:
        config["task"] = "espnet_prune.plugin.espnet3.tasks.asr.ASRTask"
        frontend = {"frontend": "pruned_ssl", "frontend_conf": {"model": "exp/pruned"}}
        config["model"].update(frontend)

    def infer(config: dict) -> None:
        target = config["model"]["_target_"].removeprefix("espnet2")
        config["model"]["_target_"] = f"espnet_prune.plugin.espnet3{target}"

    change("training_asr_transformer", train)
    change("inference", infer)
    change("publication", lambda config: config["pack_model"]["include"].append("exp/pruned"))
    folders = (tmp_path, tmp_path / "egs3" / "TEMPLATE" / "esp2_asr", recipe)
    run(recipe, "training_asr_transformer", path=folders, tools=tools)
    reload = {"preparation": "", "trust": ", trust_user_code=True"}
    check_results(recipe, "training_asr_transformer", **reload)


def test_our_recipe(tmp_path):
    recipe = tmp_path / "egs3" / RECIPE
    written = shutil.ignore_patterns("data", "exp", "downloads", "__pycache__")
    shutil.copytree(ROOT / "egs3" / RECIPE, recipe, ignore=written)
    config = yaml.safe_load((recipe / "conf" / "training.yaml").read_text())
    config["fetch_teacher"]["model"] = str(whisper(tmp_path / "dense"))
    config["prune"]["target"] = 0.2  # most of it is embeddings of positions, which stay
    config["distill"]["options"]["max_epoch"] = 1
    config["trainer"]["max_epochs"] = 2  # after an epoch ESPnet averages the best before it
    (recipe / "conf" / "training_debug.yaml").write_text(yaml.safe_dump(config))
    run(recipe, "training_debug")
    parameters = [
        load_encoder(recipe / "exp" / "encoder" / name).num_parameters()
        for name in ("teacher", "slim", "pruned")
    ]
    assert parameters[1] == parameters[2] < 0.81 * parameters[0]
    check_results(recipe, "training_debug", preparation="import espnet_prune.auto", trust="")


def whisper(folder: Path) -> Path:
    """A tiny Whisper with a window of 30 s."""
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=8,
        vocab_size=60,
        pad_token_id=0,
    )
    WhisperModel(config).save_pretrained(folder)
    return folder
