"""SUPERB's ASV, SD and QbE, from first stage to last on stand-ins of the corpora."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_prune.data import data_dir
from espnet_prune.data.rttm import read_rttm
from test.espnet_prune import stand_in_speakers
from test.espnet_prune.tiny import saved
from test.recipes.running import EGS2, copy_of, run_recipe


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    return saved("wavlm-base", tmp_path_factory.mktemp("upstream") / "tiny")


@pytest.fixture
def run(tmp_path, upstream, warm_python):
    """A function: runs all stages of a recipe; returns the copy it ran in and the scores."""

    def all_stages(recipe: str, task: str, *options: str, **environment: str) -> tuple[Path, dict]:
        folder = copy_of(recipe, tmp_path / "tree")
        options = ["--debug", "true", "--upstream", str(upstream), *warm_python, *options]
        printed = run_recipe(folder, *options, "--results_dir", "results", **environment)
        for stage in (1, 2, 3, 7, 8, 9):
            assert f"Stage {stage}: " in printed
        return folder, json.loads((folder / "results" / task / "scores.json").read_text())

    return all_stages


def trained(folder: Path) -> dict:
    (config,) = folder.glob("exp_debug/superb_*/best/config.yaml")
    return yaml.safe_load(config.read_text())


def inference(folder: Path, dset: str) -> Path:
    (found,) = folder.glob(f"exp_debug/superb_*/train/inference/{dset}")
    return found


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_verification(run, tmp_path):
    corpus = stand_in_speakers.voxceleb1(tmp_path / "corpus")
    folder, scores = run(
        "voxceleb1/superb_asv1", "ASV", "--local_data_opts", "--held_out 2", VOXCELEB1=str(corpus)
    )
    assert (scores["trials"], scores["targets"]) == (66, 18)
    assert scores["interval_over"] == "speakers"
    best, test = scores["metrics"]["eer_best_on_test"], scores["metrics"]["eer"]
    assert 0 <= best["value"] <= test["value"] <= 1
    config = trained(folder)
    assert config["spk_num"] == 4  # two of six are held out
    assert config["loss"] == "amsoftmax" and config["optim"] == "adamw"
    trials = data_dir.read_table(folder / "dump_debug/raw/dev_trials/spk_labels")
    assert trials == data_dir.read_table(folder / "data/dev/trials")
    # Both epochs were kept: the best on the development trials, and the other one
    assert len(list(inference(folder, "test").glob("*epoch/embed.scp"))) == 1
    embeddings = data_dir.read_table(inference(folder, "test") / "embed.scp")
    assert embeddings.keys() == data_dir.read_table(folder / "data/test/wav.scp").keys()
    assert {np.load(path).shape for path in embeddings.values()} == {(8,)}


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_diarization(run, tmp_path):
    corpus = stand_in_speakers.librimix(tmp_path / "corpus")
    folder, scores = run("librimix/superb_sd1", "SD", LIBRIMIX=str(corpus))
    assert scores["recordings"] == 4
    assert scores["metrics"]["der_best_on_test"]["value"] <= scores["metrics"]["der"]["value"]
    assert set(scores["chosen_on_dev"]) == {"threshold", "median"}
    turns = read_rttm(folder / "data/test/rttm")
    seconds = sum(turn.end - turn.begin for spoken in turns.values() for turn in spoken)
    assert scores["speech_seconds"] == pytest.approx(seconds)
    samples = data_dir.read_table(folder / "dump_debug/raw/test/utt2num_samples")
    for name, path in data_dir.read_table(inference(folder, "test") / "diarize.scp").items():
        frames, speakers = np.load(path).shape
        # 345 samples of the tiny encoder see the first frame
        assert (frames, speakers) == ((int(samples[name]) - 345) // 320 + 1, 2)
    assert trained(folder)["label_aggregator"] == "frame_labels"


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_query_by_example(run, tmp_path):
    corpus = stand_in_speakers.quesst14(tmp_path / "corpus")
    folder, scores = run("quesst14/superb_qbe1", "QbE", QUESST14=str(corpus))
    assert (scores["queries"], scores["documents"]) == (2, 6)
    assert set(scores["dev_mtwv"]) == {f"layer{n}" for n in range(4)}
    assert scores["dev_mtwv"][scores["chosen_on_dev"]] == max(scores["dev_mtwv"].values())
    # A query is a part of its document, which a random encoder finds, too
    assert scores["metrics"]["mtwv"]["value"] == 1.0
    assert "QbE" in (folder / "results" / "RESULTS.md").read_text()


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("recipe", "variable"),
    [
        ("voxceleb1/superb_asv1", "VOXCELEB1"),
        ("librimix/superb_sd1", "LIBRIMIX"),
        ("quesst14/superb_qbe1", "QUESST14"),
    ],
)
def test_corpus_is_not_given(recipe, variable):
    options = ["--upstream", "x", "--stop_stage", "1"]
    printed = run_recipe(EGS2 / recipe, *options, expect=1, **{variable: ""})
    assert printed.splitlines()[-1].startswith(
        f"local/data.sh: error: Fill the value of '{variable}' of template/common/db.sh"
    )
