"""SUPERB's recipes on ESPnet's task asr, from first stage to last on stand-ins of the corpora."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_prune.data import data_dir
from test.espnet_prune import stand_in
from test.espnet_prune.tiny import saved
from test.recipes.running import EGS2, run_recipe


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    return saved("wavlm-base", tmp_path_factory.mktemp("upstream") / "tiny")


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory):
    return stand_in.librispeech(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def run(tmp_path, upstream, warm_python):
    """A function: runs all stages of a recipe, returns what it printed and the scores.

    Every test's results directory is `tmp_path / "results"`.
    """

    def all_stages(recipe: str, task: str, *options: str, **environment: str):
        options = ["--debug", "true", "--upstream", str(upstream), *warm_python, *options]
        for name in ("exp", "dump"):
            options += [f"--{name}dir", str(tmp_path / name)]
        options += ["--results_dir", str(tmp_path / "results")]
        printed = run_recipe(EGS2 / recipe, *options, **environment)
        for stage in range(1, 10):
            assert f"Stage {stage}: " in printed
        return json.loads((tmp_path / "results" / task / "scores.json").read_text())

    return all_stages


def training_config(exp: Path, task: str) -> dict:
    (config,) = exp.glob(f"superb_{task}_*/best/config.yaml")
    return yaml.safe_load(config.read_text())


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_phones(run, librispeech, tmp_path):
    lexicon = stand_in.lexicon(tmp_path / "lexicon.txt")
    files = {"LIBRISPEECH": str(librispeech), "LIBRISPEECH_LEXICON": str(lexicon)}
    scores = run("librispeech/superb_pr1", "PR", **files)
    phones = data_dir.read_table(tmp_path / "dump/raw/test_clean/text")
    assert scores["utterances"] == 4
    assert scores["reference_length"] == sum(len(text.split()) for text in phones.values())
    assert 0 < scores["metrics"]["per"]["value"]
    trained = training_config(tmp_path / "exp", "PR")
    tokens = {phone for line in lexicon.read_text().splitlines() for phone in line.split()[1:]}
    assert set(trained["token_list"]) - {"<blank>", "<unk>", "<sos/eos>"} <= tokens
    assert trained["accum_grad"] == 2 and trained["optim_conf"]["lr"] == 0.01
    assert "PR" in (tmp_path / "results/RESULTS.md").read_text()


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_words(run, librispeech, tmp_path):
    scores = run("librispeech/superb_asr1", "ASR", LIBRISPEECH=str(librispeech))
    assert scores["utterances"] == 4
    assert set(scores["metrics"]) == {"wer", "cer"}
    trained = training_config(tmp_path / "exp", "ASR")
    assert {"<space>", "E"} <= set(trained["token_list"])
    assert trained["specaug"] == "specaug" and trained["encoder_conf"]["num_layers"] == 2


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_pieces_of_words_and_audio_in_archives(run, librispeech, tmp_path):
    options = ["--token_type", "bpe", "--nbpe", "20", "--audio_format", "flac.ark"]
    scores = run("librispeech/superb_asr1", "ASR", *options, LIBRISPEECH=str(librispeech))
    assert scores["utterances"] == 4
    trained = training_config(tmp_path / "exp", "ASR")
    assert trained["token_type"] == "bpe" and len(trained["token_list"]) == 20
    assert trained["train_data_path_and_name_and_type"][0][2] == "kaldi_ark"
    assert list((tmp_path / "dump/raw/test_clean/data").glob("*.flac.ark"))


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_slots(run, tmp_path):
    corpus = stand_in.snips(tmp_path / "corpus")
    scores = run("snips/superb_sf1", "SF", SNIPS=str(corpus))
    assert scores["utterances"] == 4
    assert set(scores["metrics"]) == {"slot_type_f1", "slot_value_cer"}
    tokens = training_config(tmp_path / "exp", "SF")["token_list"]
    assert {"<space>", "B-artist", "E-artist"} <= set(tokens)
    # The scorer got texts, not tokens
    (references,) = (tmp_path / "exp").glob("superb_SF_*/train/inference/test/text.slots.ref")
    for text in data_dir.read_table(references).values():
        first, mark, *_, last = text.split()
        assert (first, mark, last) == ("PLAY", "B-artist", "NOW")


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_voice_prompts(run, tmp_path):
    """The main job's model and data preparation, here on tones."""
    generator = np.random.default_rng(0)
    audio = tmp_path / "audio"
    audio.mkdir()
    for number in range(40):
        speech = 0.1 * generator.normal(size=int(16000 * generator.uniform(0.8, 1.5)))
        soundfile.write(audio / f"{number}.wav", speech, 16000)
        (audio / f"{number}.txt").write_text(" ".join(generator.choice(stand_in.WORDS, 2)))
    scores = run(
        "voice_prompts/superb_asr1", "ASR", "--local_data_opts", f"--audio_dir {audio} --debug true"
    )
    assert 0 < scores["utterances"] <= 8
    trained = training_config(tmp_path / "exp", "ASR")
    assert trained["encoder"] == "transformer" and trained["encoder_conf"]["output_size"] == 16


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("recipe", "variable", "environment"),
    [
        ("librispeech/superb_pr1", "LIBRISPEECH", {}),
        ("librispeech/superb_pr1", "LIBRISPEECH_LEXICON", {"LIBRISPEECH": "somewhere"}),
        ("librispeech/superb_asr1", "LIBRISPEECH", {}),
        ("snips/superb_sf1", "SNIPS", {}),
    ],
)
def test_corpus_is_not_given(recipe, variable, environment):
    empty = dict.fromkeys(("LIBRISPEECH", "LIBRISPEECH_LEXICON", "SNIPS"), "")
    options = ["--upstream", "x", "--stop_stage", "1"]
    printed = run_recipe(EGS2 / recipe, *options, expect=1, **{**empty, **environment})
    assert printed.splitlines()[-1].startswith(
        f"local/data.sh: error: Fill the value of '{variable}' of template/common/db.sh"
    )
