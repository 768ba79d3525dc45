"""The SIR recipes from their first stage to their last, with a tiny random speech LLM."""

import json
import shutil

import pytest

from espnet_prune.evaluate.sir.answers import read_answers
from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm
from test.recipes.running import EGS2, run_recipe

NAME = "mini_spiral_test"
#: eSpeak NG's, which come in a Python package
VOICES = "en-us,en,en-us+f2,en+m3"


def run(recipe: str, *options: str, **kwargs) -> str:
    return run_recipe(EGS2 / recipe / "sir1", *options, **kwargs)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sir")
    options = ["--debug", "true", "--speech_llm", "qwen2_audio"]
    options += ["--speech_llm_conf", f"model={save_speech_llm(folder / 'model')}"]
    options += ["--expdir", str(folder / "exp"), "--dumpdir", str(folder / "dump")]
    options += ["--inference_tag", "tiny"]
    return options, folder / "exp" / "tiny"


@pytest.mark.recipe
def test_all_stages_of_mini_spiral(options):
    options, exp = options
    data = f"--items 4 --name {NAME} --voices {VOICES}"
    options = [*options, "--test_sets", NAME, "--local_data_opts", data, "--wer_windows", "4"]
    try:
        printed = run("mini_spiral", *options)
        assert "WER % of Whisper on the speech" in printed
        results = (exp / NAME / "RESULTS.md").read_text()
        for text in (
            "## Accuracy (%)",
            "## Accuracy by PMI (%)",
            "## Evidence recall (%)",
            "speechprune",
            "rate 0.8",
            "tsne",
        ):
            assert text in results
        scores = json.loads((exp / NAME / "scores.json").read_text())
        assert scores["items"] == 4 and len(scores["conditions"]) == 4 + 2 * 2
        _, answers = read_answers(exp / NAME)
        # half of the tokens of 30 s and more stay at most; the whole recording has all
        kept = {a.condition.name: len(a.kept) for a in answers if a.id == answers[0].id}
        assert kept["speechprune 0.8"] == kept["rap 0.8"] == 150
        assert kept["crop 0"] == 750 < kept["none"]

        # Killed after one of two jobs: the other's answers are all that is computed
        part = exp / NAME / "answers.2.jsonl"
        part.unlink()
        first = (exp / NAME / "answers.1.jsonl").read_bytes()
        run("mini_spiral", *options, "--stage", "3", "--stop_stage", "3", "--strategies", "rap")
        assert (exp / NAME / "answers.1.jsonl").read_bytes() == first
        assert part.is_file()
    finally:
        for folder in (EGS2 / "mini_spiral" / "sir1" / "data").glob(f"{NAME}*"):
            shutil.rmtree(folder)


@pytest.mark.recipe
def test_wrong_options(tmp_path):
    assert "unknown option --bogus" in run("mini_spiral", "--bogus", "1", expect=2)
    assert "--debug takes true or false" in run("mini_spiral", "--debug", "maybe", expect=2)
    assert "conf/sir_gpt.yaml: no such file" in run("mini_spiral", "--speech_llm", "gpt", expect=2)
    help_text = run("mini_spiral", "--help")
    assert "--strategies [" in help_text and "--inference_nj [2]" in help_text
    printed = run("mini_spiral", "--stage", "3", "--test_sets", "a_set_nobody_made", expect=1)
    assert "error: data/a_set_nobody_made: no such data directory" in printed
    assert "Inference" not in printed
