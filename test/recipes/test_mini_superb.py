"""The table of mini-SUPERB with debug runs, from pruning to the plot."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from test.espnet_prune import small_corpora
from test.recipes.running import EGS2, copy_of, environment_of, run_recipe

RECIPES = (
    "fsdd/superb_ks1",
    "fsdd/superb_sid1",
    "voice_prompts/superb_asr1",
    "voice_prompts/superb_lid1",
)


def tree(folder: Path) -> Path:
    """The recipe and those that it calls, in a tree of their own; returns its directory."""
    recipe = copy_of("mini_superb/superb1", folder)
    written = shutil.ignore_patterns("data", "dump*", "exp*", "downloads")
    for name in (*RECIPES, "voice_prompts/ssl_prune1"):
        shutil.copytree(EGS2 / name, folder / "egs2" / name, True, written)
    items = "mini_spiral/sir1/items"  # sentences for voices that no training has heard
    shutil.copytree(EGS2 / items, folder / "egs2" / items)
    return recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory, warm_python):
    """The recipe's directory after a debug run, what it printed, and a function that runs it."""
    tmp_path = tmp_path_factory.mktemp("mini_superb")
    if shutil.which("apt-get") is None:
        pytest.skip("the prompts are Debian packages")
    recipe = tree(tmp_path / "tree")
    downloads = EGS2 / "voice_prompts/ssl_prune1/downloads"  # other tests want them, too
    downloads.mkdir(exist_ok=True)
    (tmp_path / "tree/egs2/voice_prompts/ssl_prune1/downloads").symlink_to(downloads)
    corpus = small_corpora.fsdd(tmp_path / "corpus", ("george", "jackson"))
    run = functools.partial(run_recipe, recipe, "--debug", "true", "--fsdd", str(corpus))
    return recipe, run(), run


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_debug_run(finished):
    recipe, printed, run = finished
    for stage in range(1, 6):
        assert f"Stage {stage}: " in printed
    record = json.loads((recipe / "exp_debug/results.json").read_text())
    encoders = {encoder["name"]: encoder for encoder in record["encoders"]}
    assert list(encoders) == ["dense", "ours_0.5", "scratch_0.5"]
    dense, ours, scratch = (each["parameters_millions"] for each in encoders.values())
    assert dense == pytest.approx(8.208, abs=0.001)
    assert ours == scratch == pytest.approx(dense / 2, rel=0.01)
    for encoder in encoders.values():
        seeds = {column: list(score["seeds"]) for column, score in encoder["scores"].items()}
        assert seeds == {
            "KS accuracy": ["0", "1"],
            "SID accuracy": ["0", "1"],
            **{column: ["0"] for column in ("ASR wer", "ASR cer", "LID accuracy")},
        }
    experiments = recipe.parents[1] / "voice_prompts/ssl_prune1/exp_debug"
    for name in ("ours", "scratch"):  # as many updates
        updates = [
            len(file.read_text().splitlines())
            for file in (experiments / f"ssl_prune_{name}_0.5").glob("*/updates.jsonl")
        ]
        assert sum(updates) == 12
    assert (experiments / "TABLE_mini_superb.png").is_file()
    rate = json.loads((recipe / "exp_debug/learning_rates/KS.json").read_text())["chosen"]
    text = (recipe / "exp_debug/RESULTS.md").read_text()
    asr = yaml.safe_load((EGS2 / "voice_prompts/superb_asr1/conf/train_asr_ctc.yaml").read_text())
    assert f"Learning rates of the probes: KS {rate:g}; " in text
    assert f"; ASR {asr['optim_conf']['lr']:g}; " in text  # which is never swept
    assert f"Chosen on validation data of dense among 1e-3 1e-2: KS {rate}, SID " in text
    assert not list(recipe.glob("exp_debug/*/feature_cache"))

    # Nothing is trained twice but what is missing; seeds that were not asked for stay out
    (recipe / "exp_debug/ours_0.5/results_seed0/LID/run.json").unlink()
    stale = recipe / "exp_debug/dense/results_seed7/LID"
    shutil.copytree(recipe / "exp_debug/dense/results_seed0/LID", stale)
    made = json.loads((stale / "run.json").read_text())
    (stale / "run.json").write_text(json.dumps({**made, "seed": 7}))
    printed = run()
    assert "ours_0.5_LID_seed0" in printed and "sweep_" not in printed
    assert "_KS_seed" not in printed and "dense_LID" not in printed
    found = json.loads((recipe / "exp_debug/results.json").read_text())["encoders"]
    assert list(found[0]["scores"]["LID accuracy"]["seeds"]) == ["0"]

    # Without the sweep's rates the probes are trained anew, with those of the config
    lid = ["--tasks", "LID", "--stage", "4", "--encoders"]
    dense = experiments / "teacher_openai_whisper-tiny.en"
    relative = os.path.relpath(dense, recipe)
    run(*lid, f"dense={relative}", "--learning_rates", "")
    (encoder,) = json.loads((recipe / "exp_debug/results.json").read_text())["encoders"]
    config = yaml.safe_load((EGS2 / "voice_prompts/superb_lid1/conf/train_probe.yaml").read_text())
    assert encoder["learning_rates"] == {"LID": [config["optim_conf"]["lr"]]}
    assert "Chosen on" not in (recipe / "exp_debug/RESULTS.md").read_text()

    # Neither another sweep nor another encoder of the same name is passed over
    changed = ["--stage", "3", "--learning_rates", "1e-4 1e-2"]
    assert "exp_debug/learning_rates was made from other" in run(*changed, expect=1)
    other = f"dense={experiments / 'ssl_prune_ours_0.5/pruned'}"
    assert "exp_debug/dense was made from other" in run(*lid, other, expect=1)


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_pruning_without_the_estimator(finished, warm_python):
    """The comparison of both by one command, which takes the experiments that are there."""
    recipe = finished[0].parents[1] / "voice_prompts/ssl_prune1"
    command = [sys.executable, "-m", "espnet_prune", "encoder", "sweep", "--debug", "true"]
    command += ["--targets", "0.5", "--seeds", "0", *warm_python, "--methods", "l0", "noste"]
    done = subprocess.run(command, cwd=recipe, env=environment_of(), text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| with STE    | 6 " in done.stdout and "| without STE | 6 " in done.stdout
    assert (recipe / "exp_debug/ste_0.5.png").is_file()
    rows = [
        line.split("|")[1].strip()
        for line in (recipe / "exp_debug/TABLE.md").read_text().splitlines()
    ]
    assert rows[2:] == ["ssl_prune_l0_0.5", "ssl_prune_noste_0.5"]
    config = yaml.safe_load(
        (recipe / "exp_debug/ssl_prune_noste_0.5/prune/config.yaml").read_text()
    )
    assert config["pruning_conf"]["ste"] is False


@pytest.mark.recipe
def test_wrong_options(tmp_path, warm_python):
    recipe = tree(tmp_path / "tree")
    assert "--tasks has 'XX', choose from" in run_recipe(recipe, "--tasks", "KS XX", expect=2)
    assert "unknown option --bogus" in run_recipe(recipe, "--bogus", "1", expect=2)
    assert "--learning_rates [" in run_recipe(recipe, "--help")
    # A recipe's error is shown, and ends the whole
    gone = ["--tasks", "SID", "--stage", "2", "--encoders", "x=nowhere"]
    printed = run_recipe(recipe, *gone, "--fsdd", str(tmp_path / "nowhere"), expect=1)
    assert "data_SID failed, see" in printed and "nowhere: no such directory" in printed
    assert "Stage 3" not in printed
