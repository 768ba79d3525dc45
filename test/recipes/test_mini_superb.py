"""The table of mini-SUPERB with the debug configs, from pruning to the plot."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from test.espnet_prune import small_corpora
from test.recipes.running import EGS2, copy_of, run_recipe

RECIPES = ("fsdd/ks1", "fsdd/sid1", "voice_prompts/asr1", "voice_prompts/lid1")


def tree(folder: Path) -> Path:
    """The recipe and those that it calls, in a tree of their own; returns its directory."""
    recipe = copy_of("mini_superb/superb1", folder)
    written = shutil.ignore_patterns("data", "dump*", "exp*", "downloads")
    for name in (*RECIPES, "voice_prompts/ssl_prune1"):
        shutil.copytree(EGS2 / name, folder / "egs2" / name, True, written)
    return recipe


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_debug_run(tmp_path, warm_python):
    if shutil.which("apt-get") is None:
        pytest.skip("the prompts are Debian packages")
    recipe = tree(tmp_path / "tree")
    downloads = EGS2 / "voice_prompts/ssl_prune1/downloads"  # other tests want them, too
    downloads.mkdir(exist_ok=True)
    (tmp_path / "tree/egs2/voice_prompts/ssl_prune1/downloads").symlink_to(downloads)
    corpus = small_corpora.fsdd(tmp_path / "corpus", ("george", "jackson"))
    run = functools.partial(run_recipe, recipe, "--debug", "true", "--fsdd", str(corpus))
    printed = run()
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
    experiments = tmp_path / "tree/egs2/voice_prompts/ssl_prune1/exp_debug"
    for name in ("ours", "scratch"):  # as many updates
        updates = [
            len(file.read_text().splitlines())
            for file in (experiments / f"ssl_prune_{name}_0.5").glob("*/updates.jsonl")
        ]
        assert sum(updates) == 12
    rate = json.loads((recipe / "exp_debug/learning_rates/KS.json").read_text())["chosen"]
    assert f"Learning rates: KS {rate}" in (recipe / "exp_debug/RESULTS.md").read_text()
    assert not list(recipe.glob("exp_debug/*/feature_cache"))

    # Nothing is trained twice but what is missing
    (recipe / "exp_debug/ours_0.5/results_seed0/LID/run.json").unlink()
    printed = run()
    assert "ours_0.5_LID_seed0" in printed and "sweep_" not in printed
    assert "_KS_seed" not in printed and "dense_LID" not in printed


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
