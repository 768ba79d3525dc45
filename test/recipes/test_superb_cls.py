"""SUPERB's classification recipes, from first stage to last on miniatures of the corpora."""

import json
from pathlib import Path

import pytest
import yaml

from espnet_prune.data import data_dir
from test.espnet_prune import small_corpora
from test.espnet_prune.tiny import saved
from test.recipes.running import EGS2, copy_of, run_recipe


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    return saved("wavlm-base", tmp_path_factory.mktemp("upstream") / "tiny")


@pytest.fixture
def run(tmp_path, upstream, warm_python):
    """A function: runs all stages of a recipe; returns the copy it ran in and what it printed."""

    def all_stages(recipe: str, *options: str, **environment: str) -> tuple[Path, str]:
        folder = copy_of(recipe, tmp_path / "tree")
        options = ["--debug", "true", "--upstream", str(upstream), *warm_python, *options]
        options += ["--results_dir", str(folder / "results")]
        printed = run_recipe(folder, *options, **environment)
        for stage in range(1, 10):
            assert f"Stage {stage}: " in printed
        return folder, printed

    return all_stages


def scores(folder: Path, task: str) -> dict:
    return json.loads((folder / "results" / task / "scores.json").read_text())


def trainings(folder: Path) -> list[Path]:
    return sorted(folder.glob("exp_debug/superb_*/**/best"))


def config_of(folder: Path) -> dict:
    return yaml.safe_load((trainings(folder)[0] / "config.yaml").read_text())


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_digits_with_each_speaker_left_out(run, tmp_path):
    corpus = small_corpora.fsdd(tmp_path / "corpus")
    folder, _ = run("fsdd/superb_ks1", FSDD=str(corpus))
    found = scores(folder, "KS")
    assert found["utterances"] == 90 and len(found["folds"]) == 3  # of three speakers
    mean = sum(found["folds"]) / 3
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(mean)
    assert [path.parent.name for path in trainings(folder)] == ["fold1", "fold2", "fold3"]
    formatted = data_dir.read_dir(folder / "dump_debug/raw/train_fold2")
    samples = {int(number) for number in formatted["utt2num_samples"].values()}
    assert samples == {4800}  # 0.3 s, 8 kHz in the corpus
    results = (folder / "results" / "RESULTS.md").read_text()
    assert "| KS   | accuracy |" in results and "## Environment" in results
    assert "SUPERB score over 1 of 10 tasks" in (folder / "results/superb_score.md").read_text()


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_speakers_of_digits_with_a_sweep(run, upstream, warm_python, tmp_path):
    corpus = small_corpora.fsdd(tmp_path / "corpus")
    folder, printed = run("fsdd/superb_sid1", "--learning_rates", "1e-1 1e-3", FSDD=str(corpus))
    assert scores(folder, "SID")["utterances"] == 30
    (best,) = trainings(folder)
    record = json.loads(best.with_name("learning_rates.json").read_text())
    assert [row["lr"] for row in record["trainings"]] == [0.1, 0.001]
    assert best.resolve().name == {0.1: "lr_1e-1", 0.001: "lr_1e-3"}[record["chosen"]]
    made = json.loads((folder / "results/SID/run.json").read_text())
    assert made["sweeps"] == [record] and made["parameters_millions"] < 1
    assert f"{record['chosen']:g} (chosen)" in printed
    assert made["learning_rates"] == [record["chosen"]]
    first = scores(folder, "SID")
    predictions = (best / "inference/test/text").resolve()
    seen = predictions.stat().st_mtime_ns

    # What is scored and reported is what the options ask for, whatever was trained before or after
    def again(*rates: str) -> dict:
        (folder / "results/SID/scores.json").unlink()
        given = ["--debug", "true", "--upstream", str(upstream), *warm_python, "--stage", "6"]
        given += ["--learning_rates", " ".join(rates), "--results_dir", str(folder / "results")]
        run_recipe(folder, *given, FSDD=str(corpus))
        made = json.loads((folder / "results/SID/run.json").read_text())
        tested = folder / (folder / "results/SID/tested").read_text().strip()
        hypotheses = data_dir.read_table(tested / "inference/test/text")
        references = data_dir.read_table(folder / "dump_debug/raw/test/text")
        right = sum(hypotheses[name] == label for name, label in references.items())
        accuracy = scores(folder, "SID")["metrics"]["accuracy"]["value"]
        assert accuracy == pytest.approx(right / len(references))
        return made | {"tested": tested.name}

    config = yaml.safe_load((folder / "conf/train_probe.yaml").read_text())
    made = again()
    assert (made["tested"], made["sweeps"]) == ("train", [])
    assert made["learning_rates"] == [config["optim_conf"]["lr"]]
    assert "(chosen)" not in (folder / "results/RESULTS.md").read_text()
    other = {0.1: "1e-3", 0.001: "1e-1"}[record["chosen"]]
    assert again(other)["tested"] == f"lr_{other}"
    assert again("1e-1", "1e-3")["tested"] == best.resolve().name
    assert scores(folder, "SID") == first and predictions.stat().st_mtime_ns == seen


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_keywords(run, tmp_path):
    corpus, test = small_corpora.speechcommands(tmp_path / "corpus")
    folder, printed = run(
        "speechcommands/superb_ks1", SPEECHCOMMANDS=str(corpus), SPEECHCOMMANDS_TEST=str(test)
    )
    assert scores(folder, "KS")["utterances"] == 12
    assert "instead of the published 3081" in printed
    config = config_of(folder)
    assert len(config["token_list"]) == 13 and config["batch_type"] == "catbel"


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_speakers(run, tmp_path):
    corpus = small_corpora.voxceleb1(tmp_path / "corpus")
    folder, _ = run("voxceleb1/superb_sid1", VOXCELEB1=str(corpus))
    assert scores(folder, "SID")["utterances"] == 3
    config = config_of(folder)
    assert config["frontend_conf"]["crop_seconds"] == 0.4 and config["accum_grad"] == 2


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_intents(run, tmp_path):
    folder, _ = run("fsc/superb_ic1", FSC=str(small_corpora.fsc(tmp_path / "corpus")))
    assert scores(folder, "IC")["utterances"] == 2
    config = config_of(folder)
    assert config["decoder_conf"]["slot_sizes"] == [2, 2, 2]
    assert config["token_list"][:2] == ["activate+lights+kitchen", "activate+lights+none"]
    assert len(config["token_list"]) == 9


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_one_fold_of_emotions(run, tmp_path):
    corpus = small_corpora.iemocap(tmp_path / "corpus")
    folder, _ = run("iemocap/superb_er1", "--folds", "4", IEMOCAP=str(corpus))
    assert scores(folder, "ER")["utterances"] == 10
    assert config_of(folder)["token_list"] == ["ang", "hap", "neu", "sad", "<unk>"]
    assert {path.name for path in (folder / "dump_debug/raw").iterdir()} == {
        *("all", "train_fold4", "valid_fold4", "test_fold4")
    }


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_languages(run, tmp_path):
    downloads = small_corpora.prompts(tmp_path / "downloads")
    options = ["--local_data_opts", f"--download_dir {downloads}", "--feature_cache", "true"]
    folder, printed = run("voice_prompts/superb_lid1", *options)
    assert "exp_debug/feature_cache: the hidden states of 30 utterances need 0.00 GB" in printed
    kept = list(folder.glob("exp_debug/feature_cache/*/*.safetensors"))
    assert len(kept) == 25  # two of three batches to train on, 5 to validate, 10 to test
    assert scores(folder, "LID")["utterances"] == 10
    assert config_of(folder)["token_list"] == ["en", "es", "fr", "it", "ru", "<unk>"]
    assert not (folder / "results/superb_score.md").exists()  # no task of SUPERB


RECIPES = {
    "speechcommands/superb_ks1": "SPEECHCOMMANDS",
    "voxceleb1/superb_sid1": "VOXCELEB1",
    "fsc/superb_ic1": "FSC",
    "iemocap/superb_er1": "IEMOCAP",
}


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", RECIPES)
def test_corpus_is_not_given(recipe):
    options = ["--upstream", "x", "--stop_stage", "1"]
    printed = run_recipe(EGS2 / recipe, *options, expect=1, **{RECIPES[recipe]: ""})
    assert (
        f"Fill the value of '{RECIPES[recipe]}' of template/common/db.sh"
        in printed.splitlines()[-1]
    )


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("voxceleb1/superb_asv1", "preprocessor: speaker_crops"),
        ("voxceleb1/superb_sid1", "crop_seconds: 8"),
    ],
)
def test_random_crops_are_not_cached(recipe, what, warm_python):
    options = ["--upstream", "x", "--feature_cache", "true", *warm_python]
    (line,) = run_recipe(EGS2 / recipe, *options, expect=1, VOXCELEB1="").splitlines()
    assert "error: conf/train_" in line and f"{what}'" in line


@pytest.mark.recipe
def test_wrong_options(upstream, tmp_path, warm_python):
    folder = copy_of("fsdd/superb_sid1", tmp_path / "tree")

    def last(*options: str, expect: int = 2, **environment: str) -> str:
        return run_recipe(folder, *options, expect=expect, **environment).splitlines()[-1]

    given = ["--upstream", str(upstream)]
    assert "--upstream is required" in last()
    assert "--learning_rates has 'high', which is no number" in last(
        *given, "--learning_rates", "1e-3 high"
    )
    assert "--espnet_task is 'tts', choose" in last(*given, "--espnet_task", "tts")
    assert "--config no.yaml: no such file" in last(*given, "--config", "no.yaml")
    shown = run_recipe(folder, "--help")
    assert "--learning_rates []" in shown and "Stages: 1 data" in shown
    folds = [*given, "--folds", "all", "--stage", "2"]
    assert "no data/test_fold*; run stage 1 first" in last(*folds, expect=1)
    gone = last(*given, "--stop_stage", "1", expect=1, FSDD=str(tmp_path / "nowhere"))
    assert "nowhere: no such directory; FSDD of db.sh names it" in gone


@pytest.mark.recipe
@pytest.mark.timeout(600)
def test_what_the_encoder_cannot_hear_and_other_inputs(upstream, tmp_path, warm_python):
    """Faults that are told before or between trainings."""
    corpus = small_corpora.fsdd(tmp_path / "corpus")
    small_corpora.noise(corpus / "recordings/3_lucas_11.wav", seconds=0.02, rate=8000)
    folder = copy_of("fsdd/superb_sid1", tmp_path / "tree")
    options = ["--debug", "true", "--upstream", str(upstream), *warm_python]
    # format_wav takes nothing below 0.1 s
    printed = run_recipe(folder, *options, expect=1, FSDD=str(corpus))
    assert "3_lucas_11.wav: lasts 0.020 s" in printed and "--skip_bad true" in printed
    options += ["--stop_stage", "5", "--skip_bad", "true"]
    run_recipe(folder, *options, FSDD=str(corpus))
    lengths = folder / "dump_debug/raw/train/utt2num_samples"
    table = {**data_dir.read_table(lengths), "lucas-3-010": "344"}
    data_dir.write_table(lengths, table)
    printed = run_recipe(folder, *options, "--stage", "5", expect=1)
    assert "lucas-3-010 has 344 samples, shorter than the receptive field" in printed
